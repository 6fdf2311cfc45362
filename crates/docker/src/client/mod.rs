//! The client of the Docker Engine API that Hoist's own command line uses.
//!
//! Needs a tokio runtime; a current-thread one is enough. Replies are read into whatever the caller asks for,
//! usually [`serde_json::Value`], because a command line mostly prints what the engine said.
//!
//! It speaks one version of the API ([`SPOKEN`]) without asking first, which saves a round trip; an engine
//! that is too old for it says its newest in the refusal, and the call is made again in that one.

mod error;
mod host;
mod reply;
mod ssh;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use form_urlencoded::Serializer;
use hoist_http::Hijacked;
use hoist_http::client::{Client as Http, Deadlines, Endpoint, RequestBody, empty, full};
use hoist_http::tls::{self, ClientTrust, TlsError};
use http::{Method, Request, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite};

pub use error::CallError;
pub use host::{Host, InvalidHost};
pub use reply::{Lines, Reply};
pub use ssh::Ssh;

/// The version of the API this client speaks unless told otherwise.
pub const SPOKEN: &str = "1.51";

/// A client of one engine. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    http: Http,
    host: Host,
    version: Arc<Mutex<String>>,
    /// Whether the version was asked for and so is not stepped down from.
    pinned: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// A connection taken over from HTTP, and whether its output is multiplexed.
#[derive(Debug)]
pub struct Stream {
    /// The raw connection.
    pub connection: Hijacked,
    /// Whether output comes in frames ([`hoist_http::mux`]) as the engine said; `None` if it said nothing.
    pub multiplexed: Option<bool>,
}

impl Client {
    /// A client that has not connected yet. `version` replaces [`SPOKEN`] and is insisted on.
    #[must_use]
    pub fn new(host: Host, names: Arc<dyn hoist_http::Resolve>, version: Option<String>) -> Self {
        let endpoint = match &host {
            Host::Unix(path) => Endpoint::Unix(path.clone()),
            Host::Tcp { host, port } => Endpoint::Tcp {
                host: host.clone(),
                port: *port,
                tls: None,
                proxy: None,
            },
            Host::Ssh(ssh) => ssh.endpoint(),
        };
        Self::over(endpoint, host, names, version)
    }

    /// The same with TLS for a TCP host. Blocking: reads the files of `trust`.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn secured(
        host: Host,
        names: Arc<dyn hoist_http::Resolve>,
        version: Option<String>,
        trust: &ClientTrust,
    ) -> Result<Self, TlsError> {
        let endpoint = match &host {
            Host::Unix(path) => Endpoint::Unix(path.clone()),
            Host::Tcp { host, port } => Endpoint::Tcp {
                host: host.clone(),
                port: *port,
                tls: Some(tls::client_config(trust)?),
                proxy: None,
            },
            Host::Ssh(ssh) => ssh.endpoint(),
        };
        Ok(Self::over(endpoint, host, names, version))
    }

    fn over(
        endpoint: Endpoint,
        host: Host,
        names: Arc<dyn hoist_http::Resolve>,
        version: Option<String>,
    ) -> Self {
        let deadlines = Deadlines {
            connect: Duration::from_secs(20),
            // A wait, a stop or a pull answers when it is done.
            head: None,
            idle: None,
        };
        Self {
            http: Http::new(endpoint, names, deadlines),
            host,
            pinned: version.is_some(),
            version: Arc::new(Mutex::new(version.unwrap_or_else(|| SPOKEN.to_owned()))),
        }
    }

    /// Which engine this is a client of.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The version of the API that is spoken now.
    #[must_use]
    pub fn version(&self) -> String {
        self.version
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Opens a connection to the engine and gives it away raw.
    ///
    /// # Errors
    /// When the engine cannot be reached.
    pub async fn dial(
        &self,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, CallError> {
        let dialled = self.http.dial().await;
        dialled.map_err(|error| CallError::from_http(&self.host, error))
    }

    /// Begins a `GET`.
    pub fn get(&self, path: impl Into<String>) -> Call<'_> {
        Call::new(self, Method::GET, path.into())
    }

    /// Begins a `POST`.
    pub fn post(&self, path: impl Into<String>) -> Call<'_> {
        Call::new(self, Method::POST, path.into())
    }

    /// Begins a `HEAD`.
    pub fn head(&self, path: impl Into<String>) -> Call<'_> {
        Call::new(self, Method::HEAD, path.into())
    }

    /// Begins a `PUT`.
    pub fn put(&self, path: impl Into<String>) -> Call<'_> {
        Call::new(self, Method::PUT, path.into())
    }

    /// Begins a `DELETE`.
    pub fn delete(&self, path: impl Into<String>) -> Call<'_> {
        Call::new(self, Method::DELETE, path.into())
    }
}

