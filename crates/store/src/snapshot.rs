//! All objects at one revision, shared.
//!
//! A snapshot is a few reference counts. The writer makes the next one by copying only what it changes: a
//! table is [`SHARDS`] small ordered maps, and changing an object copies one of them.

use std::any::Any;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use hoist_model::Revision;

use crate::record::Record;

const SHARDS: usize = 32;

type Object = Arc<dyn Any + Send + Sync>;
type Shard = BTreeMap<Arc<str>, Object>;

/// One table at one revision.
#[derive(Clone)]
struct Table {
    shards: Vec<Arc<Shard>>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            shards: vec![Arc::default(); SHARDS],
        }
    }
}

fn shard_of(key: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    // The remainder is below SHARDS, so it fits whatever the width of usize.
    usize::try_from(hasher.finish() % SHARDS as u64).unwrap_or(0)
}

/// All objects at one revision. Cloning is O(1) and never blocks the writer.
#[derive(Clone, Default)]
pub struct Snapshot {
    revision: Revision,
    tables: Arc<BTreeMap<&'static str, Arc<Table>>>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    /// The last revision this snapshot contains. Watch from it to see everything that came after.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// One object.
    #[must_use]
    pub fn get<R: Record>(&self, key: &str) -> Option<Arc<R>> {
        let table = self.tables.get(R::TABLE)?;
        typed(table.shards[shard_of(key)].get(key)?)
    }

    /// All objects of a table, ordered by key.
    #[must_use]
    pub fn list<R: Record>(&self) -> Vec<Arc<R>> {
        let Some(table) = self.tables.get(R::TABLE) else {
            return Vec::new();
        };
        let mut objects: Vec<_> = table.shards.iter().flat_map(|s| s.iter()).collect();
        objects.sort_unstable_by_key(|(key, _)| *key);
        objects.into_iter().filter_map(|(_, o)| typed(o)).collect()
    }

    /// How many objects a table has.
    #[must_use]
    pub fn count<R: Record>(&self) -> usize {
        self.tables
            .get(R::TABLE)
            .map_or(0, |table| table.shards.iter().map(|s| s.len()).sum())
    }

    pub(crate) fn set_revision(&mut self, revision: Revision) {
        self.revision = revision;
    }

    /// Puts (`Some`) or removes (`None`) an object; answers what was there.
    pub(crate) fn replace(
        &mut self,
        table: &'static str,
        key: &Arc<str>,
        object: Option<Object>,
    ) -> Option<Object> {
        let table = Arc::make_mut(Arc::make_mut(&mut self.tables).entry(table).or_default());
        let shard = &mut table.shards[shard_of(key)];
        match object {
            Some(object) => Arc::make_mut(shard).insert(key.clone(), object),
            None if shard.contains_key(key) => Arc::make_mut(shard).remove(key),
            None => None,
        }
    }
}

pub(crate) fn typed<R: Record>(object: &Object) -> Option<Arc<R>> {
    object.clone().downcast().ok()
}
