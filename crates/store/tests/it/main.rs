//! The store as its users see it: durability, refusal of foreign files, watching, budgets.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod child;
mod format;
mod objects;
mod survival;
mod watching;

use std::path::Path;
use std::sync::Arc;

use hoist_model::{Event, EventKind, Timestamp};
use hoist_store::{Record, Store, StoreError};
use serde::{Deserialize, Serialize};

/// A small object of the tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Thing {
    name: String,
    size: u64,
}

impl Record for Thing {
    const TABLE: &'static str = "things";

    fn key(&self) -> String {
        self.name.clone()
    }
}

pub(crate) fn thing(name: &str, size: u64) -> Arc<Thing> {
    Arc::new(Thing {
        name: name.to_owned(),
        size,
    })
}

pub(crate) fn event(at: i64, action: &str) -> Event {
    Event {
        at: Timestamp::from_seconds(at),
        kind: EventKind::Container,
        action: action.to_owned(),
        actor: "c".to_owned(),
        attributes: [("name".to_owned(), "web".to_owned())].into(),
    }
}

pub(crate) fn open(dir: &Path) -> Result<Store, StoreError> {
    Store::builder().table::<Thing>().open(dir)
}
