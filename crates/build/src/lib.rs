//! Building images: from a Dockerfile to a graph of content-addressed steps, and from there to an image.
//!
//! Knows no HTTP, no engine and no registry: whoever asks for a build hands in where base images come from and who runs
//! programs ([`ports`]).

mod builder;
mod cache;
mod cache_mounts;
mod copy;
pub mod dockerfile;
mod event;
mod glob;
pub mod ignore;
mod legacy;
mod mode;
pub mod plan;
pub mod ports;
mod run;
mod select;
mod solve;

pub use builder::{BuildError, BuildRequest, Builder, Parts, Pruned, cached_layers};
pub use cache::CacheRecord;
pub use copy::CopyError;
pub use event::{BuildEvent, EventFn};
pub use legacy::{LegacyLine, LegacyLines};
pub use run::{RunError, Secrets};
pub use solve::{FailedStep, StepError};
