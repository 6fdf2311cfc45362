//! Manifests as a registry reads them: what they name, and nothing that two readers could take for two things.
//!
//! Other than `hoist_image::document` this takes artifacts too: any media types of config and layers (OCI image 1.1,
//! "Guidelines for Artifact Usage"), both digest algorithms, and fields that nobody knows.

use std::collections::BTreeMap;

use hoist_image::document::media_type;
use serde::Deserialize;
use serde_json::{Value, json};

use super::names::ContentDigest;

/// Bytes a manifest may have.
pub(crate) const LARGEST: usize = 4 << 20;
/// How deep indexes may be nested; Docker's clients follow one.
pub(crate) const DEEPEST: u32 = 4;

/// A descriptor, as far as a registry cares.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Named {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: ContentDigest,
    pub(crate) size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

impl Named {
    /// Layers that come from elsewhere (OCI image 1.1, "Non-Distributable Layers"; Docker's foreign layers).
    fn is_foreign(&self) -> bool {
        let by_type =
            self.media_type.contains(".nondistributable.") || self.media_type.contains(".foreign.");
        by_type || self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Named>,
    #[serde(default)]
    layers: Option<Vec<Named>>,
    #[serde(default)]
    manifests: Option<Vec<Named>>,
    #[serde(default)]
    subject: Option<Named>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// A manifest that reads.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) media_type: String,
    /// Config and layers that have to be in the repository.
    pub(crate) blobs: Vec<Named>,
    /// Of an index.
    pub(crate) manifests: Vec<Named>,
    /// What it refers to, which need not be there.
    pub(crate) subject: Option<ContentDigest>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

/// Why a manifest does not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("the manifest is malformed")]
    Malformed(#[from] serde_json::Error),
    #[error("unsupported media type {0:?}")]
    MediaType(String),
    #[error("the manifest is invalid: {0}")]
    Invalid(&'static str),
}

impl Checked {
    /// Reads what came as `content_type`, or what was stored when that was checked.
    pub(crate) fn read(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, Unreadable> {
        let raw: Raw = serde_json::from_slice(bytes)?;
        if raw.schema_version != 2 {
            return Err(Unreadable::Invalid("its schemaVersion is not 2"));
        }
        let told = content_type.map(|text| text.split(';').next().unwrap_or("").trim().to_owned());
        let kind = match (told, &raw.media_type) {
            (Some(told), Some(own)) if told != *own => {
                return Err(Unreadable::Invalid(
                    "its mediaType is not the Content-Type it came with",
                ));
            }
            (Some(told), _) => told,
            (None, Some(own)) => own.clone(),
            // OCI's may be silent: then it is what it has (and never both, see below).
            (None, None) if raw.manifests.is_some() => media_type::OCI_INDEX.to_owned(),
            (None, None) => media_type::OCI_MANIFEST.to_owned(),
        };
        let has_image = raw.config.is_some() || raw.layers.is_some();
        let (blobs, manifests, artifact_type) = match kind.as_str() {
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => {
                if raw.manifests.is_some() {
                    return Err(Unreadable::Invalid("it has both layers and manifests"));
                }
                let config = raw.config.ok_or(Unreadable::Invalid("it has no config"))?;
                let layers = raw.layers.ok_or(Unreadable::Invalid("it has no layers"))?;
                let artifact_type = raw
                    .artifact_type
                    .or_else(|| Some(config.media_type.clone()));
                let all = [config].into_iter().chain(layers);
                (
                    all.filter(|blob| !blob.is_foreign()).collect(),
                    Vec::new(),
                    artifact_type,
                )
            }
            media_type::OCI_INDEX | media_type::DOCKER_INDEX => {
                if has_image {
                    return Err(Unreadable::Invalid(
                        "it has both manifests and layers or a config",
                    ));
                }
                let manifests = raw
                    .manifests
                    .ok_or(Unreadable::Invalid("it has no manifests"))?;
                (Vec::new(), manifests, raw.artifact_type)
            }
            _ => return Err(Unreadable::MediaType(kind)),
        };
        Ok(Self {
            media_type: kind,
            blobs,
            manifests,
            subject: raw.subject.map(|subject| subject.digest),
            artifact_type,
            annotations: raw.annotations,
        })
    }

    /// As a list of referrers has it (OCI distribution 1.1, "Listing Referrers").
    pub(crate) fn descriptor(&self, digest: &ContentDigest, size: usize) -> Value {
        let mut descriptor =
            json!({"mediaType": self.media_type, "digest": digest.to_string(), "size": size});
        if let Some(kind) = &self.artifact_type {
            descriptor["artifactType"] = json!(kind);
        }
        if let Some(annotations) = &self.annotations {
            descriptor["annotations"] = json!(annotations);
        }
        descriptor
    }
}
