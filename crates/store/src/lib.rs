//! Hoist store.
