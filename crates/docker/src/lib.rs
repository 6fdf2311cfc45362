//! The Docker Engine API: versioned wire types, router and translation to the engine's own words.
//!
//! [`Api`] is the whole API as a service; [`operations::OPERATIONS`] says how each operation is answered. Nothing
//! here keeps state: every reply is made of what the engine's handles answer and of the [`Node`] handed in at start.

mod any_case;
mod call;
pub mod client;
mod clock;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
mod handlers;
pub mod node;
pub mod operations;
mod query;
mod router;
mod version;
mod wire;

pub use node::{APPARMOR, ContainerDefaults, DOCKER_RELEASE, LimitSupport, Node};
pub use router::{Api, is_hijackable};
pub use version::ApiVersion;
pub use wire::fsck::{options as fsck_options, report as fsck_report};
