//! Writes a layer's tree as files.
//!
//! The tree is already merged and every name is a single component, so each inode is made once, by fd, in a directory
//! made a moment before: there is nothing a symlink in the tar could redirect.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat,
    chownat, linkat, lsetxattr, makedev, mkdirat, mknodat, openat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::LayerError;
use super::layer_files::io_at;
use crate::tree::{Node, NodeId, NodeKind, OPAQUE, ROOT, Tree};

/// Extracts into an existing empty directory.
pub(super) fn extract(tree: &Tree, tar: &File, into: &Path) -> Result<(), LayerError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = io_at("extracting into", into);
    let root = openat(CWD, into, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let mut extraction = Extraction {
        tree,
        tar,
        made: HashMap::new(),
        path: Vec::new(),
        root: &root,
        buffer: vec![0; 128 << 10],
    };
    extraction
        .directory(&root, ROOT)
        .and_then(|()| extraction.attributes(&root, b".", tree.node(ROOT)))
        .map_err(failed)
}

struct Extraction<'a> {
    tree: &'a Tree,
    tar: &'a File,
    /// Where inodes with several names were made first, from the root.
    made: HashMap<NodeId, Vec<u8>>,
    /// The directory at hand, from the root.
    path: Vec<u8>,
    root: &'a OwnedFd,
    buffer: Vec<u8>,
}

impl Extraction<'_> {
    /// Makes what is in a directory. Recursion is bounded by the parser's limit on paths.
    fn directory(&mut self, at: &OwnedFd, id: NodeId) -> io::Result<()> {
        let tree = self.tree;
        let Some(directory) = tree.node(id).directory() else {
            return Ok(());
        };
        for (name, child) in &directory.children {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            self.child(at, name, *child)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn child(&mut self, at: &OwnedFd, name: &[u8], id: NodeId) -> io::Result<()> {
        let node = self.tree.node(id);
        if node.links > 1 {
            if let Some(first) = self.made.get(&id) {
                return Ok(linkat(self.root, &first[..], at, name, AtFlags::empty())?);
            }
            self.made.insert(id, self.path.clone());
        }
        let special = |kind, device| mknodat(at, name, kind, Mode::empty(), device);
        match &node.kind {
            NodeKind::File { size, offset } => self.file(at, name, *offset, *size)?,
            NodeKind::Symlink { target } => symlinkat(&target[..], at, name)?,
            NodeKind::Directory(_) => {
                mkdirat(at, name, Mode::RWXU)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = openat(at, name, flags, Mode::empty())?;
                self.directory(&inner, id)?;
            }
            NodeKind::CharDevice { major, minor } => {
                special(FileType::CharacterDevice, makedev(*major, *minor))?;
            }
            NodeKind::BlockDevice { major, minor } => {
                special(FileType::BlockDevice, makedev(*major, *minor))?;
            }
            NodeKind::Fifo => special(FileType::Fifo, 0)?,
            NodeKind::Whiteout => special(FileType::CharacterDevice, 0)?,
        }
        self.attributes(at, name, node)
    }

    fn file(&mut self, at: &OwnedFd, name: &[u8], offset: u64, size: u64) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = openat(at, name, flags | OFlags::CLOEXEC, Mode::RWXU)?;
        let file = File::from(file);
        let mut done = 0;
        while done < size {
            let wanted = usize::try_from(size - done)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            let part = &mut self.buffer[..wanted];
            self.tar.read_exact_at(part, offset + done)?;
            // Zeros take no room.
            if part.iter().any(|byte| *byte != 0) {
                file.write_all_at(part, done)?;
            }
            done += wanted as u64;
        }
        file.set_len(size)
    }

    /// Owner first, because a change of owner takes set-id bits and capabilities away; times last.
    fn attributes(&self, at: &OwnedFd, name: &[u8], node: &Node) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if !matches!(node.kind, NodeKind::Symlink { .. }) {
            let mode = Mode::from_raw_mode(node.mode.into());
            chmodat(at, name, mode, AtFlags::empty())?;
        }
        let opaque = node.directory().is_some_and(|d| d.opaque);
        let pairs = node.xattrs.iter().map(|(n, v)| (&n[..], &v[..]));
        for (key, value) in pairs.chain(opaque.then_some(OPAQUE)) {
            // There is no call for it relative to an fd before 6.13; the last component is not followed.
            let mut path = format!("/proc/self/fd/{}/", at.as_raw_fd()).into_bytes();
            path.extend_from_slice(name);
            let path = std::ffi::OsStr::from_bytes(&path);
            match lsetxattr(path, key, value, XattrFlags::empty()) {
                // As Docker does: a file system without such attributes still serves.
                Err(Errno::NOTSUP) if key != OPAQUE.0 => {}
                Err(Errno::PERM) if matches!(node.kind, NodeKind::Symlink { .. }) => {}
                result => result?,
            }
        }
        let time = Timespec {
            tv_sec: node.mtime,
            tv_nsec: node.mtime_nanos.into(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }
}
