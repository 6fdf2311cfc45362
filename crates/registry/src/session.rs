//! One repository of one registry: which endpoint answers, and what proves that we may ask.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use hoist_http::client::{RequestBody, ResponseBody};
use hoist_model::{DOCKER_HUB, Repository};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use tokio::sync::{Mutex, OnceCell};

use crate::challenge::{Challenge, challenges};
use crate::credentials::Credentials;
use crate::error::{PullError, Said};
use crate::origin::Origin;
use crate::token;
use crate::transport::{Transport, unreachable};

/// Where Docker Hub's images really are.
const HUB_ENDPOINT: &str = "registry-1.docker.io";
/// The pause between attempts stops growing here.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const REFUSAL_LIMIT: usize = 64 << 10;
/// How often one request may be refused and authenticated anew: an expired token costs one.
const MOST_CHALLENGES: usize = 2;

pub(crate) struct Session {
    pub(crate) transport: Transport,
    /// As references name it.
    host: String,
    /// `repository:<path>:pull` and the like, by spaces; nothing for a login.
    scope: Option<String>,
    credentials: Option<Credentials>,
    /// Whether the realm is asked for an identity token too.
    offline: bool,
    endpoint: OnceCell<Origin>,
    /// What is sent as `Authorization`. Locked while a new one is fetched, so that parallel layers fetch one.
    authorization: Mutex<Authorization>,
}

#[derive(Clone, Default)]
struct Authorization {
    header: Option<HeaderValue>,
    /// Counts the changes, so that a request knows whether its own was replaced meanwhile.
    generation: u64,
    /// The identity token that came with the last access token.
    refresh: Option<String>,
}

impl Session {
    pub(crate) fn new(
        transport: Transport,
        repository: &Repository,
        credentials: Option<Credentials>,
    ) -> Self {
        let scope = Some(format!("repository:{}:pull", repository.path()));
        Self::for_host(transport, repository.host(), scope, credentials, false)
    }

    /// To send an image there; `sources` are repositories of the same registry whose layers may be taken over.
    pub(crate) fn for_push(
        transport: Transport,
        repository: &Repository,
        sources: &[Repository],
        credentials: Option<Credentials>,
    ) -> Self {
        let mut scope = format!("repository:{}:pull,push", repository.path());
        for source in sources {
            let _ = write!(scope, " repository:{}:pull", source.path());
        }
        Self::for_host(
            transport,
            repository.host(),
            Some(scope),
            credentials,
            false,
        )
    }

    /// Asks this server in the place of the repository's own, without anybody's credentials.
    pub(crate) fn for_mirror(
        transport: Transport,
        origin: Origin,
        repository: &Repository,
    ) -> Self {
        let scope = Some(format!("repository:{}:pull", repository.path()));
        Self::for_origin(transport, origin, scope, None)
    }

    /// Asks this server, whatever name a repository has there.
    pub(crate) fn for_origin(
        transport: Transport,
        origin: Origin,
        scope: Option<String>,
        credentials: Option<Credentials>,
    ) -> Self {
        Self {
            endpoint: OnceCell::new_with(Some(origin.clone())),
            ..Self::for_host(transport, &origin.authority(), scope, credentials, false)
        }
    }

    pub(crate) fn for_host(
        transport: Transport,
        host: &str,
        scope: Option<String>,
        credentials: Option<Credentials>,
        offline: bool,
    ) -> Self {
        Self {
            offline,
            transport,
            host: host.to_owned(),
            scope,
            credentials: credentials.filter(|credentials| !credentials.is_empty()),
            endpoint: OnceCell::new(),
            authorization: Mutex::default(),
        }
    }

    /// The endpoint that answers: TLS first, then, where that is allowed, plain HTTP. Found once.
    pub(crate) async fn endpoint(&self) -> Result<&Origin, PullError> {
        self.endpoint
            .get_or_try_init(|| Box::pin(self.find_endpoint()))
            .await
    }

