//! What was built before: by what a step does to which files, the layer it made.
//!
//! A key is a digest of the step's text and of the digests of all that it reads, so an entry is right for ever, whoever made it, from
//! whichever file. Entries keep their layers from being collected.

use std::sync::Arc;

use hoist_model::{Digest, Timestamp};
use hoist_store::{Class, Record, Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::fetched::LatestRecord;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// 64 hexadecimal digits.
    pub key: String,
    /// What it made; nothing if it changed nothing.
    pub layer: Option<Digest>,
    /// Bytes of the layer's files.
    pub size: u64,
    /// What it was, for people.
    pub description: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last of use.
    pub used: Timestamp,
    /// How often.
    pub uses: u64,
}

impl CacheRecord {
    /// What clients call its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.description.as_str() {
            "local source" => "source.local",
            _ => "regular",
        }
    }
}

impl Record for CacheRecord {
    const TABLE: &'static str = "build_cache";

    fn key(&self) -> String {
        self.key.clone()
    }
}

/// The entries.
#[derive(Clone)]
pub(crate) struct Cache {
    store: Store,
}

impl Cache {
    pub(crate) const fn new(store: Store) -> Self {
        Self { store }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<CacheRecord>> {
        self.store.snapshot().get::<CacheRecord>(key)
    }

    pub(crate) fn list(&self) -> Vec<Arc<CacheRecord>> {
        self.store.snapshot().list::<CacheRecord>()
    }

    /// Adds an entry. It is lost if the machine fails in the next moment; then the step is done again.
    pub(crate) async fn put(&self, record: CacheRecord) -> Result<(), StoreError> {
        let put = move |tx: &mut hoist_store::Transaction| {
            tx.put(Arc::new(record));
            Ok::<_, StoreError>(())
        };
        self.store.transaction(Class::Process, put).await.map(drop)
    }

    /// What told the last state of an address.
    pub(crate) fn latest(&self, place: &str) -> Option<String> {
        let record = self.store.snapshot().get::<LatestRecord>(place)?;
        Some(record.validator.clone())
    }

    /// Adds an entry of what was fetched, and that it is the last that came from there.
    pub(crate) async fn put_latest(
        &self,
        record: CacheRecord,
        latest: LatestRecord,
    ) -> Result<(), StoreError> {
        let put = move |tx: &mut hoist_store::Transaction| {
            tx.put(Arc::new(record));
            tx.put(Arc::new(latest));
            Ok::<_, StoreError>(())
        };
        self.store.transaction(Class::Process, put).await.map(drop)
    }

    /// Notes that entries were of use.
    pub(crate) async fn touch(&self, keys: Vec<String>, now: Timestamp) -> Result<(), StoreError> {
        let touch = move |tx: &mut hoist_store::Transaction| {
            for key in keys {
                if let Some(record) = tx.get::<CacheRecord>(&key) {
                    tx.put(Arc::new(CacheRecord {
                        used: now,
                        uses: record.uses + 1,
                        ..(*record).clone()
                    }));
                }
            }
            Ok::<_, StoreError>(())
        };
        self.store
            .transaction(Class::Process, touch)
            .await
            .map(drop)
    }

    /// Takes entries away.
    pub(crate) async fn remove(&self, keys: Vec<String>) -> Result<(), StoreError> {
        let remove = move |tx: &mut hoist_store::Transaction| {
            for key in keys {
                tx.delete::<CacheRecord>(&key);
            }
            Ok::<_, StoreError>(())
        };
        self.store.transaction(Class::Disk, remove).await.map(drop)
    }
}
