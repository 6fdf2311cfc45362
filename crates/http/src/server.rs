//! Serving.
use std::convert::Infallible;
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::Listener;

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Which requests may take their connection without an `Upgrade` header (method, path).
    pub hijackable: fn(&Method, &str) -> bool,
    /// How long requests and hijacked connections may go on after the shutdown was asked for.
    pub grace: Duration,
}

/// What was left when the server ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServeReport {
    /// Connections cut at the deadline.
    pub cut: usize,
}

/// Serves until `shutdown` is cancelled, then at most `grace` more. Every request gets an [`crate::Connection`] extension, a tracing
/// span, and is a panic boundary. `axum::Router` is such a service.
pub async fn serve<S, B>(
    _listeners: Vec<Listener>,
    _service: S,
    _options: ServeOptions,
    _shutdown: CancellationToken,
) -> ServeReport
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    unimplemented!()
}
