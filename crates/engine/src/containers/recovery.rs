//! Taking over what an earlier engine left: running containers go on, ends in between are recorded, leftovers go.

use std::collections::HashSet;
use std::sync::Arc;

use hoist_model::ContainerId;
use hoist_model::container::{ContainerState, ExitedState, RestartPolicy};

use super::message::Message;
use super::{Containers, dependencies};
use crate::clock::now;
use crate::error::ContainerError;
use crate::ports::{Adoption, ExitNotice, ProcessOwner};
use crate::records::ContainerRecord;

/// The exit code of a process whose end nobody saw. Never invented: the record says so in words beside it.
const UNKNOWN_EXIT: i32 = 255;

/// Whether a container that does not run is started with the engine (moby `daemon/restartmanager`, `ShouldRestart`). One
/// that was ended with the machine, and of which only failures are to be restarted, has failed if it says so.
fn comes_back(record: &ContainerRecord, exited: &ExitedState) -> bool {
    match record.spec.restart_policy {
        RestartPolicy::Always => true,
        RestartPolicy::UnlessStopped => !record.manually_stopped,
        RestartPolicy::OnFailure { maximum_retries } => {
            record.suspended
                && exited.exit_code != 0
                && (maximum_retries == 0 || record.restart_count < maximum_retries)
        }
        RestartPolicy::No => false,
    }
}

impl Containers {
    /// Puts an actor to work for every container there is, and tells it what happened while no engine ran. Called once,
    /// before the first request is served.
    pub async fn recover(&self) -> Result<(), ContainerError> {
        let mut starts = Vec::new();
        let left: HashSet<ContainerId> = self.inner.parts.runtime.leftovers().into_iter().collect();
        for record in self.list() {
            let id = record.id.clone();
            let held = matches!(
                record.state,
                ContainerState::Running(_) | ContainerState::Starting
            );
            if !held && left.contains(&id) {
                self.undo_start(&record).await;
            }
            match &record.state {
                ContainerState::Running(_) | ContainerState::Starting => {
                    self.take_over(record).await
                }
                ContainerState::Removing => {
                    // An earlier engine was ended in the middle: what it began is finished below.
                    let record = ContainerRecord {
                        state: ContainerState::Created { failure: None },
                        ..(*record).clone()
                    };
                    // Only one that removes itself is ever noted so.
                    let request = super::RemoveRequest {
                        force: false,
                        volumes: record.spec.auto_remove,
                    };
                    self.employ(Arc::new(record));
                    self.remove(&id, request).await?;
                }
                _ if record.spec.auto_remove
                    && matches!(record.state, ContainerState::Exited(_)) =>
                {
                    self.employ(record);
                    let request = super::RemoveRequest {
                        force: false,
                        volumes: true,
                    };
                    self.remove(&id, request).await?;
                }
                ContainerState::Exited(exited) => {
                    let again = comes_back(&record, exited);
                    self.employ(record.clone());
                    if again {
                        starts.push(record);
                    }
                }
                // An actor begins with the restart that is due.
                ContainerState::Created { .. } | ContainerState::Restarting(_) => {
                    self.employ(record);
                }
            }
        }
        self.sweep().await;
        for record in self.list() {
            if let Some(place) = self.log_place(&record) {
                self.inner.logs.sweep(place);
            }
        }
        let logs = self.inner.logs.clone().run(self.inner.stopping.clone());
        self.inner.tasks.spawn(logs);
        let images = self.inner.parts.images.clone();
        let collector = images.collector(self.inner.stopping.clone());
        self.inner.tasks.spawn(collector);
        let volumes = self.volumes().clone();
        if let Err(error) = volumes.remove_unmade().await {
            tracing::warn!(
                error = hoist_model::chain(&error),
                "volumes of no container stay"
            );
        }
        let _ = tokio::task::spawn_blocking(move || volumes.sweep()).await;
        for id in dependencies::first_to_last(&starts) {
            if let Err(error) = self.start(&id).await {
                tracing::warn!(container = %id, %error, "restart policy could not start it");
            }
        }
        Ok(())
    }

