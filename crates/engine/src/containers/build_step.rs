//! A program run over layers without being a container: what a build's RUN is. No record is stored, nobody is told; what is left of
//! one when the engine is killed is nobody's, and the next engine sweeps it away as such.
//!
//! ```text
//! run_step ─▶ RunningStep ─ output ─▶ ended ─▶ into_layer
//!                 └──────── dropped at any point: killed, and its files go
//! ```

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use hoist_image::files::{ChangeKind, pack_changes};
use hoist_image::{Changes, LayerRecord};
use hoist_model::container::{ContainerSpec, ContainerState, NetworkMode, ReadyMount};
use hoist_model::{ContainerId, Digest, ImageId, Platform, Signal, chain};
use tokio::sync::oneshot;

use super::files::blocking;
use super::image_mounts::{image_mount, writable_mount};
use super::view::root_of;
use super::{AttachRequest, Containers};
use crate::clock::{now, random_bytes};
use crate::error::ContainerError;
use crate::ports::{ExitNotice, Joins, LaunchRequest, NetworkNamespace, ProcessOwner};
use crate::records::{ContainerRecord, MountKind, MountPoint, MountedImage};

/// What runs, and over what.
#[derive(Clone, Debug)]
pub struct StepRequest {
    /// Bottom first.
    pub layers: Vec<Digest>,
    /// Made if they are not there, and stay. Absolute.
    pub directories: Vec<String>,
    /// As of a container; its mounts are those below.
    pub spec: ContainerSpec,
    /// What it sees beside the layers.
    pub mounts: Vec<ReadyMount>,
}

fn point(mount: &ReadyMount) -> MountPoint {
    let (kind, source, writable, options, image, subpath) = match mount {
        ReadyMount::Layers {
            layers,
            source,
            writable,
            ..
        } => {
            let image = layers.last().map(|top| MountedImage {
                id: ImageId::from(top.clone()),
                layers: layers.clone(),
            });
            (
                MountKind::Image,
                String::new(),
                *writable,
                String::new(),
                image,
                source.clone(),
            )
        }
        ReadyMount::Host {
            source, writable, ..
        } => {
            let source = source.to_string_lossy().into_owned();
            (
                MountKind::Bind,
                source,
                *writable,
                String::new(),
                None,
                String::new(),
            )
        }
        ReadyMount::Memory { size, .. } => (
            MountKind::Tmpfs,
            String::new(),
            true,
            match size {
                ..=0 => String::new(),
                bytes => format!("size={bytes}"),
            },
            None,
            String::new(),
        ),
    };
    MountPoint {
        kind,
        name: String::new(),
        source,
        destination: mount.target().to_owned(),
        driver: String::new(),
        mode: String::new(),
        writable,
        propagation: "rprivate".to_owned(),
        options,
        subpath,
        recursive: true,
        writable_below: false,
        anonymous: false,
        copy_up: false,
        image,
    }
}

/// A step that was started.
#[derive(Debug)]
pub struct RunningStep {
    files: Files,
    output: Option<UnixStream>,
    ended: oneshot::Receiver<ExitNotice>,
    mounts: Vec<ReadyMount>,
}

/// Whatever a step took. Dropped, it is given back behind the caller's back.
struct Files {
    containers: Containers,
    record: Arc<ContainerRecord>,
    has_ended: bool,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files")
            .field("step", &self.record.id)
            .finish_non_exhaustive()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let (containers, record) = (self.containers.clone(), self.record.clone());
        let has_ended = self.has_ended;
        self.containers.inner.tasks.spawn(async move {
            containers.clear(record, has_ended).await;
        });
    }
}

