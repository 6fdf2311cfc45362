//! hoist-http from outside, byte for byte over real sockets.

#![allow(clippy::unwrap_used, reason = "tests and their helpers")]

mod client;
mod hijack;
mod serve;
mod support;
mod tls;
