//! The server's end of the distribution protocol: a registry on files (OCI distribution 1.1).
//!
//! ```text
//! request → route (path) → access (who, which right) → blobs │ uploads │ manifests │ lists → storage (files)
//! ```
//!
//! Every reply is made from files at once, so memory is a few pieces for each upload and nothing for each pull. Names,
//! digests and documents are hostile until `names` and `document` took them.

mod access;
mod blobs;
mod cache;
mod document;
mod failure;
mod grant;
mod lists;
mod manifests;
mod metrics;
mod names;
mod route;
mod shelf;
mod storage;
mod uploads;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use tokio_util::sync::CancellationToken;

use self::access::{Control, Here, Right};
use self::cache::Cache;
use self::failure::{Code, Failure};
use self::metrics::Metrics;
use self::route::Route;
use self::storage::{Ages, Storage};
use self::uploads::Uploads;

pub use self::access::{AccessError, AccessSettings};
pub use self::cache::{CacheSettings, InvalidUpstream};
pub use self::metrics::Counts;
pub use self::shelf::{HeldImage, Shelf};
pub use self::storage::StorageError;

/// An upload that no request worked on for so long is out of memory; its file stays for [`ServerSettings::upload_age`].
const IDLE_UPLOAD: Duration = Duration::from_secs(600);

/// How a server serves.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The directory in which everything is.
    pub root: PathBuf,
    /// How often what nothing needs is taken away; never, if none.
    pub collect_every: Option<Duration>,
    /// How long a blob stays that no manifest names, since it came or was last asked for.
    pub blob_age: Duration,
    /// How long an upload stays that nothing comes for.
    pub upload_age: Duration,
    /// Whether manifests, tags and blobs can be deleted.
    pub deletes: bool,
    /// Who may do what.
    pub access: AccessSettings,
    /// Whether clients come by TLS.
    pub tls: bool,
    /// What clients call this server, `https://name:port`; what they say in `Host`, if none.
    pub url: Option<String>,
    /// What every reply warns of (OCI distribution 1.1, "Warnings").
    pub warning: Option<String>,
    /// Which registry this one is a cache of, if it is one.
    pub cache: Option<CacheSettings>,
    /// Images that are given beside the directory's.
    pub shelf: Option<Arc<dyn Shelf>>,
}

impl ServerSettings {
    /// The settings for a directory where nothing else is said.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            collect_every: Some(Duration::from_secs(3600)),
            blob_age: Duration::from_secs(3600),
            upload_age: Duration::from_secs(24 * 3600),
            deletes: true,
            access: AccessSettings::Open,
            tls: false,
            url: None,
            warning: None,
            cache: None,
            shelf: None,
        }
    }
}

/// A registry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Server(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: ServerSettings,
    storage: Arc<Storage>,
    uploads: Arc<Uploads>,
    access: Control,
    metrics: Metrics,
    warning: Option<HeaderValue>,
    cache: Option<Arc<Cache>>,
}

/// Why a server could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its directory.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Its users, rights or keys.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The address of the registry to be cached.
    #[error(transparent)]
    Upstream(#[from] InvalidUpstream),
}

impl OpenError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> hoist_model::ErrorClass {
        match self {
            Self::Storage(source) => source.class(),
            Self::Access(source) => source.class(),
            Self::Upstream(_) => hoist_model::ErrorClass::InvalidArgument,
        }
    }
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectedContent {
    /// Blobs whose content was removed.
    pub blobs: u64,
    /// Uploads that were given up.
    pub uploads: u64,
    /// Bytes that are free again.
    pub bytes: u64,
}

