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

impl Builder {
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
        let mut pruned = Pruned::default();
        for record in self.cached() {
            if wanted(&record) {
                pruned.bytes += record.size;
                pruned.keys.push(record.key.clone());
            }
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
