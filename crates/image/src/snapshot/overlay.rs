//! Detached overlay mounts of lowers and an upper given by fd.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_string, fsmount, fsopen,
};

/// The writable side of an overlay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writable<'a> {
    pub(super) upper: BorrowedFd<'a>,
    pub(super) work: BorrowedFd<'a>,
}

/// Mounts an overlay of `lowers`, top first; read-only without a writable side (then the kernel wants two lowers).
///
/// redirect_dir, metacopy and index are off whatever the module's defaults are: an upper directory stays plain files that
/// a later mount, a diff or a copy reads the same way, and layers can not smuggle redirects in.
pub(super) fn mount_overlay(
    lowers: &[BorrowedFd<'_>],
    writable: Option<Writable<'_>>,
) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    // What the mount table shows as its source.
    fsconfig_set_string(context, "source", "overlay")?;
    for lower in lowers {
        set_directory(context, "lowerdir+", *lower)?;
    }
    if let Some(Writable { upper, work }) = writable {
        set_directory(context, "upperdir", upper)?;
        set_directory(context, "workdir", work)?;
    }
    for key in ["redirect_dir", "metacopy", "index"] {
        fsconfig_set_string(context, key, "off")?;
    }
    fsconfig_create(context)?;
    let attributes = match writable {
        Some(_) => MountAttrFlags::empty(),
        None => MountAttrFlags::MOUNT_ATTR_RDONLY,
    };
    Ok(fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// By fd from 6.13; by the fd's path before.
fn set_directory(context: BorrowedFd<'_>, key: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
    match fsconfig_set_fd(context, key, fd) {
        Err(Errno::INVAL | Errno::BADF) => Ok(fsconfig_set_string(context, key, proc_path(&fd))?),
        result => Ok(result?),
    }
}

/// A path that leads to an open file, of bounded length.
pub(super) fn proc_path(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
