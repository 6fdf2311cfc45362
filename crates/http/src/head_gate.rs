//! Holding a taken connection's first bytes back until the client has read the reply's head.
//!
//! docker-py reads the head through a buffer and everything after it from the socket below: what arrives together with
//! the head is lost to it, and its buffer takes 8 KiB. Docker's own slowness hides that (an exec's first output comes
//! tens of milliseconds after the head); ours comes within one. A unix socket says whether its other end has read, so the
//! first write waits for that, briefly: a client that does not read the head at all gets the rest all the same. TCP does not
//! say. The end of a container is told to those who wait after its output in the same way: node reads what it finds on all
//! its connections at once, and may see the end before the output else.

use std::future::Future;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::socket::Socket;

/// How long a client may leave the head unread before it gets more.
const PATIENCE: Duration = Duration::from_millis(200);
/// Between two looks. Most clients have read by the first look: the program's start took longer.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct HeadGate {
    socket: Arc<Socket>,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl HeadGate {
    pub(crate) fn new(socket: Arc<Socket>) -> Self {
        Self {
            socket,
            waiting: None,
        }
    }

    /// Ready once the other end has read everything, or had time to.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // A socket that cannot say is no reason to hold anything back.
            if hoist_sys::outgoing::unread(self.socket.as_fd().as_fd()).unwrap_or(0) == 0 {
                return Poll::Ready(());
            }
            let now = Instant::now();
            let (end, sleep) = self
                .waiting
                .get_or_insert_with(|| (now + PATIENCE, Box::pin(tokio::time::sleep(PAUSE))));
            if now >= *end {
                return Poll::Ready(());
            }
            ready!(sleep.as_mut().poll(cx));
            sleep.as_mut().reset(Instant::now() + PAUSE);
        }
    }
}