impl Server {
    /// Opens a registry's directory, or makes it. Blocking.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(settings: ServerSettings) -> Result<Self, OpenError> {
        let cache = settings.cache.clone().map(Cache::new).transpose()?;
        let storage = Arc::new(Storage::open(&settings.root)?);
        let uploads = Arc::new(Uploads::new(Arc::clone(&storage)));
        let access = Control::open(settings.access.clone(), || storage.token_key())?;
        let warning = settings.warning.as_deref().map(warning);
        Ok(Self(Arc::new(Shared {
            settings,
            storage,
            uploads,
            access,
            metrics: Metrics::default(),
            warning,
            cache: cache.map(Arc::new),
        })))
    }

    /// Reads users and rights again; what cannot be read leaves all as it was. Blocking.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn reload(&self) -> Result<(), AccessError> {
        self.0.access.reload()
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.metrics.counts(self.0.uploads.count())
    }

    /// The registry as a service.
    pub fn router(&self) -> Router {
        Router::new().fallback(handle).with_state(self.clone())
    }

    /// Takes away what nothing needs. Blocking; safe while the registry serves.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn collect(&self) -> Result<CollectedContent, StorageError> {
        let ages = Ages {
            blobs: self.0.settings.blob_age,
            uploads: self.0.settings.upload_age,
        };
        if let Some(cache) = &self.0.cache {
            self.0.storage.forget_manifests(cache.settings.keep)?;
        }
        let uploads = &self.0.uploads;
        uploads.forget_idle(IDLE_UPLOAD);
        let done = self.0.storage.collect(ages, &|id| uploads.is_busy(id))?;
        let metrics = &self.0.metrics;
        metrics.collections.fetch_add(1, Ordering::Relaxed);
        metrics.collected.fetch_add(done.bytes, Ordering::Relaxed);
        tracing::info!(
            marks = done.marks,
            blobs = done.blobs,
            uploads = done.uploads,
            bytes = done.bytes,
            "collected"
        );
        Ok(CollectedContent {
            blobs: done.blobs,
            uploads: done.uploads,
            bytes: done.bytes,
        })
    }

    /// Collects from time to time, until `ending`.
    pub async fn keep_collecting(self, ending: CancellationToken) {
        let Some(every) = self.0.settings.collect_every else {
            return;
        };
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = ending.cancelled() => return,
            }
            let server = self.clone();
            let done = tokio::task::spawn_blocking(move || server.collect()).await;
            if let Ok(Err(error)) = done {
                tracing::error!(error = hoist_model::chain(&error), "collecting failed");
            }
        }
    }

    /// Runs something that blocks, beside the requests.
    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Shared) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, Failure> {
        let shared = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Failure::internal(what, &error)),
            Err(error) => Err(Failure::internal(what, &error)),
        }
    }
}

