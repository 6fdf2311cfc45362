//! Output that a client has not taken yet, beyond what is kept in memory: a file without a name, used as a ring.

use std::cell::Cell;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, ftruncate, openat};

/// Bytes of output kept for one client on disk.
pub(super) const ROOM: u64 = 64 << 20;

/// Bytes kept for all clients of one container.
pub(super) const ROOM_OF_ALL: u64 = 4 * ROOM;

/// Where one container's clients keep what they have not taken.
#[derive(Clone, Copy)]
pub(super) struct Shelf<'a> {
    pub(super) directory: BorrowedFd<'a>,
    /// Bytes that are kept there by all of them.
    pub(super) kept: &'a Rc<Cell<u64>>,
}

pub(super) struct Spill {
    file: OwnedFd,
    /// Of all clients, this one's among them.
    kept: Rc<Cell<u64>>,
    /// Where what is kept begins and ends, counted from the beginning of all output.
    begin: u64,
    end: u64,
}

impl Spill {
    /// Makes the file; it is gone with its descriptor. `None` where the file system has no such files.
    pub(super) fn new(shelf: Shelf<'_>) -> Option<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = openat(shelf.directory, ".", flags, Mode::RUSR | Mode::WUSR).ok()?;
        Some(Self {
            file,
            kept: Rc::clone(shelf.kept),
            begin: 0,
            end: 0,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// Whether so much more can be kept.
    pub(super) fn has_room(&self, length: usize) -> bool {
        let length = length as u64;
        self.end - self.begin + length <= ROOM && self.kept.get() + length <= ROOM_OF_ALL
    }

    /// Keeps all of it, or nothing: no room, or a disk that is full.
    pub(super) fn put(&mut self, bytes: &[u8]) -> bool {
        if !self.has_room(bytes.len()) {
            return false;
        }
        let mut rest = bytes;
        let mut end = self.end;
        while !rest.is_empty() {
            let at = end % ROOM;
            let piece = rest
                .len()
                .min(usize::try_from(ROOM - at).unwrap_or(rest.len()));
            match rustix::io::pwrite(&self.file, &rest[..piece], at) {
                Ok(written @ 1..) => {
                    rest = &rest[written..];
                    end += written as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Ok(0) | Err(_) => return false,
            }
        }
        self.kept.set(self.kept.get() + (end - self.end));
        self.end = end;
        true
    }

    /// Takes the oldest, as much as the buffer holds at most. An empty file gives its blocks back.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> usize {
        let at = self.begin % ROOM;
        let kept = (self.end - self.begin).min(ROOM - at);
        let wanted = buffer
            .len()
            .min(usize::try_from(kept).unwrap_or(buffer.len()));
        let length = loop {
            match rustix::io::pread(&self.file, &mut buffer[..wanted], at) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(length @ 1..) => break length,
                Ok(0) | Err(_) => {
                    // What the disk does not give back is lost; the rest may follow.
                    self.advance(wanted as u64);
                    return 0;
                }
            }
        };
        self.advance(length as u64);
        if self.is_empty() {
            let _ = ftruncate(&self.file, 0);
            (self.begin, self.end) = (0, 0);
        }
        length
    }

    fn advance(&mut self, length: u64) {
        self.begin += length;
        self.kept.set(self.kept.get().saturating_sub(length));
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        self.advance(self.end - self.begin);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_goes_in_comes_out_around_the_end_of_the_ring() {
        let directory = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(directory.path()).unwrap();
        let kept = Rc::default();
        let mut spill = Spill::new(shelf(&directory, &kept)).unwrap();
        let block = |number: u64| number.to_le_bytes().repeat(128 * 1024);
        let mut buffer = vec![0; 1 << 20];
        let (mut put, mut taken) = (0, 0);
        // Full once, then a block out for a block in, around the end.
        while spill.put(&block(put)) {
            put += 1;
        }
        assert_eq!(put, 64);
        for _ in 0..100 {
            assert_eq!(spill.take(&mut buffer), 1 << 20);
            assert!(buffer == block(taken));
            taken += 1;
            assert!(spill.put(&block(put)));
            put += 1;
            assert!(!spill.put(b"x"));
        }
        while !spill.is_empty() {
            assert_eq!(spill.take(&mut buffer), 1 << 20);
            assert!(buffer == block(taken));
            taken += 1;
        }
        assert_eq!(put, taken);
        assert_eq!(rustix::fs::fstat(&spill.file).unwrap().st_size, 0);
        assert_eq!(kept.get(), 0);
    }

    #[test]
    fn all_clients_of_a_container_share_a_bound() {
        let directory = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(directory.path()).unwrap();
        let kept = Rc::default();
        let mut spills: Vec<Spill> = (0..6)
            .map(|_| Spill::new(shelf(&directory, &kept)).unwrap())
            .collect();
        let block = vec![7; 1 << 20];
        let mut whole = 0;
        for spill in &mut spills {
            while spill.put(&block) {
                whole += 1;
            }
        }
        assert_eq!(whole, ROOM_OF_ALL >> 20);
        assert!(!spills[5].has_room(1));
        // What one gives up the next may have.
        spills.remove(0);
        assert!(spills[4].put(&block));
        drop(spills);
        assert_eq!(kept.get(), 0);
    }

    fn shelf<'a>(directory: &'a std::fs::File, kept: &'a Rc<Cell<u64>>) -> Shelf<'a> {
        let directory = directory.as_fd();
        Shelf { directory, kept }
    }
}
