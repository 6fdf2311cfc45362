//! Opening a store.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::StoreError;
use crate::record::Record;
use crate::store::Store;

pub(crate) type Decode = fn(&str) -> Result<Arc<dyn Any + Send + Sync>, serde_json::Error>;

/// What a store holds and how much it remembers. Made by [`Store::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) tables: BTreeMap<&'static str, Decode>,
    pub(crate) events_kept: usize,
    pub(crate) events_age: Duration,
    pub(crate) ring: usize,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            tables: BTreeMap::new(),
            events_kept: 10_000,
            events_age: Duration::from_secs(7 * 24 * 3600),
            ring: 1024,
        }
    }

    /// Names a table; its objects are read into memory when the store opens. Objects of tables that are not
    /// named stay in the file, unseen and untouched.
    #[must_use]
    pub fn table<R: Record>(mut self) -> Self {
        self.tables.insert(R::TABLE, |document| {
            serde_json::from_str::<R>(document).map(|object| Arc::new(object) as _)
        });
        self
    }

    /// How many events are kept, and for how long after the newest; 10,000 and a week unless said.
    #[must_use]
    pub fn keep_events(mut self, count: usize, age: Duration) -> Self {
        self.events_kept = count;
        self.events_age = age;
        self
    }

    /// How many commits a watcher may lag behind; 1,024 unless said.
    #[must_use]
    pub fn watch_ring(mut self, commits: usize) -> Self {
        self.ring = commits.max(1);
        self
    }

    /// Opens or creates the store `state.db` in a directory, which is made (mode 0700) if it is missing. Blocks.
    pub fn open(self, dir: &Path) -> Result<Store, StoreError> {
        Store::open(dir, &self)
    }
}
