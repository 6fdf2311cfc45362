//! Blobs: given, taken, mounted and deleted (OCI distribution 1.1, "Pulling blobs", "Pushing blobs", "Deleting Blobs").

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hoist_http::Connection;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version, header};
use tokio::io::AsyncReadExt;
use tokio::sync::OwnedMutexGuard;
use tokio_util::io::ReaderStream;

use super::access::{Right, Who};
use super::cache::Cache;
use super::failure::{Code, Failure};
use super::manifests::DIGEST;
use super::names::{ContentDigest, RepositoryName};
use super::shelf::HeldBlob;
use super::uploads::{Upload, UploadError, receive};
use super::{Server, parameter, route, value};

/// Bytes read at once of a blob that goes out.
const PIECE: usize = 256 << 10;

pub(super) async fn answer(
    server: &Server,
    name: RepositoryName,
    digest: ContentDigest,
    request: Request<Body>,
) -> Result<Response, Failure> {
    match *request.method() {
        Method::DELETE => delete(server, name, digest).await,
        _ => get(server, name, digest, &request.into_parts().0).await,
    }
}

fn unknown(name: &RepositoryName, digest: &ContentDigest) -> Failure {
    Failure::new(
        Code::BlobUnknown,
        format!("repository {name} has no blob {digest}"),
    )
}

async fn get(
    server: &Server,
    name: RepositoryName,
    digest: ContentDigest,
    request: &Parts,
) -> Result<Response, Failure> {
    let (from, wanted) = (name.clone(), digest.clone());
    let is_get = request.method == Method::GET;
    let found = server
        .blocking("reading a blob", move |shared| {
            let own = match is_get {
                true => {
                    let found = shared.storage.open_blob(&from, &wanted)?;
                    found.map(|(file, size)| Found::File(Some(file), size))
                }
                false => {
                    let size = shared.storage.blob_size(&from, &wanted)?;
                    size.map(|size| Found::File(None, size))
                }
            };
            let shelf = shared.settings.shelf.as_deref();
            let held = || shelf.and_then(|shelf| shelf.blob(&from, &wanted));
            Ok(own.or_else(|| {
                Some(match held()? {
                    HeldBlob::Config(bytes) => Found::Bytes(bytes),
                    HeldBlob::Layer(file, size) => Found::File(is_get.then_some(file), size),
                })
            }))
        })
        .await?;
    let (file, size) = match (found, &server.0.cache) {
        (Some(Found::File(file, size)), _) => (file, size),
        (Some(Found::Bytes(bytes)), _) => {
            let mut response = Response::new(Body::empty());
            describe(&mut response, &digest);
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, bytes.len().into());
            *response.body_mut() = Body::from(bytes);
            return Ok(response);
        }
        (None, Some(cache)) => return cached(server, cache, &name, &digest, request).await,
        (None, None) => return Err(unknown(&name, &digest)),
    };
    give(server, &digest, file, size, request)
}

/// Where a blob is.
enum Found {
    /// In a file, which is open if its bytes are wanted, and its bytes.
    File(Option<File>, u64),
    Bytes(Bytes),
}

/// A blob that is not here, of a cache.
async fn cached(
    server: &Server,
    cache: &Arc<Cache>,
    name: &RepositoryName,
    digest: &ContentDigest,
    request: &Parts,
) -> Result<Response, Failure> {
    let missing = || unknown(name, digest);
    if request.method == Method::HEAD {
        let size = Box::pin(cache.blob_size(name, digest, missing)).await?;
        return give(server, digest, None, size.unwrap_or(0), request);
    }
    let fetched = Box::pin(cache.blob(server, name, digest, missing)).await?;
    if let Some((body, size)) = fetched {
        let mut response = Response::new(body);
        describe(&mut response, digest);
        // A part is given once all of it is here; until then all of it is, which RFC 9110 §14.2 allows.
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, size.into());
        server.0.metrics.answered.fetch_add(size, Ordering::Relaxed);
        return Ok(response);
    }
    let wanted = digest.clone();
    let found = server
        .blocking("reading a blob", move |shared| {
            shared.storage.open_content(&wanted)
        })
        .await?;
    let (file, size) = found.ok_or_else(missing)?;
    give(server, digest, Some(file), size, request)
}

