//! Tars written into a container.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, fstat, futimens, linkat, makedev, mkdirat, mknodat, openat, statat,
    symlinkat, utimensat,
};
use rustix::io::Errno;

use super::error::failed;
use super::pack::may_travel;
use super::{FilesError, Root, name};
use crate::decompress::Decompressor;
use crate::removal::remove_at;
use crate::tar::{Archive, Entry, EntryKind};

/// How to unpack.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnpackOptions<'a> {
    /// Whether a directory may not give way to something else, nor something else to a directory.
    pub keep_kinds: bool,
    /// Who is to own everything; without, whom the archive says.
    pub owner: Option<(u32, u32)>,
    /// Whether everything belongs to who unpacks, whatever `owner` and the archive say.
    pub unowned: bool,
    /// The name of the archive's top that is to be another.
    pub renamed: Option<Renamed<'a>>,
}

/// What is archived as `from` (`.` or nothing: everything in it) is unpacked as `to`: Docker's `RebaseArchiveEntries`.
#[derive(Clone, Copy, Debug)]
pub struct Renamed<'a> {
    /// The first part of the archive's paths.
    pub from: &'a str,
    /// What it becomes.
    pub to: &'a str,
}

impl Renamed<'_> {
    /// A path of the archive under its new name.
    fn apply(&self, path: &[u8]) -> Vec<u8> {
        let from = self.from.trim_matches('/').as_bytes();
        let rest = match from {
            b"" | b"." => path,
            _ => match path.strip_prefix(from) {
                Some(rest) if rest.is_empty() || rest.starts_with(b"/") => rest,
                _ => return path.to_vec(),
            },
        };
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        let mut renamed = self.to.as_bytes().to_vec();
        if !rest.is_empty() {
            renamed.push(b'/');
            renamed.extend_from_slice(rest);
        }
        renamed
    }
}

/// Writes a tar (plain, gzip or zstd) into an existing directory, as Docker's `PUT /containers/{id}/archive` does.
///
/// What is there gives way, but a directory that comes again is only changed. Paths of the archive lead through links as they
/// would for a process in the container. What came before a failure stays.
pub fn unpack(
    root: &Root,
    path: &str,
    reader: impl Read,
    options: UnpackOptions<'_>,
) -> Result<(), FilesError> {
    let destination = name::clean(path);
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let directory = match root.open(destination.as_bytes(), flags) {
        Err(Errno::NOTDIR) => return Err(FilesError::NotDirectory),
        result => result.map_err(failed("opening", path))?,
    };
    root.check_writable(&directory, path)?;
    let mut unpacker = Unpacker {
        root,
        destination,
        options,
        top: directory,
        parent: None,
        directories: Vec::new(),
    };
    let plain = Decompressor::new(reader, u64::MAX).map_err(FilesError::Archive)?;
    let mut archive = Archive::new(plain);
    while let Some(mut entry) = archive.next_entry().map_err(FilesError::Archive)? {
        if let Some(renamed) = options.renamed {
            entry.path = renamed.apply(&entry.path);
            if let EntryKind::HardLink { target } = &mut entry.kind {
                *target = renamed.apply(target);
            }
        }
        // The directory itself is there, and stays what it is.
        if !entry.path.is_empty() {
            unpacker.take(&entry, &mut archive)?;
        }
    }
    unpacker.settle();
    Ok(())
}

struct Unpacker<'a> {
    root: &'a Root,
    destination: String,
    options: UnpackOptions<'a>,
    /// The destination, as it was found at first: one that is renamed meanwhile is not made anew.
    top: OwnedFd,
    /// The directory of the last entry, where it is not the destination: most come in runs.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories whose times are set at the end, when nothing is put into them any more.
    directories: Vec<(OwnedFd, Timestamps)>,
}

/// Directories whose times wait for the end; those beyond keep the time of their last change.
const MOST_WAITING: usize = 512;

