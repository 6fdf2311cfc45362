//! The vocabulary of Hoist: typed ids, digests, references, specs, states, events and error classes.
//!
//! Pure data: nothing here reads a clock, a file or the network, and nothing here knows a wire protocol.
//! Serialisation is for Hoist's own store and messages only; façades convert by hand.

pub mod build;
mod chain;
pub mod container;
mod digest;
mod error_class;
mod event;
mod id_map;
mod ids;
pub mod network;
pub mod path;
mod platform;
mod progress;
pub mod quantity;
mod reference;
mod signal;
mod timestamp;

pub use chain::{chain, in_words};
pub use digest::{Digest, ImageId, InvalidDigest};
pub use error_class::ErrorClass;
pub use event::{Event, EventKind, Revision};
pub use id_map::{IdMap, IdRange, NOBODY, UserMapping};
pub use ids::{ContainerId, EndpointId, ExecId, InvalidId, NetworkId, SandboxId};
pub use platform::{InvalidPlatform, Platform};
pub use progress::{LayerPhase, Progress, ProgressSink, UploadPhase};
pub use reference::{DOCKER_HUB, ImageReference, ImageSelector, InvalidReference, Repository};
pub use signal::{InvalidSignal, Signal};
pub use timestamp::{InvalidTimestamp, Timestamp, ZERO_TIME};
