//! `docker load`: archives in docker-save or OCI layout, read in a single pass.

mod docker;
mod oci;
mod parts;

use std::io::{self, Read};

use hoist_model::{Digest, ErrorClass, ImageReference, Platform, ProgressSink};

use crate::content::{ContentError, ContentStore};
use crate::document::{DocumentError, ImageConfig};
use crate::snapshot::{LayerError, Snapshotter};
use crate::stored::StoredImage;
use parts::Parts;

/// Why an archive could not be loaded. No image of it exists then.
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
    /// The archive holds images, and none for a platform that was asked for. In Docker's words.
    #[error("no images providing the requested platform(s) found: [{}]", listed(.0))]
    PlatformNotFound(Vec<Platform>),
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
    /// A layer's stream could not be decoded.
    #[error("layer {name}")]
    Decode {
        /// The entry.
        name: String,
        /// What the decoder met.
        #[source]
        source: io::Error,
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
            Self::PlatformNotFound(_) => ErrorClass::NotFound,
            _ => ErrorClass::InvalidArgument,
        }
    }
}

fn listed(platforms: &[Platform]) -> String {
    let platforms: Vec<String> = platforms.iter().map(Platform::to_string).collect();
    platforms.join(" ")
}

/// Loads every image of an archive (plain, gzip or zstd outside, and each layer likewise), or those for one of `platforms`,
/// where any are named.
///
/// Blocking, one pass: layers are stored as they stream by, before it is known which image needs them. What a failed load stored, and
/// layers no image of the archive named, are whole and unreferenced; [`crate::collect_garbage`] removes them.
pub fn load_archive(
    reader: impl Read,
    content: &ContentStore,
    snapshotter: &dyn Snapshotter,
    platforms: &[Platform],
    progress: ProgressSink<'_>,
) -> Result<Vec<StoredImage>, LoadError> {
    let parts = Parts::read(reader, snapshotter, progress)?;
    let loader = Loader {
        parts: &parts,
        content,
        snapshotter,
        platforms,
    };
    let mut found = Vec::new();
    let (is_docker, is_oci) = (parts.has("manifest.json"), parts.has("index.json"));
    if is_docker {
        found = docker::load(&loader)?;
    }
    // The other layout of an archive with both may hold more platforms.
    if found.is_empty() && is_oci {
        found = oci::load(&loader)?;
    }
    if found.is_empty() {
        return Err(if is_docker || is_oci {
            LoadError::PlatformNotFound(platforms.to_vec())
        } else {
            LoadError::NotAnImage
        });
    }
    Ok(merge(found))
}

/// An archive may list an image once for each of its names.
fn merge(found: Vec<StoredImage>) -> Vec<StoredImage> {
    let mut images: Vec<StoredImage> = Vec::new();
    for image in found {
        match images.iter_mut().find(|known| known.id == image.id) {
            Some(known) => {
                known.references.extend(image.references);
                known.references.sort();
                known.references.dedup();
            }
            None => images.push(image),
        }
    }
    images
}

/// What both layouts need to turn parts into images.
struct Loader<'a> {
    parts: &'a Parts,
    content: &'a ContentStore,
    snapshotter: &'a dyn Snapshotter,
    /// Those that are wanted; none is every one that an archive in Docker's layout has, and the host's of an OCI layout.
    platforms: &'a [Platform],
}

impl Loader<'_> {
    /// Checks that an image is whole, and stores its config. `layers` are the entries that should be its layers. `None`: it is
    /// for another platform than those wanted.
    fn image(
        &self,
        config_name: &str,
        layers: &[String],
        manifest: Option<&[u8]>,
        references: Vec<ImageReference>,
    ) -> Result<Option<StoredImage>, LoadError> {
        let bytes = self.parts.document(config_name)?;
        let config = ImageConfig::parse(bytes).map_err(|source| LoadError::Document {
            name: config_name.to_owned(),
            source,
        })?;
        let own = config.platform();
        let is_wanted = |wanted: &Platform| own.satisfies(wanted);
        if !self.platforms.is_empty() && !self.platforms.iter().any(is_wanted) {
            return Ok(None);
        }
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != layers.len() {
            return Err(invalid(
                config_name,
                "image config",
                format!(
                    "it has {} layers, the manifest {}",
                    diff_ids.len(),
                    layers.len()
                ),
            ));
        }
        let mut size = 0;
        for (name, wanted) in layers.iter().zip(diff_ids) {
            let found = match self.parts.layer(name) {
                Err(LoadError::Missing(_)) if self.snapshotter.has_layer(wanted) => wanted,
                found => found?,
            };
            if found != wanted {
                return Err(LoadError::Mismatch {
                    name: name.clone(),
                    wanted: wanted.clone(),
                    found: found.clone(),
                });
            }
            let record = self.snapshotter.layer(wanted);
            size += record
                .map_err(|source| LoadError::Layer {
                    name: name.clone(),
                    source,
                })?
                .file_bytes;
        }
        Ok(Some(StoredImage {
            id: self.content.put(bytes)?,
            layers: diff_ids.clone(),
            manifest: manifest.map(|bytes| self.content.put(bytes)).transpose()?,
            size,
            references,
            config,
        }))
    }
}

fn invalid(name: &str, what: &'static str, reason: String) -> LoadError {
    LoadError::Document {
        name: name.to_owned(),
        source: DocumentError::Invalid { what, reason },
    }
}
