//! Trees of a container written as tars.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    Dir, FileType, Mode, OFlags, Stat, fgetxattr, flistxattr, fstat, fstatfs, openat, readlinkat,
};
use rustix::io::Errno;

use super::error::failed;
use super::root::{permissions, reopen};
use super::{FilesError, Root, name};
use crate::tar::{Entry, EntryKind, TarWriter, Xattrs};

/// Bytes of a path in an archive; deeper trees are refused.
const LONGEST: usize = 4095;
/// Bytes of one extended attribute.
const XATTR_LIMIT: usize = 64 << 10;

/// What the kernel shows of itself: `/proc`, `/sys` and the like are empty directories to an archive, as to Docker's.
const KERNEL_FILE_SYSTEMS: [u64; 12] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0x6165_676c, // pstore
];

/// Writes what is at a path as Docker's `GET /containers/{id}/archive` does: a directory under its own name (`x/`, `x/a`), or
/// under `.` where the path ends in `/.`; anything else as one entry. A last link is not followed.
pub fn pack(root: &Root, path: &str, out: impl Write) -> Result<(), FilesError> {
    let label = match name::base(&name::clean(path)) {
        "/" => "./".to_owned(),
        base => base.to_owned(),
    };
    pack_as(root, path, &label, out)
}

/// The same under another name than its own, as `docker cp x container:/y` sends it.
pub fn pack_as(root: &Root, path: &str, label: &str, out: impl Write) -> Result<(), FilesError> {
    let cleaned = name::clean(path);
    let label = label.as_bytes().to_vec();
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let found = root
        .open(cleaned.as_bytes(), flags)
        .map_err(failed("opening", path))?;
    let mut packer = Packer::new(root, out);
    if let Some(directory) = packer.add(&found, label.clone())? {
        let top = level(directory, label)?;
        if !is_the_kernels(&top) {
            packer.tree(top)?;
        }
    }
    packer.finish()
}

/// Writes a whole file system as Docker's `GET /containers/{id}/export` does: no entry for the root, names without a prefix.
pub fn export(root: &Root, out: impl Write) -> Result<(), FilesError> {
    let mut packer = Packer::new(root, out);
    let top = root
        .open(b"", OFlags::RDONLY | OFlags::DIRECTORY)
        .map_err(failed("opening", "/"))?;
    packer.tree(level(top, Vec::new())?)?;
    packer.finish()
}

/// Writes those files of a tree that are named, by paths below the root, a directory before what is in it, and before them others
/// whose bytes are given. All belong to root, as in the context of a build. What is gone by now is left out.
pub fn pack_chosen(
    root: &Root,
    paths: &[Vec<u8>],
    others: &[(&str, &[u8])],
    out: impl Write,
) -> Result<(), FilesError> {
    let mut packer = Packer::new(root, out);
    packer.unowned = true;
    for (path, bytes) in others {
        let size = bytes.len() as u64;
        let entry = Entry {
            path: path.as_bytes().to_vec(),
            kind: EntryKind::File { size, offset: 0 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_nanos: 0,
            xattrs: Xattrs::new(),
        };
        let written = packer.writer.file(&entry, size, *bytes);
        written.map_err(FilesError::Output)?;
    }
    for path in paths {
        match root.open(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(found) => drop(packer.add(&found, path.clone())?),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(failed("opening", path)(error)),
        }
    }
    packer.finish()
}

/// A tar being filled from a file system.
pub(super) struct Packer<'r, W> {
    /// Whose files they are, which says by what ids they are told of.
    root: &'r Root,
    writer: TarWriter<W>,
    /// Names of files that have several.
    seen: HashMap<(u64, u64), Vec<u8>>,
    /// Whether everything is root's.
    unowned: bool,
}

/// A directory on the way.
struct Level {
    directory: OwnedFd,
    /// What is still to be done, last first.
    names: Vec<Vec<u8>>,
    label: Vec<u8>,
    device: u64,
}

