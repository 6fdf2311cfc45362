//! A client attached to the streams: a socket that takes Docker's frames (raw bytes with a terminal) and gives input.
//!
//! ```text
//! frame: [stream, 0, 0, 0, length as four bytes big-endian] and that many bytes     (API `ContainerAttach`)
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::spec::Streams;

/// Bytes kept for a client that does not read before the container's output waits for it.
pub(super) const FULL: usize = 64 * 1024;

/// What a client gave.
pub(super) enum Taken {
    Some(usize),
    Later,
    End,
}

pub(super) struct Attached {
    fd: OwnedFd,
    streams: Streams,
    raw: bool,
    /// Output on its way.
    pending: Vec<u8>,
    /// It gives no more input.
    input_over: bool,
    /// No more output comes.
    ending: bool,
    /// The peer is gone, and only input is left.
    hung_up: bool,
    gone: bool,
}

impl Attached {
    pub(super) fn new(fd: OwnedFd, streams: Streams, raw: bool) -> Self {
        let gone = rustix::io::ioctl_fionbio(&fd, true).is_err();
        Self {
            fd,
            streams,
            raw,
            pending: Vec::new(),
            input_over: false,
            ending: false,
            hung_up: false,
            gone,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether it is asked for input, or for its going away.
    pub(super) fn is_read(&self) -> bool {
        !self.input_over && !self.gone
    }

    /// Whether it is one whose input the container takes.
    pub(super) fn gives(&self) -> bool {
        self.streams.stdin
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= FULL && !self.gone
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.pending.is_empty() || self.gone
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone || (self.ending && self.pending.is_empty())
    }

    /// It hung up. What it gave before is still taken, once there is room.
    pub(super) fn hang_up(&mut self) {
        if self.gives() && self.is_read() {
            self.hung_up = true;
            self.pending.clear();
        } else {
            self.leave();
        }
    }

    /// Whether only input that waits for room keeps it.
    pub(super) fn is_hung_up(&self) -> bool {
        self.hung_up
    }

    /// Nothing more goes either way.
    pub(super) fn leave(&mut self) {
        self.gone = true;
        self.pending.clear();
    }

    /// No more output comes: it goes once it has taken what is there.
    pub(super) fn end(&mut self) {
        self.ending = true;
        self.flush();
    }

    /// Hands it output.
    pub(super) fn give(&mut self, stream: u8, bytes: &[u8]) {
        let wanted = if stream == 2 {
            self.streams.stderr
        } else {
            self.streams.stdout
        };
        if !wanted || self.gone || self.hung_up {
            return;
        }
        if !self.raw {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
            self.pending.extend_from_slice(&[stream, 0, 0, 0]);
            self.pending.extend_from_slice(&length);
        }
        self.pending.extend_from_slice(bytes);
        self.flush();
    }

    pub(super) fn flush(&mut self) {
        while !self.pending.is_empty() && !self.gone {
            match rustix::net::send(&self.fd, &self.pending, rustix::net::SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.pending.drain(..sent)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => self.leave(),
            }
        }
    }

    /// Takes input. The end of input is not the end of the client: it may go on reading.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> Taken {
        match rustix::io::read(&self.fd, &mut *buffer) {
            Ok(0) => {
                self.input_over = true;
                Taken::End
            }
            Ok(_) if !self.streams.stdin => Taken::Later,
            Ok(length) => Taken::Some(length),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Taken::Later,
            Err(_) => {
                self.leave();
                Taken::End
            }
        }
    }
}
