//! Who still carries a container's output to an attached client.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::mpsc;

/// How long a client that does not take its output may hold up those who wait for the container's end.
const PATIENCE: Duration = Duration::from_millis(100);

/// Kept by whoever carries output to a client, until it has all of it.
#[derive(Debug)]
pub struct Undelivered {
    _open: mpsc::Sender<Infallible>,
}

/// The outputs on their way.
#[derive(Debug)]
pub(super) struct Outputs {
    open: mpsc::Sender<Infallible>,
    all_gone: mpsc::Receiver<Infallible>,
}

impl Outputs {
    pub(super) fn new() -> Self {
        let (open, all_gone) = mpsc::channel(1);
        Self { open, all_gone }
    }

    /// One more.
    pub(super) fn begin(&self) -> Undelivered {
        Undelivered {
            _open: self.open.clone(),
        }
    }

    /// Waits until all that began have ended. Whoever waits for a container's end reads its output as soon as it is told of
    /// that (as in moby, whose `handleContainerExit` waits for the streams first).
    pub(super) async fn delivered(&mut self) {
        let Self { open, mut all_gone } = std::mem::replace(self, Self::new());
        drop(open);
        if tokio::time::timeout(PATIENCE, all_gone.recv())
            .await
            .is_err()
        {
            tracing::debug!("a client does not take its output");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_is_told_after_the_output_or_when_nobody_takes_it() {
        let mut outputs = Outputs::new();
        outputs.delivered().await;

        let (first, second) = (outputs.begin(), outputs.begin());
        drop(first);
        let mut waiting = Box::pin(outputs.delivered());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        drop(second);
        waiting.await;

        let stuck = outputs.begin();
        outputs.delivered().await;
        drop(stuck);
    }
}
