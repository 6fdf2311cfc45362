//! Small blobs, manifests and configs, kept exactly as they came: those that images name. What no image names is collected
//! ([`crate::collect_garbage`]): whoever keeps documents of their own needs a store of their own.
//!
//! ```text
//! <root>/blobs/sha256/<64 hex>     one file per blob, read-only once there
//! <root>/blobs/sha256/.tmp-*       being written; swept when the store is opened
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hoist_model::{Digest, ErrorClass};

use crate::sha256::Sha256;

/// Why a blob could not be kept or given back.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The blob is not here.
    #[error("blob {0} not found")]
    NotFound(Digest),
    /// The stored bytes are not those the name promises.
    #[error("blob {wanted} is corrupt: its content is {found}")]
    Corrupt {
        /// The name.
        wanted: Digest,
        /// What the bytes hash to.
        found: Digest,
    },
    /// More bytes than the reader allows.
    #[error("blob {digest} has {size} bytes, more than the {limit} allowed")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The reader's limit in bytes.
        limit: u64,
    },
    /// The file system failed.
    #[error("{action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The failure.
        #[source]
        source: io::Error,
    },
}

impl ContentError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::TooLarge { .. } => ErrorClass::InvalidArgument,
            Self::Corrupt { .. } => ErrorClass::Internal,
            Self::Io { source, .. } => crate::snapshot::io_class(source),
        }
    }
}

/// A directory of small blobs named by their SHA-256.
#[derive(Debug)]
pub struct ContentStore {
    root: PathBuf,
    directory: PathBuf,
    temporaries: AtomicU64,
}

impl ContentStore {
    /// Opens or creates the store under `root` and sweeps what an interrupted write left.
    pub fn open(root: &Path) -> Result<Self, ContentError> {
        let store = Self::at(root);
        // The other is where a pull keeps the beginning of a layer: a pull that is refused leaves no directory either.
        for directory in [&store.directory, &store.root.join("partial")] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(io_at("creating", directory))?;
        }
        for name in store.names()? {
            if name.starts_with(".tmp-") {
                let path = store.directory.join(name);
                fs::remove_file(&path).map_err(io_at("removing", &path))?;
            }
        }
        Ok(store)
    }

    /// For who only reads: touches nothing.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            directory: root.join("blobs/sha256"),
            temporaries: AtomicU64::new(0),
        }
    }

    /// The image root that it is part of.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Keeps some bytes; idempotent. On disk (fsynced) when this returns. A blob that is here and damaged is replaced.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, ContentError> {
        let digest = Sha256::digest(bytes);
        let path = self.path(&digest);
        let length = bytes.len() as u64;
        if fs::metadata(&path).is_ok_and(|found| found.len() == length)
            && fs::read(&path).is_ok_and(|found| found == bytes)
        {
            return Ok(digest);
        }
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = self.directory.join(format!(".tmp-{number}"));
        let written = self.write(&temporary, &path, bytes);
        if let Err(source) = written {
            // Already failing: what cannot be removed now is swept at the next start.
            let _ = fs::remove_file(&temporary);
            return Err(io_at("writing", &path)(source));
        }
        Ok(digest)
    }

    fn write(&self, temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o400)
            .open(temporary)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(temporary, path)?;
        File::open(&self.directory)?.sync_all()
    }

    /// Gives a blob back after checking its digest; refuses one of more than `limit` bytes.
    pub fn get(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ContentError> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ContentError::NotFound(digest.clone()));
            }
            Err(error) => return Err(io_at("opening", &path)(error)),
        };
        let size = file.metadata().map_err(io_at("reading", &path))?.len();
        if size > limit {
            let digest = digest.clone();
            return Err(ContentError::TooLarge {
                digest,
                size,
                limit,
            });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(io_at("reading", &path))?;
        let found = Sha256::digest(&bytes);
        if found != *digest {
            let wanted = digest.clone();
            return Err(ContentError::Corrupt { wanted, found });
        }
        Ok(bytes)
    }

    /// Whether the blob is here.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        fs::metadata(self.path(digest)).is_ok()
    }

    /// Forgets a blob; one that is not here is no error.
    pub fn remove(&self, digest: &Digest) -> Result<(), ContentError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_at("removing", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Every blob here, in no order.
    pub fn list(&self) -> Result<Vec<Digest>, ContentError> {
        let names = self.names()?.into_iter();
        Ok(names
            .filter_map(|hex| format!("sha256:{hex}").parse().ok())
            .collect())
    }

    fn names(&self) -> Result<Vec<String>, ContentError> {
        let failed = io_at("reading", &self.directory);
        let listing = fs::read_dir(&self.directory).map_err(&failed)?;
        listing
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()
            .map_err(failed)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }
}

fn io_at(action: &'static str, path: &Path) -> impl Fn(io::Error) -> ContentError + use<> {
    let path = path.to_owned();
    move |source| ContentError::Io {
        action,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_come_back_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let store = ContentStore::open(root.path()).unwrap();
        let digest = store.put(b"hello").unwrap();
        assert_eq!(store.put(b"hello").unwrap(), digest);
        assert_eq!(store.get(&digest, 5).unwrap(), b"hello");
        assert!(matches!(
            store.get(&digest, 4),
            Err(ContentError::TooLarge { size: 5, .. })
        ));
        let path = store.path(&digest);
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"hellO").unwrap();
        assert!(matches!(
            store.get(&digest, 99),
            Err(ContentError::Corrupt { .. })
        ));
        store.put(b"hello").unwrap();
        assert_eq!(store.get(&digest, 5).unwrap(), b"hello");
        store.remove(&digest).unwrap();
        store.remove(&digest).unwrap();
        assert!(matches!(
            store.get(&digest, 99),
            Err(ContentError::NotFound(_))
        ));
    }

    #[test]
    fn leftovers_of_a_crash_are_swept() {
        let root = tempfile::tempdir().unwrap();
        let store = ContentStore::open(root.path()).unwrap();
        let digest = store.put(b"kept").unwrap();
        fs::write(store.directory.join(".tmp-7"), b"half").unwrap();
        let store = ContentStore::open(root.path()).unwrap();
        assert_eq!(store.names().unwrap(), [digest.hex()]);
        assert_eq!(store.list().unwrap(), [digest]);
    }
}