async fn handle(State(server): State<Server>, request: Request<Body>) -> Response {
    let method = request.method().clone();
    let began = std::time::Instant::now();
    let path = request.uri().path().to_owned();
    let parsed = Route::parse(&path);
    let route = parsed.as_ref().ok().cloned().flatten();
    let mut user = String::new();
    let answered = match parsed {
        Ok(parsed) => answer(&server, parsed, request, &mut user).await,
        Err(failure) => Err(failure),
    };
    let mut response = answered.unwrap_or_else(IntoResponse::into_response);
    if method == Method::HEAD {
        // What is not sent keeps its length.
        *response.body_mut() = Body::empty();
    }
    let headers = response.headers_mut();
    headers.insert(
        HeaderName::from_static("docker-distribution-api-version"),
        HeaderValue::from_static("registry/2.0"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Some(warning) = &server.0.warning {
        headers.insert(header::WARNING, warning.clone());
    }
    server.0.metrics.request(route.as_ref(), response.status());
    tracing::info!(
        %method,
        path,
        user,
        status = response.status().as_u16(),
        elapsed_us = began.elapsed().as_micros(),
        "request"
    );
    response
}

async fn answer(
    server: &Server,
    route: Option<Route>,
    request: Request<Body>,
    user: &mut String,
) -> Result<Response, Failure> {
    let settings = &server.0.settings;
    let here = here(settings, &request);
    if request.uri().path() == "/token" {
        return grant::answer(server, request, &here).await;
    }
    let Some(route) = route else {
        let text = format!("nothing is served at {}", request.uri().path());
        return Err(Failure::new(Code::Unsupported, text).status(StatusCode::NOT_FOUND));
    };
    let method = request.method().clone();
    if !route.methods().contains(&method) {
        let allowed: Vec<&str> = route.methods().iter().map(Method::as_str).collect();
        let allowed = HeaderValue::try_from(allowed.join(", "));
        let text = format!("{method} is not for a {}", route.name());
        let failure = Failure::new(Code::Unsupported, text);
        return Err(failure.header(header::ALLOW, allowed.expect("methods are words")));
    }
    let access = &server.0.access;
    let who = access.who(request.headers(), &here).await?;
    who.name().clone_into(user);
    match (&route, route.repository()) {
        (_, Some(repository)) => access.demand(&who, needed(&route, &method), repository, &here)?,
        (Route::Catalog, None) => access.demand_login(&who, &here, Some("registry:catalog:*"))?,
        (_, None) => access.demand_login(&who, &here, None)?,
    }
    if method == Method::DELETE && !settings.deletes && !matches!(route, Route::Upload(..)) {
        return Err(Failure::new(
            Code::Unsupported,
            "this registry deletes nothing",
        ));
    }
    let writes = matches!(method, Method::POST | Method::PATCH | Method::PUT);
    if let Some(cache) = server.0.cache.as_ref().filter(|_| writes) {
        let text = format!(
            "this registry is a cache of {}: push there",
            cache.settings.url
        );
        return Err(Failure::new(Code::Unsupported, text));
    }
    match route {
        Route::Base => Ok(json(StatusCode::OK, "{}")),
        Route::Catalog => lists::catalog(server, who, request.uri()).await,
        Route::Tags(name) => lists::tags(server, name, request.uri()).await,
        Route::Referrers(name, subject) => {
            lists::referrers(server, name, subject, request.uri()).await
        }
        Route::Manifest(name, reference) => {
            manifests::answer(server, name, reference, request).await
        }
        Route::Blob(name, digest) => blobs::answer(server, name, digest, request).await,
        Route::Uploads(name) => blobs::begin(server, name, &who, request).await,
        Route::Upload(name, id) => blobs::upload(server, name, &id, request).await,
    }
}

/// The right that a request needs in the repository it is about.
fn needed(route: &Route, method: &Method) -> Right {
    match (route, method) {
        (Route::Uploads(_) | Route::Upload(..), _) => Right::Push,
        (_, &Method::PUT) => Right::Push,
        (_, &Method::DELETE) => Right::Delete,
        _ => Right::Pull,
    }
}

/// What this server is called by who asks.
fn here(settings: &ServerSettings, request: &Request<Body>) -> Here {
    if let Some(url) = &settings.url {
        return Here(url.trim_end_matches('/').to_owned());
    }
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(http::uri::Authority::as_str));
    // Only what a host can look like: it goes into a header between quotes.
    let is_host = |host: &&str| {
        host.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".:-_[]".contains(&b))
    };
    let scheme = if settings.tls { "https" } else { "http" };
    Here(format!(
        "{scheme}://{}",
        host.filter(is_host).unwrap_or("localhost")
    ))
}

/// A warning as RFC 7234 §5.5 writes it; characters that no header has are left out.
fn warning(text: &str) -> HeaderValue {
    let text: String = text
        .chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .collect();
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    value(format!("299 - \"{text}\""))
}

/// A reply of JSON.
fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A header's value from what was checked to be one.
fn value(text: impl AsRef<str>) -> HeaderValue {
    HeaderValue::try_from(text.as_ref()).unwrap_or(HeaderValue::from_static(""))
}

/// The parameters of a query.
fn query(uri: &http::Uri) -> impl Iterator<Item = (String, String)> + '_ {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or("").as_bytes());
    pairs.map(|(name, value)| (name.into_owned(), value.into_owned()))
}

/// One parameter of a query.
fn parameter(uri: &http::Uri, wanted: &str) -> Option<String> {
    query(uri)
        .find(|(name, _)| name == wanted)
        .map(|(_, value)| value)
}
