//! The document of a cache elsewhere: BuildKit's format (moby/buildkit v0.25.1, `cache/remotecache/v1/spec.go`), of which BuildKit reads all that is here.
//!
//! ```text
//! layers    blob, parent (-1: none), { mediaType, diffID, size, createdAt }
//! records   digest: "sha256:" and a step's key     chains: [ { layers: [what the step made, or nothing], createdAt } ]
//! ```
//!
//! BuildKit names a step by other digests than we do, so neither finds anything in the other's cache; each reads the other's and goes on.

use hoist_image::document::Descriptor;
use hoist_model::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

/// The media type of the document.
pub(crate) const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// The field of an image's config that has the records of a cache inside of an image: their JSON, in base64.
pub(crate) const INLINE_FIELD: &str = "moby.buildkit.cache.v0";
/// A layer's diff id, in the annotations of its descriptor.
pub(crate) const DIFF_ID: &str = "containerd.io/uncompressed";
/// Bytes of the document, and entries of each of its lists.
pub(crate) const DOCUMENT_LIMIT: u64 = 16 << 20;
pub(crate) const ENTRIES_LIMIT: usize = 50_000;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CacheDocument {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) layers: Vec<CacheLayer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) records: Vec<CacheEntry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CacheLayer {
    pub(crate) blob: Digest,
    /// Left out, it is the first layer.
    #[serde(default)]
    pub(crate) parent: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<LayerAnnotations>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LayerAnnotations {
    #[serde(default)]
    pub(crate) media_type: String,
    #[serde(rename = "diffID", default, skip_serializing_if = "Option::is_none")]
    pub(crate) diff_id: Option<Digest>,
    #[serde(default)]
    pub(crate) size: u64,
    pub(crate) created_at: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CacheEntry {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) chains: Vec<Chain>,
    #[serde(default)]
    pub(crate) digest: String,
}

/// Layers that are one upon another, and nothing below them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Chain {
    #[serde(default)]
    pub(crate) layers: Vec<usize>,
    #[serde(default)]
    pub(crate) created_at: String,
}

impl CacheEntry {
    pub(crate) fn new(key: &str, layer: Option<usize>, created: Timestamp) -> Self {
        Self {
            chains: vec![Chain {
                layers: layer.into_iter().collect(),
                created_at: created.to_string(),
            }],
            digest: format!("sha256:{key}"),
        }
    }
}

impl CacheLayer {
    pub(crate) fn new(descriptor: &Descriptor, diff_id: &Digest, created: Timestamp) -> Self {
        Self {
            blob: descriptor.digest.clone(),
            parent: -1,
            annotations: Some(LayerAnnotations {
                media_type: descriptor.media_type.clone(),
                diff_id: Some(diff_id.clone()),
                size: descriptor.size,
                created_at: created.to_string(),
            }),
        }
    }
}
