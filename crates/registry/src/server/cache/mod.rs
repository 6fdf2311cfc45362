//! A cache of another registry: what is not here is asked for there, given on while it comes, and kept.
//!
//! ```text
//! tag      believed for a while, then asked for anew (HEAD); a registry that does not answer leaves what is here in force
//! digest   never changes: here, or fetched and checked
//! blob     here, or one fetch that all who want it follow
//! ```
//!
//! What nobody asked for in a while goes with a collection. Pushes are refused: they belong to the other registry.

mod fetch;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hoist_http::client::ResponseBody;
use hoist_image::document::media_type;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use tokio::sync::OnceCell;

use self::fetch::Fetch;
pub(crate) use self::fetch::Progress;
use super::Server;
use super::document::{Checked, LARGEST};
use super::failure::{Code, Failure};
use super::names::{Algorithm, ContentDigest, Reference, RepositoryName, Tag};
use super::storage::PutRefused;
use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::PullError;
use crate::origin::Origin;
use crate::session::Session;
use crate::settings::Settings;
use crate::transport::Transport;

/// Sessions with the other registry that are kept, one for each repository.
const MOST_SESSIONS: usize = 256;

/// Which registry is cached.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// Its address, `https://registry-1.docker.io`.
    pub url: String,
    /// Who asks there.
    pub credentials: Option<Credentials>,
    /// How long a tag is believed.
    pub fresh: Duration,
    /// How long a manifest stays that nobody asks for.
    pub keep: Duration,
    /// How it is spoken to.
    pub client: Settings,
}

/// An address that is none.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no address of a registry: expected https://host or http://host:port")]
pub struct InvalidUpstream(pub String);

/// The other registry, and what is being fetched from it.
pub(crate) struct Cache {
    pub(crate) settings: CacheSettings,
    client: Client,
    origin: Origin,
    /// Held for a look-up.
    sessions: Mutex<HashMap<RepositoryName, Arc<Session>>>,
    /// What is on its way. Held for a look-up; who begins a fetch is alone in its cell.
    fetches: Mutex<HashMap<Wanted, Arc<OnceCell<Fetch>>>>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("origin", &self.origin.to_string())
            .finish_non_exhaustive()
    }
}

/// A blob of a repository.
type Wanted = (RepositoryName, ContentDigest);

/// What the other registry answered that was not what was wanted.
enum Refused {
    /// It has no such thing.
    Unknown,
    /// It does not give it to us.
    Denied(String),
    /// It does not answer now.
    Unavailable(String),
}

impl From<PullError> for Refused {
    fn from(error: PullError) -> Self {
        let text = hoist_model::chain(&error);
        match error {
            PullError::NoCredentials { .. }
            | PullError::Unauthorized(_)
            | PullError::Denied { .. } => Self::Denied(text),
            _ => Self::Unavailable(text),
        }
    }
}

impl Cache {
    pub(crate) fn new(settings: CacheSettings) -> Result<Self, InvalidUpstream> {
        let origin = settings
            .url
            .parse()
            .ok()
            .filter(|uri: &http::Uri| matches!(uri.path(), "" | "/"));
        let origin = origin.and_then(|uri| Origin::of_uri(&uri));
        Ok(Self {
            origin: origin.ok_or_else(|| InvalidUpstream(settings.url.clone()))?,
            client: Client::new(settings.client.clone()),
            settings,
            sessions: Mutex::default(),
            fetches: Mutex::default(),
        })
    }

