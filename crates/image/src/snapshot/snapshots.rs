//! The snapshotter over either form of layer.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use hoist_model::{ContainerId, Digest};
use hoist_sys::mount_attributes::map_ids;
use rustix::fs::{Gid, Mode, Uid};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::erofs::RootAttributes;

use super::bases::Bases;
use super::containers::{Containers, Known};
use super::form::Form;
use super::layer_files::{LayerFiles, io_at, make_directory};
use super::layer_writer::StreamingWriter;
use super::open::find_out;
use super::overlay::{Staging, Writable, mount_overlay};
use super::{
    Changes, Doomed, Ids, LayerError, LayerRecord, LayerWriter, MAX_LAYERS, Remap, SnapshotError,
    Snapshotter, SnapshotterChoice, SnapshotterKind,
};

/// Layers in either form, and containers over them.
///
/// A layer's lower directory is opened (for EROFS: mounted) at first use and kept until the layer is removed: an fd and, for EROFS,
/// one small superblock each. Overlays hold their lowers themselves, so dropping one here takes nothing from a container.
#[derive(Debug)]
pub(super) struct Snapshots {
    root: PathBuf,
    files: Arc<LayerFiles>,
    form: Arc<Form>,
    bases: Bases,
    containers: Containers,
    /// Open lowers. Held while one is being opened, so that a layer is mounted once.
    lowers: Mutex<HashMap<Digest, Arc<OwnedFd>>>,
    /// The same lowers with the ids of remapped containers. Locked after `lowers`, never before.
    remapped: Mutex<HashMap<Digest, Arc<OwnedFd>>>,
    /// Who stands for whom, if containers are remapped.
    remap: Option<Arc<Remap>>,
    /// Two empty directories: an overlay needs a lower, and a read-only one two different ones.
    empty: [OwnedFd; 2],
    staging: Staging,
}

impl Snapshots {
    pub(super) fn open(
        root: &Path,
        kind: SnapshotterKind,
        durable: bool,
        remap: Option<Arc<Remap>>,
    ) -> Result<Self, SnapshotError> {
        make_directory(root)?;
        let files = Arc::new(LayerFiles::open(root, durable)?);
        let bases = Bases::open(root)?;
        let containers = Containers::open(root)?;
        let staging = root.join("empty/staging");
        make_directory(&staging)?;
        let empty = |name: &str| -> Result<OwnedFd, LayerError> {
            let path = root.join("empty").join(name);
            make_directory(&path)?;
            let file = File::open(&path).map_err(io_at("opening", &path))?;
            Ok(file.into())
        };
        Ok(Self {
            root: root.to_owned(),
            files,
            form: Arc::new(Form::new(kind)),
            bases,
            containers,
            lowers: Mutex::new(HashMap::new()),
            remapped: Mutex::new(HashMap::new()),
            remap,
            empty: [empty("a")?, empty("b")?],
            staging: Staging::new(staging),
        })
    }

    fn lower(&self, layer: &Digest) -> Result<Arc<OwnedFd>, SnapshotError> {
        let mut lowers = self.lowers();
        for renewed in self.files.take_renewed() {
            lowers.remove(&renewed);
            unpoisoned(&self.remapped).remove(&renewed);
        }
        if let Some(fd) = lowers.get(layer) {
            return Ok(fd.clone());
        }
        self.files.summary(layer)?;
        let fd = Arc::new(self.form.lower(&self.files, layer)?);
        lowers.insert(layer.clone(), fd.clone());
        Ok(fd)
    }

    /// The mount points that stand on these layers, as the topmost lower of a container. `lowers` are the layers, top first.
    fn base(&self, layers: &[Digest], lowers: &[Arc<OwnedFd>]) -> Result<OwnedFd, SnapshotError> {
        self.bases.of(
            layers,
            || self.root_of(layers),
            |writable| {
                let mut fds: Vec<BorrowedFd<'_>> = lowers.iter().map(|fd| fd.as_fd()).collect();
                if fds.is_empty() {
                    fds.push(self.empty[0].as_fd());
                }
                mount_overlay(&fds, Some(writable), &self.staging).map_err(|source| {
                    SnapshotError::Mount {
                        what: "the layers under a container's mount points".into(),
                        source,
                    }
                })
            },
        )
    }

