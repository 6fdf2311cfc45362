//! Containers: made, started, stopped, watched and removed; one actor owns each one's state.
//!
//! ```text
//! handle (this file) ── message ──► actor ── Input ──► step (pure)
//!    ▲ lists, finds: store               │ ◄─ Command ──┘
//!    └──────────── reply ────────────────┤──► ports: Runtime, Network; Snapshotter
//!                                        └──► store: record and events in one transaction
//! ```
//!
//! Slow verbs (stop, restart, forced removal) are composed here of short messages and waits, so that an actor always
//! answers at once.

mod actor;
mod build_step;
mod changes;
mod copy_up;
mod create;
mod deeds;
mod dependencies;
mod etc_files;
mod events;
mod files;
mod health;
mod image_mounts;
mod launch;
mod links;
mod log_attributes;
mod merge;
mod message;
mod mounts;
mod observe;
mod outputs;
mod places;
mod prune;
mod recovery;
mod refusal;
mod requests;
mod short_stop;
mod step;
mod stop_all;
#[cfg(test)]
pub(crate) mod testing;
mod update;
mod verbs;
mod view;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoist_image::Ids;
use hoist_model::container::{ContainerSpec, LogFormat, LogOptions};
use hoist_model::{ContainerId, UserMapping};
use hoist_store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::build_step::{RunningStep, StepRequest};
pub use self::changes::CommitRequest;
pub(crate) use self::events::{container_event, prune_event};
pub use self::files::ContainerFiles;
pub(crate) use self::health::{ProbeOrder, probe_of};
pub use self::links::Names;
pub use self::log_attributes::{check_log_options, log_attributes};
use self::message::Message;
pub use self::outputs::Undelivered;
pub use self::places::names_on_network;
pub(crate) use self::refusal::restarting;
pub use self::requests::{
    AttachRequest, Attached, CreateRequest, Created, LogEntry, LogRequest, Outcome, RemoveRequest,
    StopRequest, UpdateRequest, WaitCondition, WaitOutcome,
};
pub use self::stop_all::Stopped;
use crate::error::ContainerError;
use crate::images::Images;
use crate::logs::{Place, Watches};
use crate::networks::Networks;
use crate::ports::{ExitNotice, Network, ProcessOwner, Runtime};
use crate::records::ContainerRecord;
use crate::volumes::Volumes;
use hoist_model::chain;

/// The containers of this node.
#[derive(Clone)]
pub struct Containers {
    inner: Arc<Inner>,
}

/// What containers are made of; joined once, in the composition root.
pub struct Parts {
    /// Records and events.
    pub store: Store,
    /// Where images are found.
    pub images: Images,
    /// Where volumes are made.
    pub volumes: Volumes,
    /// The networks there are.
    pub networks: Networks,
    /// What starts processes.
    pub runtime: Arc<dyn Runtime>,
    /// What connects them.
    pub network: Arc<dyn Network>,
    /// Directory of one directory per container: its log.
    pub root: PathBuf,
    /// Directory of one directory per container that was started since the machine was: its files of /etc, which every
    /// start writes anew.
    pub etc_root: PathBuf,
    /// Who stands for the users of containers, but for those that share the host's user namespace; `None` is everybody for
    /// themselves.
    pub remap: Option<Arc<UserMapping>>,
}

struct Inner {
    parts: Parts,
    /// Held only to look an actor up, put one in or take one out; never across anything that waits.
    actors: Mutex<HashMap<ContainerId, Handle>>,
    /// Records that could not be written, as they are: a disk that cannot be written does not make us tell what was. Held
    /// for single look-ups and changes.
    unwritten: Mutex<HashMap<ContainerId, Arc<ContainerRecord>>>,
    /// Files of resting containers that someone looks at.
    views: view::Views,
    /// Who waits for the end of a step, by the step. Held for single look-ups and changes.
    steps: Mutex<HashMap<ContainerId, oneshot::Sender<ExitNotice>>>,
    /// Directories for containers to come.
    blanks: hoist_image::Blanks,
    /// What is to be unmounted and deleted soon. Held for single changes.
    chores: Mutex<Vec<create::Chore>>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    /// Who follows logs, and which are compressed.
    logs: Watches,
    /// Who is to be probed, and who no more.
    probes: mpsc::UnboundedSender<ProbeOrder>,
    /// The other end, until somebody takes it.
    probe_orders: Mutex<Option<mpsc::UnboundedReceiver<ProbeOrder>>>,
}

#[derive(Clone)]
struct Handle {
    inbox: mpsc::UnboundedSender<Message>,
    running: watch::Receiver<bool>,
}

impl From<StoreError> for ContainerError {
    fn from(error: StoreError) -> Self {
        Self::Store(chain(&error))
    }
}

