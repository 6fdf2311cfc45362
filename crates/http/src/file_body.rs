//! Bodies that are files, sent by the kernel.
//!
//! hyper takes a body as bytes and hands them, unread, to the connection's vectored write. So such a body is a mapping of the
//! file that nobody looks at: the connection knows its address again and has the kernel send the file itself
//! (sendfile(2)). Nothing is copied, and the mapping costs no memory, for none of its pages is ever touched. Whoever does
//! look, because it encrypts or frames, finds the file's bytes there.

use std::fs::File;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use bytes::Bytes;
use hoist_sys::mapping::Mapping;

use crate::peer::Connection;

/// The files that are bodies on one connection now: one, or a few where requests are pipelined.
#[derive(Debug, Default)]
pub(crate) struct Files(Mutex<Vec<Mapped>>);

#[derive(Clone, Debug)]
struct Mapped {
    /// Where the mapping is, as numbers: nothing is read through them.
    addresses: Range<usize>,
    file: Arc<File>,
    /// What byte of the file is at the first address.
    offset: u64,
}

/// A part of a file to be sent.
pub(crate) struct Part {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) length: usize,
}

/// What a vectored write begins with.
pub(crate) enum Beginning {
    /// So many slices of memory.
    Memory(usize),
    /// A part of a file.
    File(Part),
}

impl Files {
    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Mapped>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn beginning(&self, slices: &[IoSlice<'_>]) -> Beginning {
        let list = self.list();
        for (at, slice) in slices.iter().enumerate() {
            let address = slice.as_ptr().addr();
            let mapped = list.iter().find(|one| one.addresses.contains(&address));
            let Some(mapped) = mapped.filter(|_| !slice.is_empty()) else {
                continue;
            };
            if at > 0 {
                return Beginning::Memory(at);
            }
            let into = address - mapped.addresses.start;
            return Beginning::File(Part {
                file: Arc::clone(&mapped.file),
                offset: mapped.offset + into as u64,
                length: slice.len().min(mapped.addresses.end - address),
            });
        }
        Beginning::Memory(slices.len())
    }
}

/// The bytes of a body; known to the connection as long as they live.
struct Known {
    mapping: Mapping,
    files: Arc<Files>,
}

impl AsRef<[u8]> for Known {
    fn as_ref(&self) -> &[u8] {
        self.mapping.as_ref()
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        // Before the mapping goes, and with it what the address means.
        let address = self.mapping.as_ref().as_ptr().addr();
        let is_other = |one: &Mapped| one.addresses.start != address;
        self.files.list().retain(is_other);
    }
}

impl Connection {
    /// A body that is a part of a file: see [`Self::file_bytes`].
    #[must_use]
    pub fn file_body(&self, file: &Arc<File>, range: Range<u64>) -> Option<Body> {
        Some(Body::from(self.file_bytes(file, range)?))
    }

    /// A part of a file as bytes of this connection's reply, whole or as a piece of it, which the kernel sends without a copy;
    /// `None` where the connection cannot (TLS) or the file is not one to be mapped: then the caller reads it. For HTTP/1.1,
    /// and for files that nobody changes or shortens while they are sent.
    #[must_use]
    pub fn file_bytes(&self, file: &Arc<File>, range: Range<u64>) -> Option<Bytes> {
        let files = Arc::clone(self.files.as_ref()?);
        let offset = range.start;
        let mapping = Mapping::of(file, range).ok()?;
        let addresses = mapping.as_ref().as_ptr_range();
        files.list().push(Mapped {
            addresses: addresses.start.addr()..addresses.end.addr(),
            file: Arc::clone(file),
            offset,
        });
        Some(Bytes::from_owner(Known { mapping, files }))
    }
}
