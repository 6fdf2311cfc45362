//! The manifests that an image came with: its own, and those beside it in the index that it was pulled by.

use hoist_image::document::{CONFIG_LIMIT, Descriptor, Document, media_type};
use hoist_model::{Digest, Platform};

use super::Images;
use crate::records::ImageRecord;

/// What BuildKit writes beside the manifest of an attestation (its `docs/attestations/attestation-storage.md`).
const KIND: &str = "vnd.docker.reference.type";
const OF: &str = "vnd.docker.reference.digest";

/// One manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestSummary {
    /// The manifest's media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// What it is.
    pub kind: ManifestKind,
}

/// What a manifest is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// This image: `content` bytes of documents are here.
    Here {
        /// Its platform.
        platform: Platform,
        /// Bytes of its manifest and its config.
        content: u64,
    },
    /// The same image for another platform, which is not here.
    Elsewhere(Platform),
    /// Statements about another manifest, which are not here.
    Attestation(Digest),
    /// Something else.
    Unknown,
}

impl Images {
    /// The manifests of an image; none of one that came without, as an import does.
    #[must_use]
    pub fn manifests(&self, image: &ImageRecord) -> Vec<ManifestSummary> {
        let mut found: Vec<ManifestSummary> = Vec::new();
        let names = self.references(&image.id);
        let named = names.iter().filter_map(|name| name.digest());
        for digest in named.chain(&image.manifest) {
            for one in self.read_manifests(image, digest) {
                if !found.iter().any(|known| known.digest == one.digest) {
                    found.push(one);
                }
            }
        }
        found
    }

    fn read_manifests(&self, image: &ImageRecord, digest: &Digest) -> Vec<ManifestSummary> {
        let Ok(bytes) = self.inner.content.get(digest, CONFIG_LIMIT) else {
            return Vec::new();
        };
        for kind in [media_type::OCI_INDEX, media_type::DOCKER_INDEX] {
            if let Ok(Document::Index(index)) = Document::parse(kind, &bytes) {
                let listed = index.manifests.iter();
                return listed.map(|one| self.listed(image, one)).collect();
            }
        }
        for kind in [media_type::DOCKER_MANIFEST, media_type::OCI_MANIFEST] {
            if let Ok(Document::Manifest(manifest)) = Document::parse(kind, &bytes)
                && manifest.config.digest == image.id
            {
                return vec![ManifestSummary {
                    media_type: kind.to_owned(),
                    digest: digest.clone(),
                    size: bytes.len() as u64,
                    kind: here(image, bytes.len() as u64 + manifest.config.size),
                }];
            }
        }
        Vec::new()
    }

    /// One that an index lists.
    fn listed(&self, image: &ImageRecord, listed: &Descriptor) -> ManifestSummary {
        let note = |name: &str| listed.annotations.as_ref().and_then(|all| all.get(name));
        let of = note(OF).and_then(|digest| digest.parse().ok());
        let kind = if image.manifest.as_ref() == Some(&listed.digest) {
            let config = self.inner.content.get(&image.id, CONFIG_LIMIT);
            here(
                image,
                listed.size + config.map_or(0, |bytes| bytes.len() as u64),
            )
        } else if note(KIND).is_some_and(|kind| kind == "attestation-manifest")
            && let Some(of) = of
        {
            ManifestKind::Attestation(of)
        } else {
            let platform = listed.platform.clone();
            platform.map_or(ManifestKind::Unknown, ManifestKind::Elsewhere)
        };
        ManifestSummary {
            media_type: listed.media_type.clone(),
            digest: listed.digest.clone(),
            size: listed.size,
            kind,
        }
    }
}

fn here(image: &ImageRecord, content: u64) -> ManifestKind {
    ManifestKind::Here {
        platform: image.platform.clone(),
        content,
    }
}
