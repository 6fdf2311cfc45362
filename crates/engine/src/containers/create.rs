//! Making a container: everything is checked and resolved here, so that a start finds nothing left to decide.

use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hoist_model::container::{
    ContainerSpec, ContainerState, NamespaceMode, NetworkMode, is_container_name,
};
use hoist_model::{ContainerId, ErrorClass};
use hoist_store::{Class, Transaction};

use super::events::container_event;
use super::merge::merge_image;
use super::view::changes_of;
use super::{Containers, CreateRequest, Created};
use crate::clock::{now, random_bytes, random_number};
use crate::error::{ContainerError, ImageError};
use crate::names::made_up;
use crate::records::{ContainerRecord, ImageRecord, MountPoint};
use hoist_model::chain;

/// Begins the name of a container's directory that is on its way out.
pub(super) const GONE: &str = ".gone-";

/// How long what is to be unmounted or deleted waits for others.
const GATHER: Duration = Duration::from_millis(100);

/// What is done a little later, with what comes from other containers meanwhile, in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Later {
    Unmount,
    Delete,
}

/// One of these. Blocking.
pub(super) type Chore = (Later, Box<dyn FnOnce() + Send>);

/// How long a mount made ahead waits for its start.
const AHEAD: Duration = Duration::from_secs(5);

/// Of a container's own directory: to be walked through by whom the group is given to.
const DIRECTORY_MODE: u32 = 0o710;

/// How often a made-up name is made up anew after a clash.
const NAME_TRIES: u32 = 10;

/// Refuses a name somebody else has.
pub(super) fn refuse_taken_name(
    tx: &Transaction,
    name: &str,
    own: &ContainerId,
) -> Result<(), ContainerError> {
    let holder = tx
        .list::<ContainerRecord>()
        .into_iter()
        .find(|other| other.name == name && other.id != *own);
    match holder {
        Some(holder) => Err(ContainerError::NameTaken {
            name: name.to_owned(),
            holder: holder.id.clone(),
        }),
        None => Ok(()),
    }
}

/// The name without its slash, if it is one.
pub(super) fn check_name(name: &str) -> Result<String, ContainerError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    if is_container_name(bare) {
        Ok(bare.to_owned())
    } else {
        Err(ContainerError::InvalidName(bare.to_owned()))
    }
}

impl Containers {
    /// Makes a container. The image must be here.
    pub async fn create(&self, request: CreateRequest) -> Result<Created, ContainerError> {
        let parts = &self.inner.parts;
        let name = request.name.as_deref().map(check_name).transpose()?;
        let image = parts.images.resolve(&request.spec.image)?;
        if let Some(wanted) = &request.platform
            && !image.platform.satisfies(wanted)
        {
            return Err(ContainerError::Image(ImageError::Platform {
                reference: request.spec.image.clone(),
                wanted: wanted.to_string(),
                actual: image.platform.to_string(),
            }));
        }
        let config = parts.images.config(&image.id)?;
        let mut spec = merge_image(request.spec, &config)?;
        spec.image_id = Some(image.id.clone());
        self.settle_networks(&mut spec.network)?;
        self.check_user_namespace(&spec)?;
        if spec.network.mode == NetworkMode::Host && spec.hostname.is_empty() {
            // Whoever shares the host's network answers to its name.
            spec.hostname = rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned();
        }
        let links = self.resolve_links(&spec)?;
        let id = ContainerId::from_bytes(&random_bytes());
        let mounts = self.resolve_mounts(&spec, &id).await?;
        let record = ContainerRecord {
            id,
            name: name.clone().unwrap_or_default(),
            created_at: now(),
            spec,
            layers: image.layers.clone(),
            platform: image.platform.clone(),
            state: ContainerState::Created { failure: None },
            restart_count: 0,
            manually_stopped: false,
            suspended: false,
            mounts,
            links,
            attachments: Vec::new(),
            started_with: None,
            health: None,
            exec_ids: Vec::new(),
        };
        match self
            .prepare_and_record(record.clone(), &image, name.is_none())
            .await
        {
            Ok(record) => {
                let id = record.id.clone();
                self.employ(record);
                Ok(Created {
                    id,
                    warnings: Vec::new(),
                })
            }
            Err(error) => {
                self.undo_create(&record).await;
                Err(error)
            }
        }
    }

