//! Tells of out-of-memory kills when they happen, not only when the container ends.
//!
//! One descriptor and one sleeping task per container that has a memory limit; others have neither.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hoist_cgroup::Group;
use hoist_model::ContainerId;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::launch_spec::Machine;

/// Version 1 tells that memory ran out before it kills: how long to wait between looks at the count of kills.
const LOOKS: [Duration; 4] = [
    Duration::from_millis(2),
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::ZERO,
];

/// Watches the memory of containers.
#[derive(Clone)]
pub(crate) struct OomWatches {
    report: mpsc::UnboundedSender<ContainerId>,
    /// Those that are watched. Locked for single look-ups and changes.
    watched: Arc<Mutex<HashSet<ContainerId>>>,
}

impl OomWatches {
    /// Every kill is reported as the container it happened in.
    pub(crate) fn new(report: mpsc::UnboundedSender<ContainerId>) -> Self {
        Self {
            report,
            watched: Arc::default(),
        }
    }

    /// Watches a running container until its control groups are gone; once, however often it is called. `is_told` where
    /// an earlier engine told of what was killed so far.
    pub(crate) fn watch(&self, machine: &Machine, id: &ContainerId, is_told: bool) {
        let added = self.with(|watched| watched.insert(id.clone()));
        if !added {
            return;
        }
        let (watches, id, group) = (self.clone(), id.clone(), machine.group(id));
        // Owned by the group: it ends with it, for its descriptor becomes readable then.
        tokio::spawn(async move {
            if let Err(error) = watches.follow(&id, &group, is_told).await {
                tracing::debug!(container = %id, %error, "out-of-memory kills are told at its end only");
            }
            watches.with(|watched| watched.remove(&id));
        });
    }

    async fn follow(&self, id: &ContainerId, group: &Group, is_told: bool) -> anyhow::Result<()> {
        let Some(watch) = group.oom_watch()? else {
            return Ok(());
        };
        // Not a pipe, but read the same way: tokio only waits and reads.
        let watch = pipe::Receiver::from_owned_fd_unchecked(watch.into())?;
        let mut drained = [0; 4096];
        let mut told = if is_told { group.oom_kills()? } else { 0 };
        let mut woken = false;
        loop {
            for wait in &LOOKS {
                let kills = group.oom_kills()?;
                for _ in told..kills {
                    if self.report.send(id.clone()).is_err() {
                        return Ok(());
                    }
                }
                if kills > told {
                    told = kills;
                    break;
                }
                if woken {
                    tokio::time::sleep(*wait).await;
                }
            }
            woken = true;
            if group.procs().is_err() {
                return Ok(());
            }
            watch.readable().await?;
            while watch.try_read(&mut drained).is_ok_and(|count| count > 0) {}
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashSet<ContainerId>) -> T) -> T {
        change(&mut self.watched.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