/// A request in the making.
#[derive(Debug)]
#[must_use = "a call does nothing until it is sent"]
pub struct Call<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(&'static str, String)>,
    body: Option<(&'static str, Bytes)>,
}

impl<'a> Call<'a> {
    fn new(client: &'a Client, method: Method, path: String) -> Self {
        Self {
            client,
            method,
            path,
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// Adds a query parameter.
    pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a query parameter if there is a value.
    pub fn query_some(self, name: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Adds `name=1` if `set`.
    pub fn query_flag(self, name: &str, set: bool) -> Self {
        if set { self.query(name, "1") } else { self }
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Gives it a JSON body.
    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = Some(("application/json", body.to_string().into()));
        self
    }

    fn request(&self, body: Option<RequestBody>) -> Result<Request<RequestBody>, CallError> {
        let mut target = format!("/v{}{}", self.client.version(), self.path);
        if !self.query.is_empty() {
            let mut query = Serializer::new(String::new());
            query.extend_pairs(&self.query);
            target = format!("{target}?{}", query.finish());
        }
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(&target)
            .header(header::USER_AGENT, "Docker-Client/hoist");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some((kind, _)) = &self.body {
            request = request.header(header::CONTENT_TYPE, *kind);
        }
        let body = body.unwrap_or_else(|| match &self.body {
            Some((_, bytes)) => full(bytes.clone()),
            None => empty(),
        });
        request
            .body(body)
            .map_err(|source| CallError::Unspeakable { target, source })
    }

    /// Sends the request; answers once the head of a success is here, with its body still to be read.
    pub async fn send(self) -> Result<Reply, CallError> {
        let reply = self.attempt().await;
        match reply {
            Err(CallError::Refused { status, message })
                if status == StatusCode::BAD_REQUEST && self.client.step_down(&message) =>
            {
                self.attempt().await
            }
            other => other,
        }
    }

    async fn attempt(&self) -> Result<Reply, CallError> {
        let request = self.request(None)?;
        let response = self.client.http.send(request).await;
        Reply::new(response.map_err(|e| CallError::from_http(&self.client.host, e))?).await
    }

    /// Sends the request with a body that is streamed, and so cannot be sent again.
    pub async fn send_stream(self, kind: &str, body: RequestBody) -> Result<Reply, CallError> {
        // Asks something small first, so that a version the engine refuses is found out before the body is spent.
        self.client.get("/_ping").send().await?.done().await?;
        let mut request = self.request(Some(body))?;
        if let Ok(kind) = kind.parse() {
            request.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        let response = self.client.http.send(request).await;
        Reply::new(response.map_err(|e| CallError::from_http(&self.client.host, e))?).await
    }

    /// Sends the request and takes the connection over from HTTP: attach and exec.
    pub async fn hijack(self) -> Result<Stream, CallError> {
        let request = self.request(None)?;
        let (response, connection) = self
            .client
            .http
            .upgrade(request, "tcp")
            .await
            .map_err(|e| CallError::from_http(&self.client.host, e))?;
        let multiplexed = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .and_then(|kind| match kind {
                "application/vnd.docker.multiplexed-stream" => Some(true),
                _ => None,
            });
        match connection {
            Some(connection) => Ok(Stream {
                connection,
                multiplexed,
            }),
            None => {
                let reply = Reply::new(response).await?;
                Err(CallError::NotTaken {
                    status: reply.status(),
                })
            }
        }
    }
}

impl Client {
    /// Takes the version an engine named in its refusal of ours; says whether there was one to take.
    fn step_down(&self, message: &str) -> bool {
        // moby:daemon/server/middleware/version.go: "client version 1.51 is too new. Maximum supported API version is 1.45"
        let Some((_, newest)) = message.split_once("Maximum supported API version is ") else {
            return false;
        };
        if self.pinned {
            return false;
        }
        let newest = newest
            .trim_end_matches(|c: char| !c.is_ascii_digit())
            .to_owned();
        let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *version != newest && newest.starts_with("1.");
        if changed {
            *version = newest;
        }
        changed
    }
}
