//! `docker import`: a root file system's tar becomes an image of one layer.

use std::io::{self, Read};

use hoist_model::{ErrorClass, ImageReference, Platform, Timestamp};

use crate::content::{ContentError, ContentStore};
use crate::snapshot::{LayerError, Snapshotter};
use crate::stored::StoredImage;

/// What the caller of an import says about the image.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// Dockerfile instructions (`CMD ["sh"]`, `ENV A=b`), as `docker import --change` gives them.
    pub changes: Vec<String>,
    /// The comment of the one history entry.
    pub message: String,
    /// What the image is for; the host's platform where none is said.
    pub platform: Platform,
    /// The image's time of creation.
    pub created: Timestamp,
    /// The name it gets, if any.
    pub reference: Option<ImageReference>,
}

/// Why a root file system could not be imported. Nothing is kept then.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A `--change` is not an instruction that may change an image's config.
    #[error("invalid change {change:?}: {reason}")]
    Change {
        /// The text given.
        change: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The stream could not be read or decoded.
    #[error("reading the archive")]
    Read(#[source] io::Error),
    /// The layer could not be stored.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The config could not be stored.
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl ImportError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Change { .. } | Self::Read(_) => ErrorClass::InvalidArgument,
            Self::Layer(source) => source.class(),
            Self::Content(source) => source.class(),
        }
    }
}

/// Stores a tar (plain, gzip or zstd) as a one-layer image. Blocking.
pub fn import_rootfs(
    reader: impl Read,
    options: &ImportOptions,
    content: &ContentStore,
    snapshotter: &dyn Snapshotter,
) -> Result<StoredImage, ImportError> {
    let _ = (reader, options, content, snapshotter);
    unimplemented!()
}
