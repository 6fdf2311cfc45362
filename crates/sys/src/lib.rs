//! Hoist sys.
