//! Control groups of a real kernel. Needs root; says so and passes where it is not.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test must name its place"
)]

mod groups;