    fn session(&self, name: &RepositoryName) -> Arc<Session> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MOST_SESSIONS {
            sessions.clear();
        }
        let session = sessions.entry(name.clone()).or_insert_with(|| {
            let transport = Transport::new(Arc::clone(&self.client.0), &self.origin.authority());
            let scope = Some(format!("repository:{name}:pull"));
            let credentials = self.settings.credentials.clone();
            Arc::new(Session::for_origin(
                transport,
                self.origin.clone(),
                scope,
                credentials,
            ))
        });
        Arc::clone(session)
    }

    /// Asks the other registry; any answer that is no success is told apart.
    async fn ask(
        &self,
        name: &RepositoryName,
        method: Method,
        target: &str,
    ) -> Result<Response<ResponseBody>, Refused> {
        let mut headers = HeaderMap::new();
        for kind in [
            media_type::OCI_INDEX,
            media_type::DOCKER_INDEX,
            media_type::OCI_MANIFEST,
            media_type::DOCKER_MANIFEST,
        ] {
            headers.append(header::ACCEPT, HeaderValue::from_static(kind));
        }
        headers.append(header::ACCEPT, HeaderValue::from_static("*/*"));
        // Its client's own retries: a hiccup is not passed on.
        let response = self
            .session(name)
            .ask_patiently(method, target, &headers)
            .await?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND => Err(Refused::Unknown),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Refused::Denied(format!("{} refuses {name}", self.origin)))
            }
            status => Err(Refused::Unavailable(format!(
                "{} answers {status}",
                self.origin
            ))),
        }
    }

    fn failure(&self, refused: Refused, unknown: impl FnOnce() -> Failure) -> Failure {
        match refused {
            Refused::Unknown => unknown(),
            Refused::Denied(text) => Failure::new(Code::Denied, text),
            Refused::Unavailable(text) => {
                tracing::warn!(upstream = %self.origin, text, "the cached registry does not answer");
                Failure::new(
                    Code::Unavailable,
                    format!("the cached registry does not answer: {text}"),
                )
            }
        }
    }

    /// Sees to it that a manifest is here and, by a tag, that it is still what the tag names there.
    pub(crate) async fn refresh(
        &self,
        server: &Server,
        name: &RepositoryName,
        reference: &Reference,
        unknown: impl Fn() -> Failure,
    ) -> Result<(), Failure> {
        let (in_name, by, fresh) = (name.clone(), reference.clone(), self.settings.fresh);
        let known = server
            .blocking("reading a manifest", move |shared| {
                let known = shared.storage.manifest(&in_name, &by)?;
                let is_fresh = match &by {
                    Reference::Digest(_) => true,
                    Reference::Tag(tag) => shared
                        .storage
                        .tag_age(&in_name, tag)?
                        .is_some_and(|age| age < fresh),
                };
                Ok(known.map(|(digest, _)| (digest, is_fresh)))
            })
            .await?;
        if let Some((_, true)) = known {
            return Ok(());
        }
        let text = match reference {
            Reference::Tag(tag) => tag.as_str().to_owned(),
            Reference::Digest(digest) => digest.to_string(),
        };
        let target = format!("/v2/{name}/manifests/{text}");
        let refreshed = self.look_there(
            server,
            name,
            reference,
            &target,
            known.as_ref().map(|(digest, _)| digest),
        );
        match (refreshed.await?, known) {
            (Ok(()), _) => Ok(()),
            (Err(Refused::Unavailable(text)), Some(_)) => {
                tracing::warn!(upstream = %self.origin, %name, text, "a tag is given as it was");
                Ok(())
            }
            (Err(refused), _) => Err(self.failure(refused, unknown)),
        }
    }

    async fn look_there(
        &self,
        server: &Server,
        name: &RepositoryName,
        reference: &Reference,
        target: &str,
        known: Option<&ContentDigest>,
    ) -> Result<Result<(), Refused>, Failure> {
        if let (Some(known), Reference::Tag(tag)) = (known, reference) {
            let head = match self.ask(name, Method::HEAD, target).await {
                Ok(head) => head,
                Err(refused) => return Ok(Err(refused)),
            };
            if told_digest(head.headers()).as_ref() == Some(known) {
                let (name, tag) = (name.clone(), tag.clone());
                server
                    .blocking("refreshing a tag", move |shared| {
                        shared.storage.touch_tag(&name, &tag)
                    })
                    .await?;
                return Ok(Ok(()));
            }
        }
        let mut response = match self.ask(name, Method::GET, target).await {
            Ok(response) => response,
            Err(refused) => return Ok(Err(refused)),
        };
        let broken = |what: &str| {
            Ok(Err(Refused::Unavailable(format!(
                "{}{target}: {what}",
                self.origin
            ))))
        };
        let kind = response.headers().get(header::CONTENT_TYPE);
        let kind = kind
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let told = told_digest(response.headers());
        let Ok(Some(bytes)) = response.body_mut().collect_within(LARGEST).await else {
            return broken("the manifest does not come whole");
        };
        let algorithm = match reference {
            Reference::Digest(digest) => digest.algorithm(),
            Reference::Tag(_) => Algorithm::Sha256,
        };
        let digest = ContentDigest::of(algorithm, &bytes);
        let is_right = match reference {
            Reference::Digest(wanted) => *wanted == digest,
            Reference::Tag(_) => {
                told.is_none_or(|told| told == digest || told.algorithm() != algorithm)
            }
        };
        if !is_right {
            return broken("the manifest is not what its digest says");
        }
        let checked = match Checked::read(kind.as_deref(), &bytes) {
            Ok(checked) => checked,
            Err(error) => return broken(&hoist_model::chain(&error)),
        };
        let tag: Option<Tag> = match reference {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => None,
        };
        let name = name.clone();
        server
            .blocking("storing a manifest", move |shared| {
                match shared.storage.put_cached_manifest(
                    &name,
                    &digest,
                    &bytes,
                    &checked,
                    tag.as_ref(),
                ) {
                    Err(PutRefused::Storage(error)) => Err(error),
                    _ => Ok(()),
                }
            })
            .await?;
        Ok(Ok(()))
    }

    /// The bytes that a blob has there.
    pub(crate) async fn blob_size(
        &self,
        name: &RepositoryName,
        digest: &ContentDigest,
        unknown: impl FnOnce() -> Failure,
    ) -> Result<Option<u64>, Failure> {
        let target = format!("/v2/{name}/blobs/{digest}");
        match self.ask(name, Method::HEAD, &target).await {
            Ok(head) => Ok(length(head.headers())),
            Err(refused) => Err(self.failure(refused, unknown)),
        }
    }

    /// A list of the other registry's, as it is: its text, and where it goes on.
    pub(crate) async fn list(
        &self,
        name: &RepositoryName,
        target: &str,
        unknown: impl FnOnce() -> Failure,
    ) -> Result<(Vec<u8>, Option<HeaderValue>), Failure> {
        let mut response = match self.ask(name, Method::GET, target).await {
            Ok(response) => response,
            Err(refused) => return Err(self.failure(refused, unknown)),
        };
        // Where it goes on is here, not there.
        let link = response.headers().get(header::LINK).cloned();
        let link = link.filter(|link| link.as_bytes().starts_with(b"</v2/"));
        match response.body_mut().collect_within(LARGEST).await {
            Ok(Some(bytes)) => Ok((bytes.into(), link)),
            _ => Err(self.failure(
                Refused::Unavailable("a list does not come whole".to_owned()),
                || Failure::new(Code::NameUnknown, "unknown"),
            )),
        }
    }
}

fn told_digest(headers: &HeaderMap) -> Option<ContentDigest> {
    headers
        .get(super::manifests::DIGEST)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}
