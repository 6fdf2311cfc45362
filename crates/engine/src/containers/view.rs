//! A container's files seen from outside, whether it runs or not.
//!
//! ```text
//! running   /proc/<pid>/root: what its processes see
//! resting   overlay ─► private mount namespace ◄─ volumes, binds, /etc files, as its next start would mount them
//! ```
//!
//! An overlay's upper directory must not be mounted twice at once. So a view of a resting container keeps a spare mount of
//! the same overlay, which a start that comes in between takes; and views at the same time are one. A container that was just
//! created is mounted ahead of its start, while its record is being synced: the start, or a view, takes that mount. A mount
//! of the last run stays for a moment, and is taken in the same way. Who wants a view of a container that is just starting waits
//! until it runs, or does not.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hoist_image::files::Root;
use hoist_image::{Changes, Ids, Snapshotter};
use hoist_model::{ContainerId, UserMapping, chain};
use hoist_sys::mount_attributes::{MountAttributes, READ_ONLY, set_attributes};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use tokio::sync::{Notify, futures::Notified};

use super::image_mounts::image_mount;
use crate::error::ContainerError;
use crate::records::{ContainerRecord, MountKind};
use crate::volumes::{VolumeUse, Volumes};

/// Beyond so many places those that hold nothing are dropped.
const MANY: usize = 64;

/// Where a container's own files are on the host.
pub(super) struct Places<'a> {
    /// Its directory, over which a view is put together.
    pub(super) directory: &'a Path,
    /// The directory of its /etc files.
    pub(super) etc: &'a Path,
    /// Who stands for its users, if not they themselves.
    pub(super) mapping: Option<&'a Arc<UserMapping>>,
}

/// The mounts of resting containers there are, one place each.
#[derive(Debug, Default)]
pub(super) struct Views {
    places: Mutex<HashMap<ContainerId, Arc<Mutex<Place>>>>,
    /// Those whose start has a mount, or is about to take one, while their records do not say yet that they run. Short sections only.
    starting: Mutex<HashSet<ContainerId>>,
    started: Notify,
}

/// Where a container's overlay is mounted while it rests. Locked while it is being mounted, so that it is mounted once.
#[derive(Debug, Default)]
struct Place {
    view: Weak<View>,
    /// A mount made ahead of the start that is about to come.
    ahead: Option<OwnedFd>,
    /// One is about to be made. Whoever takes or makes a mount before that takes the order back.
    expected: bool,
}

/// The order to mount a container ahead of its start.
#[derive(Debug)]
pub(super) struct Expected(Arc<Mutex<Place>>);

/// The files of one container.
#[derive(Debug)]
pub(super) struct View {
    pub(super) root: Root,
    /// A mount of the same overlay for a start that happens while this lives.
    spare: Mutex<Option<OwnedFd>>,
    /// Keeps the mounts below the root.
    _namespace: Option<OwnedFd>,
    /// Volumes that are mounted for it.
    uses: Option<(Volumes, Vec<VolumeUse>)>,
}

impl Drop for View {
    fn drop(&mut self) {
        if let Some((volumes, uses)) = self.uses.take() {
            volumes.release(uses);
        }
    }
}

impl Views {
    /// The files of a resting container; none if it starts, or `rests` says that it no longer does. Blocking.
    pub(super) fn of_resting(
        &self,
        record: &ContainerRecord,
        rests: impl FnOnce() -> bool,
        snapshotter: &dyn Snapshotter,
        volumes: &Volumes,
        places: &Places<'_>,
    ) -> Result<Option<Arc<View>>, ContainerError> {
        let place = self.place(&record.id);
        let mut place = held(&place);
        // In this order: a start that is over has said before that the container runs.
        if self.starts(&record.id) || !rests() {
            return Ok(None);
        }
        if let Some(view) = place.view.upgrade() {
            return Ok(Some(view));
        }
        place.expected = false;
        let overlay = match place.ahead.take() {
            Some(mount) => mount,
            None => snapshotter
                .mount(&record.id, changes_of(record))
                .map_err(|error| ContainerError::Internal(chain(&error)))?,
        };
        let mut uses = Vec::new();
        let view = match volumes.acquire(record, &mut uses) {
            Ok(()) => assemble(record, overlay, snapshotter, places),
            Err(error) => Err(error.into()),
        };
        let mut view = match view {
            Ok(view) => view,
            Err(error) => {
                volumes.release(uses);
                return Err(error);
            }
        };
        view.uses = (!uses.is_empty()).then(|| (volumes.clone(), uses));
        let view = Arc::new(view);
        place.view = Arc::downgrade(&view);
        Ok(Some(view))
    }