impl Containers {
    /// Joins the parts. Containers of an earlier engine are taken over by [`Containers::recover`].
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let (probes, probe_orders) = mpsc::unbounded_channel();
        let inner = Inner {
            parts,
            actors: Mutex::default(),
            unwritten: Mutex::default(),
            views: view::Views::default(),
            steps: Mutex::default(),
            blanks: hoist_image::Blanks::default(),
            chores: Mutex::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            logs: Watches::new(),
            probes,
            probe_orders: Mutex::new(Some(probe_orders)),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Finds a container by full id, name (with or without slash), or unique id prefix.
    pub fn resolve(&self, name: &str) -> Result<Arc<ContainerRecord>, ContainerError> {
        let stored = self.stored(name)?;
        Ok(self.unwritten().get(&stored.id).cloned().unwrap_or(stored))
    }

    fn stored(&self, name: &str) -> Result<Arc<ContainerRecord>, ContainerError> {
        let snapshot = self.inner.parts.store.snapshot();
        if let Some(container) = snapshot.get::<ContainerRecord>(name) {
            return Ok(container);
        }
        let all = snapshot.list::<ContainerRecord>();
        let bare = name.strip_prefix('/').unwrap_or(name);
        if let Some(container) = all.iter().find(|container| container.name == bare) {
            return Ok(container.clone());
        }
        if let Some(container) = self.by_link(bare) {
            return Ok(container);
        }
        let mut prefixed = all
            .iter()
            .filter(|c| !name.is_empty() && c.id.as_str().starts_with(name));
        match (prefixed.next(), prefixed.next()) {
            (Some(container), None) => Ok(container.clone()),
            (Some(_), Some(_)) => Err(ContainerError::Ambiguous(name.to_owned())),
            _ => Err(ContainerError::NotFound(name.to_owned())),
        }
    }

    /// All containers, newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<ContainerRecord>> {
        let mut all = self.inner.parts.store.snapshot().list::<ContainerRecord>();
        let unwritten = self.unwritten();
        if !unwritten.is_empty() {
            for record in &mut all {
                if let Some(current) = unwritten.get(&record.id) {
                    *record = current.clone();
                }
            }
        }
        drop(unwritten);
        all.sort_by(|a, b| {
            b.created_at
                .cmp(&a.created_at)
                .then_with(|| a.id.cmp(&b.id))
        });
        all
    }

    /// Hands the end of a process to whom it concerns. Ends of execs are not ours.
    pub fn notice(&self, notice: ExitNotice) {
        let ProcessOwner::Container(id) = &notice.of else {
            return;
        };
        if let Ok(handle) = self.handle(id) {
            let _ = handle.inbox.send(Message::Ended(notice));
        } else if let Some(waiting) = self.steps().remove(id) {
            let _ = waiting.send(notice);
        }
    }

    /// Takes out-of-memory kills from this channel to whom they concern, as long as the engine runs.
    pub fn hear_ooms(&self, mut ooms: mpsc::UnboundedReceiver<ContainerId>) {
        let containers = self.clone();
        self.keep(async move {
            while let Some(id) = ooms.recv().await {
                if let Ok(handle) = containers.handle(&id) {
                    let _ = handle.inbox.send(Message::OomKilled);
                }
            }
        });
    }

    /// Ends the actors; containers go on running, their monitors with them.
    pub async fn shut_down(&self) {
        self.inner.stopping.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Path of its newest log file; `None` where its driver keeps none.
    #[must_use]
    pub fn log_path(&self, record: &ContainerRecord) -> Option<PathBuf> {
        self.log_place(record).map(|place| place.path)
    }

    /// Where its log is and how it is kept. Options that are wrong were refused when it was made.
    pub(crate) fn log_place(&self, record: &ContainerRecord) -> Option<Place> {
        let log = &record.spec.log;
        let format = LogFormat::of(&log.driver)?;
        let name = match format {
            LogFormat::JsonFile => format!("{}-json.log", record.id.as_str()),
            LogFormat::Local => "local-logs/container.log".to_owned(),
        };
        Some(Place {
            path: self.directory(&record.id).join(name),
            format,
            options: LogOptions::of(&log.driver, &log.options).ok()?,
        })
    }

    /// Directory of a container's own files: its log.
    #[must_use]
    pub fn directory(&self, id: &ContainerId) -> PathBuf {
        self.inner.parts.root.join(id.as_str())
    }

    /// Directory of `hostname`, `hosts` and `resolv.conf`.
    #[must_use]
    pub fn etc_directory(&self, id: &ContainerId) -> PathBuf {
        self.inner.parts.etc_root.join(id.as_str())
    }

    /// Who stands for the users of a container; `None` if they are the host's.
    pub(crate) fn mapping(&self, spec: &ContainerSpec) -> Option<&Arc<UserMapping>> {
        let remap = self.inner.parts.remap.as_ref();
        remap.filter(|_| spec.security.userns != "host")
    }

    /// Whose the files of a container are.
    pub(crate) fn ids(&self, spec: &ContainerSpec) -> Ids {
        match self.mapping(spec) {
            Some(_) => Ids::Remapped,
            None => Ids::Host,
        }
    }

    pub(crate) fn volumes(&self) -> &Volumes {
        &self.inner.parts.volumes
    }

    fn unwritten(&self) -> MutexGuard<'_, HashMap<ContainerId, Arc<ContainerRecord>>> {
        self.inner
            .unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn steps(&self) -> MutexGuard<'_, HashMap<ContainerId, oneshot::Sender<ExitNotice>>> {
        self.inner
            .steps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn actors(&self) -> MutexGuard<'_, HashMap<ContainerId, Handle>> {
        self.inner
            .actors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, id: &ContainerId) -> Result<Handle, ContainerError> {
        let found = self.actors().get(id).cloned();
        found.ok_or_else(|| ContainerError::NotFound(id.as_str().to_owned()))
    }

    /// Puts an actor to work for a container that has none.
    fn employ(&self, record: Arc<ContainerRecord>) {
        let (inbox, messages) = mpsc::unbounded_channel();
        let runs = record.state.running().is_some();
        if runs && let Some(place) = self.log_place(&record) {
            self.inner.logs.attend(place);
        }
        let (running, is_running) = watch::channel(runs);
        self.actors().insert(
            record.id.clone(),
            Handle {
                inbox,
                running: is_running,
            },
        );
        let actor = actor::Actor::new(self.clone(), record, running);
        self.inner
            .tasks
            .spawn(actor.run(messages, self.inner.stopping.clone()));
    }
}
