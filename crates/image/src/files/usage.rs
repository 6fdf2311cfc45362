//! Bytes that trees occupy.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, statat};

use crate::directory::open_directory;

/// Bytes allocated by what is below a directory of the host, each inode once, links not followed.
pub fn usage(directory: &Path) -> io::Result<u64> {
    measure(open_directory(CWD, directory)?)
}

pub(crate) fn measure(top: OwnedFd) -> io::Result<u64> {
    let mut seen = std::collections::HashSet::new();
    let mut bytes = 0;
    let mut pending = vec![top];
    while let Some(directory) = pending.pop() {
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(rustix::io::Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            if stat.st_nlink < 2 || seen.insert(stat.st_ino) {
                bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            }
            // Depth is bounded by the fds this may hold; deeper is left unmeasured rather than failing.
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && pending.len() < 512 {
                match open_directory(&directory, entry.file_name()) {
                    Ok(inner) => pending.push(inner),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(bytes)
}