    /// A start begins: no view is made any more until [`Views::end_start`].
    pub(super) fn begin_start(&self, id: &ContainerId) {
        self.starting().insert(id.clone());
    }

    /// It has ended, well or not, and the container's record says so.
    pub(super) fn end_start(&self, id: &ContainerId) {
        self.starting().remove(id);
        self.started.notify_waiters();
    }

    /// Done when a start ends after this call.
    pub(super) fn start_ended(&self) -> Notified<'_> {
        self.started.notified()
    }

    /// Whether one is under way.
    pub(super) fn starts(&self, id: &ContainerId) -> bool {
        self.starting().contains(id)
    }

    fn starting(&self) -> MutexGuard<'_, HashSet<ContainerId>> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders a mount of a container's overlay ahead of its start; before anybody knows of the container.
    pub(super) fn expect(&self, id: &ContainerId) -> Expected {
        let place = self.place(id);
        held(&place).expected = true;
        Expected(place)
    }

    /// Mounts a container's overlay as was ordered, if nobody was faster. A start meanwhile waits for the mount and takes it.
    /// Blocking; best effort: without it the start mounts.
    pub(super) fn mount_ahead(
        &self,
        id: &ContainerId,
        ordered: &Expected,
        changes: Changes,
        snapshotter: &dyn Snapshotter,
    ) {
        let mut held = held(&ordered.0);
        if !std::mem::take(&mut held.expected) || held.ahead.is_some() {
            return;
        }
        match snapshotter.mount(id, changes) {
            Ok(mount) => held.ahead = Some(mount),
            Err(error) => {
                tracing::debug!(container = %id, error = %chain(&error), "not mounted ahead of its start");
                self.all().remove(id);
            }
        }
    }

    /// Keeps a mount that was made for something else.
    pub(super) fn keep_ahead(&self, id: &ContainerId, mount: OwnedFd) {
        held(&self.place(id)).ahead.get_or_insert(mount);
    }

    /// Whether there is, or may soon be, anything to let go of.
    pub(super) fn holds(&self, id: &ContainerId) -> bool {
        self.all().contains_key(id)
    }

    /// Takes down what was mounted ahead, if no start has taken it. Blocking: the kernel may sync at an unmount.
    pub(super) fn let_go(&self, id: &ContainerId) {
        let Some(place) = self.all().get(id).cloned() else {
            return;
        };
        let mut held = held(&place);
        held.expected = false;
        drop(held.ahead.take());
        // A start has to find the view that still is there, and its spare mount.
        if held.view.strong_count() == 0 {
            self.all().remove(id);
        }
    }

    /// A mount for a start that is there already and that nobody is busy with.
    pub(super) fn take_ready(&self, id: &ContainerId) -> Option<OwnedFd> {
        let place = self.all().get(id)?.clone();
        let mut held = place.try_lock().ok()?;
        if held.view.strong_count() > 0 {
            return None;
        }
        let mount = held.ahead.take()?;
        // One that was ordered beside it would clear the scratch directory that the start is about to write through.
        held.expected = false;
        self.all().remove(id);
        Some(mount)
    }

    /// A mount for a start: the one made ahead, the spare one of a view, else a new one. Blocking.
    pub(super) fn mount_for_start(
        &self,
        id: &ContainerId,
        changes: Changes,
        snapshotter: &dyn Snapshotter,
    ) -> Result<OwnedFd, hoist_image::SnapshotError> {
        let place = self.place(id);
        let mut place = held(&place);
        place.expected = false;
        let ready = place.ahead.take().or_else(|| {
            let view = place.view.upgrade()?;
            let mut spare = view.spare.lock().unwrap_or_else(PoisonError::into_inner);
            spare.take()
        });
        self.all().remove(id);
        match ready {
            Some(mount) => Ok(mount),
            None => snapshotter.mount(id, changes),
        }
    }

    fn place(&self, id: &ContainerId) -> Arc<Mutex<Place>> {
        self.all().entry(id.clone()).or_default().clone()
    }

    /// Short sections only; a place is locked before this, never after.
    fn all(&self) -> MutexGuard<'_, HashMap<ContainerId, Arc<Mutex<Place>>>> {
        let mut all = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() > MANY {
            all.retain(|_, place| {
                let idle = |place: MutexGuard<'_, Place>| {
                    place.ahead.is_none() && place.view.strong_count() == 0
                };
                // Whoever has found it already is about to lock it.
                Arc::strong_count(place) > 1 || !place.try_lock().is_ok_and(idle)
            });
        }
        all
    }
}

