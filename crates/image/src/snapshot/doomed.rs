//! Files that lost their name and wait to be deleted.

use std::io;
use std::path::PathBuf;

/// A removed tree, deleted by [`Doomed::delete`] or, if nobody asks, when this is dropped. One that a crash keeps from it is
/// swept when the snapshotter is opened the next time.
///
/// Apart from the removal, because deleting takes as long as there are files (and with online discard a trip to the device for
/// each), and whoever asked for the removal need not wait for it.
#[must_use = "dropping it deletes the files here and now"]
#[derive(Debug)]
pub struct Doomed(Option<PathBuf>);

impl Doomed {
    pub(super) fn at(path: PathBuf) -> Self {
        Self(Some(path))
    }

    pub(super) fn nothing() -> Self {
        Self(None)
    }

    /// Deletes the files. Blocking.
    ///
    /// # Errors
    /// When the file system fails; what is left is swept later.
    pub fn delete(mut self) -> io::Result<()> {
        self.0
            .take()
            .map_or(Ok(()), |path| crate::removal::remove_any(&path))
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = crate::removal::remove_any(&path)
        {
            tracing::warn!(error = %error, "a removed directory stays until the next start");
        }
    }
}
