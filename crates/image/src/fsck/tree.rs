//! Extracted files against the tar that they came from.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, lgetxattr, major, minor, openat, readlinkat,
    statat,
};
use rustix::io::Errno;

use crate::directory::open_directory;
use crate::tree::{Node, NodeId, NodeKind, OPAQUE, ROOT, Tree};

/// The largest value that Linux keeps for an extended attribute, in bytes.
const LARGEST_VALUE: usize = 64 << 10;

/// Compares a layer's extracted files with its tar: `None` where there are none, else the first difference in words. Times are
/// not compared: no two file systems keep them alike.
pub(crate) fn compare(tree: &Tree, tar: &File, at: &Path) -> io::Result<Option<Option<String>>> {
    let root = match open_directory(CWD, at) {
        Ok(root) => root,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Ok(Some(Some("it is no directory".to_owned())));
        }
        Err(error) => return Err(error),
    };
    let mut comparison = Comparison {
        tree,
        tar,
        path: Vec::new(),
        inodes: HashMap::new(),
        buffers: [vec![0; 128 << 10], vec![0; 128 << 10]],
    };
    let stat = statat(&root, c".", AtFlags::SYMLINK_NOFOLLOW)?;
    let difference = match comparison.attributes(&root, b".", ROOT, &stat)? {
        Some(what) => Some(format!("/: {what}")),
        None => comparison.directory(&root, ROOT)?,
    };
    Ok(Some(difference))
}

struct Comparison<'a> {
    tree: &'a Tree,
    tar: &'a File,
    /// What is being looked at, from the root.
    path: Vec<u8>,
    /// The inodes of nodes with several names.
    inodes: HashMap<NodeId, u64>,
    buffers: [Vec<u8>; 2],
}

impl Comparison<'_> {
    fn here(&self, what: &str) -> String {
        format!("/{}: {what}", String::from_utf8_lossy(&self.path))
    }

    /// Recursion is bounded by the parser's limit on paths.
    fn directory(&mut self, at: &OwnedFd, id: NodeId) -> io::Result<Option<String>> {
        let tree = self.tree;
        let Some(directory) = tree.node(id).directory() else {
            return Ok(None);
        };
        for entry in Dir::read_from(at)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") && !directory.children.contains_key(name) {
                let name = String::from_utf8_lossy(name).into_owned();
                return Ok(Some(self.here(&format!("has {name:?} beside it"))));
            }
        }
        for (name, child) in &directory.children {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            let difference = self.child(at, name, *child)?;
            self.path.truncate(length);
            if difference.is_some() {
                return Ok(difference);
            }
        }
        Ok(None)
    }

    fn child(&mut self, at: &OwnedFd, name: &[u8], id: NodeId) -> io::Result<Option<String>> {
        let stat = match statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Some(self.here("is missing"))),
            Err(error) => return Err(error.into()),
        };
        let node = self.tree.node(id);
        if node.links > 1 {
            match self.inodes.insert(id, stat.st_ino) {
                Some(inode) if inode != stat.st_ino => {
                    return Ok(Some(self.here("is no hard link")));
                }
                Some(_) => return Ok(None),
                None => {}
            }
        }
        if let Some(what) = self.attributes(at, name, id, &stat)? {
            return Ok(Some(self.here(&what)));
        }
        match &node.kind {
            NodeKind::Directory(_) => {
                let inner = open_directory(at, name)?;
                self.directory(&inner, id)
            }
            NodeKind::File { size, offset } => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = File::from(openat(at, name, flags, Mode::empty())?);
                let same = self.same_bytes(&file, *offset, *size)?;
                Ok((!same).then(|| self.here("has other bytes")))
            }
            _ => Ok(None),
        }
    }

    /// Everything but a directory's entries and a file's bytes.
    fn attributes(
        &self,
        at: &OwnedFd,
        name: &[u8],
        id: NodeId,
        stat: &Stat,
    ) -> io::Result<Option<String>> {
        let node = self.tree.node(id);
        let (kind, device) = match node.kind {
            NodeKind::File { .. } => (FileType::RegularFile, None),
            NodeKind::Symlink { .. } => (FileType::Symlink, None),
            NodeKind::Directory(_) => (FileType::Directory, None),
            NodeKind::CharDevice { major, minor } => {
                (FileType::CharacterDevice, Some((major, minor)))
            }
            NodeKind::BlockDevice { major, minor } => (FileType::BlockDevice, Some((major, minor))),
            NodeKind::Fifo => (FileType::Fifo, None),
            NodeKind::Whiteout => (FileType::CharacterDevice, Some((0, 0))),
        };
        if FileType::from_raw_mode(stat.st_mode) != kind {
            return Ok(Some("is of another kind".to_owned()));
        }
        if device.is_some_and(|device| device != (major(stat.st_rdev), minor(stat.st_rdev))) {
            return Ok(Some("is another device".to_owned()));
        }
        if let NodeKind::Symlink { target } = &node.kind {
            if readlinkat(at, name, Vec::new())?.as_bytes() != &target[..] {
                return Ok(Some("leads elsewhere".to_owned()));
            }
        } else if stat.st_mode & 0o7777 != u32::from(node.mode) {
            return Ok(Some(format!("has mode {:o}", stat.st_mode & 0o7777)));
        }
        if (stat.st_uid, stat.st_gid) != (node.uid, node.gid) {
            let (uid, gid) = (stat.st_uid, stat.st_gid);
            return Ok(Some(format!("belongs to {uid}:{gid}")));
        }
        if let NodeKind::File { size, .. } = node.kind
            && u64::try_from(stat.st_size) != Ok(size)
        {
            return Ok(Some(format!("has {} bytes", stat.st_size)));
        }
        self.xattrs(at, name, node)
    }

    /// Attributes that are not there are no difference: some file systems take none, and that is how Docker extracts, too.
    fn xattrs(&self, at: &OwnedFd, name: &[u8], node: &Node) -> io::Result<Option<String>> {
        let opaque = node.directory().is_some_and(|d| d.opaque);
        let pairs = node.xattrs.iter().map(|(n, v)| (&n[..], &v[..]));
        for (key, wanted) in pairs.chain(opaque.then_some(OPAQUE)) {
            let mut path = format!("/proc/self/fd/{}/", at.as_raw_fd()).into_bytes();
            path.extend_from_slice(name);
            let mut value = vec![0; LARGEST_VALUE];
            let shown = || String::from_utf8_lossy(key).into_owned();
            let path = std::ffi::OsStr::from_bytes(&path);
            match lgetxattr(path, key, &mut value[..]) {
                Ok(length) if value[..length] == *wanted => {}
                Ok(_) => return Ok(Some(format!("has another {}", shown()))),
                Err(Errno::NODATA) if key == OPAQUE.0 => {
                    return Ok(Some("hides nothing".to_owned()));
                }
                Err(Errno::NODATA | Errno::NOTSUP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn same_bytes(&mut self, mut file: &File, offset: u64, size: u64) -> io::Result<bool> {
        let [ours, theirs] = &mut self.buffers;
        let mut done = 0;
        while done < size {
            let wanted = usize::try_from(size - done).unwrap_or(usize::MAX);
            let wanted = wanted.min(ours.len());
            self.tar.read_exact_at(&mut ours[..wanted], offset + done)?;
            file.read_exact(&mut theirs[..wanted])?;
            if ours[..wanted] != theirs[..wanted] {
                return Ok(false);
            }
            done += wanted as u64;
        }
        Ok(true)
    }
}
