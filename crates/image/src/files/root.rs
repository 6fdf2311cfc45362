//! A container's root, and finding names below it.

use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use hoist_model::{Timestamp, UserMapping};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, StatxFlags, Uid, chownat, fstat,
    fstatvfs, mkdirat, openat2, statx,
};
use rustix::io::Errno;

use super::error::failed;
use super::{FilesError, name};

/// Tries of a lookup that a rename in the container got in the way of.
const MOST_TRIES: usize = 64;

/// The root directory of a container's file system, as its processes see it.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    /// How ids inside stand for those that its files have.
    mapping: Option<Arc<UserMapping>>,
}

/// What there is to say of a path (API `X-Docker-Container-Path-Stat`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStat {
    /// The last part of the path as asked.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// `st_mode` of stat(2).
    pub mode: u32,
    /// When its content was last changed.
    pub modified: Timestamp,
    /// Where a symlink leads in the end, or as far as it can be followed; empty for anything else.
    pub link_target: String,
}

impl Root {
    /// Takes a descriptor of a root directory.
    #[must_use]
    pub const fn new(fd: OwnedFd) -> Self {
        Self { fd, mapping: None }
    }

    /// Takes a descriptor of the root directory of a container that is remapped: its files are the host's ids', and are told of
    /// and written by the container's.
    #[must_use]
    pub const fn remapped(fd: OwnedFd, mapping: Arc<UserMapping>) -> Self {
        Self {
            fd,
            mapping: Some(mapping),
        }
    }

    /// The container's ids for an owner of a file.
    pub(super) fn to_container(&self, owner: (u32, u32)) -> (u32, u32) {
        match &self.mapping {
            Some(mapping) => mapping.to_container(owner),
            None => owner,
        }
    }

    /// Whom a file is to belong to that belongs to this user and group of the container's. Fails with `EOVERFLOW` where the
    /// mapping has nobody for them.
    pub(super) fn to_host(&self, owner: (u32, u32)) -> rustix::io::Result<(Uid, Gid)> {
        let found = match &self.mapping {
            Some(mapping) => mapping.to_host(owner).ok_or(Errno::OVERFLOW)?,
            None => owner,
        };
        Ok((Uid::from_raw(found.0), Gid::from_raw(found.1)))
    }

    /// Tells of a file's capabilities as they are inside: those that count for the container's root alone (`struct
    /// vfs_ns_cap_data`, revision 3 of linux/capability.h) are there those of any file (revision 2).
    pub(super) fn capabilities_to_container(&self, value: &mut Vec<u8>) {
        const REVISION: usize = 3;
        const ROOT: usize = 20;
        let Some(mapping) = &self.mapping else { return };
        let root = mapping.root().0.to_le_bytes();
        if value.len() == ROOT + root.len() && value[REVISION] == 3 && value[ROOT..] == root {
            value.truncate(ROOT);
            value[REVISION] = 2;
        }
    }

    /// Gives what was made here to the container's root.
    fn give(&self, parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
        if self.mapping.is_none() {
            return Ok(());
        }
        let (uid, gid) = self.to_host((0, 0))?;
        chownat(
            parent,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )
    }

    /// Opens a path below the root. Links are followed as a process in the container would follow them, but for the
    /// magic ones of /proc, which lead out of it.
    pub(super) fn open(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        let mut tries = 0;
        loop {
            match openat2(&self.fd, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if tries < MOST_TRIES => tries += 1,
                result => return result,
            }
        }
    }

