//! The transactional store: every object of one engine, with revisions, snapshots, events and watch.
//!
//! One SQLite file holds the objects; all of them are also in memory as shared snapshots, so reads never
//! touch the file. One writer orders transactions: it runs their closures, writes a group of them in
//! one SQLite transaction, and only then shows the result to readers and watchers. So a transaction either
//! is everywhere (file, memory, watchers) or nowhere, a full disk included, and closures never conflict.
//!
//! ```
//! # use std::sync::Arc;
//! # use serde::{Deserialize, Serialize};
//! use hoist_store::{Class, Record, Store, StoreError};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Volume { name: String }
//! impl Record for Volume {
//!     const TABLE: &'static str = "volumes";
//!     fn key(&self) -> String { self.name.clone() }
//! }
//!
//! # let dir = tempfile::tempdir().expect("a directory");
//! let store = Store::builder().table::<Volume>().open(dir.path())?;
//! let committed = store
//!     .transaction(Class::Disk, |tx| {
//!         tx.put(Arc::new(Volume { name: "data".into() }));
//!         Ok::<_, StoreError>(())
//!     })
//!     .wait()?; // or `.await`
//! let snapshot = store.snapshot();
//! assert_eq!(snapshot.get::<Volume>("data").map(|v| v.name.clone()), Some("data".into()));
//! assert!(snapshot.revision() >= committed.revision);
//! # Ok::<(), StoreError>(())
//! ```
//!
//! - **Classes** ([`Class`]): a reply waits until its transaction is on the disk, or only until it has left
//!   this process; the second survives `kill -9` of the engine and loses at most a second to a power cut.
//! - **Watch** ([`Store::watch`]): a bounded ring of the last commits. Take a [`Snapshot`], then watch from its
//!   revision; a watcher that lags is told [`Lost`] and begins again.
//! - **Events** ([`Transaction::event`], [`Store::events`]): rows of the same transaction as the change they
//!   tell, pruned by age and count. They live in the file only.
//! - No tokio runtime is needed: [`Pending`] and [`Watch`] can be awaited on any executor or waited for.
//!
//! Absent on purpose: migrations between engines, queries other than by key and by table, several processes
//! on one store (the second is refused).

mod builder;
mod database;
mod error;
mod pending;
mod record;
mod snapshot;
mod store;
mod transaction;
mod watch;
mod writer;

pub use builder::Builder;
pub use error::StoreError;
pub use pending::{Committed, Pending};
pub use record::Record;
pub use snapshot::Snapshot;
pub use store::{Class, Statistics, Store};
pub use transaction::Transaction;
pub use watch::{Change, Commit, Lost, Watch};
