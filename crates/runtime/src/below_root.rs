//! Making and mounting what lies below a root, without being led out of it.
//!
//! Targets are opened below the root's descriptor with `openat2` (`RESOLVE_IN_ROOT`, no magic links: openat2(2)), and mounts
//! move from descriptor to descriptor. Nothing is made where something is.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, openat, openat2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

pub(crate) fn in_root() -> ResolveFlags {
    ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS
}

pub(crate) fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

pub(crate) fn path_flags() -> OFlags {
    OFlags::PATH | OFlags::CLOEXEC
}

/// Moves a detached mount to an open target.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// A detached copy of the mount at a path of this mount namespace; the path is hostile.
pub(crate) fn copy_of(path: &str) -> io::Result<OwnedFd> {
    let root = openat(CWD, "/", directory_flags(), Mode::empty())?;
    let resolve = in_root() | ResolveFlags::NO_SYMLINKS;
    let opened = openat2(&root, path, path_flags(), Mode::empty(), resolve)?;
    clone_mount(opened.as_fd(), false)
}

/// A detached copy of the mount below an open path.
pub(crate) fn clone_mount(path: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(path, "", flags)?)
}

/// A new file system as a detached mount.
pub(crate) fn file_system(
    kind: &str,
    options: &[(String, String)],
    attributes: u64,
) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What the mount table shows as its source.
    fsconfig_set_string(context.as_fd(), "source", kind)?;
    for (name, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(context.as_fd(), name.as_str())?;
        } else {
            fsconfig_set_string(context.as_fd(), name.as_str(), value.as_str())?;
        }
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(0));
    Ok(fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// Opens a path below the root; made, with its parents, if it is missing.
pub(crate) fn make(root: BorrowedFd<'_>, path: &str, directory: bool) -> io::Result<OwnedFd> {
    match openat2(root, path, path_flags(), Mode::empty(), in_root()) {
        Err(rustix::io::Errno::NOENT) => {}
        result => return Ok(result?),
    }
    let (parent, name) = parent(root, path)?;
    if directory {
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        drop(openat(&parent, name, flags, Mode::from_raw_mode(0o644))?);
    }
    Ok(openat2(root, path, path_flags(), Mode::empty(), in_root())?)
}

/// Opens the parent of a path below the root, made if missing, and answers it with the last name.
fn parent<'p>(root: BorrowedFd<'_>, path: &'p str) -> io::Result<(OwnedFd, &'p str)> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let path = path.trim_end_matches('/');
    let name = Path::new(path)
        .file_name()
        .and_then(|n| n.to_str())
        .ok_or_else(invalid)?;
    let above = &path[..path.len() - name.len()];
    let above = above.trim_matches('/');
    let opened = if above.is_empty() {
        openat2(root, ".", path_flags(), Mode::empty(), in_root())?
    } else {
        make(root, above, true)?
    };
    Ok((opened, name))
}

/// As [`make`], but no part of the path may be a link: procfs and sysfs go to real directories only.
pub(crate) fn make_real_directory(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let resolve = in_root() | ResolveFlags::NO_SYMLINKS;
    let flags = path_flags() | OFlags::DIRECTORY;
    match openat2(root, path, flags, Mode::empty(), resolve) {
        Err(rustix::io::Errno::NOENT) => {
            drop(make(root, path, true)?);
            Ok(openat2(root, path, flags, Mode::empty(), resolve)?)
        }
        result => Ok(result?),
    }
}

/// A directory below the root, with its parents, unless it is there.
pub(crate) fn directory(root: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    make(root, path, true).map(drop)
}

/// A symbolic link below the root, unless something is there.
pub(crate) fn link(root: BorrowedFd<'_>, path: &str, to: &str) -> io::Result<()> {
    let (parent, name) = parent(root, path)?;
    match rustix::fs::symlinkat(to, parent, name) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A device below the root, unless something is there.
pub(crate) fn node(
    root: BorrowedFd<'_>,
    path: &str,
    mode: u32,
    (major, minor): (u32, u32),
    (uid, gid): (u32, u32),
) -> io::Result<()> {
    let (parent, name) = parent(root, path)?;
    let device = rustix::fs::makedev(major, minor);
    let kind = FileType::from_raw_mode(mode);
    let bits = Mode::from_raw_mode(mode & 0o7777);
    match rustix::fs::mknodat(&parent, name, kind, bits, device) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    // No umask takes bits away here; and what root made is root's.
    if (uid, gid) == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    Ok(rustix::fs::chownat(
        &parent,
        name,
        Some(uid),
        Some(gid),
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )?)
}
