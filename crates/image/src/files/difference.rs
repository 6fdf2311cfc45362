//! What a container changed of its image: `docker diff`, and the layer of a commit.
//!
//! Its upper directory is compared with a view of the image's layers, by the rules of Docker's comparison of trees (moby
//! `archive.ChangesDirs`): of a directory its owner and mode count, of anything else also size and time; a directory with
//! changes in it counts as changed.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, openat, statat};
use rustix::io::Errno;

use super::error::failed;
use super::pack::{Packer, names};
use super::{FilesError, Root, name};
use crate::tar::{Entry, EntryKind, Xattrs};

/// Deeper trees are refused: the walk keeps descriptors and a frame per level.
const DEEPEST: usize = 500;

/// What the runtime puts into a root to mount things on; to Docker these are no changes either (its init layer).
const PLACES: [&[u8]; 14] = [
    b"/.dockerenv",
    b"/dev",
    b"/dev/console",
    b"/dev/mqueue",
    b"/dev/pts",
    b"/dev/shm",
    b"/etc",
    b"/etc/hostname",
    b"/etc/hosts",
    b"/etc/mtab",
    b"/etc/resolv.conf",
    b"/proc",
    b"/run",
    b"/sys",
];

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is another than the image's.
    Modified,
    /// The image does not have it.
    Added,
    /// Only the image has it.
    Deleted,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Absolute path in the container; any bytes but NUL.
    pub path: Vec<u8>,
    /// What became of it.
    pub kind: ChangeKind,
}

/// Compares an overlay's upper directory with what is below it. In order of paths, a directory before what is in it.
pub fn differences(upper: &Root, lower: &Root) -> Result<Vec<Change>, FilesError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let open = |root: &Root| root.open(b"", flags).map_err(failed("opening", "/"));
    let mut changes = Vec::new();
    compare(&open(upper)?, Some(&open(lower)?), b"", 0, &mut changes)?;
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    changes.sort_by(|a, b| a.path.iter().map(key).cmp(b.path.iter().map(key)));
    Ok(changes)
}

/// Writes changes as a layer's tar: whiteouts for what was deleted.
pub fn pack_changes(upper: &Root, changes: &[Change], out: impl Write) -> Result<(), FilesError> {
    let mut packer = Packer::new(upper, out);
    for Change { path, kind } in changes {
        let relative = path.strip_prefix(b"/").unwrap_or(path);
        let (parent, last) = name::split(relative);
        if last.starts_with(b".wh.") {
            // A layer has no way to say it.
            tracing::warn!(
                path = %String::from_utf8_lossy(path),
                "a file that looks like a whiteout is left out of the layer"
            );
            continue;
        }
        if *kind == ChangeKind::Deleted {
            let slash: &[u8] = if parent.is_empty() { b"" } else { b"/" };
            packer.entry(&Entry {
                path: [parent, slash, b".wh.", last].concat(),
                kind: EntryKind::File { size: 0, offset: 0 },
                mode: 0,
                uid: 0,
                gid: 0,
                mtime: 0,
                mtime_nanos: 0,
                xattrs: Xattrs::new(),
            })?;
            continue;
        }
        match upper.open(relative, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(found) => drop(packer.add(&found, relative.to_vec())?),
            // It went away since it was listed.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("opening", path)(error)),
        }
    }
    packer.finish()
}

