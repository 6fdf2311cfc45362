//! One layer's download: socket → digest → bounded channel, resumed where connections break.
//!
//! The worker at the channel's other end ([`crate::unpack`]) commits only after it was told that every byte came
//! and the digest is right. If the download is given up, in whatever way, the channel closes without that word, and of a large
//! layer the worker keeps what came: the next pull, of this engine or of one after a kill, goes on there. What is to come of
//! a large layer comes in parts, several at a time ([`crate::ahead`]), where the registry gives parts.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hoist_http::client::ResponseBody;
use hoist_image::Sha256;
use hoist_image::document::Descriptor;
use hoist_image::{ContentStore, PartialBlob, Snapshotter};
use hoist_model::{Digest, ImageReference, LayerPhase, Progress};
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use tokio::sync::mpsc;

use crate::ahead::{Ahead, AheadError, LEAST_PARTS, Source, range_header};
use crate::error::PullError;
use crate::manifest::{blob_target, named};
use crate::pull::ProgressReport;
use crate::session::{LONGEST_PAUSE, Session};
use crate::unpack::{Piece, unpack};

/// Pieces between the socket and the worker; each is at most hyper's read buffer.
const PIECES: usize = 8;
/// Progress that counts as such: an attempt that brings less is one of the counted failures.
const REAL_PROGRESS: u64 = 1 << 20;
/// When a layer turns out unreadable with no more than this to come, the rest is fetched to learn whether its
/// digest is wrong too: that is the better message.
const WORTH_KNOWING: u64 = 64 << 20;
/// A layer of fewer bytes is fetched anew where it was cut off.
const WORTH_KEEPING: u64 = 8 << 20;
/// Between two reports of one layer's download.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Fetches and stores one layer, unless it is here.
pub(crate) async fn store(
    session: Arc<Session>,
    reference: Arc<ImageReference>,
    descriptor: Descriptor,
    diff_id: Digest,
    snapshotter: Arc<dyn Snapshotter>,
    content: Arc<ContentStore>,
    progress: ProgressReport,
) -> Result<(), PullError> {
    let report = |phase| {
        progress(Progress::Layer {
            layer: descriptor.digest.clone(),
            phase,
        });
    };
    let shared = Arc::clone(session.transport.shared());
    let lock = shared.layer_lock(&diff_id);
    let _one_at_a_time = lock.lock().await;
    if snapshotter.has_layer(&diff_id) {
        report(LayerPhase::AlreadyExists);
        return Ok(());
    }
    let _permit = match shared.downloads.try_acquire() {
        Ok(permit) => Some(permit),
        Err(_) => {
            report(LayerPhase::Waiting);
            shared.downloads.acquire().await.ok()
        }
    };
    let mut fetch = Fetch {
        session: &session,
        reference: &reference,
        descriptor: &descriptor,
        diff_id: &diff_id,
        snapshotter,
        content,
        progress: &progress,
    };
    let mut fetched = Box::pin(fetch.attempt(true, &report)).await;
    if let Err(Fetched::Resumed(error)) = fetched {
        tracing::debug!(layer = %descriptor.digest, %error, "what was kept of it is wrong: fetching it anew");
        fetched = Box::pin(fetch.attempt(false, &report)).await;
    }
    match fetched {
        Ok(()) => {}
        Err(Fetched::Resumed(error) | Fetched::Whole(error)) => return Err(error),
    }
    report(LayerPhase::Extracting {
        current: descriptor.size,
        total: descriptor.size,
    });
    report(LayerPhase::Complete);
    Ok(())
}

/// Why a layer did not come.
enum Fetched {
    /// It is not what was promised, and its beginning had come earlier: that may be what is wrong.
    Resumed(PullError),
    Whole(PullError),
}

/// What one layer is fetched with.
struct Fetch<'a> {
    session: &'a Arc<Session>,
    reference: &'a ImageReference,
    descriptor: &'a Descriptor,
    diff_id: &'a Digest,
    snapshotter: Arc<dyn Snapshotter>,
    content: Arc<ContentStore>,
    progress: &'a ProgressReport,
}

