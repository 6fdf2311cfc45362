//! A client attached to the streams: a socket that takes Docker's frames (raw bytes with a terminal) and gives input.
//!
//! ```text
//! frame: [stream, 0, 0, 0, length as four bytes big-endian] and that many bytes     (API `ContainerAttach`)
//!
//! output ──► memory (64 KiB) ──► beside the log (64 MiB, 256 of all) ──► the container waits, 10 s ──► left out, and said
//! ```
//!
//! In Docker the container waits for a client that does not read, for ever. A slow client must not lose anything (its output
//! may be a pipeline's), so what it has not taken is kept on disk first, and a client that goes on taking, however slowly, is
//! waited for after that. One that takes nothing at all for [`PATIENCE`] does not hold the container up any longer: what comes
//! until it has taken what is kept is left out for it, and a line on its standard error says how much (the log has it).
//! Containers without a log, or with one in non-blocking mode, whose monitor must not wait for a disk, keep nothing there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::spill::{Shelf, Spill};
use crate::spec::Streams;

/// The longest that the container waits for a client that takes nothing.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes kept for a client that does not read before the container's output waits for it.
pub(super) const FULL: usize = 64 * 1024;

/// A chunk of output and its header.
const LONGEST_FRAME: usize = super::output::CHUNK + 8;

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
    /// Output after that.
    spill: Option<Spill>,
    /// Output after that, where the disk had no room.
    behind: Vec<u8>,
    /// Since when the container waits for it to take something.
    waits_since: Option<Duration>,
    /// Bytes that were left out, since it was waited for in vain.
    left_out: Option<u64>,
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
            spill: None,
            behind: Vec::new(),
            waits_since: None,
            left_out: None,
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

    /// Whether the container has to wait for it.
    pub(super) fn is_full(&self) -> bool {
        let room = self.spill.as_ref();
        let room = room.is_some_and(|spill| spill.has_room(LONGEST_FRAME));
        (self.pending.len() >= FULL && !room || !self.behind.is_empty())
            && self.left_out.is_none()
            && !self.gone
    }

    /// How long it is still waited for, once it is full.
    pub(super) fn patience(&mut self) -> Option<Duration> {
        if !self.is_full() {
            self.waits_since = None;
            return None;
        }
        let now = monotonic();
        let since = *self.waits_since.get_or_insert(now);
        let left = PATIENCE.checked_sub(now.saturating_sub(since));
        if left.is_none_or(|left| left.is_zero()) {
            self.waits_since = None;
            self.left_out = Some(0);
            return None;
        }
        left
    }

    pub(super) fn is_flushed(&self) -> bool {
        (self.pending.is_empty() && !self.has_spilled() && self.behind.is_empty()) || self.gone
    }

    fn has_spilled(&self) -> bool {
        self.spill.as_ref().is_some_and(|spill| !spill.is_empty())
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone || (self.ending && self.is_flushed())
    }

    /// It hung up. What it gave before is still taken, once there is room.
    pub(super) fn hang_up(&mut self) {
        if self.gives() && self.is_read() {
            self.hung_up = true;
            self.forget();
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
        self.forget();
    }

    fn forget(&mut self) {
        self.pending.clear();
        self.behind.clear();
        self.spill = None;
    }

    /// No more output comes: it goes once it has taken what is there.
    pub(super) fn end(&mut self) {
        self.ending = true;
        self.flush();
    }

    /// Hands it output. What it does not take now may be kept there.
    pub(super) fn give(&mut self, stream: u8, bytes: &[u8], disk: Option<Shelf<'_>>) {
        let wanted = if stream == 2 {
            self.streams.stderr
        } else {
            self.streams.stdout
        };
        if !wanted || self.gone || self.hung_up {
            return;
        }
        if let Some(left_out) = &mut self.left_out {
            *left_out += bytes.len() as u64;
            return;
        }
        self.keep(stream, bytes, disk);
        self.flush();
    }

    /// Keeps a frame behind what is kept already.
    fn keep(&mut self, stream: u8, bytes: &[u8], disk: Option<Shelf<'_>>) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        let [a, b, c, d] = length;
        let head = [stream, 0, 0, 0, a, b, c, d];
        let head = if self.raw { &[][..] } else { &head[..] };
        let spilled = self.has_spilled();
        if self.behind.is_empty()
            && (self.pending.len() >= FULL || spilled)
            && let Some(spill) = &mut self.spill
            && spill.put(&[head, bytes].concat())
        {
            return;
        }
        let last = if spilled {
            &mut self.behind
        } else {
            &mut self.pending
        };
        last.extend_from_slice(head);
        last.extend_from_slice(bytes);
        if self.pending.len() >= FULL && self.spill.is_none() {
            // Before the container is held up: that is asked next.
            self.spill = disk.and_then(Spill::new);
        }
    }

    /// Takes the next that was kept, when all before it is on its way.
    fn next(&mut self) {
        if let Some(spill) = &mut self.spill
            && !spill.is_empty()
        {
            self.pending.resize(FULL, 0);
            let length = spill.take(&mut self.pending);
            self.pending.truncate(length);
        } else {
            std::mem::swap(&mut self.pending, &mut self.behind);
        }
    }

    pub(super) fn flush(&mut self) {
        while !self.gone {
            while self.pending.is_empty() && !self.is_flushed() {
                self.next();
            }
            if self.pending.is_empty() {
                match self.left_out.take() {
                    None | Some(0) => return,
                    Some(bytes) => {
                        let text = format!(
                            "hoist: {bytes} bytes of output are not shown: this client took nothing for {} s\n",
                            PATIENCE.as_secs()
                        );
                        let end = if self.raw { "\r\n" } else { "\n" };
                        self.keep(2, text.replace('\n', end).as_bytes(), None);
                    }
                }
            }
            match rustix::net::send(&self.fd, &self.pending, rustix::net::SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.pending.drain(..sent);
                    self.waits_since = None;
                }
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

fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}
