//! Where connections come in.

use std::convert::Infallible;
use std::sync::Arc;

use bollard_buildkit_proto::health::health_server::HealthServer;
use bollard_buildkit_proto::moby::buildkit::v1::control_server::ControlServer;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_server::LlbBridgeServer;
use hoist_build::Builder;
use hoist_engine::images::Images;
use hoist_http::Connection;
use http::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt as _;

use crate::builds::Builds;
use crate::caches::CacheRegistries;
use crate::contexts::Contexts;
use crate::session::{SessionHead, Sessions, Tasks};

/// Bytes of one message of a client's: definitions of large builds have some megabytes.
const LARGEST_MESSAGE: usize = 16 << 20;

/// The services. Cheap to clone.
#[derive(Clone)]
pub struct BuildKit {
    inner: Arc<Inner>,
}

struct Inner {
    images: Images,
    builder: Builder,
    sessions: Sessions,
    builds: Builds,
    contexts: Contexts,
    registries: Arc<dyn CacheRegistries>,
}

impl std::fmt::Debug for BuildKit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildKit").finish_non_exhaustive()
    }
}

impl BuildKit {
    /// The services over a builder, for an engine's images; `registries` may have caches.
    #[must_use]
    pub fn new(builder: Builder, images: Images, registries: Arc<dyn CacheRegistries>) -> Self {
        Self {
            inner: Arc::new(Inner {
                contexts: Contexts::new(builder.clone()),
                images,
                builder,
                sessions: Sessions::default(),
                builds: Builds::default(),
                registries,
            }),
        }
    }

    pub(crate) fn images(&self) -> &Images {
        &self.inner.images
    }

    pub(crate) fn builder(&self) -> &Builder {
        &self.inner.builder
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.inner.sessions
    }

    pub(crate) fn builds(&self) -> &Builds {
        &self.inner.builds
    }

    /// Where caches of registries are.
    #[must_use]
    pub fn registries(&self) -> &Arc<dyn CacheRegistries> {
        &self.inner.registries
    }

    pub(crate) fn contexts(&self) -> &Contexts {
        &self.inner.contexts
    }

    /// Whether a request's path is one of the services'.
    #[must_use]
    pub fn is_service(path: &str) -> bool {
        path.starts_with("/moby.buildkit.") || path.starts_with("/grpc.health.")
    }

    /// Whether these headers of `POST /session` say whose session it is.
    #[must_use]
    pub fn names_session(headers: &HeaderMap) -> bool {
        SessionHead::read(headers).is_some()
    }

    /// Serves a session on a connection that was upgraded, until its client goes. `headers` are those of `POST /session`.
    pub async fn serve_session(
        &self,
        headers: &HeaderMap,
        owner: &Connection,
        connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) {
        if let Some(head) = SessionHead::read(headers) {
            self.sessions().serve(head, owner, connection).await;
        }
    }

    /// Serves the services on a connection that was upgraded, until its client goes.
    pub async fn serve_grpc(
        &self,
        owner: &Connection,
        connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) {
        let service = hyper::service::service_fn(|mut request: Request<_>| {
            let door = self.clone();
            // For what has tasks of its own: a session inside of this connection.
            request.extensions_mut().insert(owner.clone());
            async move { Ok::<_, Infallible>(door.answer(request).await) }
        });
        let serving = hyper::server::conn::http2::Builder::new(Tasks(owner.clone()))
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(connection), service);
        if let Err(error) = serving.await {
            tracing::debug!(%error, "a gRPC connection ended");
        }
    }

    /// Answers one request of HTTP/2.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let path = request.uri().path();
        tracing::debug!(path, "gRPC request");
        let answered = if path.starts_with("/moby.buildkit.v1.Control/") {
            let service = ControlServer::new(self.clone());
            let service = service.max_decoding_message_size(LARGEST_MESSAGE);
            service.oneshot(request).await
        } else if path.starts_with("/moby.buildkit.v1.frontend.LLBBridge/") {
            let service = LlbBridgeServer::new(self.clone());
            let service = service.max_decoding_message_size(LARGEST_MESSAGE);
            service.oneshot(request).await
        } else if path.starts_with("/grpc.health.v1.Health/") {
            HealthServer::new(self.clone()).oneshot(request).await
        } else {
            Ok(Status::unimplemented(format!("there is no service {path}")).into_http())
        };
        answered.unwrap_or_else(|never| match never {})
    }
}
