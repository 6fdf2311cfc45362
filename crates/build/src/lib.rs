//! Building images: from a Dockerfile to a graph of content-addressed steps, and from there to an image.
//!
//! Knows no HTTP, no engine and no registry: whoever asks for a build hands in where base images come from and who runs
//! programs ([`ports`]).

mod builder;
mod cache;
mod cache_mounts;
pub mod check;
mod contexts;
mod copy;
pub mod dockerfile;
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
mod run;
mod select;
mod solve;

pub use builder::{BuildError, BuildRequest, Builder, Parts, Pruned, cached_layers};
pub use cache::CacheRecord;
pub use contexts::{ContextName, ContextRecord};
pub use copy::CopyError;
pub use event::{BuildEvent, EventFn};
pub use fetched::LatestRecord;
pub use legacy::{LegacyLine, LegacyLines};
pub use outline::{Vertex, outline};
pub use run::{Agents, RunError, Secrets};
pub use solve::{FailedStep, StepError};
