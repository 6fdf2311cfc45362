//! Hoist image.
