//! The two things an actor does that touch the machine: a start, and taking the container apart.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use hoist_image::Changes;
use hoist_model::container::{NamespaceMode, NetworkMode};
use hoist_store::Class;

use super::actor::Actor;
use super::events::{container_event, mount_events, network_event};
use super::image_mounts::image_mount;
use super::view::{changes_of, clone_of};
use crate::error::ContainerError;
use crate::ports::{Joins, LaunchRequest, Launched, NetworkNamespace};
use crate::records::{ContainerRecord, MountKind};
use crate::volumes::{forget_anonymous, leave_anonymous};
use hoist_model::chain;

impl Actor {
    /// Connects the container and hands it to the runtime. What was taken is given back by `Release` if this fails.
    pub(super) async fn launch(&mut self) -> Result<Launched, ContainerError> {
        // Mounted by a blocking thread while the rest is got together here.
        let rootfs = self.rootfs();
        let (network, kept) = self.network_namespace().await?;
        self.mount_volumes().await?;
        for event in mount_events("mount", &self.record) {
            self.tell(event);
        }
        let joins = Joins {
            pid: self.joined(&self.record.spec.security.pid)?,
            ipc: self.joined_ipc()?,
        };
        let environment = self.containers.link_environment(&self.record)?;
        let etc_files = self.containers.write_etc_files(&self.record)?;
        let detached = self.image_mounts().await?;
        let rootfs = rootfs.await?;
        // What of it is discarded is never synced. One that cannot be kept is taken down by the monitor.
        self.overlay = match changes_of(&self.record) {
            Changes::Kept => clone_of(&rootfs, false).ok(),
            Changes::Discarded => None,
        };
        let log_path = self.log_path()?;
        let request = LaunchRequest {
            record: self.record.clone(),
            rootfs,
            network,
            environment,
            detached,
            etc_files,
            log_path,
            attached: std::mem::take(&mut self.attached),
            console_size: self.console_size,
            joins,
            kept,
        };
        let launched = self.containers.inner.parts.runtime.launch(request).await;
        if launched.is_ok() {
            self.tell_linked();
        }
        launched.map_err(|failure| ContainerError::Start {
            message: failure.message,
            exit_code: failure.exit_code,
        })
    }

    fn log_path(&self) -> Result<Option<PathBuf>, ContainerError> {
        let path = self.containers.log_path(&self.record);
        if let Some(directory) = path.as_deref().and_then(Path::parent)
            && self.record.spec.log.driver == "local"
        {
            super::create::make_private_directory(directory)?;
        }
        Ok(path)
    }

    /// The namespace, and what the monitor keeps of the network for the next engine.
    async fn network_namespace(
        &mut self,
    ) -> Result<(NetworkNamespace, Vec<OwnedFd>), ContainerError> {
        let network = self.containers.inner.parts.network.clone();
        match &self.record.spec.network.mode {
            NetworkMode::Host => Ok((NetworkNamespace::Host, Vec::new())),
            NetworkMode::Container(name) => {
                let pid = self.pid_of(name, "network")?;
                Ok((NetworkNamespace::OfProcess(pid), Vec::new()))
            }
            _ if matches!(*self.record.spec.network.members(), [] | ["none"]) => {
                let namespace = network.isolated().await?;
                Ok((NetworkNamespace::Own(namespace), Vec::new()))
            }
            _ => {
                let places = self.containers.places(&self.record)?;
                if places.is_empty() {
                    // As Docker does where it has no default bridge.
                    let namespace = network.isolated().await?;
                    return Ok((NetworkNamespace::Own(namespace), Vec::new()));
                }
                let lease = network.attach(&self.record, places).await?;
                for place in &lease.attachments {
                    self.tell(network_event("connect", &self.record, place));
                }
                self.change(|record| record.attachments = lease.attachments);
                Ok((NetworkNamespace::Own(lease.namespace), lease.reserving))
            }
        }
    }

    /// Mounts what volumes with driver options are.
    async fn mount_volumes(&mut self) -> Result<(), ContainerError> {
        let volumes = self.containers.volumes().clone();
        let record = self.record.clone();
        if record
            .mounts
            .iter()
            .all(|point| point.kind != MountKind::Volume)
        {
            return Ok(());
        }
        let mut uses = std::mem::take(&mut self.volume_uses);
        let work = move || {
            let taken = volumes.acquire(&record, &mut uses);
            Ok((uses, taken))
        };
        let (uses, taken) = super::files::blocking(work).await?;
        self.volume_uses = uses;
        Ok(taken?)
    }

