//! What can go wrong with the store.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hoist_model::ErrorClass;

/// A failure of the store. Cheap to clone: one failed group answers each of its transactions with it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory of the store cannot be made.
    #[error("cannot create the store's directory {path}")]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// The file cannot be written: a read-only disk, for one.
    #[error("cannot write the store {path}")]
    Unwritable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// The file cannot be opened or prepared.
    #[error("cannot open the store {path}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// Another engine has the store open.
    #[error("the store {path} is in use by another engine")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// A newer Hoist wrote this store.
    #[error(
        "the store {path} has format {found}; this hoist reads up to {supported}: use a newer hoist"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// The format found.
        found: i64,
        /// The newest format this version reads.
        supported: i64,
    },
    /// The file is damaged, or is no store at all.
    #[error("the store {path} is damaged: {detail}")]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// An object's document cannot be read.
    #[error("the object {key:?} of table {table} cannot be read: {detail}")]
    Decode {
        /// Which table.
        table: String,
        /// Which object.
        key: String,
        /// What the parser said.
        detail: String,
    },
    /// An object cannot be turned into a document.
    #[error("the object {key:?} of table {table} cannot be written: {detail}")]
    Encode {
        /// Which table.
        table: String,
        /// Which object.
        key: String,
        /// What the serialiser said.
        detail: String,
    },
    /// No space is left for the store. Nothing of the transaction was kept; it may be tried again.
    #[error("no space left for the store {path}")]
    Full {
        /// Which file.
        path: PathBuf,
    },
    /// The file could not be written. Nothing of the transaction was kept.
    #[error("cannot write the store {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The closure of a transaction panicked; nothing of it was kept.
    #[error("a transaction panicked: {detail}")]
    Panicked {
        /// The panic's message.
        detail: String,
    },
    /// The writer has stopped.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// What kind of failure this is.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::InUse { .. } => ErrorClass::Conflict,
            Self::Full { .. } | Self::Closed => ErrorClass::Unavailable,
            _ => ErrorClass::Internal,
        }
    }
}