impl<'r, W: Write> Packer<'r, W> {
    pub(super) fn new(root: &'r Root, out: W) -> Self {
        Self {
            root,
            writer: TarWriter::new(out),
            seen: HashMap::new(),
            unowned: false,
        }
    }

    /// What has several names from here on is written once more under the first of them.
    pub(super) fn forget_names(&mut self) {
        self.seen.clear();
    }

    pub(super) fn finish(self) -> Result<(), FilesError> {
        let mut out = self.writer.finish().map_err(FilesError::Output)?;
        out.flush().map_err(FilesError::Output)
    }

    /// Writes a file whose `size` bytes are read from `data`.
    pub(super) fn file(
        &mut self,
        entry: &Entry,
        size: u64,
        data: impl std::io::Read,
    ) -> Result<(), FilesError> {
        self.writer
            .file(entry, size, data)
            .map_err(FilesError::Output)
    }

    /// Writes an entry as it is given.
    pub(super) fn entry(&mut self, entry: &Entry) -> Result<(), FilesError> {
        self.writer.entry(entry).map_err(FilesError::Output)
    }

    /// Writes everything below a directory, in order of names, which come and go while this looks: what is gone is left out.
    fn tree(&mut self, top: Level) -> Result<(), FilesError> {
        let mut stack = vec![top];
        while let Some(top) = stack.last_mut() {
            let Some(name) = top.names.pop() else {
                stack.pop();
                continue;
            };
            let label = match top.label.last() {
                None => name.clone(),
                Some(b'/') => [top.label.as_slice(), &name].concat(),
                Some(_) => [top.label.as_slice(), b"/", &name].concat(),
            };
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = match openat(&top.directory, name.as_slice(), flags, Mode::empty()) {
                Ok(found) => found,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed("opening", label)(error)),
            };
            let device = top.device;
            if let Some(directory) = self.add(&found, label.clone())? {
                let next = level(directory, label)?;
                if next.device == device || !is_the_kernels(&next) {
                    stack.push(next);
                }
            }
        }
        Ok(())
    }

    /// Writes one file; of a directory, opens it.
    pub(super) fn add(
        &mut self,
        found: &OwnedFd,
        label: Vec<u8>,
    ) -> Result<Option<OwnedFd>, FilesError> {
        let Some(described) = describe(self.root, found, label)? else {
            return Ok(None);
        };
        self.write(described)
    }

    /// The same of a file that was looked at.
    pub(super) fn write(&mut self, described: Described) -> Result<Option<OwnedFd>, FilesError> {
        let Described {
            mut entry,
            content,
            stat,
        } = described;
        if self.unowned {
            (entry.uid, entry.gid) = (0, 0);
        }
        let is_directory = matches!(content, Content::Directory(_));
        if !is_directory
            && stat.st_nlink > 1
            && let Some(target) = self.first_name(&stat, &entry.path)
        {
            entry.kind = EntryKind::HardLink { target };
            entry.xattrs.clear();
            self.entry(&entry)?;
            return Ok(None);
        }
        match content {
            Content::File(file) => {
                let EntryKind::File { size, .. } = entry.kind else {
                    unreachable!("content of a file comes with an entry of one");
                };
                let written = self.writer.file(&entry, size, file);
                written.map_err(FilesError::Output)?;
                Ok(None)
            }
            Content::Directory(directory) => {
                self.entry(&entry)?;
                Ok(Some(directory))
            }
            Content::None => {
                self.entry(&entry)?;
                Ok(None)
            }
        }
    }

    /// The name under which a file with several is in the archive already; else this becomes it.
    fn first_name(&mut self, stat: &Stat, label: &[u8]) -> Option<Vec<u8>> {
        let key = (stat.st_dev, stat.st_ino);
        let known = self.seen.get(&key).cloned();
        if known.is_none() {
            self.seen.insert(key, label.to_vec());
        }
        known
    }
}

/// A file as an archive tells of it, and open for what is in it.
pub(super) struct Described {
    pub(super) entry: Entry,
    pub(super) content: Content,
    pub(super) stat: Stat,
}

