//! The server's end of the distribution protocol: a registry on files (OCI distribution 1.1).
//!
//! ```text
//! request → route (path) → access (who, which right) → blobs │ uploads │ manifests │ lists → storage (files)
//! ```
//!
//! Every reply is made from files at once, so memory is a few pieces for each upload and nothing for each pull. Names,
//! digests and documents are hostile until `names` and `document` took them.

mod blobs;
mod document;
mod failure;
mod lists;
mod manifests;
mod names;
mod route;
mod storage;
mod uploads;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use tokio_util::sync::CancellationToken;

use self::failure::{Code, Failure};
use self::route::Route;
use self::storage::{Ages, Storage};
use self::uploads::Uploads;

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
    /// See [`StorageError`].
    pub fn open(settings: ServerSettings) -> Result<Self, StorageError> {
        let storage = Arc::new(Storage::open(&settings.root)?);
        let uploads = Arc::new(Uploads::new(Arc::clone(&storage)));
        Ok(Self(Arc::new(Shared {
            settings,
            storage,
            uploads,
        })))
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
        let uploads = &self.0.uploads;
        uploads.forget_idle(IDLE_UPLOAD);
        let done = self.0.storage.collect(ages, &|id| uploads.is_busy(id))?;
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
    let mut response = match answer(&server, request).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    };
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
    tracing::info!(
        %method,
        path,
        status = response.status().as_u16(),
        elapsed_us = began.elapsed().as_micros(),
        "request"
    );
    response
}

async fn answer(server: &Server, request: Request<Body>) -> Result<Response, Failure> {
    let Some(route) = Route::parse(request.uri().path())? else {
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
    if method == Method::DELETE && !server.0.settings.deletes && !matches!(route, Route::Upload(..))
    {
        return Err(Failure::new(
            Code::Unsupported,
            "this registry deletes nothing",
        ));
    }
    match route {
        Route::Base => Ok(json(StatusCode::OK, "{}")),
        Route::Catalog => lists::catalog(server, request.uri()).await,
        Route::Tags(name) => lists::tags(server, name, request.uri()).await,
        Route::Referrers(name, subject) => {
            lists::referrers(server, name, subject, request.uri()).await
        }
        Route::Manifest(name, reference) => {
            manifests::answer(server, name, reference, request).await
        }
        Route::Blob(name, digest) => blobs::answer(server, name, digest, request).await,
        Route::Uploads(name) => blobs::begin(server, name, request).await,
        Route::Upload(name, id) => blobs::upload(server, name, &id, request).await,
    }
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
