//! Small blobs, manifests and configs, kept exactly as they came.
//!
//! ```text
//! <root>/blobs/sha256/<64 hex>     one file per blob, read-only once there
//! <root>/blobs/sha256/.tmp-*       being written; swept when the store is opened
//! ```

use std::io;
use std::path::{Path, PathBuf};

use hoist_model::{Digest, ErrorClass};

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
    directory: PathBuf,
}

impl ContentStore {
    /// Opens or creates the store under `root` and sweeps what an interrupted write left.
    pub fn open(root: &Path) -> Result<Self, ContentError> {
        let _ = root;
        unimplemented!()
    }

    /// Keeps some bytes; idempotent. On disk (fsynced) when this returns.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, ContentError> {
        let _ = (bytes, &self.directory);
        unimplemented!()
    }

    /// Gives a blob back after checking its digest; refuses one of more than `limit` bytes.
    pub fn get(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ContentError> {
        let _ = (digest, limit);
        unimplemented!()
    }

    /// Whether the blob is here.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        let _ = digest;
        unimplemented!()
    }

    /// Forgets a blob; one that is not here is no error.
    pub fn remove(&self, digest: &Digest) -> Result<(), ContentError> {
        let _ = digest;
        unimplemented!()
    }

    /// Every blob here, in no order.
    pub fn list(&self) -> Result<Vec<Digest>, ContentError> {
        unimplemented!()
    }
}
