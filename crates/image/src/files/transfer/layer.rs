//! The layer that a transfer writes: what it has so far, over what is below.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;

use super::super::error::failed;
use super::super::follow::follow;
use super::super::pack::{Content, Described, Packer, describe};
use super::super::{FilesError, Root, name};
use super::{Entered, entered};
use crate::tar::{Entry, EntryKind, Xattrs};

pub(super) struct Layer<'a, W> {
    pub(super) packer: Packer<'a, W>,
    pub(super) below: &'a Root,
    pub(super) owner: (u32, u32),
    /// Directories that the tar tells of already.
    pub(super) written: HashSet<Vec<u8>>,
    /// Those of them that are not below: nothing under them can be in the way.
    pub(super) made: HashSet<Vec<u8>>,
    /// Of what an archive brought, what is no directory: where a link leads, else nothing.
    pub(super) unpacked: HashMap<Vec<u8>, Option<Vec<u8>>>,
    pub(super) entries: usize,
    /// See [`super::TransferOptions`].
    pub(super) keep_tops: bool,
}

impl<'a, W: Write> Layer<'a, W> {
    pub(super) fn new(below: &'a Root, owner: (u32, u32), out: W) -> Self {
        Self {
            packer: Packer::new(below, out),
            below,
            owner,
            written: HashSet::new(),
            made: HashSet::new(),
            unpacked: HashMap::new(),
            entries: 0,
            keep_tops: true,
        }
    }

    pub(super) fn finish(self) -> Result<usize, FilesError> {
        self.packer.finish()?;
        Ok(self.entries)
    }

    pub(super) fn put(
        &mut self,
        is_top: bool,
        mut described: Described,
    ) -> Result<Option<Entered>, FilesError> {
        let mtime = described.entry.mtime;
        if is_top {
            // Copies of two items are two files, also where the item is one.
            self.packer.forget_names();
            let wanted = described.entry.path;
            described.entry.path = self.follow(&wanted).map_err(failed("following", &wanted))?;
        }
        let path = described.entry.path.clone();
        let (parent, last) = name::split(&path);
        if last.starts_with(b".wh.") {
            // A layer has no way to say it.
            tracing::warn!(
                path = %String::from_utf8_lossy(&path),
                "a file that looks like a whiteout is left out of the layer"
            );
            return Ok(None);
        }
        self.directories(parent, mtime)?;
        let is_directory = matches!(described.content, Content::Directory(_));
        if is_directory && (path.is_empty() || self.written.contains(&path)) {
            return Ok(entered(described));
        }
        let there = if self.made.contains(parent) {
            None
        } else {
            self.kind_below(&path)?
        };
        match there {
            Some(FileType::Directory) if !is_directory => {
                return Err(FilesError::OverwriteDirectory {
                    path: String::from_utf8_lossy(&path).into_owned(),
                    destination: "/".to_owned(),
                });
            }
            Some(FileType::Directory) if is_top => {
                // It stays as it is; only what is in it comes.
                self.repeat(&path)?;
                return Ok(entered(described));
            }
            Some(kind) if is_directory && kind != FileType::Directory => {
                return Err(FilesError::OverwriteFile {
                    path: String::from_utf8_lossy(&path).into_owned(),
                    destination: "/".to_owned(),
                });
            }
            None if is_directory && is_top && !self.keep_tops => {
                self.directories(&path, mtime)?;
                return Ok(entered(described));
            }
            _ => {}
        }
        if is_directory {
            self.written.insert(path.clone());
            if there.is_none() {
                self.made.insert(path.clone());
            }
        }
        self.entries += 1;
        let directory = self.packer.write(described)?;
        Ok(directory.map(|directory| Entered {
            directory,
            label: path,
        }))
    }

    /// Tells of a directory and all above it: as they are below, or anew.
    pub(super) fn directories(&mut self, path: &[u8], mtime: i64) -> Result<(), FilesError> {
        if path.is_empty() || self.written.contains(path) {
            return Ok(());
        }
        if self.unpacked.contains_key(path) {
            return Err(failed("making", path)(Errno::NOTDIR));
        }
        let (parent, _) = name::split(path);
        self.directories(parent, mtime)?;
        if !self.made.contains(parent) && self.has_directory(path)? {
            return self.repeat(path);
        }
        self.written.insert(path.to_vec());
        self.made.insert(path.to_vec());
        self.entries += 1;
        self.packer.entry(&Entry {
            path: path.to_vec(),
            kind: EntryKind::Directory,
            mode: 0o755,
            uid: self.owner.0,
            gid: self.owner.1,
            mtime,
            mtime_nanos: 0,
            xattrs: Xattrs::new(),
        })
    }

    /// Tells that what is at a path is gone (OCI image specification, layer.md, "Whiteouts").
    pub(super) fn hide(&mut self, path: &str) -> Result<(), FilesError> {
        let (parent, last) = name::split(path.as_bytes());
        if last.is_empty() || self.kind_below(path.as_bytes())?.is_none() {
            return Ok(());
        }
        self.directories(parent, 0)?;
        let slash: &[u8] = if parent.is_empty() { b"" } else { b"/" };
        self.entries += 1;
        self.packer.entry(&Entry {
            path: [parent, slash, b".wh.", last].concat(),
            kind: EntryKind::File { size: 0, offset: 0 },
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_nanos: 0,
            xattrs: Xattrs::new(),
        })
    }

    /// Whether there is a directory below; fails if it is something else.
    pub(super) fn has_directory(&self, path: &[u8]) -> Result<bool, FilesError> {
        match self.kind_below(path)? {
            None => Ok(false),
            Some(FileType::Directory) => Ok(true),
            Some(_) => Err(failed("making", path)(Errno::NOTDIR)),
        }
    }

    pub(super) fn kind_below(&self, path: &[u8]) -> Result<Option<FileType>, FilesError> {
        match self.below.open(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(found) => {
                let stat = fstat(&found).map_err(failed("looking at", path))?;
                Ok(Some(FileType::from_raw_mode(stat.st_mode)))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("looking at", path)(error)),
        }
    }

    pub(super) fn repeat(&mut self, path: &[u8]) -> Result<(), FilesError> {
        let found = self
            .below
            .open(path, OFlags::PATH | OFlags::NOFOLLOW)
            .map_err(failed("opening", path))?;
        if let Some(described) = describe(self.below, &found, path.to_vec())? {
            self.entries += 1;
            self.packer.entry(&described.entry)?;
        }
        self.written.insert(path.to_vec());
        Ok(())
    }

    /// Follows every link of a path, over what is below and what archives brought, and answers the path without them; what is not there is
    /// taken as it is written.
    pub(super) fn follow(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        follow(path, |directory, next| match self.unpacked.get(next) {
            Some(link) => Ok(link.clone()),
            None if self.written.contains(next) || self.made.contains(directory) => Ok(None),
            None => self.below.link(next),
        })
    }
}
