//! Everything a file system says about a tree, for comparison.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};
use sha2::{Digest, Sha256};

/// By path, what is there in one line.
pub(crate) type Listing = BTreeMap<String, String>;

/// Lists a whole tree. Directory sizes and device numbers of the file system are left out.
pub(crate) fn list(root: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut names: BTreeMap<(u64, u64), String> = BTreeMap::new();
    walk(root, Path::new(""), &mut listing, &mut names);
    listing
}

/// Where a detached mount can be walked.
pub(crate) fn path_of(mount: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/.", mount.as_raw_fd()))
}

/// A file system of its own, mounted nowhere: fast, and of a known size.
pub(crate) fn tmpfs(size: &str) -> OwnedFd {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_set_string(&context, "size", size).unwrap();
    fsconfig_create(&context).unwrap();
    let attributes = MountAttrFlags::empty();
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).unwrap()
}

/// The same as [`path_of`] for a program this process starts.
pub(crate) fn foreign_path_of(mount: &OwnedFd) -> PathBuf {
    let (process, fd) = (std::process::id(), mount.as_raw_fd());
    PathBuf::from(format!("/proc/{process}/fd/{fd}/."))
}

/// Panics with the first few differences.
pub(crate) fn assert_same(wanted: &Listing, found: &Listing) {
    let mut report = String::new();
    let keys: std::collections::BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
    let differing = keys
        .into_iter()
        .filter(|key| wanted.get(*key) != found.get(*key));
    for key in differing.take(10) {
        let _ = writeln!(
            report,
            "{key}\n  wanted {:?}\n  found  {:?}",
            wanted.get(key),
            found.get(key)
        );
    }
    assert!(report.is_empty(), "trees differ:\n{report}");
}

fn walk(
    root: &Path,
    relative: &Path,
    listing: &mut Listing,
    names: &mut BTreeMap<(u64, u64), String>,
) {
    let path = root.join(relative);
    let meta = fs::symlink_metadata(&path).unwrap();
    let kind = meta.file_type();
    let shown = relative.display().to_string();
    let mut line = format!(
        "{:o} {}:{} {}.{:09}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec()
    );
    if kind.is_file() {
        let bytes = fs::read(&path).unwrap();
        let _ = write!(line, " {} {:x?}", meta.len(), &Sha256::digest(&bytes)[..8]);
    }
    if kind.is_symlink() {
        let _ = write!(
            line,
            " -> {:?} {}",
            fs::read_link(&path).unwrap(),
            meta.len()
        );
    }
    if kind.is_char_device() || kind.is_block_device() {
        let _ = write!(line, " dev {:x}", meta.rdev());
    }
    if kind.is_dir() {
        let _ = write!(line, " links {}", meta.nlink());
    } else if meta.nlink() > 1 {
        let first = names
            .entry((meta.dev(), meta.ino()))
            .or_insert_with(|| shown.clone());
        let _ = write!(line, " links {} with {first}", meta.nlink());
    }
    for (name, value) in xattrs(&path) {
        let _ = write!(line, " {name}={value:x?}");
    }
    listing.insert(shown, line);
    if kind.is_dir() {
        let mut inside: Vec<_> = fs::read_dir(&path)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        inside.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in inside {
            walk(root, &relative.join(name), listing, names);
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut out = BTreeMap::new();
    if rustix::fs::llistxattr(path, &mut [0_u8; 0]).is_ok_and(|bytes| bytes == 0) {
        return out;
    }
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    let names = names[..length].split(|b| *b == 0);
    for name in names.filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value.truncate(length);
        out.insert(String::from_utf8_lossy(name).into_owned(), value);
    }
    out
}
