//! Watching commits: a bounded ring of the last ones, and who reads it.
//!
//! One mutex guards the ring; it is held for a push or a clone of a few reference counts. `Notify` wakes
//! those who await, the condition variable those who block. A slow reader costs nothing: it finds its place
//! overwritten and is told [`Lost`].

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoist_model::{Event, Revision};
use tokio::sync::Notify;

use crate::record::Record;
use crate::snapshot::typed;

/// One object that a commit put or removed.
#[derive(Clone)]
pub struct Change {
    table: &'static str,
    key: Arc<str>,
    object: Option<Arc<dyn Any + Send + Sync>>,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.object.is_some() { '+' } else { '-' };
        write!(f, "{sign}{}/{}", self.table, self.key)
    }
}

impl Change {
    pub(crate) fn new(
        table: &'static str,
        key: Arc<str>,
        object: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Self {
        Self { table, key, object }
    }

    /// Whether it concerns the table of `R`.
    #[must_use]
    pub fn is<R: Record>(&self) -> bool {
        self.table == R::TABLE
    }

    /// The object's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The object as it is now; `None` if it was removed or is of another table.
    #[must_use]
    pub fn object<R: Record>(&self) -> Option<Arc<R>> {
        self.object.as_ref().and_then(typed)
    }
}

/// One transaction as watchers see it.
#[derive(Debug)]
pub struct Commit {
    /// The revision it made.
    pub revision: Revision,
    /// The objects it changed, in order.
    pub changes: Vec<Change>,
    /// What it told.
    pub events: Vec<Event>,
}

/// The watcher fell behind the ring, or its starting point is no longer there: take a snapshot and watch from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watch lost commits after revision {}", after.0)]
pub struct Lost {
    /// The last revision that was delivered.
    pub after: Revision,
}

struct Entries {
    commits: VecDeque<Arc<Commit>>,
    /// Every commit after this revision is in `commits`.
    floor: Revision,
    closed: bool,
}

pub(crate) struct Ring {
    capacity: usize,
    entries: Mutex<Entries>,
    awaiting: Notify,
    blocking: Condvar,
}

impl Ring {
    pub(crate) fn new(capacity: usize, floor: Revision) -> Self {
        Self {
            capacity,
            entries: Mutex::new(Entries {
                commits: VecDeque::new(),
                floor,
                closed: false,
            }),
            awaiting: Notify::new(),
            blocking: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, commits: impl IntoIterator<Item = Arc<Commit>>) {
        let mut entries = self.lock();
        for commit in commits {
            if entries.commits.len() == self.capacity
                && let Some(oldest) = entries.commits.pop_front()
            {
                entries.floor = oldest.revision;
            }
            entries.commits.push_back(commit);
        }
        drop(entries);
        self.awaiting.notify_waiters();
        self.blocking.notify_all();
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.awaiting.notify_waiters();
        self.blocking.notify_all();
    }
}

/// A reader of commits, in order, none twice.
pub struct Watch {
    ring: Arc<Ring>,
    after: Revision,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

impl Watch {
    pub(crate) fn new(ring: Arc<Ring>, after: Revision) -> Self {
        Self { ring, after }
    }

    fn take(&mut self, entries: &Entries) -> Option<Result<Option<Arc<Commit>>, Lost>> {
        if self.after < entries.floor {
            return Some(Err(Lost { after: self.after }));
        }
        let next = entries
            .commits
            .partition_point(|commit| commit.revision <= self.after);
        if let Some(commit) = entries.commits.get(next) {
            self.after = commit.revision;
            return Some(Ok(Some(commit.clone())));
        }
        entries.closed.then_some(Ok(None))
    }

    /// The next commit; `None` once the store is closed. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Arc<Commit>>, Lost> {
        let ring = self.ring.clone();
        loop {
            let mut woken = std::pin::pin!(ring.awaiting.notified());
            // Registered before looking, so that a push in between is not missed.
            woken.as_mut().enable();
            let found = self.take(&ring.lock());
            if let Some(found) = found {
                return found;
            }
            woken.await;
        }
    }

    /// The next commit if there is one by now.
    pub fn try_next(&mut self) -> Result<Option<Arc<Commit>>, Lost> {
        let ring = self.ring.clone();
        let found = self.take(&ring.lock());
        found.unwrap_or(Ok(None))
    }

    /// Blocks for the next commit, for at most `bound`; `None` if none came or the store is closed.
    pub fn wait(&mut self, bound: Duration) -> Result<Option<Arc<Commit>>, Lost> {
        let ring = self.ring.clone();
        let mut found = None;
        let (_entries, _timeout) = ring
            .blocking
            .wait_timeout_while(ring.lock(), bound, |entries| {
                found = self.take(entries);
                found.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner);
        found.unwrap_or(Ok(None))
    }
}
