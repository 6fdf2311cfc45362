//! From a request to the handler of its operation: version, table lookup, the headers every reply carries.

mod dispatch;
mod path;

use std::sync::{Arc, PoisonError, RwLock};

use axum::body::Body;
use axum::response::IntoResponse;
use hoist_build::Builder;
use hoist_buildkit::{BuildKit, CacheRegistries};
use hoist_engine::Engine;
use hoist_model::ErrorClass;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::call::{Call, Facade};
use crate::error::{ApiError, NO_SWARM, Reply};
use crate::operations::Support;
use crate::query::Query;
use crate::{ApiVersion, DOCKER_RELEASE, Node};

/// The API over an engine. What it says of the node may change while it serves.
#[derive(Clone)]
pub struct Api {
    /// Read once per request, replaced by a reload.
    facade: Arc<RwLock<Arc<Facade>>>,
}

impl Api {
    /// The API over this engine on this node; `caches` are those of builds that registries have.
    #[must_use]
    pub fn new(
        engine: Engine,
        builder: Builder,
        caches: Arc<dyn CacheRegistries>,
        node: Node,
    ) -> Self {
        let facade = Facade {
            buildkit: BuildKit::new(builder.clone(), engine.images.clone(), caches),
            engine,
            builder,
            node,
        };
        Self {
            facade: Arc::new(RwLock::new(Arc::new(facade))),
        }
    }

    /// From the next request on, the node is told of like this.
    pub fn renew(&self, node: Node) {
        let mut facade = self.facade.write().unwrap_or_else(PoisonError::into_inner);
        *facade = Arc::new(Facade {
            engine: facade.engine.clone(),
            builder: facade.builder.clone(),
            buildkit: facade.buildkit.clone(),
            node,
        });
    }

    /// The whole API as a service: every path with and without `/v1.NN`.
    pub fn router(&self) -> axum::Router {
        let api = self.clone();
        axum::Router::new().fallback(move |request: Request<Body>| {
            let facade = api.facade();
            async move {
                let experimental = facade.node.experimental;
                let mut response = match answer(facade, request).await {
                    Ok(response) => response,
                    Err(error) => error.into_response(),
                };
                stamp(&mut response, experimental);
                response
            }
        })
    }

    fn facade(&self) -> Arc<Facade> {
        let facade = self.facade.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&facade)
    }
}

/// Whether this request takes its connection over even without an `Upgrade` header: attach and exec start.
#[must_use]
pub fn is_hijackable(method: &Method, path: &str) -> bool {
    let Ok((_, path)) = path::split_version(path, ApiVersion::OLDEST) else {
        return false;
    };
    path::find(method, path)
        .is_some_and(|(operation, _)| matches!(operation.id, "ContainerAttach" | "ExecStart"))
}

async fn answer(facade: Arc<Facade>, request: Request<Body>) -> Reply {
    // Clients of gRPC name no version, and need no upgrade where they speak HTTP/2 from the start.
    if BuildKit::is_service(request.uri().path()) {
        return Ok(facade.buildkit.answer(request).await.map(Body::new));
    }
    let (parts, body) = request.into_parts();
    let (version, path) = path::split_version(parts.uri.path(), facade.node.min_api_version)?;
    let Some((operation, parameters)) = path::find(&parts.method, path) else {
        // As Docker's router does; clients whose base address ends with a slash ask so.
        if let Some(clean) = path::without_doubled_slashes(&parts.uri) {
            let response = Response::builder()
                .status(StatusCode::MOVED_PERMANENTLY)
                .header(http::header::LOCATION, clean)
                .body(Body::empty());
            return response.map_err(|error| ApiError::invalid(error.to_string()));
        }
        if parts.method == Method::OPTIONS {
            return Ok(Response::new(Body::empty()));
        }
        return Err(ApiError::new(ErrorClass::NotFound, "page not found"));
    };
    tracing::debug!(operation = operation.id, %version, "request");
    let query = Query::parse(parts.uri.query());
    if let Some(handler) = dispatch::handler(operation.id) {
        return handler(Call {
            facade,
            version,
            parameters,
            query,
            parts,
            body,
        })
        .await;
    }
    match operation.support {
        Support::Absent(what) => Err(ApiError::missing(format!(
            "{} is not implemented by Hoist {} yet: {what}",
            operation.id, facade.node.version
        ))),
        _ if operation.id.starts_with("Plugin") => Err(ApiError::new(
            ErrorClass::NotFound,
            format!(
                "plugin {:?} not found",
                parameters.first().map_or("", String::as_str)
            ),
        )),
        _ => Err(ApiError::new(ErrorClass::Unavailable, NO_SWARM)),
    }
}

/// Puts the headers on that clients read from every reply (moby `daemon/server/middleware/version.go`).
fn stamp(response: &mut Response<Body>, experimental: bool) {
    let headers = response.headers_mut();
    let mut put = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("api-version", ApiVersion::NEWEST.to_string());
    put("ostype", "linux".to_owned());
    put("docker-experimental", experimental.to_string());
    put("server", format!("Docker/{DOCKER_RELEASE} (linux)"));
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().remove(http::header::CONTENT_LENGTH);
    }
}
