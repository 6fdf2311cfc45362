//! Taking a connection away from HTTP: attach, exec, session.
//!
//! ```text
//!  handler: Hijack (extractor) ─▶ read body ─▶ accept() ─▶ Response, returned to the server
//!                                                 └──────▶ Hijacking, awaited in Connection::spawn ─▶ Hijacked
//! ```

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::FromRequestParts;
use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::framing::TAKEOVER;
use crate::head_gate::HeadGate;
use crate::message::error_response;
use crate::socket::Socket;
use crate::wire::Wire;

/// What a connection taken without `Upgrade` is said to carry, whatever it carries (moby `container_routes.go`).
const RAW_STREAM: &str = "application/vnd.docker.raw-stream";

/// An axum extractor: the right to take this request's connection.
///
/// Take it first, read the body, then either answer an ordinary error (and drop it) or [`Hijack::accept`].
#[derive(Debug)]
pub struct Hijack {
    upgrade: OnUpgrade,
    /// What the client's `Upgrade` header named; `None`: it had none.
    protocol: Option<HeaderValue>,
}

/// Why a connection cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum HijackError {
    /// Neither upgraded nor registered as hijackable (or HTTP/2).
    #[error("this request's connection cannot be taken over: it has no Upgrade header")]
    NotHijackable,
    /// The connection broke, or the handler answered otherwise, before it was handed over.
    #[error("connection lost before it was handed over")]
    Lost(#[source] hyper::Error),
}

impl HijackError {
    /// Its class.
    #[must_use]
    pub fn class(&self) -> hoist_model::ErrorClass {
        match self {
            Self::NotHijackable => hoist_model::ErrorClass::InvalidArgument,
            Self::Lost(_) => hoist_model::ErrorClass::Unavailable,
        }
    }
}

/// The future of the raw connection; completes once the response's head is on the wire.
///
/// The response must first be returned to the server, so await this in a task: [`crate::Connection::spawn`].
#[derive(Debug)]
pub struct Hijacking(OnUpgrade);

impl Hijack {
    /// Takes the right out of a request's parts.
    ///
    /// # Errors
    /// [`HijackError::NotHijackable`].
    pub fn take(parts: &mut Parts) -> Result<Self, HijackError> {
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        let protocol = parts.headers.get(UPGRADE).cloned();
        match (upgrade, protocol) {
            (Some(upgrade), Some(protocol)) => Ok(Self {
                upgrade,
                protocol: (protocol != TAKEOVER).then_some(protocol),
            }),
            _ => Err(HijackError::NotHijackable),
        }
    }

    /// Whether the client asked with an `Upgrade` header of its own.
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        self.protocol.is_some()
    }

    /// The response to return from the handler (add headers freely) and the future of the raw connection.
    ///
    /// With `Upgrade`: `101 UPGRADED` and `content_type`. Without: the client sees `200 OK` and
    /// `application/vnd.docker.raw-stream` (Engine API, `ContainerAttach`, "Hijacking"); in the handler's hands
    /// that response still says 101.
    #[must_use]
    pub fn accept(self, content_type: &'static str) -> (Response<Body>, Hijacking) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response
            .extensions_mut()
            .insert(ReasonPhrase::from_static(b"UPGRADED"));
        let content_type = if self.protocol.is_some() {
            content_type
        } else {
            RAW_STREAM
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let protocol = self.protocol;
        headers.insert(
            UPGRADE,
            protocol.unwrap_or(HeaderValue::from_static(TAKEOVER)),
        );
        (response, Hijacking(self.upgrade))
    }
}

impl<S: Sync> FromRequestParts<S> for Hijack {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Self::take(parts).map_err(|e| error_response(StatusCode::BAD_REQUEST, &e.to_string()))
    }
}

impl Future for Hijacking {
    type Output = Result<Hijacked, HijackError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let upgraded = ready!(Pin::new(&mut self.0).poll(cx)).map_err(HijackError::Lost)?;
        Poll::Ready(Ok(Hijacked::from_server(upgraded)))
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The raw connection, both directions; on the server's side and on the client's.
///
/// Reading nothing means that the other end closed its writing side, and only that. `shutdown` closes ours.
/// Dropping it closes the connection. On the server's side the first write waits until a client on a unix socket has read the
/// reply's head (see [`crate::head_gate`]).
pub struct Hijacked {
    /// Bytes that came with the HTTP head.
    ahead: Bytes,
    io: Box<dyn Duplex>,
    /// The socket below, where it can tell what the other end has read.
    socket: Option<Arc<Socket>>,
    /// Until the first byte is written: whether the client has read the head.
    gate: Option<HeadGate>,
}

impl std::fmt::Debug for Hijacked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hijacked")
            .field("ahead", &self.ahead.len())
            .finish_non_exhaustive()
    }
}

impl Hijacked {
    fn from_server(upgraded: Upgraded) -> Self {
        match auto::upgrade::downcast::<TokioIo<Wire>>(upgraded) {
            Ok(parts) => {
                let mut wire = parts.io.into_inner();
                let more = wire.take_ahead();
                let socket = wire.unix_socket();
                Self {
                    ahead: join(parts.read_buf, more),
                    gate: socket.clone().map(HeadGate::new),
                    socket,
                    io: Box::new(wire),
                }
            }
            Err(upgraded) => Self::from_client(upgraded),
        }
    }

    pub(crate) fn from_client(upgraded: Upgraded) -> Self {
        Self {
            ahead: Bytes::new(),
            io: Box::new(TokioIo::new(upgraded)),
            socket: None,
            gate: None,
        }
    }

    /// Done when the other end has read all that was written by then, or had time to; at once where that cannot be known.
    pub fn taken(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut gate = self.socket.clone().map(HeadGate::new);
        std::future::poll_fn(move |cx| gate.as_mut().map_or(Poll::Ready(()), |gate| gate.poll(cx)))
    }

    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.poll(cx));
            self.gate = None;
        }
        Poll::Ready(())
    }
}

fn join(first: Bytes, second: Bytes) -> Bytes {
    if first.is_empty() {
        second
    } else if second.is_empty() {
        first
    } else {
        [first, second].concat().into()
    }
}

impl AsyncRead for Hijacked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let count = buf.remaining().min(self.ahead.len());
        buf.put_slice(&self.ahead[..count]);
        self.ahead.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Hijacked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_gate(cx));
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_gate(cx));
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
