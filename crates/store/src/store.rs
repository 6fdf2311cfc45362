//! The handle.

use std::path::Path;

use hoist_model::{Event, Revision, Timestamp};

use crate::builder::Builder;
use crate::error::StoreError;
use crate::pending::Pending;
use crate::snapshot::Snapshot;
use crate::transaction::Transaction;
use crate::watch::Watch;

/// When a transaction counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Written, not synced: survives `kill -9` of the engine; a power cut loses at most the last second.
    Process,
    /// Synced to the disk.
    Disk,
}

/// A handle on the store; clones share it. The last one dropped writes out what is queued and closes the file.
#[derive(Clone, Debug)]
pub struct Store {}

impl Store {
    /// Begins to describe a store.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn open(_dir: &Path, _builder: Builder) -> Result<Self, StoreError> {
        unimplemented!()
    }

    /// Runs `body` on the writer's thread, in order with all other transactions, and commits what it did if
    /// it returns `Ok`; an `Err` or a panic leaves no trace. A transaction that changes nothing and tells no event
    /// makes no revision and touches no file.
    pub fn transaction<T, E, F>(&self, _class: Class, _body: F) -> Pending<T, E>
    where
        F: FnOnce(&mut Transaction) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        unimplemented!()
    }

    /// All objects now. O(1); never blocks on the file.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        unimplemented!()
    }

    /// Commits after `from`, or from now on. If `from` is older than the ring, the first read says `Lost`.
    #[must_use]
    pub fn watch(&self, _from: Option<Revision>) -> Watch {
        unimplemented!()
    }

    /// Stored events with `since <= at <= until`, oldest first. `Committed::revision` says up to which
    /// revision the answer is complete: watch from it to go on without gap or repeat.
    pub fn events(
        &self,
        _since: Option<Timestamp>,
        _until: Option<Timestamp>,
    ) -> Pending<Vec<(Revision, Event)>, StoreError> {
        unimplemented!()
    }
}
