//! The two forms in which a layer becomes a lower directory.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use hoist_model::Digest;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::extract::extract;
use super::layer_files::{LayerFiles, Temporary, io_at, make_directory};
use super::overlay::proc_path;
use super::{LayerError, SnapshotError, SnapshotterKind};
use crate::tree::Tree;

/// How stored layers are turned into directories an overlay can stand on.
///
/// Tar and index are there for every layer, so that either form can be made of it, whichever it was stored for. Which one it is
/// may change while layers are written and mounted: each is what it is once it is opened.
#[derive(Debug)]
pub(super) struct Form {
    directories: AtomicBool,
}

impl Form {
    pub(super) fn new(kind: SnapshotterKind) -> Self {
        Self {
            directories: AtomicBool::new(kind == SnapshotterKind::Directory),
        }
    }

    /// Which one this is.
    pub(super) fn kind(&self) -> SnapshotterKind {
        if self.directories.load(Ordering::Relaxed) {
            SnapshotterKind::Directory
        } else {
            SnapshotterKind::Erofs
        }
    }

    /// From now on it is another.
    pub(super) fn change(&self, kind: SnapshotterKind) {
        let is_directory = kind == SnapshotterKind::Directory;
        self.directories.store(is_directory, Ordering::Relaxed);
    }

    /// What has to exist beside tar and index, made from a tree whose tar is `tar`.
    pub(super) fn extract(
        &self,
        files: &LayerFiles,
        tree: &Tree,
        tar: &File,
    ) -> Result<Option<Temporary>, LayerError> {
        match self.kind() {
            SnapshotterKind::Erofs => Ok(None),
            SnapshotterKind::Directory => extracted(files, tree, tar).map(Some),
        }
    }

    /// The layer's directory.
    pub(super) fn lower(
        &self,
        files: &LayerFiles,
        layer: &Digest,
    ) -> Result<OwnedFd, SnapshotError> {
        match self.kind() {
            SnapshotterKind::Erofs => mounted(files, layer),
            SnapshotterKind::Directory => directory(files, layer),
        }
    }
}

/// The index, mounted file-backed with the tar as its device. No loop device, no block device.
fn mounted(files: &LayerFiles, layer: &Digest) -> Result<OwnedFd, SnapshotError> {
    let (index_path, tar_path) = (files.index(layer), files.tar(layer));
    let index = File::open(&index_path).map_err(io_at("opening", &index_path))?;
    let tar = File::open(&tar_path).map_err(io_at("opening", &tar_path))?;
    mount(&index, &tar).map_err(|source| SnapshotError::Mount {
        what: format!("layer {layer}"),
        source: source.into(),
    })
}

/// By fd paths, because an fsconfig string has at most 255 bytes. Kernel ≥ 6.12; earlier ones want a block device.
fn mount(index: &File, tar: &File) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", proc_path(index))?;
    fsconfig_set_string(context.as_fd(), "device", proc_path(tar))?;
    fsconfig_set_flag(context.as_fd(), "ro")?;
    fsconfig_create(context.as_fd())?;
    fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )
}

/// The tar's files.
fn extracted(files: &LayerFiles, tree: &Tree, tar: &File) -> Result<Temporary, LayerError> {
    let temporary = Temporary {
        path: files.temporary_path(),
    };
    make_directory(&temporary.path)?;
    extract(tree, tar, &temporary.path)?;
    if files.durable {
        // One flush for all files instead of one each; the tree is in the tar's commit from here on.
        let directory = File::open(&temporary.path);
        directory
            .and_then(|directory| Ok(rustix::fs::syncfs(directory)?))
            .map_err(io_at("syncing", &temporary.path))?;
    }
    Ok(temporary)
}

/// The directory of them.
fn directory(files: &LayerFiles, layer: &Digest) -> Result<OwnedFd, SnapshotError> {
    let path = files.tree(layer);
    if fs::symlink_metadata(&path).is_err() {
        // Stored while EROFS served: the tar has everything.
        let (tree, _) = files.read_tree(layer)?;
        let tar_path = files.tar(layer);
        let tar = File::open(&tar_path).map_err(io_at("opening", &tar_path))?;
        extracted(files, &tree, &tar)?.commit(&path)?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(CWD, &path, flags, Mode::empty());
    Ok(opened.map_err(|error| io_at("opening", &path)(error.into()))?)
}
