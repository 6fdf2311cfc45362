//! Manifests: given, taken and deleted (OCI distribution 1.1, "Pulling manifests", "Pushing Manifests", "Deleting
//! Manifests").

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderName, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::document::{Checked, LARGEST, Unreadable};
use super::failure::{Code, Failure};
use super::names::{Algorithm, ContentDigest, Reference, RepositoryName, Tag};
use super::shelf::HeldBlob;
use super::storage::{ManifestLink, PutRefused};
use super::{Server, Shared, Shelf, StorageError, value};

pub(super) const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

pub(super) async fn answer(
    server: &Server,
    name: RepositoryName,
    reference: Reference,
    request: Request<Body>,
) -> Result<Response, Failure> {
    match *request.method() {
        Method::PUT => put(server, name, reference, request).await,
        Method::DELETE => delete(server, name, reference).await,
        _ => get(server, name, reference, &request.into_parts().0).await,
    }
}

fn unknown(name: &RepositoryName, reference: &Reference) -> Failure {
    let what = match reference {
        Reference::Tag(tag) => format!("tag {}", tag.as_str()),
        Reference::Digest(digest) => format!("digest {digest}"),
    };
    Failure::new(
        Code::ManifestUnknown,
        format!("repository {name} has no manifest of {what}"),
    )
}

async fn get(
    server: &Server,
    name: RepositoryName,
    reference: Reference,
    request: &Parts,
) -> Result<Response, Failure> {
    if let Some(cache) = &server.0.cache {
        let unknown = || unknown(&name, &reference);
        Box::pin(cache.refresh(server, &name, &reference, unknown)).await?;
    }
    let (asked, by) = (name.clone(), reference.clone());
    let is_cache = server.0.cache.is_some();
    let wants_bytes = request.method == Method::GET;
    let found = server
        .blocking("reading a manifest", move |shared| {
            let Some((digest, link)) = shared.storage.manifest(&asked, &by)? else {
                let shelf = shared.settings.shelf.as_deref();
                let held = shelf.and_then(|shelf| shelf.manifest(&asked, &by));
                return Ok(held.map(|(digest, bytes)| {
                    let link = ManifestLink::of_image(bytes.len() as u64);
                    (digest, link, bytes)
                }));
            };
            if is_cache {
                shared.storage.touch_manifest(&asked, &digest)?;
            }
            let bytes = match wants_bytes {
                true => shared.storage.read_manifest(&digest)?,
                false => Some(Vec::new()),
            };
            Ok(bytes.map(|bytes| (digest, link, bytes)))
        })
        .await?;
    let Some((digest, link, bytes)) = found else {
        return Err(unknown(&name, &reference));
    };
    if wants_bytes {
        // A disk that forgot is not passed on as the truth.
        let is = ContentDigest::of(digest.algorithm(), &bytes);
        if is != digest {
            tracing::error!(%name, %digest, found = %is, "a stored manifest is corrupt");
            return Err(Failure::new(
                Code::Unknown,
                format!("manifest {digest} is corrupt on this server"),
            ));
        }
    }
    let tag = format!("\"{digest}\"");
    let is_known = request
        .headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim() == tag || value.trim() == digest.to_string());
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(DIGEST, value(digest.to_string()));
    headers.insert(header::ETAG, value(tag));
    if is_known {
        *response.body_mut() = Body::empty();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    headers.insert(header::CONTENT_TYPE, value(&link.media_type));
    headers.insert(header::CONTENT_LENGTH, link.size.into());
    Ok(response)
}