    /// Undoes a start that the earlier engine did not live to note: nobody was told of it, and it lost its network.
    /// Left alone, its process would be nobody's.
    async fn undo_start(&self, record: &Arc<ContainerRecord>) {
        let (runtime, of) = (self.inner.parts.runtime.clone(), record.clone());
        let killed = tokio::task::spawn_blocking(move || {
            let killed = runtime.kill_all(&of);
            runtime.release(&of);
            runtime.forget(&of.id);
            killed
        });
        let killed = killed
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)));
        match killed {
            Ok(()) => {
                tracing::info!(container = %record.id, "what an earlier engine left of it is gone")
            }
            Err(error) => {
                tracing::error!(container = %record.id, %error, "what an earlier engine left of it stays");
            }
        }
    }

    async fn take_over(&self, record: Arc<ContainerRecord>) {
        let parts = &self.inner.parts;
        let id = record.id.clone();
        let adoption = parts.runtime.adopt(&record).await;
        tracing::info!(container = %id, ?adoption, "found from an earlier engine");
        match adoption {
            Adoption::Running { pid } => {
                let record = match &record.state {
                    // The earlier engine was ended before it could note that the start succeeded.
                    ContainerState::Starting => Arc::new(ContainerRecord {
                        state: ContainerState::Running(hoist_model::container::RunningState {
                            pid,
                            started_at: now(),
                            paused: false,
                            oom_killed: false,
                        }),
                        ..(*record).clone()
                    }),
                    _ => record,
                };
                let places = self.places(&record);
                let kept = parts.runtime.take_kept(&id);
                let restored = places.and_then(|places| {
                    let restored = parts.network.restore(&record, places, pid, kept);
                    restored.map_err(Into::into)
                });
                if let Err(error) = restored {
                    tracing::error!(container = %id, %error, "its network was not restored");
                }
                self.employ(record);
            }
            Adoption::Exited(notice) => self.employ_ended(record, notice),
            Adoption::Unknown => {
                let notice = ExitNotice {
                    of: ProcessOwner::Container(id),
                    exit_code: UNKNOWN_EXIT,
                    oom_killed: false,
                    finished_at: now(),
                    error: "exit status unknown: the process ended while no engine and no monitor watched"
                        .to_owned(),
                };
                self.employ_ended(record, notice);
            }
        }
    }

    /// An actor that finds the end of its process as its first message.
    fn employ_ended(&self, record: Arc<ContainerRecord>, notice: ExitNotice) {
        let record = match &record.state {
            ContainerState::Starting => Arc::new(ContainerRecord {
                state: ContainerState::Running(hoist_model::container::RunningState {
                    pid: 0,
                    started_at: notice.finished_at,
                    paused: false,
                    oom_killed: false,
                }),
                ..(*record).clone()
            }),
            _ => record,
        };
        let id = record.id.clone();
        self.employ(record);
        if let Ok(handle) = self.handle(&id) {
            let _ = handle.inbox.send(Message::Ended(notice));
        }
    }

    /// Removes snapshots, directories and kernel objects that belong to no container there is.
    async fn sweep(&self) {
        let known: HashSet<ContainerId> = self.list().iter().map(|c| c.id.clone()).collect();
        let parts = &self.inner.parts;
        let mut strangers: HashSet<ContainerId> =
            parts.images.snapshotter().prepared().into_iter().collect();
        for root in [&parts.root, &parts.etc_root] {
            let Ok(entries) = std::fs::read_dir(root) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                let swept = [super::create::GONE, hoist_image::Blanks::PREFIX];
                if let Ok(id) = name.parse() {
                    strangers.insert(id);
                } else if swept.iter().any(|prefix| name.starts_with(prefix))
                    && let Err(error) = super::create::remove_directory(&entry.path())
                {
                    tracing::warn!(path = %entry.path().display(), %error, "leftovers stay");
                }
            }
        }
        for id in strangers.difference(&known) {
            if let Err(error) = self.remove_files(id).await {
                tracing::warn!(container = %id, %error, "leftovers stay");
            }
        }
        for id in parts.runtime.leftovers() {
            if !known.contains(&id) {
                parts.runtime.sweep(&id);
            }
        }
        parts.images.collect().await;
    }
}