impl Containers {
    /// Starts a program over layers. It runs when this returns.
    pub async fn run_step(&self, request: StepRequest) -> Result<RunningStep, ContainerError> {
        let StepRequest {
            layers,
            directories,
            spec,
            mounts,
        } = request;
        let record = ContainerRecord {
            id: ContainerId::from_bytes(&random_bytes()),
            name: String::new(),
            created_at: now(),
            spec,
            layers,
            platform: Platform::host(),
            state: ContainerState::Starting,
            restart_count: 0,
            manually_stopped: false,
            suspended: false,
            mounts: mounts.iter().map(point).collect(),
            links: Vec::new(),
            attachments: Vec::new(),
            started_with: None,
            health: None,
            exec_ids: Vec::new(),
        };
        let id = record.id.clone();
        let mut files = Files {
            containers: self.clone(),
            record: Arc::new(record),
            has_ended: false,
        };
        let (report, ended) = oneshot::channel();
        self.steps().insert(id, report);
        let (rootfs, detached) = self.step_files(&files.record, directories).await?;
        let (network, kept) = self.step_network(&mut files).await?;
        let (output, theirs) = UnixStream::pair().map_err(|source| ContainerError::Io {
            context: "make a stream".to_owned(),
            source,
        })?;
        let both = AttachRequest {
            stdin: false,
            stdout: true,
            stderr: true,
        };
        let launch = LaunchRequest {
            etc_files: self.write_etc_files(&files.record)?,
            record: files.record.clone(),
            rootfs,
            network,
            environment: Vec::new(),
            detached,
            log_path: None,
            attached: vec![(both, theirs)],
            console_size: None,
            joins: Joins::default(),
            kept,
        };
        let launched = self.inner.parts.runtime.launch(launch).await;
        if let Err(failure) = launched {
            files.has_ended = true;
            return Err(ContainerError::Start {
                message: failure.message,
                exit_code: failure.exit_code,
            });
        }
        Ok(RunningStep {
            files,
            output: Some(output),
            ended,
            mounts,
        })
    }

    /// The root, and what is mounted of other layers.
    async fn step_files(
        &self,
        record: &Arc<ContainerRecord>,
        directories: Vec<String>,
    ) -> Result<(OwnedFd, Vec<(String, OwnedFd)>), ContainerError> {
        let snapshotter = self.inner.parts.images.snapshotter().clone();
        let (record, ids) = (record.clone(), self.ids(&record.spec));
        let mapping = self.mapping(&record.spec).cloned();
        let directory = self.directory(&record.id).join("mounts");
        blocking(move || {
            let broken =
                |error: hoist_image::SnapshotError| ContainerError::Internal(chain(&error));
            snapshotter
                .prepare(&record.id, &record.layers, ids)
                .map_err(broken)?;
            let rootfs = snapshotter.mount(&record.id, Changes::Discarded);
            let rootfs = root_of(rootfs.map_err(broken)?, mapping.as_ref());
            for directory in &directories {
                rootfs.make_directory(directory)?;
            }
            let of_layers = record.mounts.iter();
            let of_layers = of_layers.filter(|point| point.kind == MountKind::Image);
            let detached = of_layers.enumerate().map(|(number, point)| {
                let mount = if point.writable {
                    let own = directory.join(number.to_string());
                    writable_mount(point, ids, snapshotter.as_ref(), &own)?
                } else {
                    image_mount(point, ids, snapshotter.as_ref())?
                };
                Ok((point.destination.clone(), mount))
            });
            let detached = detached.collect::<Result<_, ContainerError>>()?;
            Ok((rootfs.into(), detached))
        })
        .await
    }

    async fn step_network(
        &self,
        files: &mut Files,
    ) -> Result<(NetworkNamespace, Vec<OwnedFd>), ContainerError> {
        let network = self.inner.parts.network.clone();
        let record = files.record.clone();
        match &record.spec.network.mode {
            NetworkMode::Host => return Ok((NetworkNamespace::Host, Vec::new())),
            NetworkMode::Container(name) => {
                let other = self.resolve(name)?;
                let running = other.state.running();
                let running =
                    running.ok_or_else(|| ContainerError::NotRunning(other.id.clone()))?;
                return Ok((NetworkNamespace::OfProcess(running.pid), Vec::new()));
            }
            _ => {}
        }
        let places = match *record.spec.network.members() {
            [] | ["none"] => Vec::new(),
            _ => self.places(&record)?,
        };
        if places.is_empty() {
            return Ok((NetworkNamespace::Own(network.isolated().await?), Vec::new()));
        }
        let lease = network.attach(&record, places).await?;
        files.record = Arc::new(ContainerRecord {
            attachments: lease.attachments,
            ..(*record).clone()
        });
        Ok((NetworkNamespace::Own(lease.namespace), lease.reserving))
    }