fn describe(response: &mut Response, digest: &ContentDigest) {
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(DIGEST, value(digest.to_string()));
    headers.insert(header::ETAG, value(format!("\"{digest}\"")));
    // Content that its digest names never changes.
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("max-age=31536000"),
    );
}

/// A blob that is here, or its head.
fn give(
    server: &Server,
    digest: &ContentDigest,
    file: Option<File>,
    size: u64,
    request: &Parts,
) -> Result<Response, Failure> {
    let mut response = Response::new(Body::empty());
    describe(&mut response, digest);
    let range = match asked_range(&request.headers, size) {
        Asked::All => 0..size,
        Asked::Part(range) => {
            let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            response
                .headers_mut()
                .insert(header::CONTENT_RANGE, value(text));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            range
        }
        Asked::Outside => {
            let text =
                format!("the blob has {size} bytes, none of which are in the range asked for");
            return Err(Failure::new(Code::SizeInvalid, text)
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .header(header::CONTENT_RANGE, value(format!("bytes */{size}"))));
        }
    };
    let length = range.end - range.start;
    if file.is_some() {
        server
            .0
            .metrics
            .answered
            .fetch_add(length, Ordering::Relaxed);
    }
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length.into());
    if let Some(file) = file
        && length > 0
    {
        *response.body_mut() = body(file, range, request)?;
    }
    Ok(response)
}

/// A part of a file as a reply's body: sent by the kernel where that can be, else read piece by piece.
fn body(file: File, range: Range<u64>, request: &Parts) -> Result<Body, Failure> {
    let length = range.end - range.start;
    let file = Arc::new(file);
    let connection = request.extensions.get::<Connection>();
    if let Some(connection) = connection.filter(|_| request.version == Version::HTTP_11)
        && let Some(body) = connection.file_body(&file, range.clone())
    {
        return Ok(body);
    }
    let mut file = Arc::into_inner(file).expect("no body has it");
    file.seek(SeekFrom::Start(range.start))
        .map_err(|error| Failure::internal("reading a blob", &error))?;
    let mut file = tokio::fs::File::from_std(file);
    file.set_max_buf_size(PIECE);
    let stream = ReaderStream::with_capacity(file.take(length), PIECE);
    Ok(Body::from_stream(stream))
}

/// What part of a blob is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    All,
    Part(Range<u64>),
    Outside,
}

/// Reads `Range` (RFC 9110 §14.2): one range of bytes; what is not understood, or is several, asks for all.
fn asked_range(headers: &HeaderMap, size: u64) -> Asked {
    let text = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let Some((first, last)) = text
        .and_then(|text| text.strip_prefix("bytes="))
        .and_then(|text| text.split_once('-'))
    else {
        return Asked::All;
    };
    let range = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..size,
        (Err(_), Ok(count)) if first.trim().is_empty() => size.saturating_sub(count)..size,
        _ => return Asked::All,
    };
    match range.start < range.end {
        true => Asked::Part(range),
        false => Asked::Outside,
    }
}

async fn delete(
    server: &Server,
    name: RepositoryName,
    digest: ContentDigest,
) -> Result<Response, Failure> {
    let (from, what) = (name.clone(), digest.clone());
    let was_there = server
        .blocking("deleting a blob", move |shared| {
            shared.storage.remove_blob(&from, &what)
        })
        .await?;
    match was_there {
        true => Ok(status(StatusCode::ACCEPTED)),
        false => Err(unknown(&name, &digest)),
    }
}

