//! A small HTTP/1.1 client of one server, over a unix socket or TCP.
//!
//! It keeps idle connections and gives one up when it breaks; it follows no redirects, stores no cookies and
//! retries only what a kept connection lost before it was answered. A current-thread runtime is enough.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, PROXY_AUTHORIZATION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

pub use crate::connect::Endpoint;
use crate::connect::connect;
use crate::hijack::Hijacked;
pub use crate::proxy::{Proxy, ProxyProtocol};
use crate::resolve::Resolve;

/// What a request carries.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

type Sender = http1::SendRequest<RequestBody>;

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Resolve, connect and TLS handshake together.
    pub connect: Duration,
    /// From sending to the response's head; `None`: as long as it takes.
    pub head: Option<Duration>,
    /// Between two pieces of a response's body; `None`: as long as it takes.
    pub idle: Option<Duration>,
}

impl Deadlines {
    /// For an engine on this machine: connects at once or never, then takes as long as its work takes.
    #[must_use]
    pub fn local() -> Self {
        Self {
            connect: Duration::from_secs(30),
            head: None,
            idle: None,
        }
    }
}

/// Why there is no response, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The host's name has no address.
    #[error("lookup {host}")]
    Lookup {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nobody takes the connection.
    #[error("connect to {address}")]
    Dial {
        /// The address tried last.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The proxy does not connect to the server.
    #[error("proxy {address} does not connect to {target}: {answer}")]
    Proxy {
        /// The proxy's address.
        address: String,
        /// The server's.
        target: String,
        /// What it said: `407 Proxy Authentication Required`.
        answer: String,
    },
    /// TLS could not be agreed; the source may hold a [`rustls::Error`].
    #[error("TLS handshake with {host}")]
    Handshake {
        /// The server's name.
        host: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke or spoke no HTTP.
    #[error("talk to {address}")]
    Talk {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// A deadline passed.
    #[error("{address}: no {what} in time")]
    Timeout {
        /// Where.
        address: String,
        /// What was awaited: `connection`, `response`, `data`.
        what: &'static str,
    },
}

impl ClientError {
    /// Its class: the server is not there, or not now.
    #[must_use]
    pub fn class(&self) -> hoist_model::ErrorClass {
        hoist_model::ErrorClass::Unavailable
    }

    /// Whether no connection was made at all, so that the server saw nothing.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        match self {
            Self::Lookup { .. }
            | Self::Dial { .. }
            | Self::Proxy { .. }
            | Self::Handshake { .. } => true,
            Self::Timeout { what, .. } => *what == "connection",
            Self::Talk { .. } => false,
        }
    }
}

/// A client of one server. Clones share its idle connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    address: String,
    host: HeaderValue,
    resolve: Arc<dyn Resolve>,
    deadlines: Deadlines,
    idle: Mutex<Vec<Sender>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.0.address)
    }
}

impl Client {
    /// A client that connects when it is first asked something.
    #[must_use]
    pub fn new(endpoint: Endpoint, resolve: Arc<dyn Resolve>, deadlines: Deadlines) -> Self {
        let host = HeaderValue::try_from(endpoint.host_header());
        Self(Arc::new(Inner {
            address: endpoint.address(),
            host: host.unwrap_or(HeaderValue::from_static("localhost")),
            endpoint,
            resolve,
            deadlines,
            idle: Mutex::default(),
        }))
    }

    /// `/run/hoist.sock` or `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// Sends a request (its URI is path and query only; `Host` is filled in) and returns the response once its head is
    /// here. Dropping the future or the response's body closes the connection.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, ClientError> {
        let (response, sender) = self.exchange(request).await?;
        Ok(response.map(|incoming| self.body(incoming, Some(sender))))
    }

    /// Sends a request that asks for the connection (`Upgrade: <protocol>`). No raw connection: the server
    /// answered otherwise, usually with an error.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn upgrade(
        &self,
        mut request: Request<RequestBody>,
        protocol: &'static str,
    ) -> Result<(Response<ResponseBody>, Option<Hijacked>), ClientError> {
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(protocol));
        let (mut response, sender) = self.exchange(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok((
                response.map(|incoming| self.body(incoming, Some(sender))),
                None,
            ));
        }
        let raw = hyper::upgrade::on(&mut response).await;
        let raw = raw.map_err(|source| self.0.talk(source))?;
        let response = response.map(|incoming| self.body(incoming, None));
        Ok((response, Some(Hijacked::from_client(raw))))
    }

    /// Opens a connection to the server and gives it away raw, before any HTTP.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn dial(
        &self,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, ClientError> {
        let inner = &*self.0;
        let connecting = connect(&inner.endpoint, &*inner.resolve);
        let connected = tokio::time::timeout(inner.deadlines.connect, connecting).await;
        connected.unwrap_or_else(|_| {
            Err(ClientError::Timeout {
                address: inner.address.clone(),
                what: "connection",
            })
        })
    }

    async fn exchange(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Sender), ClientError> {
        let inner = &*self.0;
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, inner.host.clone());
        }
        if let Some(authorization) = inner.endpoint.forwarded() {
            inner.name_server(&mut request);
            if let Some(value) = authorization {
                let headers = request.headers_mut();
                headers.insert(PROXY_AUTHORIZATION, value.clone());
            }
        }
        if let Some(mut sender) = inner.idle_sender().await {
            let again = repeatable(&request);
            let sent = inner.head_in_time(sender.try_send_request(request)).await?;
            match sent {
                Ok(response) => return Ok((response, sender)),
                // The server closed the kept connection meanwhile; a new one answers.
                Err(mut e) => match e.take_message().or(again) {
                    Some(unsent) => request = unsent,
                    None => return Err(inner.talk(e.into_error())),
                },
            }
        }
        let mut sender = inner.fresh_sender().await?;
        let sent = inner.head_in_time(sender.send_request(request)).await?;
        Ok((sent.map_err(|source| inner.talk(source))?, sender))
    }

    fn body(&self, incoming: Incoming, sender: Option<Sender>) -> ResponseBody {
        let mut body = ResponseBody {
            incoming,
            sender,
            client: Arc::downgrade(&self.0),
            address: self.0.address.clone(),
            idle: self.0.deadlines.idle,
            sleep: None,
        };
        if body.incoming.is_end_stream() {
            body.give_back();
        }
        body
    }
}

