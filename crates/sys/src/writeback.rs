//! Telling the kernel to write.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Has the kernel begin to write what was written to a part of a file, and waits for nothing (sync_file_range(2)): a later
/// fsync then finds most of it done. Says nothing about what is on disk.
///
/// # Errors
/// The kernel's; a file system that knows no such thing is none.
pub fn begin(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let wide = |number: u64| i64::try_from(number).map_err(|_| io::ErrorKind::InvalidInput);
    let (offset, length) = (wide(offset)?, wide(length)?);
    // SAFETY: the call takes numbers and an open descriptor, and touches no memory of ours.
    // JUSTIFICATION: rustix has no such function.
    let done = unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset,
            length,
            libc::SYNC_FILE_RANGE_WRITE,
        )
    };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::ESPIPE | libc::EINVAL) => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn any_file_takes_it() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        begin(&file, 0, 10_000).unwrap();
        begin(&file, 1 << 40, 1).unwrap();
        assert!(begin(&file, u64::MAX, 1).is_err());
        begin(&File::open("/dev/null").unwrap(), 0, 1).unwrap();
    }
}