async fn put(
    server: &Server,
    name: RepositoryName,
    reference: Reference,
    request: Request<Body>,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let content_type = head.headers.get(header::CONTENT_TYPE);
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let bytes = read(body).await?;
    let (digest, tag) = match &reference {
        Reference::Tag(tag) => (
            ContentDigest::of(Algorithm::Sha256, &bytes),
            Some(tag.clone()),
        ),
        Reference::Digest(wanted) => {
            let found = ContentDigest::of(wanted.algorithm(), &bytes);
            if found != *wanted {
                let text = format!("the manifest has digest {found}, not {wanted}");
                return Err(Failure::new(Code::DigestInvalid, text));
            }
            (found, None)
        }
    };
    let checked = Checked::read(content_type.as_deref(), &bytes).map_err(|error| {
        let text = hoist_model::chain(&error);
        match error {
            Unreadable::MediaType(_) => {
                Failure::new(Code::ManifestInvalid, text).status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            _ => Failure::new(Code::ManifestInvalid, text),
        }
    })?;
    let subject = checked.subject.clone();
    store(server, &name, &digest, bytes, checked, tag).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(
        header::LOCATION,
        value(format!("/v2/{name}/manifests/{digest}")),
    );
    headers.insert(DIGEST, value(digest.to_string()));
    headers.insert(header::CONTENT_LENGTH, 0.into());
    if let Some(subject) = subject {
        headers.insert(
            HeaderName::from_static("oci-subject"),
            value(subject.to_string()),
        );
    }
    Ok(response)
}

/// A manifest's bytes, not more than one may have.
async fn read(body: Body) -> Result<Vec<u8>, Failure> {
    match Limited::new(body, LARGEST).collect().await {
        Ok(collected) => Ok(collected.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => {
            let text = format!("a manifest may have {LARGEST} bytes");
            Err(Failure::new(Code::SizeInvalid, text).status(StatusCode::PAYLOAD_TOO_LARGE))
        }
        Err(_) => Err(Failure::new(
            Code::ManifestInvalid,
            "the manifest did not come whole",
        )),
    }
}

/// Stores a manifest that was checked.
async fn store(
    server: &Server,
    name: &RepositoryName,
    digest: &ContentDigest,
    bytes: Vec<u8>,
    checked: Checked,
    tag: Option<Tag>,
) -> Result<(), Failure> {
    let (name, digest) = (name.clone(), digest.clone());
    let stored = server
        .blocking("storing a manifest", move |shared| {
            if let Some(shelf) = shared.settings.shelf.as_deref() {
                take_over(shared, shelf, &name, &checked)?;
            }
            match shared
                .storage
                .put_manifest(&name, &digest, &bytes, &checked, tag.as_ref())
            {
                Err(PutRefused::Storage(error)) => Err(error),
                other => Ok(other),
            }
        })
        .await?;
    stored.map_err(|refused| {
        let code = match refused {
            PutRefused::BlobUnknown(_) | PutRefused::ManifestUnknown(_) => {
                Code::ManifestBlobUnknown
            }
            _ => Code::ManifestInvalid,
        };
        Failure::new(code, refused.to_string())
    })
}

/// Makes what of a shelf a manifest names the server's own: it was told to be there, so it was not pushed.
fn take_over(
    shared: &Shared,
    shelf: &(dyn Shelf + 'static),
    name: &RepositoryName,
    checked: &Checked,
) -> Result<(), StorageError> {
    for blob in &checked.blobs {
        if shared.storage.blob_size(name, &blob.digest)?.is_some() {
            continue;
        }
        match shelf.blob(name, &blob.digest) {
            Some(HeldBlob::Layer(file, _)) => {
                shared.storage.link_file(name, &blob.digest, &file)?
            }
            Some(HeldBlob::Config(bytes)) => shared.storage.put_blob(name, &blob.digest, &bytes)?,
            None => {}
        }
    }
    Ok(())
}

async fn delete(
    server: &Server,
    name: RepositoryName,
    reference: Reference,
) -> Result<Response, Failure> {
    let (from, what) = (name.clone(), reference.clone());
    let was_there = server
        .blocking("deleting a manifest", move |shared| match &what {
            Reference::Tag(tag) => shared.storage.remove_tag(&from, tag),
            Reference::Digest(digest) => shared.storage.remove_manifest(&from, digest),
        })
        .await?;
    if !was_there {
        let (from, what) = (name.clone(), reference.clone());
        let held = server.blocking("looking for a manifest", move |shared| {
            let shelf = shared.settings.shelf.as_deref();
            Ok(shelf.is_some_and(|shelf| shelf.manifest(&from, &what).is_some()))
        });
        if held.await? {
            let text = "this image is the engine's: docker rmi removes it";
            return Err(Failure::new(Code::Unsupported, text));
        }
        return Err(unknown(&name, &reference));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}