    async fn find_endpoint(&self) -> Result<Origin, PullError> {
        let host = if self.host == DOCKER_HUB {
            HUB_ENDPOINT
        } else {
            &self.host
        };
        let broken = || PullError::Protocol {
            host: host.to_owned(),
            reason: "it is no host name".to_owned(),
        };
        let secure = Origin::of_host(host, true).ok_or_else(broken)?;
        let insecure = host != HUB_ENDPOINT && self.transport.is_insecure(&secure).await;
        let mut candidates = vec![secure];
        if insecure {
            candidates.push(Origin::of_host(host, false).ok_or_else(broken)?);
        }
        let mut first_failure = None;
        for origin in candidates {
            let none = HeaderMap::new();
            let ping = || self.transport.ask(&origin, Method::GET, "/v2/", &none);
            match self.patiently(ping).await {
                Ok((from, response)) => {
                    if response.status() == StatusCode::UNAUTHORIZED && from == origin {
                        self.answer(&origin, response.headers(), 0).await?;
                    }
                    // Read to its end, the connection serves the next request.
                    let _ = response.into_body().collect_within(REFUSAL_LIMIT).await;
                    return Ok(origin);
                }
                // A plain registry's refusal of TLS says nothing; what plain HTTP met does.
                Err(e) if unreachable(&e) => first_failure = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(first_failure.unwrap_or_else(broken))
    }

    /// Asks the registry, authenticating when it wants that. Any status but 401 comes back as it is.
    pub(crate) async fn ask(
        &self,
        method: Method,
        target: &str,
        headers: &HeaderMap,
    ) -> Result<Response<ResponseBody>, PullError> {
        let origin = self.endpoint().await?;
        let mut challenged = 0;
        loop {
            let (headers, generation) = self.authorized(origin, headers).await?;
            let asked = self.transport.ask(origin, method.clone(), target, &headers);
            let (from, response) = asked.await?;
            let again = self.challenged(&from, &response, generation, challenged);
            if !again.await? {
                return Ok(response);
            }
            challenged += 1;
        }
    }

    /// Sends a body, made anew for each attempt, authenticating when the registry wants that. Follows no redirects. What
    /// proves that we may ask stays with the registry's own origin.
    pub(crate) async fn send(
        &self,
        origin: &Origin,
        method: Method,
        target: &str,
        headers: &HeaderMap,
        body: impl Fn() -> RequestBody,
    ) -> Result<Response<ResponseBody>, PullError> {
        self.patiently(|| async {
            let mut challenged = 0;
            loop {
                let (headers, generation) = self.authorized(origin, headers).await?;
                let response = self
                    .transport
                    .send(origin, method.clone(), target, &headers, body())
                    .await?;
                let again = self.challenged(origin, &response, generation, challenged);
                if !again.await? {
                    return Ok(response);
                }
                challenged += 1;
            }
        })
        .await
    }

    /// Sends a body that can be made but once. A challenge is answered for the next attempt, which a failure that may
    /// pass asks for.
    pub(crate) async fn send_once(
        &self,
        origin: &Origin,
        method: Method,
        target: &str,
        headers: &HeaderMap,
        body: RequestBody,
    ) -> Result<Response<ResponseBody>, PullError> {
        let (headers, generation) = self.authorized(origin, headers).await?;
        let response = self
            .transport
            .send(origin, method, target, &headers, body)
            .await?;
        if self.challenged(origin, &response, generation, 0).await? {
            return Err(PullError::Status {
                url: format!("{origin}{target}"),
                status: StatusCode::SERVICE_UNAVAILABLE,
            });
        }
        Ok(response)
    }

    /// These headers with what proves that we may ask, for the registry's own origin, and which proof that was.
    async fn authorized(
        &self,
        origin: &Origin,
        headers: &HeaderMap,
    ) -> Result<(HeaderMap, u64), PullError> {
        let mut headers = headers.clone();
        let authorization = self.authorization.lock().await.clone();
        if let Some(header) = authorization.header
            && origin == self.endpoint().await?
        {
            headers.insert(AUTHORIZATION, header);
        }
        Ok((headers, authorization.generation))
    }

    /// Whether a refusal was answered with a new proof, so that asking again makes sense.
    async fn challenged(
        &self,
        origin: &Origin,
        response: &Response<ResponseBody>,
        generation: u64,
        before: usize,
    ) -> Result<bool, PullError> {
        let refused = response.status() == StatusCode::UNAUTHORIZED;
        if !refused || before == MOST_CHALLENGES || origin != self.endpoint().await? {
            return Ok(false);
        }
        self.answer(origin, response.headers(), generation).await
    }

    /// Asks until the answer is more than a hiccup.
    pub(crate) async fn ask_patiently(
        &self,
        method: Method,
        target: &str,
        headers: &HeaderMap,
    ) -> Result<Response<ResponseBody>, PullError> {
        self.patiently(|| async {
            let response = self.ask(method.clone(), target, headers).await?;
            let status = response.status();
            if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
                let url = self.url(target);
                return Err(PullError::Status { url, status });
            }
            Ok(response)
        })
        .await
    }

    /// Repeats what failed for a reason that may pass.
    async fn patiently<T, F: Future<Output = Result<T, PullError>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, PullError> {
        let settings = &self.transport.shared().settings;
        let mut pause = settings.backoff;
        let mut number = 1;
        loop {
            match attempt().await {
                Err(e) if e.is_transient() && number < settings.max_attempts => {
                    tracing::debug!(error = %e, number, "asking the registry again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    number += 1;
                }
                other => return other,
            }
        }
    }

    /// The identity token that the realm gave, if it did.
    pub(crate) async fn identity_token(&self) -> Option<String> {
        self.authorization.lock().await.refresh.clone()
    }

    /// `https://host/v2/…`, for error messages.
    pub(crate) fn url(&self, target: &str) -> String {
        match self.endpoint.get() {
            Some(origin) => format!("{origin}{target}"),
            None => format!("https://{}{target}", self.host),
        }
    }

    /// Answers a challenge, unless another request did so meanwhile. `false`: there is nothing else to try.
    async fn answer(
        &self,
        origin: &Origin,
        headers: &HeaderMap,
        generation: u64,
    ) -> Result<bool, PullError> {
        let mut authorization = self.authorization.lock().await;
        if authorization.generation != generation {
            return Ok(true);
        }
        let offered = challenges(headers);
        let by_scheme =
            |scheme: &str| -> Option<&Challenge> { offered.iter().find(|c| c.scheme == scheme) };
        let text = if let Some(bearer) = by_scheme("bearer") {
            match self
                .credentials
                .as_ref()
                .and_then(|c| c.registry_token.as_ref())
            {
                Some(_) if generation > 0 => return Ok(false),
                Some(token) => format!("Bearer {token}"),
                None => {
                    let scope = self
                        .scope
                        .as_deref()
                        .or(bearer.parameters.get("scope").map(String::as_str));
                    let credentials = self.credentials.as_ref();
                    let token = token::fetch(
                        &self.transport,
                        origin,
                        bearer,
                        scope,
                        credentials,
                        self.offline,
                    );
                    let token = Box::pin(token).await?;
                    authorization.refresh = token.refresh;
                    format!("Bearer {}", token.access)
                }
            }
        } else if by_scheme("basic").is_some() {
            match self.credentials.as_ref().filter(|c| c.has_password()) {
                // The same words again would be refused again.
                Some(_) if generation > 0 => return Ok(false),
                Some(credentials) => credentials.basic_header(),
                None => {
                    return Err(PullError::NoCredentials {
                        url: format!("{origin}/v2/"),
                    });
                }
            }
        } else {
            return Ok(false);
        };
        let mut header = HeaderValue::try_from(text).map_err(|_| PullError::Protocol {
            host: origin.authority(),
            reason: "its token cannot be sent back".to_owned(),
        })?;
        header.set_sensitive(true);
        authorization.header = Some(header);
        authorization.generation += 1;
        Ok(true)
    }

    /// What the registry says of its refusal, or the status by itself.
    async fn said(
        &self,
        target: &str,
        response: Response<ResponseBody>,
    ) -> Result<Said, PullError> {
        let (parts, mut body) = response.into_parts();
        let text = body.collect_within(REFUSAL_LIMIT).await;
        let text = text.ok().flatten().unwrap_or_default();
        refusal(parts.status, &parts.headers, &text).ok_or_else(|| PullError::Status {
            url: self.url(target),
            status: parts.status,
        })
    }

    /// Why the registry refused a push: in its own words, as Docker tells it.
    pub(crate) async fn refused_push(
        &self,
        target: &str,
        response: Response<ResponseBody>,
    ) -> PullError {
        match self.said(target, response).await {
            Ok(said) if said.code == "unauthorized" => PullError::Unauthorized(said),
            Ok(said) if said.code == "toomanyrequests" => PullError::TooManyRequests(said),
            Ok(said) => PullError::Refused(said),
            Err(silent) => silent,
        }
    }

    /// Why the registry refused, read from a reply that is no success.
    pub(crate) async fn refused(
        &self,
        target: &str,
        response: Response<ResponseBody>,
        name: &Named,
    ) -> PullError {
        let said = match self.said(target, response).await {
            Ok(said) => said,
            Err(silent) => return silent,
        };
        let repository = name.repository.clone();
        match said.code.as_str() {
            "denied" => PullError::Denied { repository, said },
            "manifest unknown" => PullError::ManifestUnknown {
                reference: name.reference.clone(),
                said,
            },
            "name unknown" => PullError::RepositoryUnknown { repository, said },
            "unauthorized" => PullError::Unauthorized(said),
            "toomanyrequests" => PullError::TooManyRequests(said),
            _ => PullError::Refused(said),
        }
    }
}

/// How error messages name what was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) repository: String,
    pub(crate) reference: String,
}

/// The reason in a refusal (docker/distribution `registry/client/errors.go`): the bearer challenge's error, then the
/// body's first error, then what the status says by itself.
pub(crate) fn refusal(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Option<Said> {
    let said = |code: &str, message: &str| {
        Some(Said {
            code: code.to_owned(),
            message: message.to_owned(),
        })
    };
    let denied = "requested access to the resource is denied";
    if status == StatusCode::UNAUTHORIZED {
        for challenge in challenges(headers) {
            let described = challenge.parameters.get("error_description");
            let described = described.map(String::as_str).filter(|d| !d.is_empty());
            match challenge.parameters.get("error").map(String::as_str) {
                Some("insufficient_scope") => return said("denied", described.unwrap_or(denied)),
                Some("invalid_token") => {
                    return said(
                        "unauthorized",
                        described.unwrap_or("authentication required"),
                    );
                }
                _ => {}
            }
        }
    }
    #[derive(serde::Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<Entry>,
        #[serde(default)]
        details: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let parsed: Option<Body> = serde_json::from_slice(body).ok();
    if let Some(body) = &parsed {
        if let Some(entry) = body.errors.first().filter(|entry| !entry.code.is_empty()) {
            let code = entry.code.to_ascii_lowercase().replace('_', " ");
            let message = if entry.message.is_empty() {
                &code
            } else {
                &entry.message
            };
            return said(&code, message);
        }
        if let Some(details) = body.details.as_deref().filter(|d| !d.is_empty()) {
            match status {
                StatusCode::UNAUTHORIZED => return said("unauthorized", details),
                StatusCode::FORBIDDEN => return said("denied", details),
                StatusCode::TOO_MANY_REQUESTS => return said("toomanyrequests", details),
                _ => {}
            }
        }
    }
    match status {
        StatusCode::UNAUTHORIZED => said("unauthorized", "authentication required"),
        StatusCode::FORBIDDEN => said("denied", denied),
        StatusCode::TOO_MANY_REQUESTS => said("toomanyrequests", "too many requests"),
        _ => None,
    }
}
