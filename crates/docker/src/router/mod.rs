//! From a request to the handler of its operation.

use hoist_engine::Engine;
use http::Method;

use crate::Node;

/// The whole API as a service: every path with and without `/v1.NN`.
pub fn router(engine: Engine, node: Node) -> axum::Router {
    let _ = (engine, node);
    axum::Router::new()
}

/// Whether this request takes its connection over even without an `Upgrade` header: attach and exec start.
#[must_use]
pub fn is_hijackable(method: &Method, path: &str) -> bool {
    method == Method::POST
        && ((path.contains("/containers/") && path.ends_with("/attach"))
            || (path.contains("/exec/") && path.ends_with("/start")))
}
