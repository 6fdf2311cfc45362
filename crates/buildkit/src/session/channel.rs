//! One connection as a gRPC client: HTTP/2 without TLS, the other end serves.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hoist_http::Connection;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;

/// Bytes that may be on their way in one stream before they are read, and in all of them.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Between two looks whether the other end still is there, and how long it has to answer.
const PING_EVERY: std::time::Duration = std::time::Duration::from_secs(20);
const PING_ANSWER: std::time::Duration = std::time::Duration::from_secs(30);

/// Sends requests. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    requests: http2::SendRequest<Body>,
}

impl Channel {
    /// A client over a connection, and the future that carries its bytes: done when the connection is.
    pub(crate) async fn over<C>(
        owner: &Connection,
        connection: C,
    ) -> Result<(Self, impl Future<Output = hyper::Result<()>> + use<C>), hyper::Error>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (requests, driver) = http2::Builder::new(Tasks(owner.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWER)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(connection))
            .await?;
        Ok((Self { requests }, driver))
    }
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.requests.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // tonic names the path only; HTTP/2 wants scheme and authority, which mean nothing here.
        let path = request.uri().path_and_query().cloned();
        let uri = Uri::builder().scheme("http").authority("localhost");
        let uri = uri.path_and_query(path.map_or_else(|| "/".to_owned(), |path| path.to_string()));
        if let Ok(uri) = uri.build() {
            *request.uri_mut() = uri;
        }
        Box::pin(self.requests.send_request(request))
    }
}

/// HTTP/2's own tasks belong to the connection that they came on.
#[derive(Clone, Debug)]
pub(crate) struct Tasks(pub(crate) Connection);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(async move {
            task.await;
        });
    }
}