impl Fetch<'_> {
    async fn attempt(&mut self, resume: bool, report: &impl Fn(LayerPhase)) -> Result<(), Fetched> {
        let (partial, hasher) = self.partial(resume).await;
        let received = partial.as_ref().map_or(0, PartialBlob::length);
        let (pieces, receiver) = mpsc::channel(PIECES);
        let (snapshotter, diff_id) = (Arc::clone(&self.snapshotter), self.diff_id.clone());
        let keeps = partial.is_some();
        // Who holds the sink knows that a worker may still be writing.
        let size = self.descriptor.size;
        let held = Arc::clone(self.progress);
        let worker = tokio::task::spawn_blocking(move || {
            let unpacked = unpack(receiver, &*snapshotter, &diff_id, size, partial);
            drop(held);
            unpacked
        });
        let mut download = Download {
            session: self.session,
            reference: self.reference,
            descriptor: self.descriptor,
            pieces: Some(pieces),
            keeps: keeps && received == 0,
            splits: true,
            hasher,
            received,
            reported: None,
            report,
        };
        let fetched = download.run().await;
        drop(download);
        // The channel is closed, so the worker ends; it is awaited even when the download failed, so that nothing
        // of it is left when this returns.
        let written = worker.await;
        let digest = || self.descriptor.digest.clone();
        let failed = |wrong: bool, error| match wrong && received > 0 {
            true => Fetched::Resumed(error),
            false => Fetched::Whole(error),
        };
        let written = written.map_err(|_| Fetched::Whole(PullError::Worker(digest())))?;
        fetched.map_err(|error| {
            let wrong = matches!(error, PullError::Mismatch { .. } | PullError::Size { .. });
            failed(wrong, error)
        })?;
        written.map_err(|cause| {
            let digest = digest();
            failed(true, PullError::Layer { digest, cause })
        })
    }

    /// What an earlier attempt left of the layer, with its digest so far; an empty place for what comes if there is nothing.
    /// Small layers are not worth it.
    async fn partial(&self, resume: bool) -> (Option<PartialBlob>, Sha256) {
        if self.descriptor.size < WORTH_KEEPING {
            return (None, Sha256::new());
        }
        let (content, descriptor) = (Arc::clone(&self.content), self.descriptor.clone());
        let opened = tokio::task::spawn_blocking(move || -> io::Result<_> {
            let mut hasher = Sha256::new();
            let Some(mut partial) = content.partial(&descriptor.digest)? else {
                return Ok((None, hasher));
            };
            if partial.length() > 0 && (!resume || partial.length() > descriptor.size) {
                partial.discard();
                match content.partial(&descriptor.digest)? {
                    Some(empty) if empty.length() == 0 => partial = empty,
                    _ => return Ok((None, hasher)),
                }
            }
            let mut reader = partial.read()?;
            let mut buffer = vec![0; 256 << 10];
            loop {
                match reader.read(&mut buffer)? {
                    0 => return Ok((Some(partial), hasher)),
                    count => hasher.update(&buffer[..count]),
                }
            }
        });
        match opened.await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a layer's download cannot be resumed");
                (None, Sha256::new())
            }
            Err(_) => (None, Sha256::new()),
        }
    }
}

struct Download<'a, R> {
    session: &'a Arc<Session>,
    reference: &'a ImageReference,
    descriptor: &'a Descriptor,
    /// `None` once the worker gave up.
    pieces: Option<mpsc::Sender<Piece>>,
    /// Whether the worker can keep what comes, which it is not told yet.
    keeps: bool,
    /// Whether the registry is thought to give parts.
    splits: bool,
    hasher: Sha256,
    received: u64,
    reported: Option<Instant>,
    report: &'a R,
}

