//! Images mounted into containers (API 1.48, `Mount.Type` `image`): read-only views of their layers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use hoist_image::{Ids, Snapshotter};
use hoist_model::chain;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::error::ContainerError;
use crate::records::MountPoint;

/// A detached read-only mount of what a mount point shows of its image. Blocking.
pub(super) fn image_mount(
    point: &MountPoint,
    ids: Ids,
    snapshotter: &dyn Snapshotter,
) -> Result<OwnedFd, ContainerError> {
    let layers = point.image.as_ref().map_or(&[][..], |image| &image.layers);
    let view = snapshotter
        .view(layers, ids)
        .map_err(|error| ContainerError::Internal(chain(&error)))?;
    part(view, point)
}

/// The same that can be written to; what is written is in a directory of its own, which goes with whom it is for. Blocking.
pub(super) fn writable_mount(
    point: &MountPoint,
    ids: Ids,
    snapshotter: &dyn Snapshotter,
    directory: &Path,
) -> Result<OwnedFd, ContainerError> {
    let open = |name: &str| {
        let path = directory.join(name);
        std::fs::create_dir_all(&path)?;
        std::fs::File::open(path).map(OwnedFd::from)
    };
    let failed = |source| ContainerError::Io {
        context: format!("make {}", directory.display()),
        source,
    };
    let (upper, work) = (
        open("upper").map_err(failed)?,
        open("work").map_err(failed)?,
    );
    let layers = point.image.as_ref().map_or(&[][..], |image| &image.layers);
    let view = snapshotter
        .view_over(layers, ids, upper.as_fd(), work.as_fd())
        .map_err(|error| ContainerError::Internal(chain(&error)))?;
    part(view, point)
}

fn part(view: OwnedFd, point: &MountPoint) -> Result<OwnedFd, ContainerError> {
    if point.subpath.is_empty() {
        return Ok(view);
    }
    below(&view, &point.subpath).map_err(|error| {
        ContainerError::Invalid(format!(
            "cannot access path {} of image {} for {}: {}",
            point.subpath,
            point.name,
            point.destination,
            error.kind()
        ))
    })
}

/// A detached mount of a path of a detached mount. Links in an image belong to whoever made it: they must not lead out.
///
/// The kernel copies parts of detached mounts from 6.15 on; before, only of mounts that are in the caller's namespace.
fn below(view: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let (_namespace, mount) = hoist_sys::mount_namespace::with_private(|| {
        // Any directory does: nobody but this thread sees what covers it.
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(view, "", CWD, "/proc", flags)?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = openat2(view.as_fd(), path, flags, Mode::empty(), resolve)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        Ok(open_tree(&opened, "", flags)?)
    })?;
    Ok(mount)
}