    async fn prepare_and_record(
        &self,
        mut record: ContainerRecord,
        image: &Arc<ImageRecord>,
        make_name_up: bool,
    ) -> Result<Arc<ContainerRecord>, ContainerError> {
        let mut ahead = Some(self.prepare_files(&record).await?);
        let class = if record.spec.auto_remove {
            Class::Process
        } else {
            Class::Disk
        };
        for attempt in 0..NAME_TRIES {
            if make_name_up {
                record.name = made_up(random_number(), attempt);
            }
            let draft = Arc::new(record.clone());
            let image_id = image.id.clone();
            let created = draft.clone();
            let committing = self.inner.parts.store.transaction(class, move |tx| {
                if tx.get::<ImageRecord>(image_id.as_str()).is_none() {
                    let name = created.spec.image.clone();
                    return Err(ContainerError::Image(ImageError::NotFound(name)));
                }
                let gone = created.mounts.iter().find(|point| {
                    let image = point.image.as_ref();
                    image.is_some_and(|i| tx.get::<ImageRecord>(i.id.as_str()).is_none())
                });
                if let Some(point) = gone {
                    let name = point.name.clone();
                    return Err(ContainerError::Image(ImageError::NotFound(name)));
                }
                refuse_taken_name(tx, &created.name, &created.id)?;
                tx.event(container_event("create", &created, &[]));
                tx.put(created);
                Ok(())
            });
            // Who writes the record goes before who mounts: one waits for the disk most of the time, the other computes.
            if let Some(ahead) = ahead.take() {
                self.inner.tasks.spawn_blocking(ahead);
            }
            match committing.await {
                Ok(_) => return Ok(draft),
                Err(ContainerError::NameTaken { .. }) if make_name_up => {}
                Err(error) => return Err(error),
            }
        }
        Err(ContainerError::Conflict(format!(
            "no free name was found in {NAME_TRIES} tries"
        )))
    }

    /// Makes the writable layer, the container's own directory, and fills fresh volumes from the image. Answers what may go on
    /// behind the caller's back then, and blocks: mounting ahead of the start, and making ready for the next container.
    async fn prepare_files(
        &self,
        record: &ContainerRecord,
    ) -> Result<impl FnOnce() + Send + use<>, ContainerError> {
        let containers = self.clone();
        let key = record.id.clone();
        if record.mounts.iter().any(|mount| mount.copy_up) {
            let record = record.clone();
            super::files::blocking(move || containers.make_files(&record)).await?;
        } else {
            // Some renames of what lies ready: changing to a thread that may block costs more.
            containers.make_files(record)?;
        }
        let (containers, id, changes) = (self.clone(), key.clone(), changes_of(record));
        let expected = self.inner.views.expect(&key);
        self.forget_ahead(key);
        Ok(move || {
            let snapshotter = containers.inner.parts.images.snapshotter().as_ref();
            let views = &containers.inner.views;
            views.mount_ahead(&id, &expected, changes, snapshotter);
            in_background(|| containers.make_ready());
        })
    }

