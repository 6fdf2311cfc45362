//! Taking a connection away from HTTP: attach, exec, session.
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::FromRequestParts;
use http::{Response, request::Parts};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An axum extractor: the right to take this request's connection.
///
/// Take it first, read the body, then either answer an ordinary error (and drop it) or [`Hijack::accept`].
#[derive(Debug)]
pub struct Hijack(());

/// Why a connection cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum HijackError {
    /// Neither upgraded nor registered as hijackable (or HTTP/2).
    #[error("this request's connection cannot be taken over: no Upgrade header")]
    NotHijackable,
    /// The connection broke before it was handed over.
    #[error("connection lost before it was handed over")]
    Lost(#[source] hyper::Error),
}

/// The future of the raw connection; completes after the response's head is on the wire. The response must be returned
/// to the server, so await this in a task of its own: [`crate::Connection::spawn`].
#[derive(Debug)]
pub struct Hijacking(());

/// The raw connection, both directions. Reading 0 bytes: the client closed its writing side. `shutdown` closes ours.
#[derive(Debug)]
pub struct Hijacked(());

impl Hijack {
    /// Whether the client asked with an `Upgrade` header.
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        unimplemented!()
    }
    /// The response to return from the handler (add headers freely) and the future of the raw connection.
    /// With `Upgrade`: `101 UPGRADED` and `content_type`; without: `200 OK` and `application/vnd.docker.raw-stream`.
    #[must_use]
    pub fn accept(self, content_type: &'static str) -> (Response<Body>, Hijacking) {
        let _ = content_type;
        unimplemented!()
    }
}

impl<S: Sync> FromRequestParts<S> for Hijack {
    type Rejection = Response<Body>;
    async fn from_request_parts(_parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        unimplemented!()
    }
}

impl Future for Hijacking {
    type Output = Result<Hijacked, HijackError>;
    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        unimplemented!()
    }
}
impl AsyncRead for Hijacked {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        unimplemented!()
    }
}
impl AsyncWrite for Hijacked {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        unimplemented!()
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        unimplemented!()
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        unimplemented!()
    }
}
