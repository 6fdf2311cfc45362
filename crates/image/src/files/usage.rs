//! Bytes that trees occupy: what du(1) counts without options, in bytes.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Stat, fstat, statat};
use rustix::io::Errno;

use crate::directory::open_directory;

/// Bytes allocated by a directory of the host and by what is below it, each inode once, links not followed. 0 for one with
/// nothing in it.
pub fn usage(directory: &Path) -> io::Result<u64> {
    measure(open_directory(CWD, directory)?)
}

/// Bytes allocated by a file, or by a directory and all below it.
pub(crate) fn allocated(path: &Path) -> io::Result<u64> {
    let found = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    match is_directory(&found) {
        true => {
            let top = open_directory(CWD, path)?;
            Ok(blocks(&fstat(&top)?) + below(top)?)
        }
        false => Ok(blocks(&found)),
    }
}

pub(crate) fn measure(top: OwnedFd) -> io::Result<u64> {
    let own = blocks(&fstat(&top)?);
    Ok(match below(top)? {
        0 => 0,
        below => own + below,
    })
}

/// A directory on the way down, and those in it that are still to be walked.
struct Level {
    /// Device and inode, by which it is known again on the way up.
    identity: (u64, u64),
    pending: Vec<CString>,
}

/// Walks with one descriptor, down by name and up by `..`, so that neither width nor depth is bounded. Directories that are
/// moved away under the walk end it early there.
fn below(top: OwnedFd) -> io::Result<u64> {
    let mut seen = HashSet::new();
    let mut bytes = 0;
    let mut here = top;
    let mut levels = vec![read(&here, &mut seen, &mut bytes)?];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.pending.pop() {
            match open_directory(&here, name.as_c_str()) {
                Ok(inner) => {
                    levels.push(read(&inner, &mut seen, &mut bytes)?);
                    here = inner;
                }
                // Gone meanwhile, or something else.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) || error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {}
                Err(error) => return Err(error),
            }
            continue;
        }
        levels.pop();
        let Some(above) = levels.last() else { break };
        let parent = open_directory(&here, c"..")?;
        if identity(&fstat(&parent)?) != above.identity {
            break;
        }
        here = parent;
    }
    Ok(bytes)
}

fn read(directory: &OwnedFd, seen: &mut HashSet<(u64, u64)>, bytes: &mut u64) -> io::Result<Level> {
    let mut pending = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        if is_directory(&stat) {
            pending.push(entry.file_name().to_owned());
        } else if stat.st_nlink > 1 && !seen.insert(identity(&stat)) {
            continue;
        }
        *bytes += blocks(&stat);
    }
    Ok(Level {
        identity: identity(&fstat(directory)?),
        pending,
    })
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn blocks(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_testkit::TemporaryDirectory;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// What du(1) says.
    fn du(path: &Path) -> u64 {
        let said = std::process::Command::new("du")
            .args(["-s", "--block-size=1"])
            .arg(path)
            .output()
            .unwrap();
        let text = String::from_utf8(said.stdout).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn trees_are_measured_as_du_does() {
        let directory = TemporaryDirectory::new("usage");
        let top = directory.path().join("top");
        fs::create_dir(&top).unwrap();
        assert_eq!(usage(&top).unwrap(), 0);
        assert_eq!(allocated(&top).unwrap(), du(&top));
        // Wide, deep, linked, with holes, with names that need a block.
        for number in 0..1500 {
            let inner = top.join(format!("wide{number}"));
            fs::create_dir(&inner).unwrap();
            fs::write(inner.join("file"), vec![1; number]).unwrap();
        }
        let mut deep = top.clone();
        for _ in 0..600 {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), vec![1; 5000]).unwrap();
        fs::hard_link(deep.join("file"), top.join("link")).unwrap();
        symlink("x".repeat(200), top.join("symlink")).unwrap();
        let holes = fs::File::create(top.join("holes")).unwrap();
        holes.set_len(1 << 30).unwrap();
        assert_eq!(usage(&top).unwrap(), du(&top));
        assert_eq!(allocated(&deep.join("file")).unwrap(), 8192);
    }
}
