//! Manifests and configs: fetched, verified, chosen by platform.

use bytes::Bytes;
use hoist_image::Sha256;
use hoist_image::document::{
    CONFIG_LIMIT, Descriptor, Document, DocumentError, ImageConfig, MANIFEST_LIMIT, Manifest,
    media_type,
};
use hoist_model::{Digest, ImageReference, Platform};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::{PullError, Said};
use crate::session::{Named, Session};
use crate::transport::Transport;

const ACCEPTED: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
/// Only to recognise it: without it a registry answers 404 for such images.
const SCHEMA1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];
/// An index of indexes is the deepest that is made.
const DEEPEST_INDEX: usize = 2;

/// What a registry says a reference is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The manifest's or index's digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub size: u64,
}

/// A manifest as it came.
pub(crate) struct Raw {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

/// The image chosen for a platform.
pub(crate) struct Chosen {
    /// What the reference itself names: the index, or the manifest.
    pub(crate) top: Raw,
    /// The documents between, `top` not among them; the last is the manifest, unless that is `top`.
    pub(crate) below: Vec<Raw>,
    pub(crate) manifest: Manifest,
}

impl Client {
    /// What a tag or digest is at its registry, without fetching it where the registry says enough.
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn resolve(
        &self,
        reference: &ImageReference,
        credentials: Option<Credentials>,
    ) -> Result<Resolved, PullError> {
        let transport = Transport::new(self.0.clone(), reference.repository().host());
        let session = Session::new(transport, reference.repository(), credentials);
        let target = target(reference, reference.manifest_selector());
        let response = session
            .ask_patiently(Method::HEAD, &target, &accept())
            .await?;
        let text = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let digest = text("docker-content-digest").and_then(|digest| digest.parse().ok());
        let size = text(CONTENT_LENGTH.as_str()).and_then(|size| size.parse().ok());
        let media_type = text(CONTENT_TYPE.as_str()).map(bare_type);
        if let (StatusCode::OK, Some(digest), Some(size), Some(media_type)) =
            (response.status(), digest, size, media_type)
        {
            return Ok(Resolved {
                digest,
                media_type,
                size,
            });
        }
        // Refused, or silent about something: a GET gives the words or the bytes.
        let raw = fetch(&session, reference, reference.manifest_selector(), None).await?;
        Ok(Resolved {
            size: raw.bytes.len() as u64,
            digest: raw.digest,
            media_type: raw.media_type,
        })
    }
}

/// Fetches what the reference names and goes down to one image for `platform`.
pub(crate) async fn choose(
    session: &Session,
    reference: &ImageReference,
    platform: &Platform,
) -> Result<Chosen, PullError> {
    let selector = reference.manifest_selector();
    let top = fetch(session, reference, selector, reference.digest()).await?;
    let mut document = parse(reference, &top)?;
    let mut below: Vec<Raw> = Vec::new();
    loop {
        let index = match document {
            Document::Manifest(manifest) => {
                return Ok(Chosen {
                    top,
                    below,
                    manifest,
                });
            }
            Document::Index(index) => index,
        };
        let nobody = || PullError::NoMatchingPlatform(platform.clone());
        if below.len() == DEEPEST_INDEX {
            return Err(nobody());
        }
        let next = index.select(platform).ok_or_else(nobody)?;
        let raw = fetch(session, reference, next.digest.as_str(), Some(&next.digest)).await?;
        if raw.bytes.len() as u64 != next.size {
            return Err(PullError::Size {
                what: "manifest",
                digest: raw.digest,
                wanted: next.size,
                found: raw.bytes.len() as u64,
            });
        }
        document = parse(reference, &raw)?;
        below.push(raw);
    }
}

pub(crate) fn parse(reference: &ImageReference, raw: &Raw) -> Result<Document, PullError> {
    if SCHEMA1.contains(&raw.media_type.as_str()) {
        return Err(PullError::Schema1(reference.to_string()));
    }
    Document::parse(&raw.media_type, &raw.bytes).map_err(|source| match source {
        DocumentError::MediaType(media_type) => PullError::UnsupportedMediaType(media_type),
        source => PullError::Document {
            what: "manifest",
            reference: reference.familiar(),
            source,
        },
    })
}

pub(crate) async fn fetch(
    session: &Session,
    reference: &ImageReference,
    selector: &str,
    expected: Option<&Digest>,
) -> Result<Raw, PullError> {
    let target = target(reference, selector);
    let response = session
        .ask_patiently(Method::GET, &target, &accept())
        .await?;
    if response.status() != StatusCode::OK {
        let named = named(reference);
        return Err(match session.refused(&target, response, &named).await {
            PullError::Status { status, .. } if status == StatusCode::NOT_FOUND => {
                PullError::ManifestUnknown {
                    reference: named.reference,
                    said: Said {
                        code: "manifest unknown".to_owned(),
                        message: "manifest unknown".to_owned(),
                    },
                }
            }
            other => other,
        });
    }
    let (parts, body) = response.into_parts();
    let bytes = collect(session, &target, body, "manifest", MANIFEST_LIMIT).await?;
    let digest = digest_of(&bytes);
    if let Some(wanted) = expected.filter(|wanted| **wanted != digest) {
        return Err(PullError::Mismatch {
            what: "manifest",
            wanted: wanted.clone(),
            found: digest,
        });
    }
    let named = parts.headers.get(CONTENT_TYPE);
    let named = named.and_then(|value| value.to_str().ok()).map(bare_type);
    let media_type = match named.as_deref() {
        // Registries on plain file servers know no better; the document then says what it is.
        None | Some("application/json" | "text/plain" | "application/octet-stream") => {
            own_type(&bytes).or(named).unwrap_or_default()
        }
        Some(named) => named.to_owned(),
    };
    Ok(Raw {
        digest,
        media_type,
        bytes,
    })
}

/// The config of a manifest, verified.
pub(crate) async fn config(
    session: &Session,
    reference: &ImageReference,
    descriptor: &Descriptor,
) -> Result<(Bytes, ImageConfig), PullError> {
    let kind = match descriptor.media_type.as_str() {
        // Before 1.10, Docker Hub kept configs as octets.
        media_type::DOCKER_CONFIG
        | media_type::OCI_CONFIG
        | "application/octet-stream"
        | "application/json"
        | "" => None,
        "application/vnd.docker.plugin.v1+json" => Some("plugin"),
        _ => Some("unknown"),
    };
    if let Some(kind) = kind {
        return Err(PullError::NotAnImage {
            media_type: descriptor.media_type.clone(),
            kind,
        });
    }
    if descriptor.size > CONFIG_LIMIT {
        return Err(PullError::TooLarge {
            what: "image config",
            limit: CONFIG_LIMIT,
        });
    }
    let target = blob_target(reference, &descriptor.digest);
    let response = session
        .ask_patiently(Method::GET, &target, &HeaderMap::new())
        .await?;
    if response.status() != StatusCode::OK {
        return Err(session.refused(&target, response, &named(reference)).await);
    }
    let body = response.into_body();
    let bytes = collect(session, &target, body, "image config", CONFIG_LIMIT).await?;
    let found = digest_of(&bytes);
    if found != descriptor.digest {
        return Err(PullError::Mismatch {
            what: "image config",
            wanted: descriptor.digest.clone(),
            found,
        });
    }
    let config = ImageConfig::parse(&bytes).map_err(|source| PullError::Document {
        what: "image config",
        reference: reference.familiar(),
        source,
    })?;
    Ok((bytes, config))
}

pub(crate) async fn collect(
    session: &Session,
    target: &str,
    mut body: hoist_http::client::ResponseBody,
    what: &'static str,
    limit: u64,
) -> Result<Bytes, PullError> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let collected = body.collect_within(most).await;
    collected
        .map_err(|cause| PullError::Connection {
            verb: "Get",
            url: session.url(target),
            cause,
        })?
        .ok_or(PullError::TooLarge { what, limit })
}

pub(crate) fn named(reference: &ImageReference) -> Named {
    Named {
        repository: reference.repository().familiar(),
        reference: reference.familiar(),
    }
}

fn target(reference: &ImageReference, selector: &str) -> String {
    format!("/v2/{}/manifests/{selector}", reference.repository().path())
}

pub(crate) fn blob_target(reference: &ImageReference, digest: &Digest) -> String {
    format!("/v2/{}/blobs/{digest}", reference.repository().path())
}

fn accept() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.append(ACCEPT, HeaderValue::from_static(ACCEPTED));
    for media_type in SCHEMA1 {
        headers.append(ACCEPT, HeaderValue::from_static(media_type));
    }
    headers
}

/// A media type without its parameters.
fn bare_type(text: &str) -> String {
    let bare = text.split(';').next().unwrap_or(text);
    bare.trim().to_ascii_lowercase()
}

fn own_type(bytes: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Typed {
        #[serde(rename = "mediaType")]
        media_type: String,
    }
    let typed: Typed = serde_json::from_slice(bytes).ok()?;
    Some(typed.media_type)
}

pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes)
}
