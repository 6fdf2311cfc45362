//! What a build tells while it goes on.

use std::sync::Arc;

use hoist_model::Digest;

use crate::plan::{Plan, StepId};
use crate::ports::Stream;

/// Takes what a build tells. Called from any thread, must not block.
pub type EventFn = Arc<dyn Fn(BuildEvent) + Send + Sync>;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum BuildEvent {
    /// A base image is being brought here: what is said of it.
    Pulling(String),
    /// What will be done.
    Planned(Arc<Plan>),
    /// A step began that was not done before: its key in the cache.
    Began(StepId, String),
    /// A step's program wrote something.
    Wrote(StepId, Stream, Vec<u8>),
    /// A step is done.
    Done {
        /// Which.
        step: StepId,
        /// Whether it had been done before.
        cached: bool,
        /// Its key in the cache.
        key: String,
        /// What it made.
        layer: Option<Digest>,
    },
}
