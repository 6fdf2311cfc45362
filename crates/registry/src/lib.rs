//! Hoist registry.