fn compare(
    upper: &OwnedFd,
    lower: Option<&OwnedFd>,
    prefix: &[u8],
    depth: usize,
    changes: &mut Vec<Change>,
) -> Result<(), FilesError> {
    if depth > DEEPEST {
        return Err(failed("comparing", prefix)(Errno::NAMETOOLONG));
    }
    let ours = names(upper).map_err(failed("reading", prefix))?;
    for last in ours.iter().rev() {
        let path = [prefix, b"/", last].concat();
        let stat = match statat(upper, last.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(failed("looking at", path)(error)),
        };
        let below = match lower {
            Some(lower) => look(lower, last).map_err(failed("looking at", &path))?,
            None => None,
        };
        if is_whiteout(&stat) {
            if below.is_some() {
                push(changes, path, ChangeKind::Deleted);
            }
        } else if kind_of(&stat) == FileType::Directory {
            compare_directory(upper, lower, last, path, (&stat, below), depth, changes)?;
        } else {
            match below {
                None if PLACES.contains(&path.as_slice()) && stat.st_size == 0 => {}
                None => push(changes, path, ChangeKind::Added),
                Some(below) => {
                    if !is_same(&stat, &below)
                        || capability(upper, last) != capability_of(lower, last)
                    {
                        push(changes, path, ChangeKind::Modified);
                    }
                }
            }
        }
    }
    if let Some(lower) = lower.filter(|_| is_opaque(upper)) {
        let theirs = names(lower).map_err(failed("reading", prefix))?;
        // Both are sorted, last first.
        for last in theirs {
            if ours.binary_search_by(|name| last.cmp(name)).is_err() {
                push(changes, [prefix, b"/", &last].concat(), ChangeKind::Deleted);
            }
        }
    }
    Ok(())
}

fn compare_directory(
    upper: &OwnedFd,
    lower: Option<&OwnedFd>,
    last: &[u8],
    path: Vec<u8>,
    (stat, below): (&Stat, Option<Stat>),
    depth: usize,
    changes: &mut Vec<Change>,
) -> Result<(), FilesError> {
    let directory = open_directory(upper, last).map_err(failed("opening", &path))?;
    let was = below.filter(|below| kind_of(below) == FileType::Directory);
    let there = match (lower, was) {
        (Some(lower), Some(_)) => {
            Some(open_directory(lower, last).map_err(failed("opening", &path))?)
        }
        _ => None,
    };
    let place = below.is_none() && PLACES.contains(&path.as_slice());
    let (kind, own) = match (below, was) {
        (_, Some(was)) => (ChangeKind::Modified, !is_same(stat, &was)),
        (Some(_), None) => (ChangeKind::Modified, true),
        (None, None) if place => (ChangeKind::Modified, false),
        (None, None) => (ChangeKind::Added, true),
    };
    let at = changes.len();
    push(changes, path.clone(), kind);
    compare(&directory, there.as_ref(), &path, depth + 1, changes)?;
    if !own && changes.len() == at + 1 {
        changes.pop();
    }
    Ok(())
}

fn push(changes: &mut Vec<Change>, path: Vec<u8>, kind: ChangeKind) {
    changes.push(Change { path, kind });
}

fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Overlay's mark of a deleted name.
fn is_whiteout(stat: &Stat) -> bool {
    kind_of(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Overlay's mark of a directory that hides the one below.
fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 2];
    matches!(fgetxattr(directory, "trusted.overlay.opaque", &mut value), Ok(1) if value[0] == b'y')
}

fn look(directory: &OwnedFd, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn open_directory(at: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// Times of archives have no nanoseconds; a difference in them alone is none where one side has none.
fn is_same(a: &Stat, b: &Stat) -> bool {
    let nanos = a.st_mtime_nsec == b.st_mtime_nsec || a.st_mtime_nsec == 0 || b.st_mtime_nsec == 0;
    (a.st_mode, a.st_uid, a.st_gid) == (b.st_mode, b.st_uid, b.st_gid)
        && (kind_of(a) == FileType::Directory
            || (a.st_rdev == b.st_rdev
                && a.st_size == b.st_size
                && a.st_mtime == b.st_mtime
                && nanos))
}

fn capability_of(directory: Option<&OwnedFd>, name: &[u8]) -> Option<Vec<u8>> {
    directory.and_then(|directory| capability(directory, name))
}

/// A regular file's capabilities.
fn capability(directory: &OwnedFd, name: &[u8]) -> Option<Vec<u8>> {
    let stat = look(directory, name).ok()??;
    if kind_of(&stat) != FileType::RegularFile {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty()).ok()?;
    let mut value = vec![0; 64];
    let length = fgetxattr(&file, "security.capability", &mut value).ok()?;
    value.truncate(length);
    Some(value)
}
