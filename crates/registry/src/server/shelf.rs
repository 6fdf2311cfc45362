//! Images that somebody else keeps: the engine, in whose process this server may run.
//!
//! Such an image is given as it is kept: its config, and its layers as uncompressed tars, under a manifest that is made of their
//! digests and is the same each time. So nothing is copied or compressed, and the image's id is the same wherever it is pulled
//! to. What was pushed to this server itself comes first, for who pushed it finds it again; and what of a shelf a pushed manifest
//! names becomes the server's own by a link to the same file.

use std::fmt;
use std::fs::File;

use bytes::Bytes;
use hoist_image::document::media_type;
use hoist_model::Digest;
use serde_json::json;

use super::names::{Algorithm, ContentDigest, Reference, RepositoryName};

/// A port: where a server finds images that are not in its own directory. Every function blocks, briefly, and answers of the moment.
///
/// Implementations: the engine's images (`hoist::daemon::shelf`), and some that a test made up.
pub trait Shelf: Send + Sync {
    /// Every repository, as its name is in requests, and its tags; in any order.
    fn repositories(&self) -> Vec<(String, Vec<String>)>;
    /// The image that a tag names.
    fn image(&self, repository: &str, tag: &str) -> Option<HeldImage>;
    /// A layer's tar; the file's bytes never change.
    fn layer(&self, digest: &Digest) -> Option<File>;
}

/// An image on a shelf.
#[derive(Clone, Debug)]
pub struct HeldImage {
    /// Its config as it came, whose digest is its id.
    pub config: Bytes,
    /// Its layers' tars, bottom first: digest and bytes.
    pub layers: Vec<(Digest, u64)>,
}

impl fmt::Debug for dyn Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shelf")
    }
}

/// What a repository of a shelf has under a digest.
pub(crate) enum HeldBlob {
    Config(Bytes),
    Layer(File, u64),
}

impl HeldImage {
    fn config_digest(&self) -> ContentDigest {
        ContentDigest::of(Algorithm::Sha256, &self.config)
    }

    /// Its manifest and that one's digest.
    fn manifest(&self) -> (ContentDigest, Vec<u8>) {
        let descriptor = |kind: &str, digest: &str, size: u64| json!({"mediaType": kind, "digest": digest, "size": size});
        let layers = self.layers.iter();
        let layers =
            layers.map(|(digest, size)| descriptor(media_type::OCI_LAYER, digest.as_str(), *size));
        let config = self.config_digest().to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": descriptor(media_type::OCI_CONFIG, &config, self.config.len() as u64),
            "layers": layers.collect::<Vec<_>>(),
        });
        let bytes = manifest.to_string().into_bytes();
        (ContentDigest::of(Algorithm::Sha256, &bytes), bytes)
    }
}

/// What `library/app` is called here: clients for which this server is a mirror of Docker Hub call `app` so.
fn familiar(name: &RepositoryName) -> &str {
    match name.as_str().strip_prefix("library/") {
        Some(rest) if !rest.contains('/') => rest,
        _ => name.as_str(),
    }
}

impl dyn Shelf {
    pub(crate) fn tags(&self, name: &RepositoryName) -> Option<Vec<String>> {
        let found = self.repositories().into_iter();
        let mut found = found.filter(|(repository, _)| repository == familiar(name));
        found.next().map(|(_, tags)| tags)
    }

    /// A manifest and its digest.
    pub(crate) fn manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Option<(ContentDigest, Vec<u8>)> {
        match reference {
            Reference::Tag(tag) => Some(self.image(familiar(name), tag.as_str())?.manifest()),
            Reference::Digest(wanted) => {
                let manifests = self.images(name).map(|image| image.manifest());
                let mut found = manifests.filter(|(digest, _)| digest == wanted);
                found.next()
            }
        }
    }

    /// A blob of one of a repository's images.
    pub(crate) fn blob(&self, name: &RepositoryName, wanted: &ContentDigest) -> Option<HeldBlob> {
        let text = wanted.to_string();
        for image in self.images(name) {
            if let Some((digest, size)) = image
                .layers
                .iter()
                .find(|(digest, _)| digest.as_str() == text)
            {
                return Some(HeldBlob::Layer(self.layer(digest)?, *size));
            }
            if image.config_digest() == *wanted {
                return Some(HeldBlob::Config(image.config));
            }
        }
        None
    }

    fn images(&self, name: &RepositoryName) -> impl Iterator<Item = HeldImage> {
        let tags = self.tags(name).unwrap_or_default().into_iter();
        tags.filter_map(|tag| self.image(familiar(name), &tag))
    }
}
