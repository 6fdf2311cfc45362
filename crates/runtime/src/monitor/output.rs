//! One stream that the container writes to: a pipe, or the terminal's master.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes taken at a time.
pub(super) const CHUNK: usize = 32 * 1024;
/// How many chunks are taken before others have their turn.
pub(super) const CHUNKS: usize = 8;
/// How many chunks are taken after the end: more than a pipe holds.
pub(super) const LAST_CHUNKS: usize = 64;

/// What a read found.
pub(super) enum Read {
    Some(usize),
    Later,
    End,
}

pub(super) struct Output {
    fd: Option<OwnedFd>,
    /// 1 is standard output, 2 standard error.
    stream: u8,
}

impl Output {
    pub(super) fn new(fd: OwnedFd, stream: u8) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self {
            fd: Some(fd),
            stream,
        })
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn stream(&self) -> u8 {
        self.stream
    }

    pub(super) fn close(&mut self) {
        self.fd = None;
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> Read {
        let Some(fd) = &self.fd else {
            return Read::Later;
        };
        match rustix::io::read(fd, buffer) {
            Ok(0) => Read::End,
            Ok(length) => Read::Some(length),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Read::Later,
            // A terminal whose last user is gone says EIO.
            Err(_) => Read::End,
        }
    }
}
