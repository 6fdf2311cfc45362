//! Archives that are unpacked on their way into a layer: what ADD does.
//!
//! An entry goes where a process would find its directory: links below and links that the archive itself brings are followed, never out of
//! the root. What is in the way gives way, but a directory that comes again is only changed (moby `archive.Untar`).

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};

use rustix::fs::{FileType, OFlags};

use super::super::error::failed;
use super::super::pack::{Content, Described, describe, may_travel};
use super::super::{FilesError, name};
use super::layer::Layer;
use crate::decompress::Decompressor;
use crate::tar::{Archive, Entry, EntryKind};

/// Whether a file is a tar, compressed or not, with something in it (BuildKit's `isArchivePath`). It is read from its beginning afterwards.
pub(super) fn is_archive(mut file: &File) -> io::Result<bool> {
    file.seek(SeekFrom::Start(0))?;
    let first = Decompressor::new(file, u64::MAX).map(Archive::new);
    let is_one = first.and_then(|mut archive| archive.next_entry());
    file.seek(SeekFrom::Start(0))?;
    match is_one {
        Ok(entry) => Ok(entry.is_some()),
        // It cannot be read as one.
        Err(error) if error.raw_os_error().is_none() => Ok(false),
        Err(error) => Err(error),
    }
}

impl<W: Write> Layer<'_, W> {
    /// Writes what an archive holds, below a directory.
    pub(super) fn unpack(
        &mut self,
        archive: &File,
        into: &str,
        owner: Option<(u32, u32)>,
    ) -> Result<(), FilesError> {
        let into = self
            .follow(into.as_bytes())
            .map_err(failed("following", into))?;
        self.directories(&into, 0)?;
        let plain = Decompressor::new(archive, u64::MAX).map_err(FilesError::Archive)?;
        let mut archive = Archive::new(plain);
        while let Some(mut entry) = archive.next_entry().map_err(FilesError::Archive)? {
            if let Some((uid, gid)) = owner {
                (entry.uid, entry.gid) = (uid, gid);
            }
            entry.xattrs.retain(|(name, _)| may_travel(name));
            self.unpacked_entry(&into, entry, &mut archive)?;
        }
        Ok(())
    }

    fn unpacked_entry(
        &mut self,
        into: &[u8],
        mut entry: Entry,
        data: &mut impl Read,
    ) -> Result<(), FilesError> {
        let wanted = below(into, &entry.path);
        let (parent, last) = name::split(&wanted);
        if last.starts_with(b".wh.") {
            // A layer has no way to say it.
            tracing::warn!(
                path = %String::from_utf8_lossy(&wanted),
                "a file that looks like a whiteout is left out of the layer"
            );
            return Ok(());
        }
        if last.is_empty() {
            // The root of all: a layer does not change it.
            return Ok(());
        }
        let parent = self.follow(parent).map_err(failed("following", parent))?;
        self.directories(&parent, entry.mtime)?;
        let path = below(&parent, last);
        entry.path.clone_from(&path);
        if entry.kind == EntryKind::Directory {
            self.unpacked.remove(&path);
            let is_there = self.is_directory(&parent, &path)?;
            self.written.insert(path.clone());
            if !is_there {
                self.made.insert(path);
            }
            return self.told(&entry);
        }
        self.forget(&path);
        let mut link = None;
        match &entry.kind {
            EntryKind::File { size, .. } => {
                let size = *size;
                self.entries += 1;
                self.packer.file(&entry, size, data)?;
            }
            EntryKind::HardLink { target } => {
                let target = below(into, target);
                let (directory, last) = name::split(&target);
                let directory = self.follow(directory);
                let directory = directory.map_err(failed("following", &target))?;
                let target = below(&directory, last);
                if self.unpacked.contains_key(&target) {
                    link = self.unpacked[&target].clone();
                    entry.kind = EntryKind::HardLink { target };
                    entry.xattrs.clear();
                    self.told(&entry)?;
                } else {
                    self.copied(&target, &path)?;
                }
            }
            kind => {
                if let EntryKind::Symlink { target } = kind {
                    link = Some(target.clone());
                }
                self.told(&entry)?;
            }
        }
        self.unpacked.insert(path, link);
        Ok(())
    }

    fn told(&mut self, entry: &Entry) -> Result<(), FilesError> {
        self.entries += 1;
        self.packer.entry(entry)
    }

    /// Whether there is a directory below; what else is there gives way.
    fn is_directory(&self, parent: &[u8], path: &[u8]) -> Result<bool, FilesError> {
        if self.made.contains(path) || self.made.contains(parent) {
            return Ok(false);
        }
        Ok(self.kind_below(path)? == Some(FileType::Directory))
    }

    /// What was written at a path, and below it, is hidden by what comes now.
    fn forget(&mut self, path: &[u8]) {
        if !self.written.contains(path) {
            return;
        }
        let is_hidden = |known: &[u8]| known == path || known.starts_with(&[path, b"/"].concat());
        self.written.retain(|known| !is_hidden(known));
        self.made.retain(|known| !is_hidden(known));
        self.unpacked.retain(|known, _| !is_hidden(known));
    }

    /// Another name of a file that is below: a layer cannot link to it, and has a copy.
    fn copied(&mut self, target: &[u8], path: &[u8]) -> Result<(), FilesError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let found = self.below.open(target, flags);
        let found = found.map_err(failed("linking to", target))?;
        let Some(Described { entry, content, .. }) = describe(self.below, &found, path.to_vec())?
        else {
            return Ok(());
        };
        match (content, &entry.kind) {
            (Content::File(file), EntryKind::File { size, .. }) => {
                self.entries += 1;
                self.packer.file(&entry, *size, file)
            }
            (Content::Directory(_), _) => {
                Err(failed("linking to", target)(rustix::io::Errno::PERM))
            }
            _ => self.told(&entry),
        }
    }
}

fn below(directory: &[u8], path: &[u8]) -> Vec<u8> {
    match (directory, path) {
        ([], path) => path.to_vec(),
        (directory, []) => directory.to_vec(),
        (directory, path) => [directory, b"/", path].concat(),
    }
}
