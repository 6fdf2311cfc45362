//! What a build says on its way to a client: never waited with, and bounded by leaving out what programs write.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes of output that may wait for a client who does not read; more is left out, and said so.
const OUTPUT_LIMIT: usize = 16 << 20;

/// Pieces of an output that may wait for a client who reads slowly; who makes them waits then.
const PIECES: usize = 4;

/// Takes what is said.
#[derive(Clone)]
pub(super) struct Sayer {
    sender: mpsc::UnboundedSender<Said>,
    waiting: Arc<AtomicUsize>,
    pieces: Arc<Semaphore>,
}

/// Hands on what is said, in order.
pub(super) struct Listener {
    receiver: mpsc::UnboundedReceiver<Said>,
    waiting: Arc<AtomicUsize>,
}

/// Something that is said.
struct Said {
    bytes: Bytes,
    /// How many of them a program wrote.
    output: usize,
    /// Of a piece: given back when it is handed on.
    _permit: Option<OwnedSemaphorePermit>,
}

/// Both ends.
pub(super) fn pipe() -> (Sayer, Listener) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let sayer = Sayer {
        sender,
        waiting: waiting.clone(),
        pieces: Arc::new(Semaphore::new(PIECES)),
    };
    (sayer, Listener { receiver, waiting })
}

impl Sayer {
    /// Says something of a build's own.
    pub(super) fn say(&self, line: Bytes) {
        self.send(line, 0, None);
    }

    /// Says some of an output, when there is room for it.
    pub(super) async fn say_piece(&self, bytes: Bytes) {
        let permit = self.pieces.clone().acquire_owned().await.ok();
        self.send(bytes, 0, permit);
    }

    fn send(&self, bytes: Bytes, output: usize, permit: Option<OwnedSemaphorePermit>) {
        // Nobody may be listening any more.
        let _ = self.sender.send(Said {
            bytes,
            output,
            _permit: permit,
        });
    }

    /// Says what a program wrote; false if too much is waiting already and it is left out.
    pub(super) fn say_output(&self, line: Bytes) -> bool {
        let size = line.len();
        if self.waiting.load(Ordering::Relaxed) + size > OUTPUT_LIMIT {
            return false;
        }
        self.waiting.fetch_add(size, Ordering::Relaxed);
        self.send(line, size, None);
        true
    }
}

impl Listener {
    /// The next that is said.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let said = self.receiver.recv().await?;
        self.waiting.fetch_sub(said.output, Ordering::Relaxed);
        Some(said.bytes)
    }

    /// What was said and is not handed on yet.
    pub(super) fn rest(&mut self) -> Vec<Bytes> {
        let mut rest = Vec::new();
        while let Ok(said) = self.receiver.try_recv() {
            self.waiting.fetch_sub(said.output, Ordering::Relaxed);
            rest.push(said.bytes);
        }
        rest
    }

    /// A body of these lines, then what is said while the work goes on, then what it ends with. The work is dropped with the body.
    pub(super) fn body(self, first: Vec<Bytes>, work: BoxFuture<'static, Vec<Bytes>>) -> Body {
        let state = (Some(work), self, first.into_iter());
        let lines = futures_util::stream::unfold(state, |state| async move {
            let (mut work, mut listener, mut ready) = state;
            loop {
                if let Some(line) = ready.next() {
                    return Some((line, (work, listener, ready)));
                }
                let running = work.as_mut()?;
                tokio::select! {
                    biased;
                    Some(line) = listener.next() => ready = vec![line].into_iter(),
                    last = running => {
                        work = None;
                        // What was said before the end comes before it.
                        let mut lines = listener.rest();
                        lines.extend(last);
                        ready = lines.into_iter();
                    }
                }
            }
        });
        Body::from_stream(futures_util::StreamExt::map(
            lines,
            Ok::<Bytes, std::convert::Infallible>,
        ))
    }
}