fn held(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What becomes of the changes of a container's next run.
pub(super) fn changes_of(record: &ContainerRecord) -> Changes {
    if record.spec.auto_remove {
        Changes::Discarded
    } else {
        Changes::Kept
    }
}

impl View {
    /// The files of a running container: those its first process sees.
    pub(super) fn of_running(pid: i32, mapping: Option<&Arc<UserMapping>>) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(format!("/proc/{pid}/root"), flags, Mode::empty())?;
        Ok(Self {
            root: root_of(root, mapping),
            spare: Mutex::new(None),
            _namespace: None,
            uses: None,
        })
    }
}

pub(super) fn root_of(root: OwnedFd, mapping: Option<&Arc<UserMapping>>) -> Root {
    match mapping {
        Some(mapping) => Root::remapped(root, mapping.clone()),
        None => Root::new(root),
    }
}

/// Where it comes from.
enum Source {
    Path(PathBuf),
    /// Of an image.
    Detached(OwnedFd),
}

/// What is mounted below the root: where from, where to, whether to be read only.
struct Below {
    source: Source,
    subpath: String,
    target: String,
    read_only: bool,
    writable_below: bool,
}

fn below(
    record: &ContainerRecord,
    snapshotter: &dyn Snapshotter,
    places: &Places<'_>,
) -> Result<Vec<Below>, ContainerError> {
    let etc = places.etc;
    let ids = places.mapping.map_or(Ids::Host, |_| Ids::Remapped);
    let mut all = Vec::with_capacity(record.mounts.len() + 3);
    for point in &record.mounts {
        let (source, subpath) = match point.kind {
            MountKind::Bind | MountKind::Volume => {
                (Source::Path(PathBuf::from(&point.source)), &*point.subpath)
            }
            MountKind::Image => (Source::Detached(image_mount(point, ids, snapshotter)?), ""),
            MountKind::Tmpfs => continue,
        };
        all.push(Below {
            source,
            subpath: subpath.to_owned(),
            target: point.destination.clone(),
            read_only: !point.writable,
            writable_below: point.writable_below,
        });
    }
    for name in ["hostname", "hosts", "resolv.conf"] {
        let (source, target) = (etc.join(name), format!("/etc/{name}"));
        // They exist once the container was started.
        if source.exists() && !all.iter().any(|below| below.target == target) {
            all.push(Below {
                source: Source::Path(source),
                subpath: String::new(),
                target,
                read_only: record.spec.security.readonly_rootfs,
                writable_below: false,
            });
        }
    }
    Ok(all)
}

fn assemble(
    record: &ContainerRecord,
    overlay: OwnedFd,
    snapshotter: &dyn Snapshotter,
    places: &Places<'_>,
) -> Result<View, ContainerError> {
    let all = below(record, snapshotter, places)?;
    let read_only = record.spec.security.readonly_rootfs;
    let root = root_of(overlay, places.mapping);
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
        move_mount(&root, "", CWD, places.directory, empty)?;
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
        uses: None,
    })
}

fn open_source(below: &Below) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut source = match &below.source {
        Source::Path(path) => open(path, flags, Mode::empty())?,
        Source::Detached(mount) => return mount.try_clone(),
    };
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
    let mount = match below.source {
        Source::Path(_) => clone_of(source, true)?,
        Source::Detached(_) => source.try_clone()?,
    };
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

/// A detached mount of what is at a descriptor.
pub(super) fn clone_of(of: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(of, "", flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount() -> OwnedFd {
        std::fs::File::open("/").unwrap().into()
    }

    #[test]
    fn what_is_kept_is_taken_once_and_a_view_that_lives_is_not_forgotten() {
        let (views, id) = (Views::default(), ContainerId::from_bytes(&[1; 32]));
        views.keep_ahead(&id, mount());
        assert!(views.take_ready(&id).is_some());
        assert!(views.take_ready(&id).is_none());
        views.keep_ahead(&id, mount());
        views.let_go(&id);
        assert!(!views.holds(&id));
        views.keep_ahead(&id, mount());
        let ordered = views.expect(&id);
        assert!(views.take_ready(&id).is_some());
        assert!(!held(&ordered.0).expected, "would be mounted twice");

        let own = rustix::process::getpid().as_raw_nonzero().get();
        let view = Arc::new(View::of_running(own, None).unwrap());
        held(&views.place(&id)).view = Arc::downgrade(&view);
        views.keep_ahead(&id, mount());
        assert!(views.take_ready(&id).is_none());
        views.let_go(&id);
        assert!(held(&views.place(&id)).view.upgrade().is_some());
        drop(view);
        views.let_go(&id);
        assert!(!views.holds(&id));
    }
}
