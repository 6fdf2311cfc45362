//! Hoist engine.
