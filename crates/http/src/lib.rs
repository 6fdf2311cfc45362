//! HTTP for Hoist: listeners, serving, hijacked connections, multiplexed output, JSON streams and a small client.
//!
//! Nothing here knows Docker's or Kubernetes' objects; façades put their routes on top. Names are resolved by
//! whoever calls: a static binary has no getaddrinfo.

pub mod client;
mod connect;
mod file_body;
mod framing;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
mod head_gate;
mod hijack;
mod json_lines;
mod listener;
mod message;
pub mod mux;
mod peer;
mod proxy;
mod reply;
mod resolve;
mod server;
mod socket;
mod stream;
pub mod tls;
mod wire;

pub use hijack::{Hijack, HijackError, Hijacked, Hijacking};
pub use json_lines::{Disconnected, JsonLines, json_lines};
pub use listener::{ListenError, Listener, UnixSocket};
pub use message::{error_response, status_of};
pub use peer::{Connection, Peer};
pub use resolve::{Resolve, Resolving, StaticNames};
pub use server::{HEAD_DEADLINE, ServeOptions, ServeReport, serve};
