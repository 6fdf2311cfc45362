//! `POST /grpc` and `POST /session`: connections that BuildKit's clients take over, to ask and to be asked (moby `daemon/server/router/grpc`, `session`).

use hoist_buildkit::BuildKit;
use hoist_http::{Connection, Hijacked};
use hoist_model::ErrorClass;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::bridge;
use crate::call::Call;
use crate::error::{ApiError, Reply};

/// The services, by HTTP/2 on the upgraded connection.
pub(crate) async fn grpc(call: Call) -> Reply {
    upgrade(call, |door, owner, _, client| async move {
        door.serve_grpc(&owner, client).await;
    })
}

/// A session: the daemon asks, by HTTP/2 on the upgraded connection.
pub(crate) async fn session(call: Call) -> Reply {
    if !BuildKit::names_session(&call.parts.headers) {
        return Err(ApiError::invalid(
            "X-Docker-Expose-Session-Uuid header is missing: whose session is this?",
        ));
    }
    upgrade(call, |door, owner, headers, client| async move {
        door.serve_session(&headers, &owner, client).await;
    })
}

/// Answers 101 and lets the connection be served until its client goes.
fn upgrade<F>(
    mut call: Call,
    serve: impl FnOnce(BuildKit, Connection, HeaderMap, Hijacked) -> F + Send + 'static,
) -> Reply
where
    F: Future<Output = ()> + Send,
{
    let hijack = bridge::take(&mut call)?;
    let asked = call.header("upgrade").unwrap_or_default();
    if !asked.eq_ignore_ascii_case("h2c") {
        return Err(ApiError::invalid(format!(
            "protocol {asked:?} not supported: it is h2c"
        )));
    }
    let Some(connection) = call.parts.extensions.get::<Connection>().cloned() else {
        return Err(ApiError::new(
            ErrorClass::Internal,
            "the connection of this request is not known",
        ));
    };
    let (mut response, hijacking) = hijack.accept("");
    response.headers_mut().remove(CONTENT_TYPE);
    let (door, headers) = (call.facade.buildkit.clone(), call.parts.headers);
    let owner = connection.clone();
    connection.spawn(async move {
        let client = match hijacking.await {
            Ok(client) => client,
            Err(error) => {
                tracing::debug!(%error, "client left before its connection was handed over");
                return;
            }
        };
        serve(door, owner, headers, client).await;
    });
    Ok(response)
}
