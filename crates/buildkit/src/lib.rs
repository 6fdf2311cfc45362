//! The BuildKit protocol: the services that buildx and Compose build through, in front of [`hoist_build::Builder`].
//!
//! ```text
//!  client ── POST /grpc (or plain h2c) ──▶ Control, LLBBridge        it asks
//!  client ◀── FileSync, Auth, Secrets … ── POST /session             we ask: roles flip after the upgrade
//! ```
//!
//! A build is a [`builds::Build`]: made by `Control.Solve`, found by its `ref` by `Control.Status` and by the gateway, gone
//! when the client that made it goes. There is one frontend, the Dockerfile's, and it runs here: LLB of a client is decoded and refused.
//!
//! Source of the rules: moby/buildkit v0.25.1, `api/services/control`, `frontend/gateway/pb`, `session/`; its behaviour with buildx 0.29 and 0.38.

mod attributes;
mod bases;
mod builds;
mod caches;
mod contexts;
mod control;
mod definition;
mod door;
mod error;
mod export;
mod filters;
mod frontend;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
mod gateway;
mod named;
mod needs;
mod posted;
mod questions;
mod session;
mod status;
mod worker;

pub use bases::{Bases, Logins};
pub use caches::{CacheAccess, CachePlace, CacheRegistries, CacheTarget, CacheTerms};
pub use door::BuildKit;
pub use named::normal_name;
pub use posted::{Posted, PostedContext, Telling};
pub use questions::answer_as_text;
