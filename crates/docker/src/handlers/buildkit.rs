//! `POST /grpc`, `POST /session` and `POST /build?version=2`: connections that BuildKit's clients take over, to ask and to be asked (moby `daemon/server/router/grpc`, `session`).

use std::collections::HashMap;
use std::convert::Infallible;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use hoist_buildkit::{BuildKit, Posted, Telling};
use hoist_http::{Connection, Hijacked};
use hoist_model::ErrorClass;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{body_reader, bridge};
use crate::call::{Call, with_type};
use crate::error::{ApiError, Reply};
use crate::query::Query;

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

/// `POST /build?version=2`: a build told of in BuildKit's words. The context is the body, unless the session has it (`remote=client-session`).
pub(crate) async fn build(mut call: Call) -> Reply {
    let query = &call.query;
    let Some(session) = query.nonempty("session").map(str::to_owned) else {
        return Err(ApiError::invalid("a build of version 2 needs a session"));
    };
    let is_in_session = match query.nonempty("remote") {
        None => false,
        Some("client-session") => true,
        Some(other) => {
            return Err(ApiError::missing(format!(
                "building from {other:?} is not implemented yet"
            )));
        }
    };
    let attributes = attributes(query)?;
    let tags = query.all("t").filter(|tag| !tag.is_empty());
    let tags = tags.map(str::to_owned).collect();
    let door = call.facade.buildkit.clone();
    let mut context = None;
    if !is_in_session {
        let (reader, pump) = body_reader::bridge(std::mem::take(&mut call.body));
        let kept = body_reader::feed(door.keep_posted(reader), pump).await;
        context = Some(kept.map_err(|error| ApiError::new(error.class, error.message))?);
    }
    let told = door.post(Posted {
        session,
        attributes,
        tags,
        context,
    });
    let lines = told.map(|telling| {
        let line = match telling {
            Telling::Status(bytes) => {
                json!({"id": "moby.buildkit.trace", "aux": STANDARD.encode(bytes)})
            }
            Telling::Image(id) => json!({"id": "moby.image.id", "aux": {"ID": id}}),
            Telling::Failure(text) => {
                json!({"errorDetail": {"message": text}, "error": text})
            }
        };
        Ok::<_, Infallible>(Bytes::from(format!("{line}\r\n")))
    });
    let body = Body::from_stream(lines);
    Ok(with_type("application/json", StatusCode::OK, body))
}

/// The endpoint's parameters as the frontend's attributes.
fn attributes(query: &Query) -> Result<HashMap<String, String>, ApiError> {
    let mut attributes = HashMap::new();
    let mut put = |key: &str, value: String| attributes.insert(key.to_owned(), value);
    let named = [
        ("dockerfile", "filename"),
        ("target", "target"),
        ("platform", "platform"),
        ("cgroupparent", "cgroup-parent"),
    ];
    for (parameter, key) in named {
        if let Some(value) = query.nonempty(parameter) {
            put(key, value.to_owned());
        }
    }
    if let Some(size) = query.number("shmsize")?.filter(|size| *size > 0) {
        put("shm-size", size.to_string());
    }
    if query.boolean("nocache") {
        put("no-cache", String::new());
    }
    if query.boolean("pull") {
        put("image-resolve-mode", "pull".to_owned());
    }
    match query.get("networkmode").unwrap_or_default() {
        "" | "default" | "bridge" => {}
        other => {
            put("force-network-mode", other.to_owned());
        }
    }
    let hosts = query.all("extrahosts").flat_map(|text| text.split(','));
    let hosts = hosts.filter_map(|text| text.split_once(':'));
    let hosts: Vec<_> = hosts
        .map(|(name, address)| format!("{name}={address}"))
        .collect();
    if !hosts.is_empty() {
        put("add-hosts", hosts.join(","));
    }
    let parameter = |name: &str, text: Option<&str>| -> Result<Value, ApiError> {
        let text = text.unwrap_or("null");
        serde_json::from_str(text)
            .map_err(|error| ApiError::invalid(format!("invalid {name}: {error}")))
    };
    for (name, prefix) in [("buildargs", "build-arg:"), ("labels", "label:")] {
        let given = parameter(name, query.nonempty(name))?;
        for (key, value) in given.as_object().into_iter().flatten() {
            if let Some(value) = value.as_str() {
                put(&format!("{prefix}{key}"), value.to_owned());
            }
        }
    }
    let given = parameter("ulimits", query.nonempty("ulimits"))?;
    let limits = given.as_array().into_iter().flatten().map(|limit| {
        let name = limit["Name"].as_str().unwrap_or_default();
        format!("{name}={}:{}", limit["Soft"], limit["Hard"])
    });
    let limits: Vec<_> = limits.collect();
    if !limits.is_empty() {
        put("ulimit", limits.join(","));
    }
    Ok(attributes)
}
