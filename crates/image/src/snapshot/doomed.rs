//! Files that lost their name and wait to be deleted.

use std::io;
use std::path::PathBuf;

/// Removed files and trees, deleted by [`Doomed::delete`] or, if nobody asks, when this is dropped. One that a crash keeps from it is
/// swept when the snapshotter is opened the next time.
///
/// Apart from the removal, because deleting takes as long as there are files (and with online discard a trip to the device for
/// each), and whoever asked for the removal need not wait for it.
#[must_use = "dropping it deletes the files here and now"]
#[derive(Debug)]
pub struct Doomed(Vec<PathBuf>);

impl Doomed {
    pub(super) fn at(path: PathBuf) -> Self {
        Self(vec![path])
    }

    pub(super) fn nothing() -> Self {
        Self(Vec::new())
    }

    /// One more with it.
    pub(super) fn and(&mut self, path: PathBuf) {
        self.0.push(path);
    }

    /// Deletes the files. Blocking.
    ///
    /// # Errors
    /// When the file system fails; what is left is swept later.
    pub fn delete(mut self) -> io::Result<()> {
        delete_all(std::mem::take(&mut self.0))
    }
}

/// Every one is tried; the first failure is told.
fn delete_all(paths: Vec<PathBuf>) -> io::Result<()> {
    let mut failure = None;
    for path in paths {
        if let Err(error) = crate::removal::remove_any(&path) {
            failure.get_or_insert(error);
        }
    }
    failure.map_or(Ok(()), Err)
}

impl Drop for Doomed {
    fn drop(&mut self) {
        if let Err(error) = delete_all(std::mem::take(&mut self.0)) {
            tracing::warn!(error = %error, "removed files stay until the next start");
        }
    }
}
