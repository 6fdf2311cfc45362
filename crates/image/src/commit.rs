//! `docker commit`: what a container changed becomes a layer, and an image over its image's.

use hoist_model::{Digest, ErrorClass, ImageReference, Timestamp};

use crate::changes::apply_change;
use crate::content::{ContentError, ContentStore};
use crate::document::{HistoryEntry, ImageConfig, ImageRuntimeConfig, RootFs};
use crate::files::{Change, FilesError, Root, pack_changes};
use crate::snapshot::{LayerError, Snapshotter};
use crate::stored::StoredImage;

/// What the caller of a commit says about the image.
#[derive(Clone, Debug)]
pub struct CommitOptions {
    /// The image the container was made of; a default where that is gone.
    pub base: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<Digest>,
    /// What containers of the new image begin with, before the changes.
    pub runtime: ImageRuntimeConfig,
    /// Dockerfile instructions, as `docker commit --change` gives them.
    pub changes: Vec<String>,
    /// Who.
    pub author: String,
    /// A note.
    pub message: String,
    /// What made the layer: the container's command.
    pub created_by: String,
    /// When.
    pub created: Timestamp,
    /// The name it gets, if any.
    pub reference: Option<ImageReference>,
}

/// Why a container could not become an image. No image exists then.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A `--change` is not an instruction that may change an image's config.
    #[error("invalid change {change:?}: {reason}")]
    Change {
        /// The text given.
        change: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The container's files could not be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The layer could not be stored.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The config could not be stored.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The config could not be written.
    #[error("writing the image's config")]
    Config(#[source] serde_json::Error),
}

impl CommitError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Change { .. } => ErrorClass::InvalidArgument,
            Self::Files(source) => source.class(),
            Self::Layer(source) => source.class(),
            Self::Content(source) => source.class(),
            Self::Config(_) => ErrorClass::Internal,
        }
    }
}

/// Stores changes of an upper directory as a layer, and the image over it. No changes make no layer, only a line of
/// history, as in Docker. Blocking.
pub fn commit_changes(
    upper: &Root,
    changes: &[Change],
    options: CommitOptions,
    content: &ContentStore,
    snapshotter: &dyn Snapshotter,
) -> Result<StoredImage, CommitError> {
    // The instructions first: a wrong one must not cost a layer.
    let mut runtime = options.runtime;
    for change in &options.changes {
        apply_change(&mut runtime, change).map_err(|reason| CommitError::Change {
            change: change.clone(),
            reason,
        })?;
    }
    let mut layers = options.layers;
    let mut size = 0;
    for layer in &layers {
        size += snapshotter.layer(layer)?.file_bytes;
    }
    if !changes.is_empty() {
        let mut writer = snapshotter.layer_writer()?;
        let packed = pack_changes(upper, changes, &mut writer);
        if let Err(error) = packed {
            // The writer, asked to finish, says what it refused; else the reading failed.
            return match error {
                FilesError::Output(_) => match writer.finish(None) {
                    Err(refused) => Err(refused.into()),
                    Ok(_) => Err(error.into()),
                },
                error => Err(error.into()),
            };
        }
        let record = writer.finish(None)?;
        size += record.file_bytes;
        layers.push(record.diff_id);
    }
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let created = options.created.to_string();
    let mut history = options.base.history;
    history.push(HistoryEntry {
        created: Some(created.clone()),
        author: text(&options.author),
        created_by: text(&options.created_by),
        comment: text(&options.message),
        empty_layer: changes.is_empty(),
        ..HistoryEntry::default()
    });
    let config = ImageConfig {
        created: Some(created),
        author: text(&options.author),
        architecture: options.base.architecture,
        os: options.base.os,
        variant: options.base.variant,
        os_version: options.base.os_version,
        config: runtime,
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: layers.clone(),
        },
        history,
        ..ImageConfig::default()
    };
    let bytes = serde_json::to_vec(&config).map_err(CommitError::Config)?;
    Ok(StoredImage {
        id: content.put(&bytes)?,
        layers,
        manifest: None,
        size,
        references: options.reference.into_iter().collect(),
        config,
    })
}
