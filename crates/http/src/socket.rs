//! A connected socket, unix or TCP, that several owners may look at.
//!
//! hyper owns a connection's reading and writing, yet a quiet reply (`/events`, `/wait`) must end when its client goes away,
//! and hyper does not read while it answers. So the socket is shared: one side does IO, the other waits for hang-up.
//! Waiting has to clear tokio's readiness bits to see the next edge; reading and writing therefore try the
//! system call before they believe those bits once anyone waits.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};

use crate::file_body::Part;

/// Bytes of a file sent at once: what is not in memory yet comes from the disk while a thread waits.
const FILE_PIECE: usize = 1 << 20;

/// A connected, non-blocking socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: AsyncFd<OwnedFd>,
    /// A unix socket tells a client that closed from one that only stopped writing; TCP does not.
    unix: bool,
    /// Somebody waits for hang-up, so the readiness bits may be clear although there is something to read.
    watched: AtomicBool,
}

impl Socket {
    pub(crate) fn new(fd: OwnedFd, unix: bool) -> io::Result<Arc<Self>> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Arc::new(Self {
            fd: register(fd)?,
            unix,
            watched: AtomicBool::new(false),
        }))
    }

    fn poll_io<T>(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut call: impl FnMut(&OwnedFd) -> rustix::io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            let polled = if interest.is_readable() {
                self.fd.poll_read_ready(cx)
            } else {
                self.fd.poll_write_ready(cx)
            };
            match polled {
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Ready(Ok(mut guard)) => match call(self.fd.get_ref()) {
                    Err(Errno::AGAIN) => guard.clear_ready(),
                    Err(Errno::INTR) => {}
                    other => return Poll::Ready(other.map_err(io::Error::from)),
                },
                Poll::Pending if self.watched.load(Ordering::Acquire) => {
                    match call(self.fd.get_ref()) {
                        // The waker is registered already, so an edge after this call is not lost.
                        Err(Errno::AGAIN) => return Poll::Pending,
                        Err(Errno::INTR) => {}
                        other => return Poll::Ready(other.map_err(io::Error::from)),
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Has the kernel send a part of a file, as much as fits; how much that was.
    pub(crate) fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        part: &Part,
    ) -> Poll<io::Result<usize>> {
        let length = part.length.min(FILE_PIECE);
        self.poll_io(cx, Interest::WRITABLE, |fd| {
            let mut offset = part.offset;
            rustix::fs::sendfile(fd, &part.file, Some(&mut offset), length)
        })
    }

    /// Completes when the other end is gone. Cancel-safe.
    ///
    /// A unix client that only shut its writing side down is not gone. A TCP client that closed looks the same as one
    /// that did only that, until something is sent to it: `or_half_closed` says whether that counts as gone there.
    pub(crate) async fn gone(&self, or_half_closed: bool) {
        self.watched.store(true, Ordering::Release);
        loop {
            let Some(half_closed) = self.hang_up() else {
                return;
            };
            if half_closed && or_half_closed && !self.unix {
                return;
            }
            // After a half-close the reading bits stay set for ever; the full close still comes as a writing edge.
            let interest = if half_closed {
                Interest::WRITABLE
            } else {
                Interest::READABLE
            };
            let Ok(mut guard) = self.fd.ready(interest).await else {
                return;
            };
            // Clear first, look afterwards: an edge in between sets the bits again.
            guard.clear_ready_matching(Ready::READABLE | Ready::WRITABLE);
        }
    }

    /// `None`: gone. `Some(true)`: the client stopped writing but still reads.
    fn hang_up(&self) -> Option<bool> {
        let mut fds = [PollFd::new(self.fd.get_ref(), PollFlags::RDHUP)];
        let zero = rustix::event::Timespec::default();
        if rustix::event::poll(&mut fds, Some(&zero)).is_err() {
            return None;
        }
        let seen = fds[0].revents();
        if seen.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return None;
        }
        Some(seen.contains(PollFlags::RDHUP))
    }

    pub(crate) fn is_unix(&self) -> bool {
        self.unix
    }

    pub(crate) fn as_fd(&self) -> &OwnedFd {
        self.fd.get_ref()
    }
}

/// Puts a descriptor under the runtime's care.
#[expect(
    deprecated,
    reason = "the unsafe replacement only asks that as_raw_fd always names the same open file, which OwnedFd does"
)]
pub(crate) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

/// One owner's reading and writing of a [`Socket`].
#[derive(Debug)]
pub(crate) struct SocketIo(pub(crate) Arc<Socket>);

impl AsyncRead for SocketIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let space = buf.initialize_unfilled();
        if space.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let (count, _) = ready!(self.0.poll_io(cx, Interest::READABLE, |fd| {
            rustix::net::recv(fd, &mut *space, RecvFlags::empty())
        }))?;
        buf.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SocketIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_io(cx, Interest::WRITABLE, |fd| {
            rustix::net::send(fd, bytes, SendFlags::NOSIGNAL)
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_io(cx, Interest::WRITABLE, |fd| {
            rustix::net::sendmsg(
                fd,
                slices,
                &mut SendAncillaryBuffer::default(),
                SendFlags::NOSIGNAL,
            )
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(self.0.as_fd(), Shutdown::Write) {
            Ok(()) | Err(Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(e) => Poll::Ready(Err(e.into())),
        }
    }
}