/// The same request again, if it has no body and may be asked twice.
fn repeatable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    if !safe || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(empty());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

impl Inner {
    /// Makes the request's URI whole, for who does not know by the connection which server is meant.
    fn name_server(&self, request: &mut Request<RequestBody>) {
        let target = request.uri().path_and_query();
        let target = target.map_or("/", |target| target.as_str());
        let host = self.host.to_str().unwrap_or_default();
        if let Ok(whole) = format!("http://{host}{target}").parse() {
            *request.uri_mut() = whole;
        }
    }

    fn talk(&self, source: hyper::Error) -> ClientError {
        ClientError::Talk {
            address: self.address.clone(),
            source,
        }
    }

    fn late(&self, what: &'static str) -> ClientError {
        ClientError::Timeout {
            address: self.address.clone(),
            what,
        }
    }

    async fn head_in_time<T>(&self, sending: impl Future<Output = T>) -> Result<T, ClientError> {
        match self.deadlines.head {
            None => Ok(sending.await),
            Some(limit) => tokio::time::timeout(limit, sending)
                .await
                .map_err(|_| self.late("response")),
        }
    }

    async fn idle_sender(&self) -> Option<Sender> {
        loop {
            // Popped in a statement of its own: the lock is not held while waiting.
            let popped = self
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let mut sender = popped?;
            if !sender.is_closed() && sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    async fn fresh_sender(&self) -> Result<Sender, ClientError> {
        let opening = connect(&self.endpoint, &*self.resolve);
        let io = tokio::time::timeout(self.deadlines.connect, opening)
            .await
            .map_err(|_| self.late("connection"))??;
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(io))
            .await
            .map_err(|source| self.talk(source))?;
        // Owned by the sender: the task ends when the sender and the body in flight are dropped. What breaks
        // is told to whoever waits for the response.
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        Ok(sender)
    }
}

/// A response's body. Read to its end, it leaves its connection to the next request.
#[derive(Debug)]
pub struct ResponseBody {
    incoming: Incoming,
    sender: Option<Sender>,
    client: Weak<Inner>,
    address: String,
    idle: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.address)
    }
}

impl ResponseBody {
    fn give_back(&mut self) {
        if let (Some(sender), Some(client)) = (self.sender.take(), self.client.upgrade()) {
            client
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(sender);
        }
    }

    /// The next piece; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// See [`ClientError`]; a body cut short is one.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Everything, if it is at most `limit` bytes; `None` if it is more.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn collect_within(&mut self, limit: usize) -> Result<Option<Bytes>, ClientError> {
        let mut all = bytes::BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if all.len() + chunk.len() > limit {
                return Ok(None);
            }
            all.extend_from_slice(&chunk);
        }
        Ok(Some(all.freeze()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ClientError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) {
            this.sleep = None;
            if frame.is_none() || (matches!(frame, Some(Ok(_))) && this.incoming.is_end_stream()) {
                this.give_back();
            }
            return Poll::Ready(frame.map(|frame| {
                frame.map_err(|source| ClientError::Talk {
                    address: this.address.clone(),
                    source,
                })
            }));
        }
        let Some(limit) = this.idle else {
            return Poll::Pending;
        };
        let sleep = this
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(sleep.as_mut().poll(cx));
        this.sender = None;
        Poll::Ready(Some(Err(ClientError::Timeout {
            address: this.address.clone(),
            what: "data",
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// No body.
#[must_use]
pub fn empty() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// These bytes, with their length.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> RequestBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body of its own making, chunked unless it knows its size.
pub fn streamed<B>(body: B) -> RequestBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    body.map_err(Into::into).boxed_unsync()
}
