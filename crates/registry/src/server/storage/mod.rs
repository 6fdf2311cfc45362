//! What the server keeps, as files that a crash at any moment leaves whole.
//!
//! ```text
//! <root>/token-key                                    32 bytes, if this server gives tokens
//! <root>/lock                                         held while a process uses the root
//! <root>/format                                       "hoist-registry 1"
//! <root>/blobs/<algorithm>/<2 hex>/<hex>              content, once for all repositories, read-only
//! <root>/uploads/<id>, <id>.of                        an upload under way, and the repository it is for
//! <root>/uploads/.tmp-<n>                             a small file being written; swept at the start
//! <root>/repositories/<name>/_layers/<alg>-<hex>      empty: the repository has this blob
//! <root>/repositories/<name>/_manifests/<alg>-<hex>   media type, bytes and depth of a manifest it has
//! <root>/repositories/<name>/_tags/<tag>              the digest
//! <root>/repositories/<name>/_referrers/<subject>/<alg>-<hex>   the descriptor of what refers to it
//! ```
//!
//! No component of a name begins with `_`, so names and these directories never meet. Everything is written beside, synced,
//! renamed, and its directory synced, before a reply says that it is there: content first, then what makes it part of a
//! repository, then its tag. A crash leaves content that nothing names, which [`Storage::collect`] takes away.
//!
//! All functions block.

mod blobs;
mod collect;
mod durable;
mod manifests;
mod repositories;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use rustix::fs::FlockOperation;

pub(crate) use self::collect::Ages;
pub(crate) use self::manifests::{ManifestLink, PutRefused};
use super::names::ContentDigest;

const FORMAT: &str = "hoist-registry 1\n";

/// Why the storage could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Another process has the root.
    #[error("{} is used by another process", .0.display())]
    Locked(PathBuf),
    /// Written by a version this one does not know.
    #[error("{} is not of a format that this version reads", .0.display())]
    Format(PathBuf),
    /// The file system failed.
    #[error("{action} {}", path.display())]
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

impl StorageError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> hoist_model::ErrorClass {
        match self {
            Self::Locked(_) => hoist_model::ErrorClass::Conflict,
            Self::Format(_) | Self::Io { .. } => hoist_model::ErrorClass::Internal,
        }
    }

    pub(super) fn at(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path: path.clone(),
            source,
        }
    }
}

/// A root directory and what is in it. One process at a time.
#[derive(Debug)]
pub(crate) struct Storage {
    root: PathBuf,
    /// Shared by what makes content part of a repository, alone by what takes content away: each for a moment.
    collecting: RwLock<()>,
    /// While a collection runs: what became part of a repository since it began to look.
    recent: Mutex<Option<HashSet<ContentDigest>>>,
    temporaries: AtomicU64,
    _lock: File,
}

impl Storage {
    /// Opens or creates a root, and sweeps what an interrupted write left.
    pub(crate) fn open(root: &Path) -> Result<Self, StorageError> {
        let at = StorageError::at;
        for directory in ["blobs", "uploads", "repositories"] {
            let path = root.join(directory);
            durable::make_directory(&path).map_err(at("creating", &path))?;
        }
        let path = root.join("lock");
        let lock = File::create(&path).map_err(at("creating", &path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StorageError::Locked(root.into())),
            Err(error) => return Err(at("locking", &path)(error.into())),
        }
        let storage = Self {
            root: root.to_owned(),
            collecting: RwLock::default(),
            recent: Mutex::default(),
            temporaries: AtomicU64::new(0),
            _lock: lock,
        };
        let uploads = storage.uploads();
        for entry in fs::read_dir(&uploads).map_err(at("reading", &uploads))? {
            let entry = entry.map_err(at("reading", &uploads))?;
            if entry.file_name().to_string_lossy().starts_with(".tmp-") {
                fs::remove_file(entry.path()).map_err(at("removing", &entry.path()))?;
            }
        }
        let path = root.join("format");
        match fs::read_to_string(&path) {
            Ok(text) if text == FORMAT => {}
            Ok(_) => return Err(StorageError::Format(root.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                storage.write(&path, FORMAT.as_bytes())?;
            }
            Err(error) => return Err(at("reading", &path)(error)),
        }
        Ok(storage)
    }

    /// The key of this server's own tokens, which hold over a restart.
    pub(crate) fn token_key(&self) -> Result<[u8; 32], StorageError> {
        let path = self.root.join("token-key");
        let at = StorageError::at("reading", &path);
        if let Some(bytes) = found(fs::read(&path)).map_err(&at)?
            && let Ok(key) = bytes.try_into()
        {
            return Ok(key);
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| at(io::Error::other(error)))?;
        self.write(&path, &key)?;
        Ok(key)
    }

    /// Where uploads are while they come.
    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// A name for a file that is being written.
    fn temporary(&self) -> PathBuf {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        self.uploads().join(format!(".tmp-{number}"))
    }

    /// Writes a small file whole or not at all, in place of an older one. Its directory exists afterwards.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
        let temporary = self.temporary();
        durable::write(&temporary, path, bytes).map_err(|error| {
            // Already failing: what cannot be removed now is swept at the next start.
            let _ = fs::remove_file(&temporary);
            StorageError::at("writing", path)(error)
        })
    }

    /// Keeps a collection from taking anything away while the guard lives.
    fn linking(&self) -> RwLockReadGuard<'_, ()> {
        self.collecting
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a collection that runs about content that becomes part of a repository. Under [`Self::linking`].
    fn note<'a>(&self, digests: impl IntoIterator<Item = &'a ContentDigest>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(recent) = recent.as_mut() {
            recent.extend(digests.into_iter().cloned());
        }
    }
}

/// `None` where the file system says that there is nothing.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
