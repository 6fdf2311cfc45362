//! What a builder keeps: told of, and let go of.

use std::sync::Arc;

use hoist_model::{Digest, chain};
use hoist_store::Store;
use sha2::{Digest as _, Sha256};

use crate::builder::Builder;
use crate::cache::CacheRecord;
use crate::solve::key_of;

/// What a prune of the cache let go of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Keys of entries.
    pub keys: Vec<String>,
    /// Bytes of their layers' files.
    pub bytes: u64,
}

/// How much a prune leaves; all zero is nothing (BuildKit's `PruneInfo`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that the cache may have.
    pub max_used: u64,
    /// Bytes that it may have whatever the others say.
    pub reserved: u64,
    /// Bytes that are to be free on its file system.
    pub min_free: u64,
}

impl Budget {
    /// Bytes that are kept of so many where so many are free; none: no bound, all goes that is wanted gone.
    fn kept(&self, total: u64, free: u64) -> Option<u64> {
        if *self == Self::default() {
            return None;
        }
        let mut kept = match self.max_used {
            // Only what has to be free counts, then, or what is reserved alone.
            0 if self.min_free > 0 => total,
            most => most,
        };
        if let Some(excess) = self.min_free.checked_sub(free) {
            kept = kept.min(total.saturating_sub(excess));
        }
        Some(kept.max(self.reserved))
    }
}

impl Builder {
    /// Bytes that are free where layers are; none can be said to be where the file system does not tell.
    fn free_bytes(&self) -> u64 {
        let told = rustix::fs::statvfs(self.tools.mounts.root());
        told.map_or(u64::MAX, |told| told.f_bavail.saturating_mul(told.f_frsize))
    }

    /// Lets go of what is in the cache, where a build found no room: what of it is no image is collected, and the next build has the room.
    pub(crate) async fn make_room(&self) {
        match self.prune(|_| true).await {
            Ok(pruned) => tracing::warn!(
                entries = pruned.keys.len(),
                bytes = pruned.bytes,
                "no room for a build: its cache is let go of"
            ),
            Err(error) => tracing::warn!(
                error = chain(&error),
                "no room for a build, and its cache cannot be let go of"
            ),
        }
    }

    /// Keeps a context that somebody may send again, in the cache, under a key of theirs; what it was before is let go of.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn keep_context(
        &self,
        name: &str,
        layer: &Digest,
    ) -> Result<(), hoist_store::StoreError> {
        let now = (self.clock)();
        let record = CacheRecord {
            key: key_of(Sha256::new_with_prefix(format!(
                "hoist build context 1\n{name}"
            ))),
            size: self
                .tools
                .snapshotter
                .layer(layer)
                .map_or(0, |record| record.file_bytes),
            layer: Some(layer.clone()),
            description: "local source".to_owned(),
            created: now,
            used: now,
            uses: 1,
        };
        self.tools.cache.put(record).await
    }

    /// The cache's entries, in no order.
    #[must_use]
    pub fn cached(&self) -> Vec<Arc<CacheRecord>> {
        let mut records = self.tools.cache.list();
        let contexts = self.contexts.list();
        records.extend(contexts.iter().map(|context| Arc::new(context.entry())));
        records
    }

    /// Lets go of the entries that `wanted` says. Their layers go when they are collected.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn prune(
        &self,
        wanted: impl Fn(&CacheRecord) -> bool,
    ) -> Result<Pruned, hoist_store::StoreError> {
        self.prune_to(&Budget::default(), wanted).await
    }

    /// Lets go of those of the entries that `wanted` says that were of use longest ago, until what is left keeps to the budget.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn prune_to(
        &self,
        budget: &Budget,
        wanted: impl Fn(&CacheRecord) -> bool,
    ) -> Result<Pruned, hoist_store::StoreError> {
        let mut records = self.cached();
        records.sort_by_key(|record| record.used);
        let mut left: u64 = records.iter().map(|record| record.size).sum();
        let kept = match budget.min_free {
            0 => budget.kept(left, u64::MAX),
            _ => budget.kept(left, self.free_bytes()),
        };
        let mut pruned = Pruned::default();
        for record in records.into_iter().filter(|record| wanted(record)) {
            if kept.is_some_and(|kept| left <= kept) {
                break;
            }
            left -= record.size;
            pruned.bytes += record.size;
            pruned.keys.push(record.key.clone());
        }
        self.tools.cache.remove(pruned.keys.clone()).await?;
        // A key is of one or of the other.
        self.contexts.remove(pruned.keys.clone()).await?;
        Ok(pruned)
    }
}

/// Layers that cache entries keep, for who collects.
#[must_use]
pub fn cached_layers(store: &Store) -> Vec<Digest> {
    let records = store.snapshot().list::<CacheRecord>();
    let layers = records.iter().filter_map(|record| record.layer.clone());
    layers.chain(crate::contexts::layers(store)).collect()
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn a_budget_bounds_what_is_kept() {
        let kept = |max_used, reserved, min_free, free| {
            let budget = Budget {
                max_used,
                reserved,
                min_free,
            };
            budget.kept(100, free)
        };
        assert_eq!(kept(0, 0, 0, 5), None);
        assert_eq!(kept(40, 0, 0, 5), Some(40));
        assert_eq!(kept(0, 30, 0, 5), Some(30));
        assert_eq!(kept(40, 60, 0, 5), Some(60));
        // Enough is free, or ten bytes too little, or more than there are.
        assert_eq!(kept(0, 0, 20, 20), Some(100));
        assert_eq!(kept(0, 0, 20, 10), Some(90));
        assert_eq!(kept(95, 0, 20, 10), Some(90));
        assert_eq!(kept(0, 0, 900, 10), Some(0));
        assert_eq!(kept(0, 50, 900, 10), Some(50));
    }
}
