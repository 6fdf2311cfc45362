//! Hoist http.
