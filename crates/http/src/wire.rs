//! The byte stream hyper is given: the connection, with takeover requests dressed as upgrades (see [`crate::framing`]).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::io::poll_read_buf;

use crate::file_body::{Beginning, Files};
use crate::framing::{Answer, Asked, Hijackable, State, answer, as_ok, take_head};
use crate::socket::{Socket, SocketIo};
use crate::stream::Stream;

const HEAD_READ: usize = 4 << 10;

#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    hijackable: Hijackable,
    state: State,
    /// Until when the first head has to be there. hyper has a timer for heads, but begins with none before it has seen a byte,
    /// and of a head it sees none until it is whole.
    first: Option<Pin<Box<Sleep>>>,
    /// Read from the connection, not yet looked at.
    held: BytesMut,
    /// How much there has to be of a head before it is looked at again, unless it ends: who sends it byte by byte does not
    /// have it read from its beginning each time.
    enough: usize,
    /// How much of it was looked through for its end.
    looked: usize,
    /// Looked at, for hyper to take.
    vetted: BytesMut,
    /// What the request in flight asked for, until its reply begins.
    asked: Asked,
    /// A rewritten head that still has to go out before anything else.
    outgoing: BytesMut,
    /// The bodies that are files.
    files: Option<Arc<Files>>,
}

impl Wire {
    pub(crate) fn new(stream: Stream, hijackable: Hijackable, head_deadline: Duration) -> Self {
        Self {
            stream,
            hijackable,
            state: State::Head,
            first: Some(Box::pin(tokio::time::sleep(head_deadline))),
            held: BytesMut::new(),
            enough: 0,
            looked: 0,
            vetted: BytesMut::new(),
            asked: Asked::Reply,
            outgoing: BytesMut::new(),
            files: None,
        }
    }

    /// Bodies known there are sent by the kernel.
    pub(crate) fn with_files(self, files: Option<Arc<Files>>) -> Self {
        Self { files, ..self }
    }

    /// Stops looking at the bytes; hands out those that were read ahead.
    pub(crate) fn take_ahead(&mut self) -> Bytes {
        self.state = State::Through;
        let mut ahead = std::mem::take(&mut self.vetted);
        ahead.unsplit(std::mem::take(&mut self.held));
        ahead.freeze()
    }

    /// The socket below, if it is a unix socket without encryption.
    pub(crate) fn unix_socket(&self) -> Option<Arc<Socket>> {
        match &self.stream {
            Stream::Plain(SocketIo(socket)) if socket.is_unix() => Some(Arc::clone(socket)),
            _ => None,
        }
    }

    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads more into `held`; `false` at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>, space: usize) -> Poll<io::Result<bool>> {
        self.held.reserve(space);
        poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.held).map_ok(|count| count > 0)
    }
}

/// Whether a head may end here: it does with an empty line.
fn ends(part: &[u8]) -> bool {
    part.windows(2).any(|pair| pair == b"\n\n") || part.windows(3).any(|end| end == b"\n\r\n")
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.vetted.is_empty() {
                let count = buf.remaining().min(this.vetted.len());
                buf.put_slice(&this.vetted[..count]);
                this.vetted.advance(count);
                return Poll::Ready(Ok(()));
            }
            match &mut this.state {
                State::Through if this.held.is_empty() => {
                    return Pin::new(&mut this.stream).poll_read(cx, buf);
                }
                State::Through => this.vetted = this.held.split(),
                State::Length(left) if this.held.is_empty() => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX);
                    let most = most.min(buf.remaining());
                    let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
                    ready!(Pin::new(&mut this.stream).poll_read(cx, &mut part))?;
                    let count = part.filled().len();
                    buf.advance(count);
                    *left -= count as u64;
                    if *left == 0 {
                        this.state = State::Head;
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Length(left) => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX);
                    let count = most.min(this.held.len());
                    *left -= count as u64;
                    if *left == 0 {
                        this.state = State::Head;
                    }
                    this.vetted = this.held.split_to(count);
                }
                State::Chunked(chunks) if this.held.is_empty() => {
                    let mut part = ReadBuf::new(buf.initialize_unfilled());
                    ready!(Pin::new(&mut this.stream).poll_read(cx, &mut part))?;
                    let read = part.filled();
                    let (count, done) = chunks.advance(read);
                    if done {
                        this.state = State::Head;
                        // What comes after the body has to be looked at.
                        this.held.extend_from_slice(&read[count..]);
                    }
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                State::Chunked(chunks) => {
                    let (count, done) = chunks.advance(&this.held);
                    if done {
                        this.state = State::Head;
                    }
                    this.vetted = this.held.split_to(count);
                }
                State::Head => {
                    let new = &this.held[this.looked.saturating_sub(2)..];
                    let is_enough = this.held.len() >= this.enough || ends(new);
                    this.looked = this.held.len();
                    let found = if this.held.is_empty() || !is_enough {
                        None
                    } else {
                        this.enough = 2 * this.held.len();
                        take_head(&mut this.held, this.hijackable)
                    };
                    match found {
                        Some((head, state, asked)) => {
                            this.first = None;
                            (this.enough, this.looked) = (0, 0);
                            this.vetted = head;
                            this.state = state;
                            this.asked = asked;
                        }
                        None => {
                            let filled = this.poll_fill(cx, HEAD_READ);
                            if filled.is_pending()
                                && let Some(first) = &mut this.first
                                && first.as_mut().poll(cx).is_ready()
                            {
                                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                            }
                            if !ready!(filled)? {
                                if this.held.is_empty() {
                                    return Poll::Ready(Ok(()));
                                }
                                this.state = State::Through;
                            }
                        }
                    }
                }
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_outgoing(cx))?;
        if this.asked == Asked::Reply || bytes.is_empty() {
            return Pin::new(&mut this.stream).poll_write(cx, bytes);
        }
        match answer(bytes) {
            Answer::Nothing => Pin::new(&mut this.stream).poll_write(cx, bytes),
            Answer::Refused => {
                this.asked = Asked::Reply;
                Pin::new(&mut this.stream).poll_write(cx, bytes)
            }
            Answer::Accepted(at) => {
                let takeover = this.asked == Asked::Takeover;
                this.asked = Asked::Reply;
                this.state = State::Through;
                if !takeover {
                    return Pin::new(&mut this.stream).poll_write(cx, bytes);
                }
                this.outgoing.extend_from_slice(&bytes[..at]);
                this.outgoing.unsplit(as_ok(&bytes[at..]));
                // Taken whole; what does not fit now goes out with the next write or flush.
                match this.poll_outgoing(cx) {
                    Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
                }
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.asked != Asked::Reply || !self.outgoing.is_empty() {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(cx, first.map_or(&[], |slice| &**slice));
        }
        let slices = match (&self.files, &self.stream) {
            (Some(files), Stream::Plain(SocketIo(socket))) => match files.beginning(slices) {
                Beginning::Memory(count) => &slices[..count],
                Beginning::File(part) => match ready!(socket.poll_send_file(cx, &part)) {
                    // A file system that cannot: its bytes are read where they are mapped.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => slices,
                    // Shortened, against what was promised of it.
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    sent => return Poll::Ready(sent),
                },
            },
            _ => slices,
        };
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_outgoing(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_outgoing(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
