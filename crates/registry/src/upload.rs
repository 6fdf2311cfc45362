//! One blob on its way to a registry (distribution spec 1.1, "Pushing blobs").
//!
//! ```text
//! POST uploads/ ─▶ 201 mounted
//!              └─▶ 202 ─▶ PATCH the bytes as they are made ─▶ PUT ?digest=… ─▶ 201
//! ```

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use hoist_http::client::{ClientError, ResponseBody, empty, full, streamed};
use hoist_model::{Digest, Repository};
use http::header::{CONTENT_TYPE, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Frame;
use tokio::sync::mpsc;

use crate::error::PullError;
use crate::origin::Origin;
use crate::session::Session;
use crate::transport::location;

/// Where the registry wants the next piece of an upload.
#[derive(Clone)]
pub(crate) struct Place {
    origin: Origin,
    target: String,
}

/// What became of the wish to upload a blob.
pub(crate) enum Begun {
    /// The registry has it from the other repository.
    Mounted,
    /// It wants the bytes.
    At(Place),
}

/// A registry's uploads into one repository.
pub(crate) struct Uploads<'a> {
    pub(crate) session: &'a Session,
    pub(crate) repository: &'a Repository,
}

impl Uploads<'_> {
    /// Whether the repository has the blob.
    pub(crate) async fn has(&self, digest: &Digest) -> Result<bool, PullError> {
        let target = format!("/v2/{}/blobs/{digest}", self.repository.path());
        let none = HeaderMap::new();
        let response = self
            .session
            .ask_patiently(Method::HEAD, &target, &none)
            .await?;
        Ok(response.status() == StatusCode::OK)
    }

    /// Begins an upload, or takes the blob over from a repository of the same registry that is said to have it.
    pub(crate) async fn begin(
        &self,
        mount: Option<(&Digest, &Repository)>,
    ) -> Result<Begun, PullError> {
        let mut target = format!("/v2/{}/blobs/uploads/", self.repository.path());
        if let Some((digest, from)) = mount {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("mount", digest.as_str());
            query.append_pair("from", from.path());
            target = format!("{target}?{}", query.finish());
        }
        let origin = self.session.endpoint().await?;
        let response = self
            .session
            .send(origin, Method::POST, &target, &HeaderMap::new(), empty)
            .await?;
        match response.status() {
            StatusCode::CREATED => Ok(Begun::Mounted),
            StatusCode::ACCEPTED => Ok(Begun::At(place(origin, &response)?)),
            _ => Err(self.refused(&target, response).await),
        }
    }

    /// Uploads bytes that are all here.
    pub(crate) async fn put(&self, digest: &Digest, bytes: &Bytes) -> Result<(), PullError> {
        let Begun::At(place) = self.begin(None).await? else {
            return Ok(());
        };
        self.finish(&place, digest, bytes).await
    }

    /// Sends a layer's pieces as they come; answers where its end is to be told. Ends with a time-out where the
    /// registry takes nothing any more.
    pub(crate) async fn stream(
        &self,
        place: Place,
        pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    ) -> Result<Place, PullError> {
        let moved = Moved::default();
        let body = streamed(Pieces {
            pieces,
            moved: moved.clone(),
        });
        let headers = octets();
        let sending =
            self.session
                .send_once(&place.origin, Method::PATCH, &place.target, &headers, body);
        let idle = self.session.transport.shared().settings.idle_deadline;
        let response = tokio::select! {
                   response = Box::pin(sending) => response?,
                   () = moved.stood_still(idle) => {
                       return Err(PullError::Connection {
        verb: "Patch",
                           url: format!("{}{}", place.origin, place.target),
                           cause: ClientError::Timeout { address: place.origin.authority(), what: "response" },
                       });
                   }
               };
        match response.status() {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => self::place(&place.origin, &response),
            _ => Err(self.refused(&place.target, response).await),
        }
    }

    /// How much of an upload the registry has, and where it wants the rest; nothing where it does not know it any more.
    pub(crate) async fn progress(&self, place: &Place) -> Result<Option<(Place, u64)>, PullError> {
        let none = HeaderMap::new();
        let asked = self
            .session
            .send(&place.origin, Method::GET, &place.target, &none, empty);
        let response = asked.await?;
        if response.status() != StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let last = received(response.headers());
        let next = match response.headers().contains_key(LOCATION) {
            true => self::place(&place.origin, &response)?,
            false => place.clone(),
        };
        Ok(last.map(|count| (next, count)))
    }

    /// Tells the registry that the upload is whole; `bytes` are its last, or all of it.
    pub(crate) async fn finish(
        &self,
        place: &Place,
        digest: &Digest,
        bytes: &Bytes,
    ) -> Result<(), PullError> {
        let mark = if place.target.contains('?') { '&' } else { '?' };
        let digest: String = form_urlencoded::byte_serialize(digest.as_str().as_bytes()).collect();
        let target = format!("{}{mark}digest={digest}", place.target);
        let response = self
            .session
            .send(&place.origin, Method::PUT, &target, &octets(), || {
                full(bytes.clone())
            })
            .await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => Ok(()),
            _ => Err(self.refused(&target, response).await),
        }
    }

    /// Names what a manifest is to be found by.
    pub(crate) async fn manifest(
        &self,
        selector: &str,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<(), PullError> {
        let target = format!("/v2/{}/manifests/{selector}", self.repository.path());
        let mut headers = HeaderMap::new();
        let kind = HeaderValue::try_from(media_type)
            .map_err(|_| PullError::UnsupportedMediaType(media_type.to_owned()))?;
        headers.insert(CONTENT_TYPE, kind);
        let origin = self.session.endpoint().await?;
        let response = self
            .session
            .send(origin, Method::PUT, &target, &headers, || {
                full(bytes.clone())
            })
            .await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => Ok(()),
            _ => Err(self.refused(&target, response).await),
        }
    }

    /// What Docker says of a push that is refused: the registry's own words.
    async fn refused(&self, target: &str, response: Response<ResponseBody>) -> PullError {
        self.session.refused_push(target, response).await
    }
}

/// `Range: 0-<last>`: how many bytes a registry has of an upload. One that has none says `0-0` (distribution `blobupload.go`), as one
/// of one byte does: that byte is then sent once more, from the start.
fn received(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(RANGE)?.to_str().ok()?;
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let last: u64 = range.strip_prefix("0-")?.parse().ok()?;
    (last > 0).then_some(last + 1)
}

fn octets() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, octets);
    headers
}

/// The `Location` of an upload: never from TLS to plain HTTP, where the layer would be read on its way.
fn place(from: &Origin, response: &Response<ResponseBody>) -> Result<Place, PullError> {
    let (origin, target) = location(from, response)?;
    if from.tls && !origin.tls {
        return Err(PullError::Protocol {
            host: from.authority(),
            reason: format!("it leads an upload from TLS to plain HTTP at {origin}"),
        });
    }
    Ok(Place { origin, target })
}

/// When a body last moved.
#[derive(Clone)]
struct Moved(Arc<Mutex<Instant>>);

impl Default for Moved {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Moved {
    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns once nothing moved for so long.
    async fn stood_still(&self, longest: std::time::Duration) {
        loop {
            let last = self.last();
            tokio::time::sleep_until((last + longest).into()).await;
            if self.last() == last {
                return;
            }
        }
    }
}

/// A body of pieces that another thread makes.
struct Pieces {
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    moved: Moved,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let next = self.pieces.poll_recv(context);
        if next.is_ready() {
            self.moved.now();
        }
        next.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
