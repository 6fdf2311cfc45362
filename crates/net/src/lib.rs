//! Hoist net.
