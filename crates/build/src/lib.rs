//! Building images: from a Dockerfile to a graph of content-addressed steps, and from there to an image.
//!
//! Knows no HTTP, no engine and no registry: whoever asks for a build hands in where base images come from and who runs
//! programs ([`ports`]).

mod agents;
mod builder;
mod cache;
mod cache_mounts;
pub mod check;
mod contexts;
mod copy;
pub mod dockerfile;
mod error;
mod event;
mod fetched;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
mod glob;
pub mod ignore;
mod legacy;
mod mode;
mod outline;
pub mod plan;
pub mod ports;
mod remote;
mod run;
mod select;
mod solve;
mod upkeep;

pub use agents::AgentSockets;
pub use builder::{BuildRequest, Builder, Finished, Parts};
pub use cache::CacheRecord;
pub use contexts::{ContextName, ContextRecord};
pub use copy::CopyError;
pub use error::{BuildError, FailedStep, StepError};
pub use event::{BuildEvent, EventFn};
pub use fetched::LatestRecord;
pub use legacy::{LegacyLine, LegacyLines};
pub use outline::{Vertex, outline};
pub use remote::{CacheExport, CacheMode, RemoteCache};
pub use run::{Agents, RunError, Secrets};
pub use upkeep::{Budget, Pruned, cached_layers};
