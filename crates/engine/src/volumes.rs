//! Volumes: directories that outlive containers.
//!
//! ```text
//! <root>/<name>/_data     what containers see; its parent keeps room for what a driver needs
//! <root>/.gone-<name>/    files of a removed volume, being deleted
//! ```
//!
//! With options of the local driver something else is mounted on `_data` for as long as a container uses it.

mod driver;
mod mounted;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hoist_model::{ContainerId, Event, EventKind};
use hoist_store::{Class, Store, StoreError, Transaction};

use crate::clock::{now, random_bytes};
use crate::containers::prune_event;
use crate::error::VolumeError;
use crate::records::{ContainerRecord, MountKind, MountPoint, VolumeRecord};
use hoist_model::chain;

use self::driver::DriverOptions;
pub use self::driver::ResolveName;
pub(crate) use self::mounted::VolumeUse;

/// What the directory of a volume that is being deleted begins with.
const GONE: &str = ".gone-";

/// The volumes of this node.
#[derive(Clone)]
pub struct Volumes {
    store: Store,
    root: Arc<Path>,
    uses: Arc<mounted::Uses>,
    resolve: Arc<ResolveName>,
    /// Whom new ones belong to on the host.
    owner: (u32, u32),
}

/// A wish for a volume.
#[derive(Debug, Default)]
pub struct VolumeRequest {
    /// Its name; `None` makes an anonymous one.
    pub name: Option<String>,
    /// `local` or empty.
    pub driver: String,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// User's key/value pairs.
    pub labels: BTreeMap<String, String>,
    /// The container in the making that an anonymous one is for.
    pub made_for: Option<ContainerId>,
}

impl std::fmt::Debug for Volumes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volumes")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl From<StoreError> for VolumeError {
    fn from(error: StoreError) -> Self {
        Self::Store(chain(&error))
    }
}

