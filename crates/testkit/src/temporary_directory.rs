//! A directory that lives as long as its value.

use std::path::{Path, PathBuf};

/// A fresh directory under `$TMPDIR` (mode 0700), removed with everything in it on drop.
///
/// Set `HOIST_KEEP=1` to keep it and print its path, to look at what a failing test left.
#[derive(Debug)]
pub struct TemporaryDirectory {
    inner: Option<tempfile::TempDir>,
}

impl TemporaryDirectory {
    /// Makes the directory; `name` starts its last component, so that a leftover tells where it is from.
    ///
    /// # Panics
    /// When the directory cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let prefix = format!("hoist-{name}-");
        Self {
            inner: Some(tempfile::Builder::new().prefix(&prefix).tempdir().unwrap()),
        }
    }

    /// The directory's absolute path.
    ///
    /// # Panics
    /// Never: the directory is only given up on drop.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.inner.as_ref().expect("held until drop").path()
    }

    /// The path of `name` inside the directory.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        if std::env::var_os("HOIST_KEEP").is_some()
            && let Some(inner) = self.inner.take()
        {
            eprintln!("kept: {}", inner.keep().display());
        }
    }
}
