//! One request on its way to a handler, and what handlers share: reading bodies, writing replies.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use hoist_build::Builder;
use hoist_buildkit::BuildKit;
use hoist_engine::Engine;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::any_case::AnyCase;
use crate::error::{ApiError, Reply};
use crate::query::Query;
use crate::{ApiVersion, Node};

/// JSON bodies beyond this are refused; the largest real ones carry a seccomp profile.
const BODY_LIMIT: usize = 8 << 20;

/// What every handler may need of the daemon.
pub(crate) struct Facade {
    pub(crate) engine: Engine,
    pub(crate) builder: Builder,
    pub(crate) buildkit: BuildKit,
    pub(crate) node: Node,
}

/// One request.
pub(crate) struct Call {
    pub(crate) facade: Arc<Facade>,
    pub(crate) version: ApiVersion,
    /// What stood in place of the braces of the operation's path, decoded.
    pub(crate) parameters: Vec<String>,
    pub(crate) query: Query,
    pub(crate) parts: Parts,
    pub(crate) body: Body,
}

impl Call {
    pub(crate) fn engine(&self) -> &Engine {
        &self.facade.engine
    }

    pub(crate) fn builder(&self) -> &Builder {
        &self.facade.builder
    }

    /// The object the path names.
    pub(crate) fn name(&self) -> &str {
        self.parameters.first().map_or("", String::as_str)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// The whole body.
    async fn bytes(&mut self) -> Result<Bytes, ApiError> {
        let body = std::mem::take(&mut self.body);
        match Limited::new(body, BODY_LIMIT).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) => Err(ApiError::invalid(format!("request body: {error}"))),
        }
    }

    /// The body as JSON; an empty one is `None`.
    pub(crate) async fn json_or_empty<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<T>, ApiError> {
        if let Some(kind) = self.header("content-type")
            && !is_json(kind)
            && self.header("content-length") != Some("0")
        {
            return Err(ApiError::invalid(format!(
                "unsupported Content-Type header ({kind}): must be 'application/json'"
            )));
        }
        let bytes = self.bytes().await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        parse_json(&bytes).map(Some)
    }

    /// The body as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        self.json_or_empty()
            .await?
            .ok_or_else(|| ApiError::invalid("invalid JSON: got EOF while reading request body"))
    }
}

fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// Reads one JSON object and nothing after it; the error says which member is wrong. `null` is an object without members, as
/// Go reads it: older clients send it for `POST /commit`.
pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = match serde_json::Value::deserialize(&mut reader) {
        Ok(serde_json::Value::Null) => serde_json::json!({}),
        Ok(value) => value,
        Err(error) if error.is_eof() => {
            return Err(ApiError::invalid(
                "invalid JSON: got EOF while reading request body",
            ));
        }
        Err(error) => return Err(ApiError::invalid(format!("invalid JSON: {error}"))),
    };
    if reader.end().is_err() {
        return Err(ApiError::invalid("unexpected content after JSON"));
    }
    T::deserialize(AnyCase(&value)).map_err(|error| {
        let path = culprit::<T>(&value, &[]).unwrap_or_default();
        let separator = if path.is_empty() { "" } else { ": " };
        ApiError::invalid(format!(
            "invalid JSON: {}{separator}{error}",
            path.join(".")
        ))
    })
}

/// The member that alone makes the value unreadable: each is tried by itself, outermost first.
fn culprit<T: DeserializeOwned>(value: &serde_json::Value, around: &[&str]) -> Option<Vec<String>> {
    let members = value.as_object()?;
    for (name, member) in members {
        let mut alone = serde_json::json!({ name: member });
        for outer in around.iter().rev() {
            alone = serde_json::json!({ *outer: alone });
        }
        if T::deserialize(AnyCase(&alone)).is_err() {
            let mut deeper = around.to_vec();
            deeper.push(name);
            let below = if deeper.len() < 3 {
                culprit::<T>(member, &deeper)
            } else {
                None
            };
            return Some(below.unwrap_or_else(|| deeper.iter().map(|s| (*s).to_owned()).collect()));
        }
    }
    None
}

/// A value as JSON, for replies that are put together.
pub(crate) fn json_value<T: Serialize>(value: &T) -> Result<serde_json::Value, ApiError> {
    serde_json::to_value(value).map_err(|error| {
        ApiError::new(
            hoist_model::ErrorClass::Internal,
            format!("reply could not be written: {error}"),
        )
    })
}

/// A reply with a JSON body.
pub(crate) fn json_reply<T: Serialize>(status: StatusCode, value: &T) -> Reply {
    let mut text = serde_json::to_vec(value).map_err(|error| {
        ApiError::new(
            hoist_model::ErrorClass::Internal,
            format!("reply could not be written: {error}"),
        )
    })?;
    text.push(b'\n');
    Ok(with_type("application/json", status, Body::from(text)))
}

/// 200 with a JSON body.
pub(crate) fn ok<T: Serialize>(value: &T) -> Reply {
    json_reply(StatusCode::OK, value)
}

/// A reply without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A reply of one content type.
pub(crate) fn with_type(kind: &'static str, status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

use serde::Deserialize;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Outer {
        name: Option<String>,
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Inner {
        count: Option<i64>,
    }

    #[test]
    fn a_wrong_type_is_named_by_its_path() {
        let refuse = |text: &str| parse_json::<Outer>(text.as_bytes()).unwrap_err().message;
        assert_eq!(
            refuse(r#"{"Name":"x","Inner":{"Count":"y"}}"#),
            "invalid JSON: Inner.Count: invalid type: string \"y\", expected i64"
        );
        assert_eq!(
            refuse(r#"{"Name":3}"#),
            "invalid JSON: Name: invalid type: integer `3`, expected a string"
        );
        assert_eq!(
            refuse(r#"{"Name":"x"} tail"#),
            "unexpected content after JSON"
        );
        assert_eq!(
            refuse(r#"{"Name":"#),
            "invalid JSON: got EOF while reading request body"
        );
        assert!(refuse("[").starts_with("invalid JSON: got EOF"));
        assert!(refuse("{]").starts_with("invalid JSON: "));
    }

    #[test]
    fn nulls_and_unknown_members_are_fine() {
        let nothing: Outer = parse_json(b"null").unwrap();
        assert!(nothing.name.is_none() && nothing.inner.is_none());
        let outer: Outer = parse_json(br#"{"Name":null,"Other":[1]}"#).unwrap();
        assert!(outer.name.is_none());
    }
}