impl Volumes {
    /// Keeps volumes under `root`, made if missing, which only root may enter. `resolve` finds servers of volumes that are
    /// file systems of the network, `owner` is whom on the host new ones belong to: who is root in containers.
    pub fn open(
        store: Store,
        root: &Path,
        resolve: Arc<ResolveName>,
        owner: (u32, u32),
    ) -> Result<Self, VolumeError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o701)
            .create(root)
            .map_err(|source| VolumeError::Io {
                name: root.display().to_string(),
                source,
            })?;
        sweep(root, &store);
        Ok(Self {
            store,
            root: root.into(),
            uses: Arc::default(),
            resolve,
            owner,
        })
    }

    /// Makes a volume, or answers the one of that name.
    pub async fn create(&self, request: VolumeRequest) -> Result<Arc<VolumeRecord>, VolumeError> {
        let anonymous = request.name.is_none();
        let name = request.name.unwrap_or_else(|| {
            hoist_model::SandboxId::from_bytes(&random_bytes())
                .as_str()
                .to_owned()
        });
        if !matches!(request.driver.as_str(), "" | "local") {
            return Err(VolumeError::NoDriver(request.driver));
        }
        DriverOptions::parse(&request.options)
            .map_err(|why| VolumeError::Invalid(format!("create {name}: {why}")))?;
        check_name(&name)?;
        if let Ok(existing) = self.get(&name) {
            return Ok(existing);
        }
        let failed = |source| VolumeError::Io {
            name: name.clone(),
            source,
        };
        make_directory(&self.mountpoint(&name), self.owner).map_err(failed)?;
        let record = Arc::new(VolumeRecord {
            name,
            created_at: now(),
            labels: request.labels,
            options: request.options,
            anonymous,
            made_for: request.made_for.filter(|_| anonymous),
        });
        let committed = self
            .store
            .transaction(Class::Disk, move |tx| {
                if let Some(existing) = tx.get::<VolumeRecord>(&record.name) {
                    return Ok(existing);
                }
                tx.event(volume_event("create", &record.name, [("driver", "local")]));
                tx.put(record.clone());
                Ok::<_, VolumeError>(record)
            })
            .await?;
        Ok(committed.value)
    }

    /// The volume of that name.
    pub fn get(&self, name: &str) -> Result<Arc<VolumeRecord>, VolumeError> {
        self.store
            .snapshot()
            .get::<VolumeRecord>(name)
            .ok_or_else(|| VolumeError::NotFound(name.to_owned()))
    }

    /// All volumes, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<VolumeRecord>> {
        self.store.snapshot().list()
    }

    /// Where its files are on the host.
    #[must_use]
    pub fn mountpoint(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    /// The containers that use it.
    #[must_use]
    pub fn users(&self, name: &str) -> Vec<ContainerId> {
        users(&self.store.snapshot().list(), name)
    }

    /// Takes it away with its files; `force` makes an absent one no error.
    pub async fn remove(&self, name: &str, force: bool) -> Result<(), VolumeError> {
        let wanted = name.to_owned();
        let removed = self
            .store
            .transaction(Class::Disk, move |tx: &mut Transaction| {
                if tx.get::<VolumeRecord>(&wanted).is_none() {
                    return if force {
                        Ok(false)
                    } else {
                        Err(VolumeError::NotFound(wanted))
                    };
                }
                let users = users(&tx.list(), &wanted);
                if !users.is_empty() {
                    let users: Vec<&str> = users.iter().map(ContainerId::as_str).collect();
                    return Err(VolumeError::InUse {
                        name: wanted,
                        users: users.join(", "),
                    });
                }
                forget(tx, &wanted);
                Ok(true)
            })
            .await?;
        if removed.value {
            self.delete_files(name).await?;
        }
        Ok(())
    }

    /// Removes anonymous volumes whose containers an earlier engine did not live to make.
    pub(crate) async fn remove_unmade(&self) -> Result<(), VolumeError> {
        let snapshot = self.store.snapshot();
        let is_unmade = |volume: &VolumeRecord| {
            let id = volume.made_for.as_ref();
            id.is_some_and(|id| snapshot.get::<ContainerRecord>(id.as_str()).is_none())
        };
        for volume in self.list() {
            if is_unmade(&volume) && self.users(&volume.name).is_empty() {
                tracing::debug!(volume = volume.name, "was made for a container that is not");
                self.remove(&volume.name, true).await?;
            }
        }
        Ok(())
    }

    /// Deletes the files of a volume that is forgotten already. They get a name first by which a later engine knows them.
    pub(crate) async fn delete_files(&self, name: &str) -> Result<(), VolumeError> {
        let directory = self.root.join(name);
        let gone = self.root.join(format!("{GONE}{name}"));
        let (this, of) = (self.clone(), name.to_owned());
        let delete = move || {
            this.clear(&of)?;
            std::fs::rename(&directory, &gone)?;
            std::fs::remove_dir_all(gone)
        };
        let deleted = tokio::task::spawn_blocking(delete).await;
        let deleted = deleted.map_err(io::Error::other).and_then(|result| result);
        deleted.map_err(|source| VolumeError::Io {
            name: name.to_owned(),
            source,
        })
    }

    /// Bytes its files occupy.
    pub async fn usage(&self, name: &str) -> u64 {
        let path = self.mountpoint(name);
        tokio::task::spawn_blocking(move || hoist_image::files::usage(&path).unwrap_or(0))
            .await
            .unwrap_or(0)
    }

    /// Removes those no container uses, only anonymous ones unless `all`; answers names and bytes freed.
    pub async fn prune(
        &self,
        all: bool,
        keep: &(dyn Fn(&VolumeRecord) -> bool + Sync),
    ) -> Result<(Vec<String>, u64), VolumeError> {
        let (mut names, mut freed) = (Vec::new(), 0);
        for volume in self.list() {
            if keep(&volume) || !(all || volume.anonymous) || !self.users(&volume.name).is_empty() {
                continue;
            }
            let path = self.root.join(&volume.name);
            let size =
                tokio::task::spawn_blocking(move || hoist_image::files::usage(&path).unwrap_or(0))
                    .await
                    .unwrap_or(0);
            match self.remove(&volume.name, true).await {
                Ok(()) => {
                    freed += size;
                    names.push(volume.name.clone());
                }
                // Taken by a container in the meantime: that is what prune leaves alone.
                Err(VolumeError::InUse { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let event = prune_event(EventKind::Volume, freed);
        self.store
            .transaction(Class::Process, move |tx| {
                tx.event(event);
                Ok::<_, VolumeError>(())
            })
            .await?;
        Ok((names, freed))
    }
}

/// The name rule and its refusal, word for word Docker's.
fn check_name(name: &str) -> Result<(), VolumeError> {
    if hoist_model::container::is_container_name(name) && name.len() <= 255 {
        return Ok(());
    }
    Err(VolumeError::Invalid(format!(
        "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

/// Takes the volumes that were made for one container alone out of the store, those that others use by now left out;
/// answers their names, whose files are to be deleted.
pub(crate) fn forget_anonymous(tx: &mut Transaction, mounts: &[MountPoint]) -> Vec<String> {
    let containers = tx.list();
    let doomed = mounts
        .iter()
        .filter(|mount| mount.anonymous && users(&containers, &mount.name).is_empty());
    let mut names: Vec<String> = doomed.map(|mount| mount.name.clone()).collect();
    names.retain(|name| tx.get::<VolumeRecord>(name).is_some());
    for name in &names {
        forget(tx, name);
    }
    names
}

/// Those that a container leaves when it goes are nobody's from now on.
pub(crate) fn leave_anonymous(tx: &mut Transaction, mounts: &[MountPoint]) {
    for mount in mounts.iter().filter(|mount| mount.anonymous) {
        if let Some(volume) = tx.get::<VolumeRecord>(&mount.name)
            && volume.made_for.is_some()
        {
            tx.put(Arc::new(VolumeRecord {
                made_for: None,
                ..VolumeRecord::clone(&volume)
            }));
        }
    }
}

fn forget(tx: &mut Transaction, name: &str) {
    tx.delete::<VolumeRecord>(name);
    tx.event(volume_event("destroy", name, [("driver", "local")]));
}

/// Finishes what an earlier engine was ended in the middle of: deletes what it had forgotten, and the empty directory of
/// a volume it did not live to note. A directory with files in it that no record knows is somebody's data: it stays.
fn sweep(root: &Path, store: &Store) {
    let snapshot = store.snapshot();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(GONE) {
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "files of a removed volume stay");
            }
        } else if snapshot.get::<VolumeRecord>(name).is_none() {
            let _ = std::fs::remove_dir(path.join("_data"));
            if std::fs::remove_dir(&path).is_err() {
                tracing::warn!(path = %path.display(), "these files are of no volume; they stay");
            }
        }
    }
}

fn users(containers: &[Arc<ContainerRecord>], name: &str) -> Vec<ContainerId> {
    let uses = |container: &&Arc<ContainerRecord>| {
        container
            .mounts
            .iter()
            .any(|mount| mount.kind == MountKind::Volume && mount.name == name)
    };
    containers
        .iter()
        .filter(uses)
        .map(|container| container.id.clone())
        .collect()
}

fn make_directory(path: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o701)
            .create(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Whoever made it, it is the engine's own already.
        Ok(()) if (uid, gid) == (0, 0) => Ok(()),
        Ok(()) => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
        Err(error) => Err(error),
    }
}

/// An event about a volume.
pub(crate) fn volume_event<const N: usize>(
    action: &str,
    name: &str,
    attributes: [(&str, &str); N],
) -> Event {
    Event {
        at: now(),
        kind: EventKind::Volume,
        action: action.to_owned(),
        actor: name.to_owned(),
        attributes: attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
    }
}
