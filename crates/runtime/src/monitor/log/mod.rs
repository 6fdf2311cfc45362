//! The log of a container: blocking, where the monitor writes and the container waits for it, or through a buffer.

mod format;
mod ring;
#[cfg(test)]
mod tests;
mod writer;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use self::ring::Ring;
use self::writer::Writer;
use super::LogOrder;
use super::launch::now;

pub(super) struct Log {
    /// A duplicate, for a successor.
    directory: OwnedFd,
    order: LogOrder,
    way: Way,
}

enum Way {
    Blocking(Box<Writer>),
    Buffered(Ring),
}

impl Log {
    /// Opens the log. In non-blocking mode a thread is made: nothing may be forked after that.
    pub(super) fn open(directory: OwnedFd, order: LogOrder) -> std::io::Result<Self> {
        let ours = directory.try_clone()?;
        let writer = Writer::open(directory, order.clone());
        let way = match order.buffer {
            None => Way::Blocking(Box::new(writer)),
            Some(capacity) => match Ring::start(writer, capacity) {
                Ok(ring) => Way::Buffered(ring),
                Err(mut writer) => {
                    let notice =
                        b"hoist: mode=non-blocking is not in force: no thread could be made\n";
                    writer.write(2, notice, now().as_nanos());
                    Way::Blocking(writer)
                }
            },
        };
        Ok(Self {
            directory: ours,
            order,
            way,
        })
    }

    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Where output that a client has not taken may be kept; nowhere if the loop must not wait for a disk.
    pub(super) fn spills(&self) -> Option<BorrowedFd<'_>> {
        match self.way {
            Way::Blocking(_) => Some(self.directory()),
            Way::Buffered(_) => None,
        }
    }

    pub(super) fn order(&self) -> &LogOrder {
        &self.order
    }

    /// Logs what a stream gave now.
    pub(super) fn write(&mut self, stream: u8, bytes: &[u8]) {
        let at = now().as_nanos();
        match &mut self.way {
            Way::Blocking(writer) => writer.write(stream, bytes, at),
            Way::Buffered(ring) => ring.write(stream, bytes, at),
        }
    }

    /// Logs lines that never got their newline; no more comes.
    pub(super) fn finish(&mut self) {
        let at = now().as_nanos();
        match &mut self.way {
            Way::Blocking(writer) => writer.finish(at),
            Way::Buffered(ring) => ring.finish(at),
        }
    }
}
