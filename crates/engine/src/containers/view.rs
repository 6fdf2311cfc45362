//! A container's files seen from outside, whether it runs or not.
//!
//! ```text
//! running   /proc/<pid>/root: what its processes see
//! resting   overlay ─► private mount namespace ◄─ volumes, binds, /etc files, as its next start would mount them
//! ```
//!
//! An overlay's upper directory must not be mounted twice at once. So a view of a resting container keeps a spare mount of
//! the same overlay, which a start that comes in between takes; and views at the same time are one.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hoist_image::files::Root;
use hoist_image::{Changes, Snapshotter};
use hoist_model::{ContainerId, chain};
use hoist_sys::mount_attributes::{MountAttributes, READ_ONLY, set_attributes};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::error::ContainerError;
use crate::records::{ContainerRecord, MountKind};

/// The views there are. Held while one is made, so that there is one of each container, and while a start looks for one.
#[derive(Debug, Default)]
pub(super) struct Views(Mutex<HashMap<ContainerId, Weak<View>>>);

/// The files of one container.
#[derive(Debug)]
pub(super) struct View {
    pub(super) root: Root,
    /// A mount of the same overlay for a start that happens while this lives.
    spare: Mutex<Option<OwnedFd>>,
    /// Keeps the mounts below the root.
    _namespace: Option<OwnedFd>,
}

impl Views {
    /// The files of a resting container. Blocking.
    pub(super) fn of_resting(
        &self,
        record: &ContainerRecord,
        snapshotter: &dyn Snapshotter,
        directory: &Path,
    ) -> Result<Arc<View>, ContainerError> {
        let mut views = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        views.retain(|_, view| view.strong_count() > 0);
        if let Some(view) = views.get(&record.id).and_then(Weak::upgrade) {
            return Ok(view);
        }
        let overlay = snapshotter
            .mount(&record.id, Changes::Kept)
            .map_err(|error| ContainerError::Internal(chain(&error)))?;
        let view = Arc::new(assemble(record, overlay, directory)?);
        views.insert(record.id.clone(), Arc::downgrade(&view));
        Ok(view)
    }

    /// A mount for a start: the spare one of a view, else a new one. Blocking.
    pub(super) fn mount_for_start(
        &self,
        id: &ContainerId,
        changes: Changes,
        snapshotter: &dyn Snapshotter,
    ) -> Result<OwnedFd, hoist_image::SnapshotError> {
        let mut views = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let view = views.remove(id).and_then(|view| view.upgrade());
        let spare = view.and_then(|view| {
            let mut spare = view.spare.lock().unwrap_or_else(PoisonError::into_inner);
            spare.take()
        });
        match spare {
            Some(mount) => Ok(mount),
            None => snapshotter.mount(id, changes),
        }
    }
}

impl View {
    /// The files of a running container: those its first process sees.
    pub(super) fn of_running(pid: i32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(format!("/proc/{pid}/root"), flags, Mode::empty())?;
        Ok(Self {
            root: Root::new(root),
            spare: Mutex::new(None),
            _namespace: None,
        })
    }
}

/// What is mounted below the root: where from, where to, whether to be read only.
struct Below {
    source: PathBuf,
    subpath: String,
    target: String,
    read_only: bool,
    writable_below: bool,
}

fn below(record: &ContainerRecord, directory: &Path) -> Vec<Below> {
    let mut all: Vec<Below> = record
        .mounts
        .iter()
        .filter(|point| matches!(point.kind, MountKind::Bind | MountKind::Volume))
        .map(|point| Below {
            source: PathBuf::from(&point.source),
            subpath: point.subpath.clone(),
            target: point.destination.clone(),
            read_only: !point.writable,
            writable_below: point.writable_below,
        })
        .collect();
    for name in ["hostname", "hosts", "resolv.conf"] {
        let (source, target) = (directory.join(name), format!("/etc/{name}"));
        // They exist once the container was started.
        if source.exists() && !all.iter().any(|below| below.target == target) {
            all.push(Below {
                source,
                subpath: String::new(),
                target,
                read_only: record.spec.security.readonly_rootfs,
                writable_below: false,
            });
        }
    }
    all
}

fn assemble(
    record: &ContainerRecord,
    overlay: OwnedFd,
    directory: &Path,
) -> Result<View, ContainerError> {
    let all = below(record, directory);
    let read_only = record.spec.security.readonly_rootfs;
    let root = Root::new(overlay);
    let failed = |what: &str, source: io::Error| ContainerError::Io {
        context: format!("view of container {}: {what}", record.id.as_str()),
        source,
    };
    let made = hoist_sys::mount_namespace::with_private(|| {
        let mut sources = Vec::with_capacity(all.len());
        for below in &all {
            match open_source(below) {
                Ok(source) => sources.push(source),
                // Told of as what it is, not as a failure to make a namespace.
                Err(error) => return Ok(Err((below.target.clone(), error))),
            }
        }
        // Hides what is in the directory, some of the sources among it.
        let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&root, "", CWD, directory, empty)?;
        let spare = clone_of(&root, false)?;
        for (below, source) in all.iter().zip(&sources) {
            if let Err(error) = mount_below(&root, below, source) {
                return Ok(Err((below.target.clone(), error)));
            }
        }
        if read_only {
            let attributes = MountAttributes::new(READ_ONLY, 0, 0);
            set_attributes(root.as_fd(), false, &attributes)?;
        }
        Ok(Ok(spare))
    });
    let (namespace, spare) = made.map_err(|error| failed("making a mount namespace", error))?;
    let spare = spare.map_err(|(target, error)| failed(&format!("mounting {target}"), error))?;
    Ok(View {
        root,
        spare: Mutex::new(Some(spare)),
        _namespace: Some(namespace),
    })
}

fn open_source(below: &Below) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut source = open(&below.source, flags, Mode::empty())?;
    if !below.subpath.is_empty() {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let subpath = below.subpath.as_str();
        source = openat2(&source, subpath, flags, Mode::empty(), resolve)?;
    }
    Ok(source)
}

fn mount_below(root: &Root, below: &Below, source: &OwnedFd) -> io::Result<()> {
    let kind = FileType::from_raw_mode(fstat(source)?.st_mode);
    let target = root
        .mount_target(&below.target, kind == FileType::Directory)
        .map_err(io::Error::other)?;
    let mount = clone_of(source, true)?;
    if below.read_only {
        set_attributes(
            mount.as_fd(),
            !below.writable_below,
            &MountAttributes::new(READ_ONLY, 0, 0),
        )?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&mount, "", &target, "", flags)?;
    Ok(())
}

fn clone_of(of: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(of, "", flags)?)
}
