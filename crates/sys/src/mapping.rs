//! A part of a file as memory.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::mm::{MapFlags, ProtFlags};

/// A part of a file, mapped to be read. Its pages are brought in when they are looked at, and never before.
///
/// For files that nobody changes or shortens: bytes that change behind a slice are no slice, and reading beyond a file's end
/// ends the process.
#[derive(Debug)]
pub struct Mapping {
    address: *mut core::ffi::c_void,
    /// Bytes mapped, from the page in which the part begins.
    mapped: usize,
    /// Where the part begins in that page.
    begin: usize,
}

// SAFETY: the mapping is only ever read, and belongs to whoever has the value.
unsafe impl Send for Mapping {}
// SAFETY: as above; reading it from two threads is reading memory.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps bytes of a file, which has to have them all, and at least one.
    ///
    /// # Errors
    /// The kernel's: no such file system, too much mapped; `InvalidInput` for what is not in the file.
    pub fn of(file: &File, range: Range<u64>) -> io::Result<Self> {
        if range.is_empty() || range.end > file.metadata()?.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let page = rustix::param::page_size() as u64;
        let first = range.start / page * page;
        let mapped = usize::try_from(range.end - first).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address that the kernel chooses takes nothing from anybody.
        // JUSTIFICATION: mapping a file is unsafe in every crate, for it trusts the file.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                mapped,
                ProtFlags::READ,
                MapFlags::SHARED | MapFlags::NORESERVE,
                file,
                first,
            )
        }?;
        Ok(Self {
            address,
            mapped,
            begin: (range.start - first) as usize,
        })
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `mapped` bytes from `address` are mapped readable as long as this value lives, `begin` is below `mapped`, and
        // the file's bytes stay what they are (what `of` asks for).
        // JUSTIFICATION: as in `of`.
        unsafe {
            let begin = self.address.cast::<u8>().add(self.begin);
            std::slice::from_raw_parts(begin, self.mapped - self.begin)
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and no slice of it outlives it.
        // JUSTIFICATION: as in `of`.
        if let Err(error) = unsafe { rustix::mm::munmap(self.address, self.mapped) } {
            debug_assert!(false, "unmapping our own mapping: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn any_part_of_a_file_is_mapped() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..20_000_u32).map(|number| number as u8).collect();
        file.write_all(&content).unwrap();
        for range in [0..20_000, 0..1, 4095..4097, 4096..8192, 19_999..20_000] {
            let mapping = Mapping::of(&file, range.clone()).unwrap();
            assert_eq!(
                mapping.as_ref(),
                &content[range.start as usize..range.end as usize]
            );
        }
        for range in [0..0, 0..20_001, 20_000..20_000] {
            assert!(Mapping::of(&file, range).is_err());
        }
    }
}
