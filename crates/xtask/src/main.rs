//! Hoist.
fn main() {}
