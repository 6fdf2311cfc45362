//! Reading what the engine answered.

use bytes::{Bytes, BytesMut};
use hoist_http::client::ResponseBody;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::error::CallError;

/// The longest error message that is read.
const MESSAGE_LIMIT: usize = 1 << 20;

/// A successful answer whose body is still to be read.
#[derive(Debug)]
pub struct Reply {
    response: Response<ResponseBody>,
}

impl Reply {
    /// Takes a response; one of status 400 or more becomes the error it says.
    pub(super) async fn new(response: Response<ResponseBody>) -> Result<Self, CallError> {
        let reply = Self { response };
        let status = reply.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(reply);
        }
        let mut body = BytesMut::new();
        let mut chunks = reply.response.into_body();
        while body.len() < MESSAGE_LIMIT {
            // A body that breaks off still leaves the status to report.
            match chunks.frame().await {
                Some(Ok(frame)) => {
                    body.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()))
                }
                _ => break,
            }
        }
        let message = serde_json::from_slice::<serde_json::Value>(&body)
            .ok()
            .and_then(|body| body.get("message")?.as_str().map(str::to_owned))
            .filter(|message| !message.is_empty())
            .unwrap_or_else(|| match String::from_utf8_lossy(&body).trim() {
                "" => format!("the engine answered {status}"),
                text => text.to_owned(),
            });
        Err(CallError::Refused { status, message })
    }

    /// The status, below 400.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next piece of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            match self.response.body_mut().frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => {
                    return Err(CallError::Refused {
                        status: StatusCode::BAD_GATEWAY,
                        message: format!("the engine's answer broke off: {error}"),
                    });
                }
            }
        }
    }

    /// The whole body.
    pub async fn bytes(mut self) -> Result<Bytes, CallError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// The whole body as JSON.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, CallError> {
        let body = self.bytes().await?;
        serde_json::from_slice(&body).map_err(|source| CallError::Unreadable { source })
    }

    /// Reads the body to its end and forgets it, so that the connection can be used again.
    pub async fn done(self) -> Result<(), CallError> {
        self.bytes().await.map(|_| ())
    }

    /// The body as JSON objects, one after the other, as they come.
    #[must_use]
    pub fn lines(self) -> Lines {
        Lines {
            reply: self,
            held: BytesMut::new(),
        }
    }
}

/// JSON objects separated by line feeds, read as they come.
#[derive(Debug)]
pub struct Lines {
    reply: Reply,
    held: BytesMut,
}

impl Lines {
    /// The next object; `None` at the end.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CallError> {
        loop {
            if let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                let line = self.held.split_to(end + 1);
                if !line.trim_ascii().is_empty() {
                    return parse(&line).map(Some);
                }
                continue;
            }
            match self.reply.chunk().await? {
                Some(chunk) => self.held.extend_from_slice(&chunk),
                None if self.held.trim_ascii().is_empty() => return Ok(None),
                None => return parse(&self.held.split()).map(Some),
            }
        }
    }

    /// So many bytes that follow an object, or as many of them as came; none at the end.
    pub async fn bytes(&mut self, most: u64) -> Result<Option<Bytes>, CallError> {
        if self.held.is_empty() {
            match self.reply.chunk().await? {
                Some(chunk) => self.held.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let count = self.held.len().min(most);
        Ok(Some(self.held.split_to(count).freeze()))
    }
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(line).map_err(|source| CallError::Unreadable { source })
}
