//! Hoist testkit.
