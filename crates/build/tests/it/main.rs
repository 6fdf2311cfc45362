//! Builds with real layers and programs that only say that they ran: needs root for mounts of layers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod builds;
mod remote;
mod support;
