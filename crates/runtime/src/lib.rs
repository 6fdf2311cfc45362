//! Hoist runtime.
