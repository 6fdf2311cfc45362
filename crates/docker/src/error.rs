//! What a handler answers when it cannot do what was asked: a status and one sentence.

use axum::body::Body;
use axum::response::IntoResponse;
use hoist_engine::error::{ContainerError, ExecError, ImageError, NetworkError, VolumeError};
use hoist_model::{ErrorClass, chain, in_words};
use http::{Response, StatusCode};

/// What is asked of a swarm, and there is none (moby `daemon/cluster`, errNoSwarm).
pub(crate) const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";

/// An error reply.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

pub(crate) type Reply = Result<Response<Body>, ApiError>;

impl ApiError {
    pub(crate) fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            status: hoist_http::status_of(class),
            message: in_words(&message.into()),
        }
    }

    /// 400.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::InvalidArgument, message)
    }

    /// 501.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::NotImplemented, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        if self.status.is_server_error() && self.status != StatusCode::NOT_IMPLEMENTED {
            tracing::error!(status = self.status.as_u16(), message = %self.message, "request failed");
        }
        hoist_http::error_response(self.status, &self.message)
    }
}

macro_rules! from_engine {
    ($($error:ty),*) => {
        $(impl From<$error> for ApiError {
            fn from(error: $error) -> Self {
                Self::new(error.class(), chain(&error))
            }
        })*
    };
}

from_engine!(
    ContainerError,
    ExecError,
    ImageError,
    NetworkError,
    VolumeError
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_error_keeps_its_sentence_and_gets_its_status() {
        let error = ApiError::from(ImageError::NotFound("x:latest".into()));
        assert_eq!(error.status, StatusCode::NOT_FOUND);
        assert_eq!(error.message, "No such image: x:latest");
    }

    #[test]
    fn causes_are_named_once() {
        let error = ContainerError::Io {
            context: "open /x".into(),
            source: std::io::Error::other("broken"),
        };
        assert_eq!(chain(&error), "open /x: broken");
    }
}
