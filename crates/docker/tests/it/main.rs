//! The whole façade over an engine whose processes are played by threads: requests over a real socket.

#![allow(clippy::unwrap_used, reason = "tests and their helpers")]

mod buildkit;
mod clock;
mod fake;
mod lifecycle;
mod refusals;
mod session;
mod streams;
mod support;
mod transfer;
mod websocket;
