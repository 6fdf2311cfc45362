//! `docker load`: archives in docker-save or OCI layout, read in a single pass.

use std::io::{self, Read};

use hoist_model::{Digest, ErrorClass, ProgressSink};

use crate::content::{ContentError, ContentStore};
use crate::document::DocumentError;
use crate::snapshot::{LayerError, Snapshotter};
use crate::stored::StoredImage;

/// Why an archive could not be loaded. Nothing of it is kept then.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The archive has neither `manifest.json` nor `index.json`.
    #[error("invalid archive: it has neither manifest.json nor index.json")]
    NotAnImage,
    /// The manifest names something the archive does not hold.
    #[error("invalid archive: {0} is named by the manifest and missing")]
    Missing(String),
    /// A blob or layer is not what the archive promises.
    #[error("invalid archive: {name} should be {wanted} and is {found}")]
    Mismatch {
        /// The entry.
        name: String,
        /// The digest promised.
        wanted: Digest,
        /// The digest found.
        found: Digest,
    },
    /// The archive holds images for other platforms only.
    #[error("invalid archive: no image for {0}")]
    NoPlatform(String),
    /// A document of the archive is malformed.
    #[error("{name}")]
    Document {
        /// The entry.
        name: String,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// A layer could not be stored.
    #[error("layer {name}")]
    Layer {
        /// The entry.
        name: String,
        /// What is wrong with it.
        #[source]
        source: LayerError,
    },
    /// The archive could not be read.
    #[error("reading the archive")]
    Read(#[source] io::Error),
    /// A document could not be stored.
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl LoadError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Layer { source, .. } => source.class(),
            Self::Content(source) => source.class(),
            _ => ErrorClass::InvalidArgument,
        }
    }
}

/// Loads every image of an archive (plain, gzip or zstd outside, and each layer likewise).
///
/// Blocking. Layers that are already here are not stored again. On failure, layers this call added are removed.
pub fn load_archive(
    reader: impl Read,
    content: &ContentStore,
    snapshotter: &dyn Snapshotter,
    progress: ProgressSink<'_>,
) -> Result<Vec<StoredImage>, LoadError> {
    let _ = (reader, content, snapshotter, progress);
    unimplemented!()
}
