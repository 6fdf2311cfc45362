//! How an error is said over HTTP: `{"message": …}` under the status of its class.

use axum::body::Body;
use hoist_model::ErrorClass;
use http::{HeaderValue, Response, StatusCode, header};

/// The status an error class answers with (moby `daemon/server/httpstatus/status.go`).
#[must_use]
pub fn status_of(class: ErrorClass) -> StatusCode {
    match class {
        ErrorClass::NotFound => StatusCode::NOT_FOUND,
        ErrorClass::Conflict => StatusCode::CONFLICT,
        ErrorClass::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorClass::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorClass::Forbidden => StatusCode::FORBIDDEN,
        ErrorClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorClass::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorClass::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A whole reply that says `message`, as every Docker client expects errors: one JSON object and a line feed.
#[must_use]
pub fn error_response(status: StatusCode, message: &str) -> Response<Body> {
    let mut text = serde_json::json!({ "message": message }).to_string();
    text.push('\n');
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_status() {
        for (class, status) in [
            (ErrorClass::NotFound, 404),
            (ErrorClass::Conflict, 409),
            (ErrorClass::InvalidArgument, 400),
            (ErrorClass::Unauthorized, 401),
            (ErrorClass::Forbidden, 403),
            (ErrorClass::Unavailable, 503),
            (ErrorClass::NotImplemented, 501),
            (ErrorClass::Internal, 500),
        ] {
            assert_eq!(status_of(class).as_u16(), status);
        }
    }
}
