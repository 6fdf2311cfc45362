//! A stop that does not wait for what cannot happen: to a first process without a handler the kernel delivers no signal.

use std::time::Duration;

use hoist_model::{ContainerId, Signal};

use super::{Containers, WaitOutcome};
use crate::ports::BoxFuture;

/// Looks at the process before it is believed, and the time between them: 0.2 s for a program that is just starting to
/// install its handlers.
const LOOKS: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(50);

/// What became of a process that was sent its stop signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It ended.
    Ended,
    /// At no time could it have come to know of the signal.
    Never,
    /// It may have.
    Perhaps,
}

impl Containers {
    /// Watches a process for a moment after its stop signal.
    pub(super) async fn heard(
        &self,
        id: &ContainerId,
        signal: Signal,
        ended: &mut BoxFuture<'static, WaitOutcome>,
    ) -> Heard {
        for look in 0..LOOKS {
            if look > 0 && tokio::time::timeout(BETWEEN, &mut *ended).await.is_ok() {
                return Heard::Ended;
            }
            if !self.inner.parts.runtime.is_deaf(id, signal) {
                return Heard::Perhaps;
            }
        }
        Heard::Never
    }
}