impl Unpacker<'_> {
    fn take(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), FilesError> {
        let (parent, last) = name::split(&entry.path);
        if !parent.is_empty() && self.parent.as_ref().is_none_or(|(path, _)| path != parent) {
            let path = self.below(parent);
            let opened = self.root.make_directories(&path);
            self.parent = Some((parent.to_vec(), opened.map_err(failed("opening", path))?));
        }
        let parent = match &self.parent {
            Some((_, opened)) if !parent.is_empty() => opened,
            _ => &self.top,
        };
        let at = self.below(&entry.path);
        let is_directory = entry.kind == EntryKind::Directory;
        let mut there = false;
        match statat(parent, last, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let was = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                if self.options.keep_kinds && was != is_directory {
                    return Err(self.refusal(&at, was));
                }
                if was && is_directory {
                    there = true;
                } else {
                    remove_at(parent, last).map_err(failed("replacing", &at))?;
                }
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("looking at", &at)(error)),
        }
        let waiting = self
            .make(parent, last, entry, there, data)
            .map_err(|error| match error {
                Failure::Read(error) => FilesError::Archive(error),
                Failure::Write(error) => failed("writing", &at)(error),
            })?;
        if let Some(directory) = waiting
            && self.directories.len() < MOST_WAITING
        {
            self.directories.push((directory, times(entry)));
        }
        Ok(())
    }

    /// A path of the archive as one of the container.
    fn below(&self, path: &[u8]) -> Vec<u8> {
        [self.destination.as_bytes(), b"/", path].concat()
    }

    fn refusal(&self, at: &[u8], directory: bool) -> FilesError {
        let path = name::clean(&String::from_utf8_lossy(at));
        let destination = self.destination.clone();
        if directory {
            FilesError::OverwriteDirectory { path, destination }
        } else {
            FilesError::OverwriteFile { path, destination }
        }
    }

    /// Makes one file; answers a directory, whose times are still to be set.
    fn make(
        &self,
        parent: &OwnedFd,
        last: &[u8],
        entry: &Entry,
        there: bool,
        data: &mut impl Read,
    ) -> Result<Option<OwnedFd>, Failure> {
        let private = Mode::RUSR | Mode::WUSR;
        let (kind, device) = match &entry.kind {
            EntryKind::Directory => {
                if !there {
                    mkdirat(parent, last, Mode::RWXU)?;
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let made = openat(parent, last, flags | OFlags::CLOEXEC, Mode::empty())?;
                self.dress(&made, entry)?;
                return Ok(Some(made));
            }
            EntryKind::File { .. } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let made = openat(parent, last, flags | OFlags::CLOEXEC, private)?;
                let mut made = File::from(made);
                copy(data, &mut made)?;
                let made = OwnedFd::from(made);
                self.dress(&made, entry)?;
                futimens(&made, &times(entry))?;
                return Ok(None);
            }
            EntryKind::HardLink { target } => {
                let (directory, target) = name::split(target);
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let directory = self.root.open(&self.below(directory), flags)?;
                linkat(&directory, target, parent, last, AtFlags::empty())?;
                return Ok(None);
            }
            EntryKind::Symlink { target } => {
                symlinkat(target.as_slice(), parent, last)?;
                self.own(parent, last, entry)?;
                return Ok(None);
            }
            EntryKind::CharDevice { major, minor } => {
                (FileType::CharacterDevice, makedev(*major, *minor))
            }
            EntryKind::BlockDevice { major, minor } => {
                (FileType::BlockDevice, makedev(*major, *minor))
            }
            EntryKind::Fifo => (FileType::Fifo, 0),
        };
        mknodat(parent, last, kind, private, device)?;
        self.own(parent, last, entry)?;
        // By descriptor: by name, a link put there in the meantime would be followed.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(parent, last, flags, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&made)?.st_mode) == kind {
            let path = format!("/proc/self/fd/{}", made.as_raw_fd());
            rustix::fs::chmod(path, mode(entry))?;
        }
        Ok(None)
    }

    /// Owner and times of what is not opened.
    fn own(&self, parent: &OwnedFd, last: &[u8], entry: &Entry) -> Result<(), Failure> {
        if !self.options.unowned {
            let (uid, gid) = self.owner(entry)?;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            chownat(parent, last, Some(uid), Some(gid), flags)?;
        }
        utimensat(parent, last, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// Owner, mode and attributes of an open file, in the order in which none undoes another.
    fn dress(&self, made: &OwnedFd, entry: &Entry) -> Result<(), Failure> {
        if !self.options.unowned {
            let (uid, gid) = self.owner(entry)?;
            fchown(made, Some(uid), Some(gid))?;
        }
        fchmod(made, mode(entry))?;
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| may_travel(name)) {
            match fsetxattr(made, name.as_slice(), value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn owner(&self, entry: &Entry) -> rustix::io::Result<(Uid, Gid)> {
        let owner = self.options.owner.unwrap_or((entry.uid, entry.gid));
        self.root.to_host(owner)
    }

    /// Sets the times of directories, innermost first. A time that cannot be set is not worth a failure.
    fn settle(self) {
        for (directory, times) in self.directories.iter().rev() {
            if let Err(error) = futimens(directory, times) {
                tracing::debug!(%error, "a directory keeps its new time");
            }
        }
    }
}

enum Failure {
    Read(io::Error),
    Write(io::Error),
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Self::Write(error.into())
    }
}

/// As `io::copy`, but telling which side failed.
fn copy(from: &mut impl Read, to: &mut impl io::Write) -> Result<(), Failure> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => to.write_all(&buffer[..read]).map_err(Failure::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::Read(error)),
        }
    }
}

fn mode(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode.into())
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime,
        tv_nsec: entry.mtime_nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_of_an_archive_is_renamed() {
        for (from, to, path, renamed) in [
            ("x", "y", "x", "y"),
            ("x", "y", "x/a/x", "y/a/x"),
            ("x", "y", "xx/a", "xx/a"),
            (".", "y", "", "y"),
            (".", "y", "a/b", "y/a/b"),
            ("/", "y", "a", "y/a"),
        ] {
            let got = Renamed { from, to }.apply(path.as_bytes());
            assert_eq!(String::from_utf8_lossy(&got), renamed, "{from} {to} {path}");
        }
    }
}
