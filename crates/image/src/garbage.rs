//! Removes what no image needs.

use std::collections::HashSet;

use hoist_model::Digest;

use crate::content::{ContentError, ContentStore};
use crate::snapshot::{LayerError, Snapshotter};
use crate::stored::StoredImage;

/// What a collection did.
#[derive(Debug, Default)]
pub struct Collected {
    /// Layers removed.
    pub layers: Vec<Digest>,
    /// Bytes of those layers' files.
    pub bytes: u64,
    /// Documents removed.
    pub blobs: Vec<Digest>,
    /// What could not be removed; the rest was.
    pub failed: Vec<CollectError>,
}

/// Why something could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A layer.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A document.
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl CollectError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> hoist_model::ErrorClass {
        match self {
            Self::Layer(source) => source.class(),
            Self::Content(source) => source.class(),
        }
    }
}

/// Removes every layer and document that none of `images` has. Layers that containers stand on stay.
///
/// Pulls, loads, imports and builds store parts before their image exists: the caller runs this only while none of them
/// runs (one lock: they share it, this takes it alone), and after any of them failed.
pub fn collect_garbage<'a>(
    images: impl IntoIterator<Item = &'a StoredImage>,
    content: &ContentStore,
    snapshotter: &dyn Snapshotter,
) -> Collected {
    let mut layers = HashSet::new();
    let mut blobs = HashSet::new();
    for image in images {
        layers.extend(&image.layers);
        blobs.insert(&image.id);
        blobs.extend(&image.manifest);
        blobs.extend(image.references.iter().filter_map(|name| name.digest()));
    }
    let mut collected = Collected::default();
    for layer in snapshotter.layers() {
        if layers.contains(&layer) {
            continue;
        }
        let bytes = snapshotter
            .layer(&layer)
            .map_or(0, |record| record.file_bytes);
        match snapshotter.remove_layer(&layer) {
            Ok(()) => {
                collected.bytes += bytes;
                collected.layers.push(layer);
            }
            Err(LayerError::InUse { .. }) => {}
            Err(error) => collected.failed.push(error.into()),
        }
    }
    let known = content.list().unwrap_or_else(|error| {
        collected.failed.push(error.into());
        Vec::new()
    });
    for blob in known {
        if blobs.contains(&blob) {
            continue;
        }
        match content.remove(&blob) {
            Ok(()) => collected.blobs.push(blob),
            Err(error) => collected.failed.push(error.into()),
        }
    }
    collected
}
