//! Serving: every connection is a task that the server owns and joins; every request is a span and a panic boundary.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use futures_util::FutureExt;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt};
use tracing::Instrument;

use crate::listener::{Accepted, Listener};
use crate::message::error_response;
use crate::peer::Connection;
use crate::reply::Reply;
use crate::stream::Stream;
use crate::wire::Wire;

/// For [`ServeOptions::head_deadline`]: Docker's own value (moby `cmd/dockerd`, ReadHeaderTimeout).
pub const HEAD_DEADLINE: Duration = Duration::from_secs(300);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Which requests may take their connection without an `Upgrade` header, by method and path (no query).
    pub hijackable: fn(&Method, &str) -> bool,
    /// How long requests and hijacked connections may go on after the shutdown was asked for.
    pub grace: Duration,
    /// How long a client may take for a request's head, however it is cut into pieces; then its connection ends.
    pub head_deadline: Duration,
}

/// What was left when the server ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServeReport {
    /// Connections and spawned tasks cut at the deadline.
    pub cut: usize,
}

/// What all connections of one server share.
struct Shared<S> {
    service: S,
    builder: auto::Builder<Owned>,
    options: ServeOptions,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    cut: CancellationToken,
}

/// hyper's own tasks (HTTP/2 streams) join the server's.
#[derive(Clone, Debug)]
struct Owned {
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Owned
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                _ = task => {}
                () = cut.cancelled() => {}
            }
        });
    }
}

/// Serves until `shutdown` is cancelled, then lets what is under way finish for at most `grace`.
///
/// Every request gets an [`Connection`] extension, a tracing span with a `request_id`, and is a panic boundary
/// (500 and `{"message": …}`). `axum::Router` is such a service. Dropping the future stops accepting and leaves
/// connections to their ends: cancel `shutdown` instead.
pub async fn serve<S, B>(
    listeners: Vec<Listener>,
    service: S,
    options: ServeOptions,
    shutdown: CancellationToken,
) -> ServeReport
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let tasks = TaskTracker::new();
    let cut = CancellationToken::new();
    let mut builder = auto::Builder::new(Owned {
        tasks: tasks.clone(),
        cut: cut.clone(),
    });
    builder
        .http1()
        .half_close(true)
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_deadline);
    builder.http2().timer(TokioTimer::new());
    let grace = options.grace;
    let shared = Arc::new(Shared {
        service,
        builder,
        options,
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
        cut: cut.clone(),
    });
    let mut accepting = Vec::new();
    for listener in listeners {
        accepting.push(tasks.spawn(accept_all(listener, Arc::clone(&shared))));
    }
    shutdown.cancelled().await;
    tasks.close();
    let mut left = 0;
    if tokio::time::timeout(grace, tasks.wait()).await.is_err() {
        left = tasks.len();
        cut.cancel();
        tasks.wait().await;
    }
    ServeReport { cut: left }
}

async fn accept_all<S, B>(listener: Listener, shared: Arc<Shared<S>>)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.shutdown.cancelled() => return,
        };
        match accepted {
            Ok(accepted) => {
                let shared_here = Arc::clone(&shared);
                shared.tasks.spawn(async move {
                    let cut = shared_here.cut.clone();
                    tokio::select! {
                        () = serve_connection(accepted, shared_here) => {}
                        () = cut.cancelled() => {}
                    }
                });
            }
            Err(e) => {
                tracing::warn!(address = %listener.address(), error = %e, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection<S, B>(accepted: Accepted, shared: Arc<Shared<S>>)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connection = Connection {
        peer: accepted.peer,
        socket: Arc::clone(&accepted.io.0),
        files: accepted.tls.is_none().then(Arc::default),
        tasks: shared.tasks.clone(),
        cut: shared.cut.clone(),
    };
    let stream = match accepted.tls {
        None => Stream::Plain(accepted.io),
        Some(acceptor) => {
            match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(accepted.io)).await {
                Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                Ok(Err(e)) => {
                    tracing::debug!(peer = ?connection.peer, error = %e, "TLS handshake failed");
                    return;
                }
                Err(_) => return,
            }
        }
    };
    let options = &shared.options;
    let wire = Wire::new(stream, options.hijackable, options.head_deadline)
        .with_files(connection.files.clone());
    let answer = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        answer(shared.service.clone(), request, connection.clone())
    });
    let serving = shared
        .builder
        .serve_connection_with_upgrades(TokioIo::new(wire), answer);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shared.shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!(peer = ?connection.peer, error = %e, "connection ended");
    }
}

async fn answer<S, B>(
    service: S,
    request: Request<Incoming>,
    connection: Connection,
) -> Result<Response<Reply>, Infallible>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let span = tracing::debug_span!(
        "request",
        request_id = NEXT.fetch_add(1, Ordering::Relaxed),
        method = %request.method(),
        path = request.uri().path(),
    );
    let began = Instant::now();
    let work = AssertUnwindSafe(service.oneshot(request)).catch_unwind();
    let response = match work.instrument(span.clone()).await {
        Ok(Ok(response)) => response.map(Body::new),
        Ok(Err(never)) => match never {},
        Err(panic) => {
            let what = panic_text(panic.as_ref());
            tracing::error!(parent: &span, panic = what, "a request handler panicked");
            let text = format!("internal error: the request handler panicked: {what}");
            error_response(StatusCode::INTERNAL_SERVER_ERROR, &text)
        }
    };
    tracing::debug!(
        parent: &span,
        status = response.status().as_u16(),
        elapsed_us = began.elapsed().as_micros(),
        "answered"
    );
    Ok(response.map(|body| Reply::new(body, connection)))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