impl<R: Fn(LayerPhase)> Download<'_, R> {
    /// Fetches every byte, resuming where a connection broke, and tells the worker when all is well.
    async fn run(&mut self) -> Result<(), PullError> {
        let settings = &self.session.transport.shared().settings;
        let target = blob_target(self.reference, &self.descriptor.digest);
        let mut pause = settings.backoff;
        let mut failures = 0;
        while self.received < self.descriptor.size || (self.received == 0 && failures == 0) {
            let before = self.received;
            let failure = match Box::pin(self.attempt(&target)).await {
                Ok(()) if self.received == self.descriptor.size => break,
                // The worker gave up; its reason is the one that counts.
                Ok(()) if self.pieces.is_none() => return Ok(()),
                Ok(()) => self.wrong_size(self.received),
                Err(e) if e.is_transient() => e,
                Err(e) => return Err(e),
            };
            if self.received - before >= REAL_PROGRESS {
                failures = 0;
                pause = settings.backoff;
            }
            failures += 1;
            if failures >= settings.max_attempts {
                return Err(match failure {
                    size @ PullError::Size { .. } => {
                        self.wrong().await;
                        size
                    }
                    last => PullError::Attempts {
                        attempts: failures,
                        last: Box::new(last),
                    },
                });
            }
            tracing::debug!(layer = %self.descriptor.digest, received = self.received, error = %failure, "resuming a layer");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.verify().await
    }

    async fn verify(&mut self) -> Result<(), PullError> {
        (self.report)(LayerPhase::Verifying);
        let found = std::mem::take(&mut self.hasher).finish();
        if found != self.descriptor.digest {
            self.wrong().await;
            return Err(PullError::Mismatch {
                what: "filesystem layer",
                wanted: self.descriptor.digest.clone(),
                found,
            });
        }
        (self.report)(LayerPhase::Downloaded);
        if let Some(pieces) = self.pieces.take() {
            // A worker that is gone has its reason, which the caller asks for.
            let _ = pieces.send(Piece::Verified).await;
        }
        Ok(())
    }

    /// Tells the worker that what came is worth nothing.
    async fn wrong(&mut self) {
        if let Some(pieces) = self.pieces.take() {
            // A worker that is gone keeps nothing.
            let _ = pieces.send(Piece::Wrong).await;
        }
    }

    /// From where we are to the end: one request, or one for each part.
    async fn attempt(&mut self, target: &str) -> Result<(), PullError> {
        let shared = self.session.transport.shared();
        let source = Source {
            session: Arc::clone(self.session),
            target: target.to_owned(),
            size: self.descriptor.size,
            part: shared.settings.part_bytes.max(1),
        };
        let worth = self.splits && source.size - self.received >= LEAST_PARTS * source.part;
        let permits = worth.then(|| shared.ahead()).flatten();
        let head = source.range(self.received);
        let mut headers = HeaderMap::new();
        if permits.is_some() {
            headers.insert(RANGE, range_header(&head));
        } else if self.received > 0 {
            let range = HeaderValue::try_from(format!("bytes={}-", self.received));
            headers.insert(RANGE, range.unwrap_or(HeaderValue::from_static("bytes=0-")));
        }
        let response = self.session.ask(Method::GET, target, &headers).await?;
        let mut skip = match response.status() {
            StatusCode::OK => {
                self.check_announced(length(&response))?;
                // A registry that knows no ranges begins anew; what we have is passed over.
                self.received
            }
            StatusCode::PARTIAL_CONTENT => {
                self.check_range(&response)?;
                0
            }
            StatusCode::RANGE_NOT_SATISFIABLE if permits.is_none() => {
                return Err(self.wrong_size(self.received));
            }
            // It may mind parts and nothing else.
            status if permits.is_some() && !status.is_server_error() => {
                self.splits = false;
                return Box::pin(self.attempt(target)).await;
            }
            _ => {
                let named = named(self.reference);
                return Err(self.session.refused(target, response, &named).await);
            }
        };
        // Only where the registry can go on in the middle is it worth a copy of what came.
        let ranges = response.headers().get(ACCEPT_RANGES);
        let ranges = ranges.is_some_and(|unit| unit.as_bytes() == b"bytes");
        if self.keeps
            && (ranges || response.status() == StatusCode::PARTIAL_CONTENT)
            && self.received == 0
            && let Some(pieces) = &self.pieces
        {
            self.keeps = false;
            let _ = pieces.send(Piece::Keep).await;
        }
        // Only what was asked for; a registry that sends more, or all, is taken at its word.
        let is_part = content_range(&response).as_ref() == Some(&head);
        let permits = permits.filter(|_| is_part);
        let mut ahead = permits.map(|permits| Ahead::start(source, head.end, permits));
        let mut body = response.into_body();
        while let Some(mut chunk) = self.chunk(&mut body, target).await? {
            if skip > 0 {
                let over = usize::try_from(skip).map_or(chunk.len(), |skip| skip.min(chunk.len()));
                let _ = chunk.split_to(over);
                skip -= over as u64;
            }
            if !self.take(chunk).await? {
                return Ok(());
            }
        }
        let Some(ahead) = ahead.as_mut().filter(|_| self.received == head.end) else {
            return Ok(());
        };
        loop {
            match ahead.chunk().await {
                Ok(Some(chunk)) => {
                    if !self.take(chunk).await? {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(AheadError::Pull(error)) => return Err(error),
                Err(AheadError::NoPart) => {
                    self.splits = false;
                    return Box::pin(self.attempt(target)).await;
                }
            }
        }
    }

    /// Hands on what came. `false`: there is no use in more.
    async fn take(&mut self, chunk: Bytes) -> Result<bool, PullError> {
        if chunk.is_empty() {
            return Ok(true);
        }
        let after = self.received + chunk.len() as u64;
        if after > self.descriptor.size {
            return Err(self.wrong_size(after));
        }
        self.hasher.update(&chunk);
        self.received = after;
        self.report_download();
        if let Some(pieces) = &self.pieces
            && pieces.send(Piece::Data(chunk)).await.is_err()
        {
            self.pieces = None;
            return Ok(self.descriptor.size - self.received <= WORTH_KNOWING);
        }
        Ok(true)
    }

    async fn chunk(
        &self,
        body: &mut ResponseBody,
        target: &str,
    ) -> Result<Option<Bytes>, PullError> {
        body.chunk().await.map_err(|cause| PullError::Connection {
            verb: "Get",
            url: self.session.url(target),
            cause,
        })
    }

    fn check_announced(&self, announced: Option<u64>) -> Result<(), PullError> {
        match announced {
            Some(length) if length != self.descriptor.size => Err(self.wrong_size(length)),
            _ => Ok(()),
        }
    }

    /// `Content-Range: bytes <received>-<last>/<size>`.
    fn check_range(&self, response: &Response<ResponseBody>) -> Result<(), PullError> {
        let text = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.strip_prefix("bytes "));
        let (range, total) = text
            .and_then(|text| text.split_once('/'))
            .unwrap_or_default();
        let start = range.split('-').next().and_then(|start| start.parse().ok());
        if start != Some(self.received) {
            return Err(PullError::Protocol {
                host: self.reference.repository().host().to_owned(),
                reason: format!(
                    "asked for a layer from byte {}, it answers {range:?}",
                    self.received
                ),
            });
        }
        self.check_announced(total.parse().ok())
    }

    fn wrong_size(&self, found: u64) -> PullError {
        PullError::Size {
            what: "layer",
            digest: self.descriptor.digest.clone(),
            wanted: self.descriptor.size,
            found,
        }
    }

    fn report_download(&mut self) {
        let whole = self.received == self.descriptor.size;
        let now = Instant::now();
        if whole
            || self
                .reported
                .is_none_or(|before| now.duration_since(before) >= REPORT_EVERY)
        {
            self.reported = Some(now);
            (self.report)(LayerPhase::Downloading {
                current: self.received,
                total: self.descriptor.size,
            });
        }
    }
}

/// The bytes that a reply says it has, where it says so in full.
pub(crate) fn content_range(response: &Response<ResponseBody>) -> Option<Range<u64>> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, _) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = range.split_once('-')?;
    Some(start.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?)
}

fn length(response: &Response<ResponseBody>) -> Option<u64> {
    let value = response.headers().get(CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}