    /// Blocking.
    fn make_files(&self, record: &ContainerRecord) -> Result<(), ContainerError> {
        let snapshotter = self.inner.parts.images.snapshotter();
        let failed = |error: &(dyn std::error::Error + 'static)| {
            ContainerError::Internal(format!("container file system: {}", chain(error)))
        };
        let prepared = snapshotter.prepare(&record.id, &record.layers, self.ids(&record.spec));
        prepared.map_err(|error| match error.class() {
            // The image was removed a moment ago, and its layers with it.
            ErrorClass::NotFound => {
                ContainerError::Image(ImageError::NotFound(record.spec.image.clone()))
            }
            _ => failed(&error),
        })?;
        let directory = self.directory(&record.id);
        let blank = self.inner.blanks.take();
        let renamed = blank.is_some_and(|name| {
            std::fs::rename(directory.with_file_name(name), &directory).is_ok()
        });
        if !renamed {
            make_private_directory(&directory)?;
        }
        if record.mounts.iter().any(|mount| mount.copy_up) {
            let rootfs = snapshotter
                .mount(&record.id, changes_of(record))
                .map_err(|error| failed(&error))?;
            let mut uses = Vec::new();
            let taken = self.volumes().acquire(record, &mut uses);
            let copied = taken.map_err(Into::into).and_then(|()| {
                let mut fresh = record.mounts.iter().filter(|mount| mount.copy_up);
                fresh.try_for_each(|volume| {
                    let source = volume.source.as_ref();
                    super::copy_up::copy_up(&rootfs, &volume.destination, source)
                })
            });
            self.volumes().release(uses);
            copied?;
            self.inner.views.keep_ahead(&record.id, rootfs);
        }
        Ok(())
    }

