//! hoist-registry against registries: a hostile one made of raw sockets, and Debian's real one.

#![allow(clippy::unwrap_used, reason = "tests and their helpers")]

mod ahead;
mod confusion;
mod fake;
mod hostile;
mod identity;
mod proxied;
mod push;
mod real;
mod resumed;
mod server;
mod server_access;
mod server_cache;
mod server_shelf;
mod server_support;
mod support;