    /// What is at a path, the last link not followed.
    pub fn stat(&self, path: &str) -> Result<PathStat, FilesError> {
        let cleaned = name::clean(path);
        let open = self.open(cleaned.as_bytes(), OFlags::PATH | OFlags::NOFOLLOW);
        let fd = open.map_err(failed("looking at", path))?;
        let stat = fstat(&fd).map_err(failed("looking at", path))?;
        let link_target = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let end = self.follow(cleaned.as_bytes());
                let end = end.map_err(failed("following", path))?;
                format!("/{}", String::from_utf8_lossy(&end))
            }
            _ => String::new(),
        };
        let nanos = stat.st_mtime.saturating_mul(1_000_000_000);
        Ok(PathStat {
            name: name::base(&cleaned).to_owned(),
            size: stat.st_size,
            mode: stat.st_mode,
            modified: Timestamp::from_nanos(
                nanos.saturating_add(i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            ),
            link_target,
        })
    }

    /// What is in a regular file of at most `limit` bytes, links on the way to it followed; of anything else, `NotFound`.
    pub fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, FilesError> {
        let found = self.open(name::clean(path).as_bytes(), OFlags::PATH);
        let found = found.map_err(failed("opening", path))?;
        let stat = fstat(&found).map_err(failed("looking at", path))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(FilesError::NotFound(path.to_owned()));
        }
        if size > limit {
            return Err(failed("reading", path)(Errno::FBIG));
        }
        let file = reopen(&found, OFlags::RDONLY).map_err(failed("opening", path))?;
        let mut content = Vec::new();
        std::fs::File::from(file)
            .take(limit)
            .read_to_end(&mut content)
            .map_err(failed("reading", path))?;
        Ok(content)
    }

    /// The names in a directory, in order, links on the way to it followed; of what is no directory, none.
    pub fn names(&self, path: &str) -> Result<Vec<String>, FilesError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = match self.open(name::clean(path).as_bytes(), flags) {
            Err(Errno::NOTDIR) => return Ok(Vec::new()),
            result => result.map_err(failed("opening", path))?,
        };
        let names = super::pack::names(&directory).map_err(failed("reading", path))?;
        Ok(names
            .into_iter()
            .rev()
            .filter_map(|name| String::from_utf8(name).ok())
            .collect())
    }

    /// Whether a path leads to a directory, links followed; nothing where it leads nowhere.
    pub fn is_directory(&self, path: &str) -> Result<Option<bool>, FilesError> {
        match self.open(name::clean(path).as_bytes(), OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(failed("looking at", path)(error)),
            Ok(found) => {
                let stat = fstat(&found).map_err(failed("looking at", path))?;
                let kind = FileType::from_raw_mode(stat.st_mode);
                Ok(Some(kind == FileType::Directory))
            }
        }
    }

    /// Opens a directory, making what is missing of it.
    pub fn make_directory(&self, path: &str) -> Result<OwnedFd, FilesError> {
        self.make_directories(path.as_bytes())
            .map_err(failed("making", path))
    }

    pub(super) fn make_directories(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let path = path.strip_suffix(b"/").unwrap_or(path);
        match self.open(path, flags) {
            Err(Errno::NOENT) if !path.is_empty() => {}
            result => return result,
        }
        let (parent, last) = name::split(path);
        let parent = self.make_directories(parent)?;
        match mkdirat(&parent, last, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.give(&parent, last)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        self.open(path, flags)
    }

    /// Opens, or makes, the file that something is to be mounted on.
    pub fn mount_target(&self, path: &str, directory: bool) -> Result<OwnedFd, FilesError> {
        if directory {
            return self.make_directory(path);
        }
        let action = "making";
        match self.open(path.as_bytes(), OFlags::PATH) {
            Err(Errno::NOENT) => {}
            result => return result.map_err(failed(action, path)),
        }
        let (parent, last) = name::split(path.as_bytes());
        let parent = self
            .make_directories(parent)
            .map_err(failed(action, path))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let made = rustix::fs::openat(&parent, last, flags | OFlags::NOFOLLOW, mode)
            .map_err(failed(action, path))?;
        self.give(&parent, last).map_err(failed(action, path))?;
        Ok(made)
    }

    /// Refuses what cannot be written to, by the mount it is on.
    pub(super) fn check_writable(&self, directory: &OwnedFd, path: &str) -> Result<(), FilesError> {
        let state = fstatvfs(directory).map_err(failed("looking at", path))?;
        if !state.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            return Ok(());
        }
        let mount = |fd: &OwnedFd| {
            statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|found| found.stx_mnt_id)
        };
        let own = mount(&self.fd).map_err(failed("looking at", path))?;
        let there = mount(directory).map_err(failed("looking at", path))?;
        Err(if own == there {
            FilesError::ReadOnlyRoot
        } else {
            FilesError::ReadOnlyVolume
        })
    }
}

impl From<Root> for OwnedFd {
    fn from(root: Root) -> Self {
        root.fd
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens for reading what was opened by name only, without another look at the name: a device is never opened by this.
pub(super) fn reopen(found: &OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

/// Permission bits with set-id and sticky.
pub(super) const fn permissions(stat: &Stat) -> u16 {
    (stat.st_mode & 0o7777) as u16
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root(path: &std::path::Path) -> Root {
        Root::new(std::fs::File::open(path).unwrap().into())
    }

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("root");
        std::fs::create_dir_all(at.join("etc")).unwrap();
        std::fs::write(at.join("etc/file"), "text").unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink("/etc", at.join("abs")).unwrap();
        symlink("../../../secret", at.join("up")).unwrap();
        symlink("abs/file", at.join("two")).unwrap();
        symlink("gone/below", at.join("broken")).unwrap();
        symlink("loop", at.join("loop")).unwrap();
        let root = root(&at);
        let target = |path: &str| root.stat(path).map(|stat| stat.link_target);
        assert_eq!(target("/two").unwrap(), "/etc/file");
        assert_eq!(target("up").unwrap(), "/secret");
        assert_eq!(target("broken").unwrap(), "/gone/below");
        assert_eq!(target("etc/file").unwrap(), "");
        assert!(matches!(target("loop"), Err(FilesError::Io { .. })));
        assert!(matches!(target("none"), Err(FilesError::NotFound(_))));
        // A slash at the end looks behind the link.
        let behind = root.stat("/abs/").unwrap();
        assert_eq!(behind.link_target, "");
        assert_eq!(behind.name, "abs");
        let up = root.open(b"up", OFlags::RDONLY).unwrap_err();
        assert_eq!(up, Errno::NOENT);
        root.make_directory("/abs/new/deep").unwrap();
        assert!(at.join("etc/new/deep").is_dir());
    }
}
