//! Follows the links of a path by its text, for paths that need not be there to their ends: what a path would be named without them.

use std::io;

use rustix::fs::{OFlags, readlinkat};
use rustix::io::Errno;

use super::Root;

/// Symlinks followed in one path (Linux's own limit).
const MOST_LINKS: usize = 40;

/// A path from the root, without links, `.`, `..` and slashes at its ends. `link` answers where a path leads that is a link, given the
/// path of its directory, too; nothing for all else, also what is not there.
///
/// # Errors
/// What `link` fails with; `ELOOP` where there are more links than Linux follows.
pub(super) fn follow(
    path: &[u8],
    mut link: impl FnMut(&[u8], &[u8]) -> io::Result<Option<Vec<u8>>>,
) -> io::Result<Vec<u8>> {
    let mut left = parts(path);
    let mut done: Vec<u8> = Vec::new();
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == b".." {
            done.truncate(super::name::split(&done).0.len());
            continue;
        }
        let slash: &[u8] = if done.is_empty() { b"" } else { b"/" };
        let next = [&done, slash, &part].concat();
        let Some(target) = link(&done, &next)? else {
            done = next;
            continue;
        };
        links += 1;
        if links > MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        if target.starts_with(b"/") {
            done.clear();
        }
        left.extend(parts(&target));
    }
    Ok(done)
}

/// The parts of a path, the first of them last.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
    parts.rev().map(<[u8]>::to_vec).collect()
}

impl Root {
    /// Follows every link of a path, in the root, and answers the path without them; what is not there is taken as it is written.
    pub(super) fn follow(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        follow(path, |_, next| self.link(next))
    }

    /// Where a link in the root leads, those on the way to it followed; nothing where there is none.
    pub(super) fn link(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match self.open(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(found) => Ok(readlinkat(&found, "", Vec::new())
                .ok()
                .map(std::ffi::CString::into_bytes)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_on_from_where_they_are() {
        let link = |_: &[u8], path: &[u8]| {
            let target: &[u8] = match path {
                b"etc" => b"private/etc/",
                b"private/etc/up" => b"../../x",
                b"abs" => b"/etc/./name",
                b"loop" => b"loop",
                _ => return Ok(None),
            };
            Ok(Some(target.to_vec()))
        };
        let followed = |path: &str| follow(path.as_bytes(), link);
        for (path, wanted) in [
            ("", ""),
            ("/", ""),
            ("../a//b/.", "a/b"),
            ("/etc/passwd", "private/etc/passwd"),
            ("etc/up/y", "x/y"),
            ("abs", "private/etc/name"),
            ("etc/../z", "private/z"),
        ] {
            assert_eq!(followed(path).unwrap(), wanted.as_bytes(), "{path}");
        }
        let error = followed("a/../loop").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }
}
