//! The parts of a large layer, asked for side by side and handed on in their order.
//!
//! ```text
//! received ─▶ │ head: handed on as it comes │ ahead │ ahead │ ahead │ not asked for yet … │ end
//! ```
//!
//! One connection seldom gets all that the way to a registry has room for. Each part waits in memory until those before it are
//! through, so there are few, and no more over all pulls than [`crate::Settings::max_concurrent_downloads`].

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::RANGE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

use crate::error::PullError;
use crate::layer::content_range;
use crate::session::Session;

/// How many parts a layer has to have, so that they are worth asking for one by one.
pub(crate) const LEAST_PARTS: u64 = 32;

/// Why there is no more.
pub(crate) enum AheadError {
    /// The registry, which answered with a part before, does not do so now.
    NoPart,
    Pull(PullError),
}

/// Which bytes of which blob are to come, and of whom.
pub(crate) struct Source {
    pub(crate) session: Arc<Session>,
    pub(crate) target: String,
    /// Bytes of the whole blob.
    pub(crate) size: u64,
    /// Bytes of one part.
    pub(crate) part: u64,
}

impl Source {
    /// The part that begins there.
    pub(crate) fn range(&self, start: u64) -> Range<u64> {
        start..self.size.min(start.saturating_add(self.part))
    }
}

/// `Range: bytes=…`, whose last byte is named.
pub(crate) fn range_header(range: &Range<u64>) -> HeaderValue {
    let text = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
    HeaderValue::try_from(text).expect("digits are valid in a header")
}

struct Part {
    /// Bytes still to be handed on.
    left: u64,
    chunks: mpsc::UnboundedReceiver<Result<Bytes, AheadError>>,
}

/// Parts on their way. Dropped, none of them goes on.
pub(crate) struct Ahead {
    source: Arc<Source>,
    parts: VecDeque<Part>,
    /// Where the part begins that is asked for next.
    next: u64,
    tasks: JoinSet<()>,
    /// One for each part that waits behind the head.
    permits: OwnedSemaphorePermit,
}

impl Ahead {
    /// Begins with what comes after the head, as many parts as there are permits.
    pub(crate) fn start(source: Source, after: u64, permits: OwnedSemaphorePermit) -> Self {
        let mut ahead = Self {
            source: Arc::new(source),
            parts: VecDeque::new(),
            next: after,
            tasks: JoinSet::new(),
            permits,
        };
        for _ in 0..ahead.permits.num_permits() {
            ahead.ask();
        }
        ahead
    }

    fn ask(&mut self) {
        let range = self.source.range(self.next);
        if range.is_empty() {
            return;
        }
        self.next = range.end;
        // Without a bound of its own: it holds one part.
        let (sender, chunks) = mpsc::unbounded_channel();
        let left = range.end - range.start;
        self.parts.push_back(Part { left, chunks });
        let source = Arc::clone(&self.source);
        self.tasks.spawn(async move {
            if let Err(error) = fetch(&source, range, &sender).await {
                let _ = sender.send(Err(error));
            }
        });
        while self.tasks.try_join_next().is_some() {}
    }

    /// The next bytes; `None` at the end, and where a part ended before its own. Cancel-safe.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, AheadError> {
        while let Some(part) = self.parts.front_mut() {
            if part.left > 0 {
                let chunk = part.chunks.recv().await.transpose()?;
                part.left -= chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                return Ok(chunk);
            }
            self.parts.pop_front();
            self.ask();
        }
        Ok(None)
    }
}

async fn fetch(
    source: &Source,
    range: Range<u64>,
    chunks: &mpsc::UnboundedSender<Result<Bytes, AheadError>>,
) -> Result<(), AheadError> {
    let mut headers = HeaderMap::new();
    headers.insert(RANGE, range_header(&range));
    let session = &source.session;
    let asked = session.ask(Method::GET, &source.target, &headers).await;
    let response = asked.map_err(AheadError::Pull)?;
    let answered = content_range(&response);
    if response.status() != StatusCode::PARTIAL_CONTENT || answered.as_ref() != Some(&range) {
        return Err(AheadError::NoPart);
    }
    let mut left = range.end - range.start;
    let mut body = response.into_body();
    while left > 0 {
        let chunk = body.chunk().await.map_err(|cause| {
            AheadError::Pull(PullError::Connection {
                verb: "Get",
                url: session.url(&source.target),
                cause,
            })
        })?;
        let Some(mut chunk) = chunk else { break };
        chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= chunk.len() as u64;
        if chunks.send(Ok(chunk)).is_err() {
            break;
        }
    }
    Ok(())
}
