//! A small HTTP client over unix sockets and TCP.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;

use crate::{Hijacked, Resolve};

/// What a request carries.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
/// What a response carries.
pub type ResponseBody = UnsyncBoxBody<Bytes, ClientError>;

/// Where a server is.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A socket file.
    Unix(PathBuf),
    /// A host and port, with TLS if configured.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// TLS, if any.
        tls: Option<Arc<rustls::ClientConfig>>,
    },
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Resolve, connect and TLS handshake.
    pub connect: Duration,
    /// From the request's end to the response's head; `None`: as long as it takes.
    pub head: Option<Duration>,
    /// Between two pieces of a response's body.
    pub idle: Option<Duration>,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("connect to {address}")]
    Connect {
        /// Where.
        address: String,
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
        /// What was awaited.
        what: &'static str,
    },
}

/// A client of one server; keeps idle connections. Needs a tokio runtime, a current-thread one is enough.
#[derive(Clone)]
pub struct Client(());

impl Client {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(_endpoint: Endpoint, _resolve: Arc<dyn Resolve>, _deadlines: Deadlines) -> Self {
        unimplemented!()
    }
    /// Sends a request (origin-form URI; `Host` is filled in) and returns the response once its head is here.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send(
        &self,
        _request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, ClientError> {
        unimplemented!()
    }
    /// Sends a request with `Connection: Upgrade`, `Upgrade: <protocol>`. `Ok((response, None))`: an ordinary answer instead of 101.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn upgrade(
        &self,
        _request: Request<RequestBody>,
        _protocol: &'static str,
    ) -> Result<(Response<ResponseBody>, Option<Hijacked>), ClientError> {
        unimplemented!()
    }
}

/// No body.
#[must_use]
pub fn empty() -> RequestBody {
    unimplemented!()
}
/// These bytes.
#[must_use]
pub fn full(_bytes: impl Into<Bytes>) -> RequestBody {
    unimplemented!()
}