    /// Gives back what a step took.
    async fn clear(&self, record: Arc<ContainerRecord>, has_ended: bool) {
        self.steps().remove(&record.id);
        let (runtime, of) = (self.inner.parts.runtime.clone(), record.clone());
        let ended = tokio::task::spawn_blocking(move || {
            let killed = if has_ended {
                Ok(())
            } else {
                runtime.kill_all(&of)
            };
            runtime.release(&of);
            runtime.forget(&of.id);
            killed
        });
        if let Ok(Err(error)) = ended.await {
            tracing::warn!(step = %record.id, %error, "processes of a build step stay");
        }
        self.inner.parts.network.detach(&record.id);
        if let Err(error) = self.remove_files(&record.id).await {
            tracing::warn!(step = %record.id, %error, "files of a build step stay until the next start");
        }
    }
}

impl RunningStep {
    /// What it writes, in Docker's frames, until all of it is read. Once.
    pub fn output(&mut self) -> Option<UnixStream> {
        self.output.take()
    }

    /// Who it is, as its files and cgroups are called.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.files.record.id
    }

    /// Waits until it has ended. May be asked again.
    pub async fn ended(&mut self) -> Result<ExitNotice, ContainerError> {
        let notice = (&mut self.ended).await;
        let notice = notice.map_err(|_| ContainerError::Internal("the engine ends".to_owned()))?;
        self.files.has_ended = true;
        Ok(notice)
    }

    /// Asks it to end.
    pub fn signal(&self, signal: Signal) -> std::io::Result<()> {
        let owner = ProcessOwner::Container(self.files.record.id.clone());
        self.files
            .containers
            .inner
            .parts
            .runtime
            .signal(&owner, signal)
    }

    /// What it changed, as a layer; `None` if nothing. Directories that were only made to mount something on are not told of.
    pub async fn into_layer(self) -> Result<Option<LayerRecord>, ContainerError> {
        let (containers, record) = (self.files.containers.clone(), self.files.record.clone());
        let targets: Vec<String> = self.mounts.iter().map(|m| m.target().to_owned()).collect();
        blocking(move || {
            let (upper, mut changes) = containers.compare(&record)?;
            let mut parents = HashSet::new();
            let mut places = HashSet::new();
            for target in &targets {
                for (end, _) in target.match_indices('/').skip(1) {
                    places.insert(target.as_bytes()[..end].to_vec());
                }
                places.insert(target.as_bytes().to_vec());
            }
            // From the innermost outwards: one that holds something else stays, and all above it.
            changes.reverse();
            changes.retain(|change| {
                let is_place = places.contains(&change.path);
                let stays = !is_place
                    || parents.contains(&change.path)
                    || change.kind == ChangeKind::Deleted;
                // A directory above is told of as changed because something was made in it.
                if stays && let Some(at) = change.path.iter().rposition(|byte| *byte == b'/') {
                    parents.insert(change.path[..at].to_vec());
                }
                stays
            });
            changes.reverse();
            if changes.is_empty() {
                return Ok(None);
            }
            let broken = |error: hoist_image::LayerError| ContainerError::Internal(chain(&error));
            let snapshotter = containers.inner.parts.images.snapshotter();
            let mut writer = snapshotter.layer_writer().map_err(broken)?;
            pack_changes(&upper, &changes, &mut writer)?;
            writer.finish(None).map(Some).map_err(broken)
        })
        .await
    }
}
