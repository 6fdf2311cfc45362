//! What `hoist fsck` sees of an image root: which files are there, and whether they are what their names say.
//!
//! Everything here only reads, by path: beside an engine that runs as well as in a data root that none has open. What is
//! found is judged by who knows the records (`hoist_engine::images`), and mended through [`crate::Snapshotter`].

mod inventory;
mod layer;
mod tree;

use std::io;
use std::path::Path;

use hoist_model::Digest;

pub use inventory::{Inventory, LayerParts, Stray, StrayKind};
pub use layer::{LayerCheck, PartState, check_layer};
pub(crate) use tree::compare;

use crate::content::{ContentError, ContentStore};

/// Checks a blob's bytes against its name. Its length, or `None` when it is not here (any more).
///
/// # Errors
/// [`ContentError::Corrupt`] when its bytes are others; otherwise the file system failed.
pub fn check_blob(root: &Path, digest: &Digest) -> Result<Option<u64>, ContentError> {
    match ContentStore::at(root).get(digest, u64::MAX) {
        Ok(bytes) => Ok(Some(bytes.len() as u64)),
        Err(ContentError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A blob's bytes, checked against its name; see [`check_blob`].
///
/// # Errors
/// As of [`ContentStore::get`].
pub fn read_blob(root: &Path, digest: &Digest) -> Result<Vec<u8>, ContentError> {
    ContentStore::at(root).get(digest, u64::MAX)
}

/// Removes a file or a whole directory that is a [`Stray`] which an engine left. Blocking.
///
/// # Errors
/// The file system's.
pub fn remove_leftover(path: &Path) -> io::Result<()> {
    crate::removal::remove_any(path)
}
