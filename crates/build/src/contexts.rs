//! Contexts that stay: what a client sent is a layer, and whoever says what it has to send need not send the same again.
//!
//! A client names the place that it sends from (a *slot*, one directory of one machine) and the state that it is in (a *key*, a digest of
//! what tells one state from another: the client's business). One state is kept per slot: the next takes its place.

use std::sync::Arc;

use hoist_model::{Digest, Timestamp, chain};
use hoist_store::{Class, Record, Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::Builder;
use crate::cache::CacheRecord;

/// Which state of which place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContextName {
    /// The place: 64 hexadecimal digits.
    pub slot: String,
    /// Its state: 64 hexadecimal digits.
    pub key: String,
}

/// A context that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextRecord {
    /// Which one.
    pub name: ContextName,
    /// Its files.
    pub layer: Digest,
    /// Bytes of them.
    pub size: u64,
    /// What it is, for people.
    pub description: String,
    /// When it came.
    pub created: Timestamp,
    /// When it was last of use.
    pub used: Timestamp,
    /// How often.
    pub uses: u64,
}

impl Record for ContextRecord {
    const TABLE: &'static str = "build_contexts";

    fn key(&self) -> String {
        self.name.slot.clone()
    }
}

/// The contexts that are kept.
#[derive(Clone)]
pub(crate) struct Contexts {
    store: Store,
}

impl Contexts {
    pub(crate) const fn new(store: Store) -> Self {
        Self { store }
    }

    fn get(&self, name: &ContextName) -> Option<Arc<ContextRecord>> {
        let record = self.store.snapshot().get::<ContextRecord>(&name.slot)?;
        (record.name.key == name.key).then_some(record)
    }

    pub(crate) fn list(&self) -> Vec<Arc<ContextRecord>> {
        self.store.snapshot().list::<ContextRecord>()
    }

    async fn put(&self, record: ContextRecord) -> Result<(), StoreError> {
        let put = move |tx: &mut hoist_store::Transaction| {
            tx.put(Arc::new(record));
            Ok::<_, StoreError>(())
        };
        self.store.transaction(Class::Process, put).await.map(drop)
    }

    pub(crate) async fn remove(&self, slots: Vec<String>) -> Result<(), StoreError> {
        let remove = move |tx: &mut hoist_store::Transaction| {
            for slot in slots {
                tx.delete::<ContextRecord>(&slot);
            }
            Ok::<_, StoreError>(())
        };
        self.store.transaction(Class::Disk, remove).await.map(drop)
    }
}

impl ContextRecord {
    /// As an entry of the cache, which it is told of and pruned as.
    pub(crate) fn entry(&self) -> CacheRecord {
        CacheRecord {
            key: self.name.slot.clone(),
            layer: Some(self.layer.clone()),
            size: self.size,
            description: "local source".to_owned(),
            created: self.created,
            used: self.used,
            uses: self.uses,
        }
    }
}

/// Layers that contexts keep, for who collects.
pub(crate) fn layers(store: &Store) -> Vec<Digest> {
    let records = store.snapshot().list::<ContextRecord>();
    records.iter().map(|record| record.layer.clone()).collect()
}

impl Builder {
    /// The files of a context, if they are here in the state that is named.
    #[must_use]
    pub fn kept_context(&self, name: &ContextName) -> Option<Digest> {
        let record = self.contexts.get(name)?;
        let here = self.tools.snapshotter.has_layer(&record.layer);
        here.then(|| record.layer.clone())
    }

    /// Keeps a context, in place of what its slot held. Its layer has to be held against collection until this returns. That it cannot be
    /// kept is no failure: it is sent again.
    pub async fn keep_sent(&self, name: ContextName, layer: Digest, description: String) {
        let now = (self.clock)();
        let size = self.tools.snapshotter.layer(&layer);
        let record = ContextRecord {
            name,
            size: size.map_or(0, |layer| layer.file_bytes),
            layer,
            description,
            created: now,
            used: now,
            uses: 1,
        };
        if let Err(error) = self.contexts.put(record).await {
            tracing::warn!(error = chain(&error), "a build context is not kept");
        }
    }

    /// Notes that a context was of use.
    pub async fn use_context(&self, name: &ContextName) {
        let Some(record) = self.contexts.get(name) else {
            return;
        };
        let record = ContextRecord {
            used: (self.clock)(),
            uses: record.uses + 1,
            ..(*record).clone()
        };
        if let Err(error) = self.contexts.put(record).await {
            tracing::warn!(error = chain(&error), "the use of a context is not noted");
        }
    }

    /// Keeps a context no longer.
    pub async fn forget_context(&self, name: &ContextName) {
        if let Err(error) = self.contexts.remove(vec![name.slot.clone()]).await {
            tracing::warn!(
                error = chain(&error),
                "a context is kept that is of no more use"
            );
        }
    }
}
