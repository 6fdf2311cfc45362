//! Why a call gave no answer.

use std::io;

use hoist_http::client::ClientError;
use hoist_model::ErrorClass;
use http::StatusCode;

use super::host::Host;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No engine answers there.
    #[error("cannot connect to the engine at {host}: {source}")]
    Connect {
        /// Where.
        host: Host,
        /// Why.
        source: io::Error,
    },
    /// The connection broke, or spoke no HTTP.
    #[error("the connection to the engine at {host} failed: {detail}")]
    Talk {
        /// Where.
        host: Host,
        /// What happened.
        detail: String,
        /// Why.
        #[source]
        source: Box<ClientError>,
    },
    /// The engine refused, in its own words.
    #[error("{message}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The sentence.
        message: String,
    },
    /// The engine would not hand the connection over.
    #[error("the engine answered {status} and kept the connection that was asked for")]
    NotTaken {
        /// The status.
        status: StatusCode,
    },
    /// The answer was not what the API promises.
    #[error("the engine's answer cannot be read: {source}")]
    Unreadable {
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The request cannot be written down.
    #[error("cannot make a request of {target:?}: {source}")]
    Unspeakable {
        /// The target.
        target: String,
        /// Why.
        source: http::Error,
    },
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl CallError {
    pub(super) fn from_http(host: &Host, error: ClientError) -> Self {
        match error {
            ClientError::Lookup { source, .. }
            | ClientError::Dial { source, .. }
            | ClientError::Handshake { source, .. } => Self::Connect {
                host: host.clone(),
                source,
            },
            other => Self::Talk {
                host: host.clone(),
                detail: chain(&other),
                source: Box::new(other),
            },
        }
    }

    /// The status of the engine's refusal, if that is what it was.
    #[must_use]
    pub const fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } | Self::NotTaken { status } => Some(*status),
            _ => None,
        }
    }

    /// Whether nothing listens there: the socket is missing, or nobody holds it.
    #[must_use]
    pub fn nobody_listens(&self) -> bool {
        matches!(self, Self::Connect { source, .. }
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused))
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self.status().map(|s| s.as_u16()) {
            Some(400) => ErrorClass::InvalidArgument,
            Some(401) => ErrorClass::Unauthorized,
            Some(403) => ErrorClass::Forbidden,
            Some(404) => ErrorClass::NotFound,
            Some(409) => ErrorClass::Conflict,
            Some(501) => ErrorClass::NotImplemented,
            Some(503) => ErrorClass::Unavailable,
            Some(_) => ErrorClass::Internal,
            None => match self {
                Self::Connect { .. } | Self::Talk { .. } => ErrorClass::Unavailable,
                _ => ErrorClass::Internal,
            },
        }
    }
}