    /// What is mounted of images, by destination.
    async fn image_mounts(&self) -> Result<Vec<(String, OwnedFd)>, ContainerError> {
        if self.record.mounts.iter().all(|point| point.image.is_none()) {
            return Ok(Vec::new());
        }
        let snapshotter = self.containers.inner.parts.images.snapshotter().clone();
        let record = self.record.clone();
        let ids = self.containers.ids(&record.spec);
        super::files::blocking(move || {
            let images = record.mounts.iter().filter(|point| point.image.is_some());
            images
                .map(|point| {
                    let mount = image_mount(point, ids, snapshotter.as_ref())?;
                    Ok((point.destination.clone(), mount))
                })
                .collect()
        })
        .await
    }

    fn joined(&self, mode: &NamespaceMode) -> Result<Option<i32>, ContainerError> {
        match mode {
            NamespaceMode::Container(name) => self.pid_of(name, "namespace").map(Some),
            _ => Ok(None),
        }
    }

    /// Only a container that shares its memory may be joined, as in Docker.
    fn joined_ipc(&self) -> Result<Option<i32>, ContainerError> {
        let mode = &self.record.spec.security.ipc;
        if let NamespaceMode::Container(name) = mode {
            let other = self.containers.resolve(name)?;
            let theirs = &other.spec.security.ipc;
            if matches!(theirs, NamespaceMode::Private | NamespaceMode::None) {
                return Err(ContainerError::Invalid(format!(
                    "failed to join IPC namespace: container {name}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
                )));
            }
        }
        self.joined(mode)
    }

    fn pid_of(&self, name: &str, what: &str) -> Result<i32, ContainerError> {
        let other = self.containers.resolve(name)?;
        other
            .state
            .running()
            .map(|running| running.pid)
            .ok_or_else(|| {
                ContainerError::Conflict(format!(
                    "cannot join {what} of a non running container: {}",
                    other.id.as_str()
                ))
            })
    }

    /// Begins at once, not when it is awaited.
    fn rootfs(&self) -> impl Future<Output = Result<OwnedFd, ContainerError>> + use<> {
        let snapshotter = self.containers.inner.parts.images.snapshotter().clone();
        let id = self.record.id.clone();
        let key = id.clone();
        let changes = changes_of(&self.record);
        let containers = self.containers.clone();
        containers.inner.views.begin_start(&id);
        let ready = containers.inner.views.take_ready(&id);
        let mounting = ready.is_none().then(|| {
            tokio::task::spawn_blocking(move || {
                let views = &containers.inner.views;
                views.mount_for_start(&key, changes, snapshotter.as_ref())
            })
        });
        async move {
            let Some(mounting) = mounting else {
                return ready.ok_or_else(|| ContainerError::Internal("no mount".to_owned()));
            };
            match mounting.await {
                Ok(Ok(rootfs)) => Ok(rootfs),
                Ok(Err(error)) => Err(ContainerError::Internal(format!(
                    "root file system of container {}: {}",
                    id.as_str(),
                    chain(&error)
                ))),
                Err(error) => Err(ContainerError::Internal(error.to_string())),
            }
        }
    }

    /// Takes away record, files and, if asked, anonymous volumes. The record goes first: should the engine be killed in the
    /// middle, files of nobody are what it leaves, and the next one deletes those. Every part is tried; the first failure
    /// is told.
    pub(super) async fn dismantle(&mut self, volumes: bool) -> Result<(), ContainerError> {
        let record = self.record.clone();
        self.attached.clear();
        let event = container_event("destroy", &record, &[]);
        let (id, mounts) = (record.id.clone(), record.mounts.clone());
        let class = if record.spec.auto_remove {
            Class::Process
        } else {
            Class::Disk
        };
        let containers = self.containers.clone();
        let parts = &containers.inner.parts;
        let forgotten = parts.store.transaction(class, move |tx| {
            tx.delete::<ContainerRecord>(id.as_str());
            tx.event(event);
            let doomed = if volumes {
                forget_anonymous(tx, &mounts)
            } else {
                Vec::new()
            };
            leave_anonymous(tx, &mounts);
            Ok::<_, ContainerError>(doomed)
        });
        let forgotten = forgotten.await;
        self.forget_end();
        let files = self.containers.remove_files(&record.id).await;
        for volume in forgotten.iter().flat_map(|committed| &committed.value) {
            if let Err(error) = parts.volumes.delete_files(volume).await {
                tracing::warn!(volume, %error, "files of an anonymous volume stay");
            }
        }
        parts.images.collect_after(&record);
        self.containers.unwritten().remove(&record.id);
        self.containers.actors().remove(&record.id);
        files.and(forgotten.map(drop))
    }
}