    /// What the layers say of the root directory; the topmost that says anything counts. Fails when one is not here.
    fn root_of(&self, layers: &[Digest]) -> Result<Option<RootAttributes>, SnapshotError> {
        let mut root = None;
        for layer in layers {
            root = self.files.summary(layer)?.root.or(root);
        }
        Ok(root)
    }

    /// Overlay wants the top first.
    fn lowers_of(&self, layers: &[Digest]) -> Result<Vec<Arc<OwnedFd>>, SnapshotError> {
        check_count(layers)?;
        let layers = top_first(layers).into_iter();
        layers.map(|layer| self.lower(layer)).collect()
    }

    /// The same with these ids.
    fn lowers_with(
        &self,
        layers: &[Digest],
        remap: Option<&Remap>,
    ) -> Result<Vec<Arc<OwnedFd>>, SnapshotError> {
        let plain = self.lowers_of(layers)?;
        let Some(remap) = remap else {
            return Ok(plain);
        };
        let with = |(layer, plain): (&Digest, Arc<OwnedFd>)| {
            // Removed under this lock: none that is gone by now is kept.
            let lowers = self.lowers();
            let mut remapped = unpoisoned(&self.remapped);
            if let Some(fd) = remapped.get(layer) {
                return Ok(fd.clone());
            }
            let fd = Arc::new(with_ids(&*plain, &remap.namespace)?);
            if lowers.contains_key(layer) {
                remapped.insert(layer.clone(), fd.clone());
            }
            Ok(fd)
        };
        top_first(layers).into_iter().zip(plain).map(with).collect()
    }

    /// The mapping of these ids; fails when containers are not remapped here.
    fn remap(&self, key: &ContainerId, ids: Ids) -> Result<Option<&Remap>, SnapshotError> {
        match (ids, &self.remap) {
            (Ids::Host, _) => Ok(None),
            (Ids::Remapped, Some(remap)) => Ok(Some(remap)),
            (Ids::Remapped, None) => Err(SnapshotError::Mapping {
                key: key.clone(),
                why: "its users are remapped, which this engine was not told to do (userns-remap)",
            }),
        }
    }

    fn lowers(&self) -> MutexGuard<'_, HashMap<Digest, Arc<OwnedFd>>> {
        unpoisoned(&self.lowers)
    }
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A detached mount of a directory that shows ids as a user namespace maps them.
fn with_ids(directory: impl AsFd, namespace: &OwnedFd) -> Result<OwnedFd, SnapshotError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mapped = || -> io::Result<OwnedFd> {
        let mount = open_tree(directory, "", flags)?;
        map_ids(mount.as_fd(), namespace.as_fd())?;
        Ok(mount)
    };
    mapped().map_err(|source| SnapshotError::Mount {
        what: "a directory with other ids".into(),
        source,
    })
}

impl Snapshotter for Snapshots {
    fn kind(&self) -> SnapshotterKind {
        self.form.kind()
    }

    fn choose(&self, choice: SnapshotterChoice) -> Result<SnapshotterKind, SnapshotError> {
        let kind = find_out(&self.root, choice, self.remap.clone())?;
        self.form.change(kind);
        Ok(kind)
    }

    fn has_layer(&self, diff_id: &Digest) -> bool {
        self.files.good(diff_id).is_some()
    }

    fn layer_writer(&self) -> Result<Box<dyn LayerWriter>, LayerError> {
        let writer = StreamingWriter::new(self.files.clone(), self.form.clone())?;
        Ok(Box::new(writer))
    }

    fn layer(&self, diff_id: &Digest) -> Result<LayerRecord, LayerError> {
        Ok((&self.files.summary(diff_id)?).into())
    }

