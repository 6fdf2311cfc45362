//! One layer's download: socket → digest → bounded channel, resumed where connections break.
//!
//! The worker at the channel's other end ([`crate::unpack`]) commits only after it was told that every byte came
//! and the digest is right. If the download is given up, in whatever way, the channel closes without that word.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hoist_http::client::ResponseBody;
use hoist_image::Snapshotter;
use hoist_image::document::Descriptor;
use hoist_model::{Digest, ImageReference, LayerPhase, Progress};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

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
/// Between two reports of one layer's download.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Fetches and stores one layer, unless it is here.
pub(crate) async fn store(
    session: Arc<Session>,
    reference: Arc<ImageReference>,
    descriptor: Descriptor,
    diff_id: Digest,
    snapshotter: Arc<dyn Snapshotter>,
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
    let (pieces, receiver) = mpsc::channel(PIECES);
    let held = Arc::clone(&progress);
    let worker = tokio::task::spawn_blocking(move || {
        let unpacked = unpack(receiver, &*snapshotter, &diff_id);
        drop(held);
        unpacked
    });
    let mut download = Download {
        session: &session,
        reference: &reference,
        descriptor: &descriptor,
        pieces: Some(pieces),
        hasher: Sha256::new(),
        received: 0,
        reported: None,
        report: &report,
    };
    let fetched = download.run().await;
    drop(download);
    // The channel is closed, so the worker ends; it is awaited even when the download failed, so that nothing
    // of it is left when this returns.
    let written = worker
        .await
        .map_err(|_| PullError::Worker(descriptor.digest.clone()))?;
    fetched?;
    written.map_err(|cause| PullError::Layer {
        digest: descriptor.digest.clone(),
        cause,
    })?;
    report(LayerPhase::Extracting {
        current: descriptor.size,
        total: descriptor.size,
    });
    report(LayerPhase::Complete);
    Ok(())
}

struct Download<'a, R> {
    session: &'a Session,
    reference: &'a ImageReference,
    descriptor: &'a Descriptor,
    /// `None` once the worker gave up.
    pieces: Option<mpsc::Sender<Piece>>,
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
                    size @ PullError::Size { .. } => size,
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
        (self.report)(LayerPhase::Verifying);
        let found = Digest::from_sha256(&std::mem::take(&mut self.hasher).finalize().into());
        if found != self.descriptor.digest {
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

    /// One request, from where we are to its end.
    async fn attempt(&mut self, target: &str) -> Result<(), PullError> {
        let mut headers = HeaderMap::new();
        if self.received > 0 {
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
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(self.wrong_size(self.received)),
            _ => {
                let named = named(self.reference);
                return Err(self.session.refused(target, response, &named).await);
            }
        };
        let mut body = response.into_body();
        while let Some(mut chunk) = self.chunk(&mut body, target).await? {
            if skip > 0 {
                let over = usize::try_from(skip).map_or(chunk.len(), |skip| skip.min(chunk.len()));
                let _ = chunk.split_to(over);
                skip -= over as u64;
            }
            if chunk.is_empty() {
                continue;
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
                if self.descriptor.size - self.received > WORTH_KNOWING {
                    return Ok(());
                }
            }
        }
        Ok(())
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

fn length(response: &Response<ResponseBody>) -> Option<u64> {
    let value = response.headers().get(CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}