fn status(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// `POST /v2/<name>/blobs/uploads/`: a mount, a whole blob, or the beginning of an upload.
pub(super) async fn begin(
    server: &Server,
    name: RepositoryName,
    who: &Who,
    request: Request<Body>,
) -> Result<Response, Failure> {
    let uri = request.uri();
    if let (Some(digest), Some(from)) = (parameter(uri, "mount"), parameter(uri, "from")) {
        let digest = route::digest(&digest)?;
        let from = route::repository(&from)?;
        // Without the right it is as if it were not there.
        let may = server.0.access.allows(who, Right::Pull, &from);
        let (to, wanted) = (name.clone(), digest.clone());
        let is_mounted = server
            .blocking("mounting a blob", move |shared| {
                Ok(may && shared.storage.mount(&from, &wanted, &to)?)
            })
            .await?;
        if is_mounted {
            return Ok(created(&name, &digest));
        }
    }
    let digest = parameter(uri, "digest")
        .map(|text| route::digest(&text))
        .transpose()?;
    let algorithm = digest.as_ref().map(ContentDigest::algorithm);
    let upload = server.0.uploads.begin(name.clone(), algorithm);
    let upload = upload.map_err(|error| Failure::internal("beginning an upload", &error))?;
    match digest {
        Some(digest) => finish(server, name, upload, digest, request).await,
        None => Ok(progress(StatusCode::ACCEPTED, &name, &upload)),
    }
}

/// `/v2/<name>/blobs/uploads/<id>`: how far it is, more of it, its end, or its cancelling.
pub(super) async fn upload(
    server: &Server,
    name: RepositoryName,
    id: &str,
    request: Request<Body>,
) -> Result<Response, Failure> {
    let upload = server.0.uploads.take(&name, id).await;
    let mut upload = upload.map_err(|error| refused(error, &name, None))?;
    match *request.method() {
        Method::PATCH => patch(server, name, upload, request).await,
        Method::PUT => {
            let text = parameter(request.uri(), "digest").unwrap_or_default();
            let digest = route::digest(&text)?;
            finish(server, name, upload, digest, request).await
        }
        Method::DELETE => {
            server.0.uploads.end(&mut upload);
            Ok(status(StatusCode::NO_CONTENT))
        }
        _ => Ok(progress(StatusCode::NO_CONTENT, &name, &upload)),
    }
}

async fn patch(
    server: &Server,
    name: RepositoryName,
    upload: OwnedMutexGuard<Upload>,
    request: Request<Body>,
) -> Result<Response, Failure> {
    let upload = take_body(server, &name, upload, request).await?;
    Ok(progress(StatusCode::ACCEPTED, &name, &upload))
}

async fn finish(
    server: &Server,
    name: RepositoryName,
    upload: OwnedMutexGuard<Upload>,
    digest: ContentDigest,
    request: Request<Body>,
) -> Result<Response, Failure> {
    let mut upload = take_body(server, &name, upload, request).await?;
    let uploads = Arc::clone(&server.0.uploads);
    let wanted = digest.clone();
    let finished = tokio::task::spawn_blocking(move || uploads.finish(&mut upload, &wanted)).await;
    match finished {
        Ok(Ok(())) => Ok(created(&name, &digest)),
        Ok(Err(error)) => Err(refused(error, &name, None)),
        Err(error) => Err(Failure::internal("finishing an upload", &error)),
    }
}

/// Takes what a request brings of an upload, if it begins where the upload ends.
async fn take_body(
    server: &Server,
    name: &RepositoryName,
    upload: OwnedMutexGuard<Upload>,
    request: Request<Body>,
) -> Result<OwnedMutexGuard<Upload>, Failure> {
    let (head, body) = request.into_parts();
    let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let length = text(header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    if let Some(text) = text(header::CONTENT_RANGE) {
        let range = content_range(text).ok_or_else(|| {
            let text = format!("invalid Content-Range {text:?}: expected <first>-<last>");
            Failure::new(Code::BlobUploadInvalid, text)
        })?;
        if range.start != upload.offset() {
            return Err(out_of_order(name, &upload));
        }
        if length.is_some_and(|length| length != range.end - range.start) {
            let text = "Content-Range and Content-Length are of different lengths";
            return Err(Failure::new(Code::SizeInvalid, text));
        }
    }
    let before = upload.offset();
    let connection = head.extensions.get::<Connection>().cloned();
    let (done, end) = tokio::sync::oneshot::channel();
    let work = async move {
        // Nobody waits any more: the upload's lock goes here, after its last piece.
        let _ = done.send(receive(upload, body, length).await);
    };
    // When the client goes, this request's future goes too; what came has to be accounted for nevertheless.
    match connection {
        Some(connection) => connection.spawn(work),
        None => drop(tokio::spawn(work)),
    }
    let stopped = |_| Failure::new(Code::Unavailable, "the server is ending");
    let (upload, result) = end.await.map_err(stopped)?;
    let came = upload.offset() - before;
    server.0.metrics.received.fetch_add(came, Ordering::Relaxed);
    match result {
        Ok(()) => Ok(upload),
        Err(error) => Err(refused(error, name, Some(&upload))),
    }
}

/// `<first>-<last>`; also as RFC 9110 has it, `bytes <first>-<last>/<size>`, which some clients send.
fn content_range(text: &str) -> Option<Range<u64>> {
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let text = text.split('/').next()?;
    let (first, last) = text.split_once('-')?;
    let (first, last) = (
        first.trim().parse::<u64>().ok()?,
        last.trim().parse::<u64>().ok()?,
    );
    (first <= last).then(|| first..last.saturating_add(1))
}

fn out_of_order(name: &RepositoryName, upload: &Upload) -> Failure {
    let text = format!("the upload goes on at byte {}", upload.offset());
    let mut failure =
        Failure::new(Code::BlobUploadInvalid, text).status(StatusCode::RANGE_NOT_SATISFIABLE);
    for (name, value) in place(name, upload) {
        failure = failure.header(name, value);
    }
    failure
}

fn place(name: &RepositoryName, upload: &Upload) -> [(HeaderName, HeaderValue); 3] {
    // The range of nothing is told like that of one byte (OCI distribution 1.1, "Pushing a blob in chunks").
    let last = upload.offset().saturating_sub(1);
    [
        (
            header::LOCATION,
            value(format!("/v2/{name}/blobs/uploads/{}", upload.id())),
        ),
        (header::RANGE, value(format!("0-{last}"))),
        (
            HeaderName::from_static("docker-upload-uuid"),
            value(upload.id()),
        ),
    ]
}

fn progress(code: StatusCode, name: &RepositoryName, upload: &Upload) -> Response {
    let mut response = status(code);
    let headers = response.headers_mut();
    headers.extend(place(name, upload));
    if code != StatusCode::NO_CONTENT {
        headers.insert(header::CONTENT_LENGTH, 0.into());
    }
    response
}

fn created(name: &RepositoryName, digest: &ContentDigest) -> Response {
    let mut response = status(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(
        header::LOCATION,
        value(format!("/v2/{name}/blobs/{digest}")),
    );
    headers.insert(DIGEST, value(digest.to_string()));
    headers.insert(header::CONTENT_LENGTH, 0.into());
    response
}

fn refused(error: UploadError, name: &RepositoryName, upload: Option<&Upload>) -> Failure {
    let text = error.to_string();
    let failure = match error {
        UploadError::Unknown => Failure::new(Code::BlobUploadUnknown, text),
        UploadError::Busy => {
            Failure::new(Code::BlobUploadInvalid, text).status(StatusCode::CONFLICT)
        }
        UploadError::Broken(_) => Failure::new(Code::BlobUploadInvalid, text),
        UploadError::Stalled => {
            Failure::new(Code::BlobUploadInvalid, text).status(StatusCode::REQUEST_TIMEOUT)
        }
        UploadError::Length { .. } => Failure::new(Code::SizeInvalid, text),
        UploadError::Mismatch { .. } => Failure::new(Code::DigestInvalid, text),
        UploadError::Storage(error) => Failure::internal("storing an upload", &error),
    };
    let places = upload
        .map(|upload| place(name, upload))
        .into_iter()
        .flatten();
    places.fold(failure, |failure, (name, value)| {
        failure.header(name, value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        for (text, wanted) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=2-4", Asked::Part(2..5)),
            ("bytes=2-", Asked::Part(2..10)),
            ("bytes=2-99", Asked::Part(2..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-30", Asked::Part(0..10)),
            ("bytes=10-", Asked::Outside),
            ("bytes=10-12", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=4-2", Asked::All),
            ("bytes=0-1,3-4", Asked::All),
            ("lines=0-1", Asked::All),
            ("bytes=x-y", Asked::All),
            ("bytes=0-18446744073709551615", Asked::Part(0..10)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static(text));
            assert_eq!(asked_range(&headers, 10), wanted, "{text}");
        }
        assert_eq!(asked_range(&HeaderMap::new(), 10), Asked::All);
    }

    #[test]
    fn content_ranges_are_first_and_last() {
        assert_eq!(content_range("0-9"), Some(0..10));
        assert_eq!(content_range("bytes 5-9/10"), Some(5..10));
        for bad in ["", "9-0", "a-b", "5", "-5", "5-"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
