//! What a transaction's closure sees and does.

use std::sync::Arc;

use hoist_model::{Event, Revision};

use crate::error::StoreError;
use crate::record::Record;
use crate::snapshot::Snapshot;
use crate::watch::Change;

/// A row to write: the document, or `None` to delete it.
pub(crate) struct Row {
    pub(crate) table: &'static str,
    pub(crate) key: Arc<str>,
    pub(crate) document: Option<String>,
}

/// A transaction in the making: reads see its own writes, nobody else sees them before it is committed.
///
/// Its closure runs while nobody else's can, so it must be short and must not block.
#[derive(Debug)]
pub struct Transaction {
    pub(crate) draft: Snapshot,
    pub(crate) revision: Revision,
    pub(crate) changes: Vec<Change>,
    pub(crate) events: Vec<Event>,
    pub(crate) rows: Vec<Row>,
    pub(crate) failure: Option<StoreError>,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.table, self.key)
    }
}

impl Transaction {
    pub(crate) fn new(base: &Snapshot, revision: Revision) -> Self {
        Self {
            draft: base.clone(),
            revision,
            changes: Vec::new(),
            events: Vec::new(),
            rows: Vec::new(),
            failure: None,
        }
    }

    /// The revision this transaction will make if it changes anything.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// One object.
    #[must_use]
    pub fn get<R: Record>(&self, key: &str) -> Option<Arc<R>> {
        self.draft.get(key)
    }

    /// All objects of a table, ordered by key.
    #[must_use]
    pub fn list<R: Record>(&self) -> Vec<Arc<R>> {
        self.draft.list()
    }

    /// Writes an object, new or not. If it cannot be serialised, the transaction fails as a whole when its closure returns.
    pub fn put<R: Record>(&mut self, object: Arc<R>) {
        let key: Arc<str> = object.key().into();
        match serde_json::to_string(object.as_ref()) {
            Ok(document) => self.rows.push(Row {
                table: R::TABLE,
                key: key.clone(),
                document: Some(document),
            }),
            Err(error) => {
                self.failure = Some(StoreError::Encode {
                    table: R::TABLE.to_owned(),
                    key: key.as_ref().to_owned(),
                    detail: error.to_string(),
                });
            }
        }
        self.draft.replace(R::TABLE, &key, Some(object.clone()));
        self.changes.push(Change::new(R::TABLE, key, Some(object)));
    }

    /// Removes an object; answers whether it was there.
    pub fn delete<R: Record>(&mut self, key: &str) -> bool {
        let key: Arc<str> = key.into();
        if self.draft.replace(R::TABLE, &key, None).is_none() {
            return false;
        }
        self.rows.push(Row {
            table: R::TABLE,
            key: key.clone(),
            document: None,
        });
        self.changes.push(Change::new(R::TABLE, key, None));
        true
    }

    /// Tells of something that happened, in the same transaction as the change.
    pub fn event(&mut self, event: Event) {
        self.events.push(event);
    }
}
