//! Hoist docker.
