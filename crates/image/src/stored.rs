//! What a pull, load, import or build leaves: an image whose parts are all stored; and what a push takes and leaves.

use hoist_model::{Digest, ImageId, ImageReference, Repository};
use serde::{Deserialize, Serialize};

use crate::compress::LayerCompression;
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

/// An image that is to be pushed.
#[derive(Clone, Debug)]
pub struct OutgoingImage {
    /// The digest of its config, which the content store holds.
    pub id: ImageId,
    /// The diff ids, bottom first; the snapshotter has each.
    pub layers: Vec<Digest>,
    /// The manifest it came with.
    pub manifest: Option<Digest>,
    /// What is known of its layers elsewhere.
    pub known: Vec<KnownManifest>,
    /// How its layers are to be there.
    pub compression: LayerCompression,
}

/// A manifest that says how layers were transported, and which repositories had them so.
#[derive(Clone, Debug)]
pub struct KnownManifest {
    /// The manifest; one that is not in the content store tells nothing.
    pub manifest: Digest,
    /// The diff ids of its layers, in its order.
    pub layers: Vec<Digest>,
    /// Where it was seen.
    pub repositories: Vec<Repository>,
}

/// What a push made of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedImage {
    /// The digest of the manifest.
    pub digest: Digest,
    /// The manifest's bytes.
    pub size: u64,
}
