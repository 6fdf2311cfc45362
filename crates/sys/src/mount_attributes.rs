//! mount_setattr(2), which rustix lacks.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Changes of a mount, in the bits of `struct mount_attr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MountAttributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SHARED`, `MS_SLAVE` or 0 to leave it.
    pub propagation: u64,
    /// Descriptor of the user namespace whose mapping an id-mapped mount has.
    user_namespace: u64,
}

/// Ids are mapped as a user namespace maps them (`MOUNT_ATTR_IDMAP`).
const ID_MAPPED: u64 = 0x0010_0000;

/// Nothing may be written.
pub const READ_ONLY: u64 = 0x1;
/// Set-id bits have no effect.
pub const NO_SUID: u64 = 0x2;
/// Device nodes cannot be opened.
pub const NO_DEV: u64 = 0x4;
/// Nothing can be executed.
pub const NO_EXEC: u64 = 0x8;
/// Access times are never written.
pub const NO_ACCESS_TIME: u64 = 0x10;
/// Access times of directories are never written.
pub const NO_DIRECTORY_ACCESS_TIME: u64 = 0x80;
/// Access times are always written.
pub const STRICT_ATIME: u64 = 0x20;

impl MountAttributes {
    /// Attributes to set and to clear, and a propagation.
    #[must_use]
    pub const fn new(set: u64, clear: u64, propagation: u64) -> Self {
        Self {
            set,
            clear,
            propagation,
            user_namespace: 0,
        }
    }
}

/// Shows the ids of a detached mount as a user namespace maps them: what the files say belongs to n inside belongs to who is
/// n inside (mount_setattr(2), "ID-mapped mounts"; Linux 5.12).
///
/// # Errors
/// `EINVAL` where the file system does not know how, or the mount is not detached.
pub fn map_ids(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = MountAttributes {
        set: ID_MAPPED,
        user_namespace: u64::from(user_namespace.as_raw_fd().unsigned_abs()),
        ..MountAttributes::default()
    };
    set_attributes(mount, false, &attributes)
}

/// Changes the mount that a descriptor is on, and with `recursive` all below it, in one step.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: &MountAttributes,
) -> io::Result<()> {
    const EMPTY: &CStr = c"";
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a C string, the struct is 32 bytes laid out as the kernel's version 0.
    // JUSTIFICATION: rustix has no mount_setattr.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            EMPTY.as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            std::mem::size_of::<MountAttributes>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
