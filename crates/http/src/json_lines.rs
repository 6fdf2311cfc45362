//! Replies that are a stream of JSON objects, one per line, each flushed as it is said.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;

/// Nobody reads this reply any more: the client went away or was dropped at shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
pub struct Disconnected;

/// The writing end of a streamed reply. Clones write to the same reply; it ends when the last is dropped.
#[derive(Clone, Debug)]
pub struct JsonLines {
    lines: mpsc::Sender<Bytes>,
}

struct Lines {
    lines: mpsc::Receiver<Bytes>,
}

/// A reply body and the handle that feeds it. `capacity` lines may wait for a slow client before
/// [`JsonLines::send`] waits too.
pub fn json_lines(capacity: usize) -> (JsonLines, Body) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    (
        JsonLines { lines: sender },
        Body::new(Lines { lines: receiver }),
    )
}

impl JsonLines {
    /// Sends one object and its line feed. Cancel-safe: dropped while waiting, nothing was sent.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn send<T: Serialize + ?Sized>(&self, object: &T) -> Result<(), Disconnected> {
        self.send_bytes(line(object)).await
    }

    /// Sends bytes as they are: objects already rendered, or multiplexed frames.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn send_bytes(&self, bytes: Bytes) -> Result<(), Disconnected> {
        self.lines.send(bytes).await.map_err(|_| Disconnected)
    }

    /// Sends one object from a thread that may block. Never call it on a runtime thread.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn send_blocking<T: Serialize + ?Sized>(&self, object: &T) -> Result<(), Disconnected> {
        self.lines
            .blocking_send(line(object))
            .map_err(|_| Disconnected)
    }

    /// Sends one object if there is room now; says whether it was taken. For progress that may be thinned out.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn try_send<T: Serialize + ?Sized>(&self, object: &T) -> Result<bool, Disconnected> {
        match self.lines.try_send(line(object)) {
            Ok(()) => Ok(true),
            Err(mpsc::error::TrySendError::Full(_)) => Ok(false),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Disconnected),
        }
    }

    /// Completes when nobody reads this reply any more. Cancel-safe.
    pub async fn disconnected(&self) {
        self.lines.closed().await;
    }
}

fn line<T: Serialize + ?Sized>(object: &T) -> Bytes {
    let mut text = serde_json::to_vec(object).unwrap_or_else(|e| {
        serde_json::json!({ "error": e.to_string() })
            .to_string()
            .into_bytes()
    });
    text.extend_from_slice(b"\r\n");
    text.into()
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.lines
            .poll_recv(cx)
            .map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