    fn layers(&self) -> Vec<Digest> {
        self.files.list()
    }

    fn damaged_layers(&self) -> Vec<Digest> {
        self.files.list_damaged()
    }

    fn distrust_layer(&self, diff_id: &Digest) {
        self.files.distrust(diff_id);
    }

    fn rebuild_layer(&self, diff_id: &Digest) -> Result<(), LayerError> {
        let files = &self.files;
        files.rebuild(diff_id, |tree, tar| self.form.extract(files, tree, tar))
    }

    fn remove_layer(&self, diff_id: &Digest) -> Result<Doomed, LayerError> {
        // Under this lock no `prepare` can claim the layer between the look and the removal.
        let mut lowers = self.lowers();
        if let Some(container) = self.containers.user_of(diff_id) {
            return Err(LayerError::InUse {
                layer: diff_id.clone(),
                container,
            });
        }
        lowers.remove(diff_id);
        unpoisoned(&self.remapped).remove(diff_id);
        if let Err(error) = self.bases.remove_on(diff_id) {
            // It is empty but for mount points, and swept once no layer of its name is here.
            tracing::warn!(layer = %diff_id, error = %error, "what stood on a removed layer stays");
        }
        self.files.remove(diff_id)
    }

    fn disk_bytes(&self, diff_id: &Digest) -> Result<u64, LayerError> {
        self.files.summary(diff_id)?;
        self.files.disk_bytes(diff_id)
    }

    fn open_tar(&self, diff_id: &Digest) -> Result<File, LayerError> {
        self.files.summary(diff_id)?;
        let path = self.files.tar(diff_id);
        File::open(&path).map_err(io_at("opening", &path))
    }

    fn prepare(&self, key: &ContainerId, layers: &[Digest], ids: Ids) -> Result<(), SnapshotError> {
        check_count(layers)?;
        let remap = self.remap(key, ids)?;
        let root = {
            let _no_removal = self.lowers();
            let root = self.root_of(layers)?;
            self.containers.claim(key, layers, ids)?;
            root
        };
        self.containers
            .prepare(key, layers, root, remap.map(|remap| &*remap.mapping))
            .inspect_err(|_| self.containers.release(key))?;
        // Made with the first container of an image, so that no start waits for it.
        let based = self
            .lowers_of(layers)
            .and_then(|lowers| self.base(layers, &lowers));
        match based {
            Ok(_) => Ok(()),
            Err(error) => {
                if let Err(error) = self.containers.remove(key) {
                    tracing::warn!(container = %key, error = %error, "a directory stays behind");
                }
                Err(error)
            }
        }
    }

    fn make_ready(&self) -> Result<(), SnapshotError> {
        self.containers.make_ready()
    }

    fn mount(&self, key: &ContainerId, changes: Changes) -> Result<OwnedFd, SnapshotError> {
        let Known { layers, ids } = self.containers.of(key)?;
        let lowers = self.lowers_of(&layers)?;
        let mut base = self.base(&layers, &lowers)?;
        let mut lowers = lowers;
        if let Some(remap) = self.remap(key, ids)? {
            lowers = self.lowers_with(&layers, Some(remap))?;
            base = with_ids(base, &remap.namespace)?;
        }
        let mut fds = vec![base.as_fd()];
        fds.extend(lowers.iter().map(|fd| fd.as_fd()));
        if changes == Changes::Discarded {
            self.containers.forget_volatile(key)?;
        }
        let directories = self.containers.open_directories(key)?;
        let writable = Writable {
            upper: directories.upper.as_fd(),
            work: directories.work.as_fd(),
            volatile: changes == Changes::Discarded,
        };
        mount_overlay(&fds, Some(writable), &self.staging).map_err(|source| SnapshotError::Mount {
            what: format!("the root of container {key}"),
            source,
        })
    }

