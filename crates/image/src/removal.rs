//! Removes trees a container may have written: by fd, never through a symlink, however deep they are.
//!
//! Recursion would take one fd and one stack frame per level, and a container can make a hundred thousand levels. So
//! only a few levels are walked; what lies deeper is moved up beside the tree's root and walked from there.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, renameat, unlinkat};
use rustix::io::Errno;

use crate::directory::open_directory;

/// Levels walked before what is deeper moves up.
const LEVELS: usize = 32;

/// Removes a file or a whole directory; absent is fine.
pub(crate) fn remove_any(path: &Path) -> io::Result<()> {
    remove_at(CWD, path)
}

/// As [`remove_any`], of a name in an open directory.
pub(crate) fn remove_at(
    at: impl rustix::fd::AsFd,
    path: impl rustix::path::Arg + Copy,
) -> io::Result<()> {
    match unlinkat(&at, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let top = open_directory(&at, path)?;
    empty(&top)?;
    unlinkat(&at, path, AtFlags::REMOVEDIR)?;
    Ok(())
}

fn empty(top: &OwnedFd) -> io::Result<()> {
    let mut moved = 0u64;
    // (directory, its name in the one before it); the first is `top` itself.
    let mut stack: Vec<(OwnedFd, CString)> = vec![(top.try_clone()?, CString::default())];
    while let Some((directory, _)) = stack.last() {
        let depth = stack.len();
        let mut deeper = None;
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let removed = match entry.file_type() {
                FileType::Directory => Err(Errno::ISDIR),
                _ => unlinkat(directory, name, AtFlags::empty()),
            };
            match removed {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) => {
                    // Overlay's work directories are empty more often than not.
                    if unlinkat(directory, name, AtFlags::REMOVEDIR).is_ok() {
                        continue;
                    }
                    if depth >= LEVELS {
                        let up = CString::new(format!(".hoist-removal-{moved}"))?;
                        moved += 1;
                        renameat(directory, name, top, &up)?;
                    } else {
                        deeper = Some(name.to_owned());
                        break;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(name) = deeper {
            let next = open_directory(directory, name.as_c_str())?;
            stack.push((next, name));
            continue;
        }
        let Some((_, name)) = stack.pop() else { break };
        if let Some((parent, _)) = stack.last() {
            unlinkat(parent, &name, AtFlags::REMOVEDIR)?;
        } else if moved > 0 {
            // What was moved up while `top` was being listed may not have been seen.
            moved = 0;
            stack.push((top.try_clone()?, CString::default()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, mkdirat};

    #[test]
    fn a_tree_deeper_than_any_path_goes() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("tree");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(temporary.path().join("outside"), "kept").unwrap();
        let mut at = open_directory(CWD, &path).unwrap();
        for level in 0..3000 {
            rustix::fs::symlinkat("../../outside", &at, "link").unwrap();
            mkdirat(&at, "a-directory", Mode::RWXU).unwrap();
            if level % 100 == 0 {
                mkdirat(&at, "sibling", Mode::RWXU).unwrap();
            }
            at = open_directory(&at, "a-directory").unwrap();
        }
        remove_any(&path).unwrap();
        assert!(!path.exists());
        assert!(temporary.path().join("outside").exists());
        remove_any(&path).unwrap();
    }
}
