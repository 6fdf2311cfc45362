//! Reply bodies that end when their client does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::peer::Connection;

type Gone = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A reply's body. While it has nothing to say it watches the connection, because hyper does not.
pub(crate) struct Reply {
    body: Body,
    connection: Connection,
    gone: Option<Gone>,
}

impl Reply {
    pub(crate) fn new(body: Body, connection: Connection) -> Self {
        Self {
            body,
            connection,
            gone: None,
        }
    }
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let gone = this.gone.get_or_insert_with(|| {
            let socket = Arc::clone(&this.connection.socket);
            // On TCP a client that stopped writing counts as gone, as in Go's server: there is no telling them apart.
            Box::pin(async move { socket.gone(true).await })
        });
        if gone.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(axum::Error::new(crate::Disconnected))));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
