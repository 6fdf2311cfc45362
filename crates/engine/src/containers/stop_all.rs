//! The end of the machine: every container is stopped, those that need others before those they need, and stays wanted.
//!
//! dockerd does this when it ends itself (moby `daemon/daemon.go`, `Shutdown`), in no order; here containers outlive the
//! engine, so that a unit of the service manager asks for it before the machine goes down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hoist_model::ContainerId;
use hoist_model::container::ContainerState;
use tokio::task::JoinSet;

use super::message::Message;
use super::{Containers, StopRequest, WaitCondition, dependencies};
use crate::error::ContainerError;
use crate::records::ContainerRecord;

/// How often it is looked for containers that were started in the meantime.
const ROUNDS: u32 = 3;

/// One container that was to be stopped.
#[derive(Debug)]
pub struct Stopped {
    /// Which.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// What its process ended with, or why it did not.
    pub exit: Result<i32, ContainerError>,
}

impl Containers {
    /// Stops every container that runs or is about to run again, each with its own signal and time, at once where nothing
    /// needs another. What a person wants of them stays: after the next start of the engine restart policies bring back what
    /// ran. Answers in the order they ended. Takes as long as the slowest chain of containers that need each other.
    pub async fn stop_all(&self) -> Vec<Stopped> {
        let mut stopped: Vec<Stopped> = Vec::new();
        for _ in 0..ROUNDS {
            let mut live = self.list();
            live.retain(|container| {
                let known = stopped
                    .iter()
                    .any(|of| of.id == container.id && of.exit.is_err());
                is_live(&container.state) && !known
            });
            if live.is_empty() {
                break;
            }
            stopped.extend(self.stop_these(live).await);
        }
        stopped
    }

    async fn stop_these(&self, live: Vec<Arc<ContainerRecord>>) -> Vec<Stopped> {
        // First of all, so that no policy starts one again that ends because of another.
        for container in &live {
            // Refused where it has ended meanwhile.
            let _ = self.ask(&container.id, Message::Suspend).await;
        }
        let mut waiting = needed_by(&live);
        let mut records: BTreeMap<ContainerId, Arc<ContainerRecord>> =
            live.into_iter().map(|c| (c.id.clone(), c)).collect();
        let mut stops = JoinSet::new();
        let mut stopped = Vec::new();
        while !waiting.is_empty() || !stops.is_empty() {
            let mut free: Vec<ContainerId> = waiting
                .iter()
                .filter(|(_, by)| by.is_empty())
                .map(|(id, _)| id.clone())
                .collect();
            if free.is_empty() && stops.is_empty() {
                // A circle: all at once.
                free = waiting.keys().cloned().collect();
            }
            for id in free {
                waiting.remove(&id);
                if let Some(record) = records.remove(&id) {
                    let containers = self.clone();
                    stops.spawn(async move { containers.stop_one(&record).await });
                }
            }
            let Some(Ok(one)) = stops.join_next().await else {
                continue;
            };
            for by in waiting.values_mut() {
                by.remove(&one.id);
            }
            stopped.push(one);
        }
        stopped
    }

    async fn stop_one(&self, record: &ContainerRecord) -> Stopped {
        let exit = match self.wait(&record.id, WaitCondition::NotRunning) {
            Ok(ended) => match self.stop(&record.id, StopRequest::default()).await {
                Ok(_) => Ok(ended.await.exit_code),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = &exit {
            tracing::warn!(container = %record.id, %error, "was not stopped");
        }
        Stopped {
            id: record.id.clone(),
            name: record.name.clone(),
            exit,
        }
    }
}

fn is_live(state: &ContainerState) -> bool {
    matches!(
        state,
        ContainerState::Running(_) | ContainerState::Restarting(_)
    )
}

/// Who needs each of these: they are stopped before it.
fn needed_by(live: &[Arc<ContainerRecord>]) -> BTreeMap<ContainerId, BTreeSet<ContainerId>> {
    let mut by: BTreeMap<ContainerId, BTreeSet<ContainerId>> = live
        .iter()
        .map(|c| (c.id.clone(), BTreeSet::new()))
        .collect();
    for (id, needed) in dependencies::needs(live) {
        for other in needed {
            by.entry(other).or_default().insert(id.clone());
        }
    }
    by
}