    /// Makes directories for the next containers. Best effort: whoever finds none makes one. Blocking.
    fn make_ready(&self) {
        let root = &self.inner.parts.root;
        let made = self.inner.blanks.fill(|name| {
            let path = root.join(name);
            std::fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path)
        });
        if let Err(error) = made {
            tracing::debug!(%error, "no container directories are made ahead");
        }
        if let Err(error) = self.inner.parts.images.snapshotter().make_ready() {
            tracing::debug!(error = %chain(&error), "no writable directories are made ahead");
        }
    }

    /// Takes down what was mounted ahead of a start that does not come.
    fn forget_ahead(&self, id: ContainerId) {
        let containers = self.clone();
        self.keep(async move {
            tokio::time::sleep(AHEAD).await;
            let _ = tokio::task::spawn_blocking(move || containers.inner.views.let_go(&id)).await;
        });
    }

    /// Takes back what a create that failed had made.
    async fn undo_create(&self, record: &ContainerRecord) {
        if let Err(error) = self.remove_files(&record.id).await {
            tracing::warn!(container = %record.id, %error, "files of a failed create stay");
        }
        self.remove_anonymous_volumes(&record.mounts).await;
    }

    /// Takes a container's files away by name, and lets go of its layers. Deleting them goes on behind the caller's back.
    pub(super) async fn remove_files(&self, id: &ContainerId) -> Result<(), ContainerError> {
        if let Some(mount) = self.inner.views.take_ready(id) {
            self.later(Later::Unmount, Box::new(move || drop(mount)));
        }
        if self.inner.views.holds(id) {
            let (containers, id) = (self.clone(), id.clone());
            let let_go = move || {
                containers.inner.views.let_go(&id);
                Ok(())
            };
            super::files::blocking(let_go).await?;
        }
        let directory = self.directory(id);
        let gone = directory.with_file_name(format!("{GONE}{}", id.as_str()));
        // Two renames: changing to a thread that may block costs more.
        let snapshot = self.inner.parts.images.snapshotter().remove(id);
        let renamed = match std::fs::rename(&directory, &gone) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                let context = format!("remove {}", directory.display());
                Err(ContainerError::Io { context, source })
            }
            _ => Ok(()),
        };
        let (doomed, snapshot) = match snapshot {
            Ok(doomed) => (Some(doomed), Ok(())),
            Err(error) => (None, Err(ContainerError::Internal(chain(&error)))),
        };
        let (key, etc) = (id.clone(), self.etc_directory(id));
        let delete = move || {
            let deleted = doomed.map_or(Ok(()), hoist_image::Doomed::delete);
            let deleted = deleted.and(remove_directory(&gone));
            if let Err(error) = deleted.and(remove_directory(&etc)) {
                tracing::warn!(container = %key, %error, "removed files stay until the next start");
            }
        };
        self.later(Later::Delete, Box::new(delete));
        snapshot.and(renamed)
    }

    /// Keeps the overlay of a run that ended mounted for a moment: for the next start, or a look at the files; else to be
    /// taken down with others. The kernel syncs the whole file system that the upper directory is on at each unmount, just
    /// when the records of this container's end, and of the next one, are synced to it.
    pub(super) fn keep_overlay(&self, id: &ContainerId, overlay: OwnedFd) {
        self.inner.views.keep_ahead(id, overlay);
        let (containers, id) = (self.clone(), id.clone());
        let let_go = move || containers.inner.views.let_go(&id);
        self.later(Later::Unmount, Box::new(let_go));
    }

    /// Takes down mounts and deletes files that nobody can find any more, with those of others that are removed shortly after:
    /// the records that come next are synced to the same disk, and a sync waits for blocks that a deletion is changing.
    fn later(&self, kind: Later, chore: Box<dyn FnOnce() + Send>) {
        let mut chores = self.chores();
        chores.push((kind, chore));
        if chores.len() > 1 {
            // They go with the first.
            return;
        }
        drop(chores);
        let containers = self.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = containers.inner.stopping.cancelled() => {}
            }
            let mut chores = std::mem::take(&mut *containers.chores());
            chores.sort_by_key(|(kind, _)| *kind);
            let all = || chores.into_iter().for_each(|(_, chore)| chore());
            // A panic there was told of by its own thread; the next start deletes what stays.
            let _ = tokio::task::spawn_blocking(|| in_background(all)).await;
        });
    }

    fn chores(&self) -> std::sync::MutexGuard<'_, Vec<Chore>> {
        let chores = &self.inner.chores;
        chores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the volumes that were made for one container alone; one that others use by now stays.
    pub(super) async fn remove_anonymous_volumes(&self, mounts: &[MountPoint]) {
        for mount in mounts.iter().filter(|mount| mount.anonymous) {
            if let Err(error) = self.inner.parts.volumes.remove(&mount.name, true).await {
                tracing::debug!(volume = mount.name, %error, "an anonymous volume stays");
            }
        }
    }

    /// Refuses what takes privileges of the host from who has none, in Docker's words (moby daemon/daemon_unix.go,
    /// `verifyPlatformContainerSettings`).
    fn check_user_namespace(&self, spec: &ContainerSpec) -> Result<(), ContainerError> {
        if self.mapping(spec).is_none() {
            return Ok(());
        }
        let security = &spec.security;
        let why = if security.privileged {
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode"
        } else if spec.network.mode == NetworkMode::Host {
            "cannot share the host's network namespace when user namespaces are enabled"
        } else if security.pid == NamespaceMode::Host {
            "cannot share the host PID namespace when user namespaces are enabled"
        } else if security.writable_cgroups.is_some() {
            "writable-cgroups cannot be set when user namespaces are enabled"
        } else {
            return Ok(());
        };
        Err(ContainerError::Invalid(why.to_owned()))
    }
}

/// How far a thread stands back while nobody waits for its work.
const BACKGROUND_NICE: i32 = 5;

/// Does work that nobody waits for without pushing whoever is waited for from a processor. On Linux niceness is the calling
/// thread's alone; the engine may raise it again.
fn in_background<T>(work: impl FnOnce() -> T) -> T {
    let _ = rustix::process::nice(BACKGROUND_NICE);
    let done = work();
    let _ = rustix::process::nice(-BACKGROUND_NICE);
    done
}

/// Deletes a directory; one that is not there is no error.
pub(super) fn remove_directory(path: &std::path::Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn make_private_directory(path: &std::path::Path) -> Result<(), ContainerError> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path);
    made.map_err(|source| ContainerError::Io {
        context: format!("mkdir {}", path.display()),
        source,
    })
}