    fn view(&self, layers: &[Digest], ids: Ids) -> Result<OwnedFd, SnapshotError> {
        let remap = match ids {
            Ids::Host => None,
            Ids::Remapped => self.remap.as_deref(),
        };
        let lowers = self.lowers_with(layers, remap)?;
        let mut fds: Vec<BorrowedFd<'_>> = lowers.iter().map(|fd| fd.as_fd()).collect();
        for empty in &self.empty {
            if fds.len() < 2 {
                fds.push(empty.as_fd());
            }
        }
        mount_overlay(&fds, None, &self.staging).map_err(|source| SnapshotError::Mount {
            what: "a read-only view".into(),
            source,
        })
    }

    fn view_over(
        &self,
        layers: &[Digest],
        ids: Ids,
        upper: BorrowedFd<'_>,
        work: BorrowedFd<'_>,
    ) -> Result<OwnedFd, SnapshotError> {
        let failed = |source| SnapshotError::Mount {
            what: "a writable view".into(),
            source,
        };
        let below = self.view(layers, ids)?;
        let top = rustix::fs::fstat(&below).map_err(|error| failed(error.into()))?;
        let (uid, gid) = (Uid::from_raw(top.st_uid), Gid::from_raw(top.st_gid));
        rustix::fs::fchown(upper, Some(uid), Some(gid)).map_err(|error| failed(error.into()))?;
        let mode = Mode::from_raw_mode(top.st_mode & 0o7777);
        rustix::fs::fchmod(upper, mode).map_err(|error| failed(error.into()))?;
        let writable = Writable {
            upper,
            work,
            volatile: true,
        };
        let remap = match ids {
            Ids::Host => None,
            Ids::Remapped => self.remap.as_deref(),
        };
        let lowers = self.lowers_with(layers, remap)?;
        let mut fds: Vec<BorrowedFd<'_>> = lowers.iter().map(|fd| fd.as_fd()).collect();
        if fds.is_empty() {
            fds.push(self.empty[0].as_fd());
        }
        mount_overlay(&fds, Some(writable), &self.staging).map_err(failed)
    }

    fn seen(&self, key: &ContainerId) -> Result<OwnedFd, SnapshotError> {
        let Known { layers, .. } = self.containers.of(key)?;
        let lowers = self.lowers_of(&layers)?;
        let base = self.base(&layers, &lowers)?;
        let upper = self.upper(key)?;
        let mut fds = vec![upper.as_fd(), base.as_fd()];
        fds.extend(lowers.iter().map(|fd| fd.as_fd()));
        mount_overlay(&fds, None, &self.staging).map_err(|source| SnapshotError::Mount {
            what: format!("a view of container {key}"),
            source,
        })
    }

    fn upper(&self, key: &ContainerId) -> Result<OwnedFd, SnapshotError> {
        let ids = self.containers.of(key)?.ids;
        let upper = self.containers.open_upper(key)?;
        match self.remap(key, ids)? {
            None => Ok(upper),
            Some(remap) => with_ids(upper, &remap.reverse),
        }
    }

    fn usage(&self, key: &ContainerId) -> Result<u64, SnapshotError> {
        self.containers.of(key)?;
        self.containers.usage(key)
    }

    fn remove(&self, key: &ContainerId) -> Result<Doomed, SnapshotError> {
        self.containers.remove(key)
    }

    fn prepared(&self) -> Vec<ContainerId> {
        self.containers.list()
    }
}

/// The layers as an overlay has them, the top first. One that comes again further down changes nothing there: all that it says is
/// said above, and overlay does not take a directory twice.
fn top_first(layers: &[Digest]) -> Vec<&Digest> {
    let mut seen = HashSet::new();
    let top_first = layers.iter().rev();
    top_first.filter(|layer| seen.insert(*layer)).collect()
}

fn check_count(layers: &[Digest]) -> Result<(), SnapshotError> {
    if layers.len() > MAX_LAYERS {
        return Err(SnapshotError::TooManyLayers(layers.len()));
    }
    Ok(())
}
