//! What a pull, load, import or build leaves: an image whose parts are all stored.

use hoist_model::{Digest, ImageId, ImageReference};
use serde::{Deserialize, Serialize};

use crate::document::ImageConfig;

/// An image that is wholly here: its config in the content store, its layers in the snapshotter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredImage {
    /// The digest of the raw config, which the content store holds under this name.
    pub id: ImageId,
    /// The config, parsed.
    pub config: ImageConfig,
    /// The diff ids, bottom first, as `config.rootfs.diff_ids` lists them.
    pub layers: Vec<Digest>,
    /// The manifest the image came with, kept raw in the content store.
    pub manifest: Option<Digest>,
    /// Bytes of all layers' files (what `docker images` shows as SIZE).
    pub size: u64,
    /// The names it came with: `name:tag` and, of a pull, `name@digest`.
    pub references: Vec<ImageReference>,
}
