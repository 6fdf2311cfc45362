//! `docker import`: a root file system's tar becomes an image of one layer.

use std::io::{self, Read};

use hoist_model::{ErrorClass, ImageReference, Platform, Timestamp};

use crate::changes::apply_change;
use crate::content::{ContentError, ContentStore};
use crate::copy::{CopyError, copy_layer};
use crate::decompress::Decompressor;
use crate::document::{HistoryEntry, ImageConfig, ImageRuntimeConfig, RootFs};
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

/// Why a root file system could not be imported. No image exists then.
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
    // The changes first: a wrong one must not cost the upload of a layer.
    let mut runtime = ImageRuntimeConfig::default();
    for change in &options.changes {
        apply_change(&mut runtime, change).map_err(|reason| ImportError::Change {
            change: change.clone(),
            reason,
        })?;
    }
    let plain = Decompressor::new(reader, u64::MAX).map_err(ImportError::Read)?;
    let copied = copy_layer(plain, snapshotter.layer_writer()?, None, |_| {});
    let record = copied.map_err(|error| match error {
        CopyError::Read(source) => ImportError::Read(source),
        CopyError::Layer(source) => ImportError::Layer(source),
    })?;
    let created = options.created.to_string();
    let config = ImageConfig {
        created: Some(created.clone()),
        architecture: options.platform.architecture.clone(),
        os: options.platform.os.clone(),
        variant: options.platform.variant.clone(),
        config: runtime,
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: vec![record.diff_id.clone()],
        },
        history: vec![HistoryEntry {
            created: Some(created),
            comment: Some(options.message.clone()).filter(|text| !text.is_empty()),
            ..HistoryEntry::default()
        }],
        ..ImageConfig::default()
    };
    let bytes = serde_json::to_vec(&config).map_err(|error| ImportError::Read(error.into()))?;
    Ok(StoredImage {
        id: content.put(&bytes)?,
        layers: vec![record.diff_id],
        manifest: None,
        size: record.file_bytes,
        references: options.reference.iter().cloned().collect(),
        config,
    })
}