/// What is in a file.
pub(super) enum Content {
    None,
    File(File),
    Directory(OwnedFd),
}

/// Looks at a file. Of a socket there is nothing to tell: a tar has no word for it.
pub(super) fn describe(
    root: &Root,
    found: &OwnedFd,
    label: Vec<u8>,
) -> Result<Option<Described>, FilesError> {
    if label.len() > LONGEST {
        return Err(failed("archiving", &label)(Errno::NAMETOOLONG));
    }
    let stat = fstat(found).map_err(failed("looking at", &label))?;
    let major = rustix::fs::major(stat.st_rdev);
    let minor = rustix::fs::minor(stat.st_rdev);
    let (uid, gid) = root.to_container((stat.st_uid, stat.st_gid));
    let mut entry = Entry {
        path: label,
        kind: EntryKind::Directory,
        mode: permissions(&stat),
        uid,
        gid,
        mtime: stat.st_mtime,
        mtime_nanos: 0,
        xattrs: Xattrs::new(),
    };
    let mut content = Content::None;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let open = reopen(found, OFlags::RDONLY | OFlags::DIRECTORY);
            let directory = open.map_err(failed("opening", &entry.path))?;
            entry.xattrs = xattrs(root, &directory);
            content = Content::Directory(directory);
        }
        FileType::RegularFile => {
            let open = reopen(found, OFlags::RDONLY);
            let file = File::from(open.map_err(failed("opening", &entry.path))?);
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            entry.kind = EntryKind::File { size, offset: 0 };
            entry.xattrs = xattrs(root, &file);
            content = Content::File(file);
        }
        FileType::Symlink => {
            let target = readlinkat(found, "", Vec::new())
                .map_err(failed("reading", &entry.path))?
                .into_bytes();
            entry.kind = EntryKind::Symlink { target };
            entry.mode = 0o777;
        }
        FileType::CharacterDevice => entry.kind = EntryKind::CharDevice { major, minor },
        FileType::BlockDevice => entry.kind = EntryKind::BlockDevice { major, minor },
        FileType::Fifo => entry.kind = EntryKind::Fifo,
        _ => return Ok(None),
    }
    Ok(Some(Described {
        entry,
        content,
        stat,
    }))
}

fn level(directory: OwnedFd, label: Vec<u8>) -> Result<Level, FilesError> {
    let names = names(&directory).map_err(failed("reading", &label))?;
    let device = fstat(&directory)
        .map_err(failed("looking at", &label))?
        .st_dev;
    Ok(Level {
        directory,
        names,
        label,
        device,
    })
}

/// The names in a directory, last first.
pub(super) fn names(directory: impl AsFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

fn is_the_kernels(level: &Level) -> bool {
    let kind = fstatfs(&level.directory).map(|found| found.f_type);
    kind.is_ok_and(|kind| {
        u64::try_from(kind).is_ok_and(|kind| KERNEL_FILE_SYSTEMS.contains(&(kind & 0xffff_ffff)))
    })
}

/// Capabilities and what users may attach; what the kernel or overlay keeps for itself stays.
fn xattrs(root: &Root, file: impl AsFd) -> Xattrs {
    let mut list = vec![0; XATTR_LIMIT];
    let Ok(length) = flistxattr(&file, &mut list) else {
        return Xattrs::new();
    };
    let mut found = Xattrs::new();
    let mut value = Vec::new();
    for name in list[..length].split(|byte| *byte == 0) {
        if !may_travel(name) {
            continue;
        }
        value.resize(XATTR_LIMIT, 0);
        if let Ok(length) = fgetxattr(&file, name, &mut value) {
            let mut value = value[..length].to_vec();
            if name == b"security.capability" {
                root.capabilities_to_container(&mut value);
            }
            found.push((name.to_vec(), value));
        }
    }
    found.sort();
    found
}

/// Whether an extended attribute goes into archives and comes out of them.
pub(super) fn may_travel(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}
