//! Image manifests and indexes (OCI image spec 1.1; Docker manifest schema 2).

use std::collections::BTreeMap;

use hoist_model::{Digest, Platform};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CONFIG_LIMIT, DocumentError, MANIFEST_LIMIT};
use crate::snapshot::MAX_LAYERS;

/// The media types Hoist reads.
pub mod media_type {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, plain tar.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

    /// Whether a layer of this type is a tar that Hoist can unpack (foreign, encrypted and artifact layers are not).
    #[must_use]
    pub fn is_layer(text: &str) -> bool {
        matches!(
            text,
            OCI_LAYER
                | OCI_LAYER_GZIP
                | OCI_LAYER_ZSTD
                | DOCKER_LAYER_GZIP
                | "application/vnd.docker.image.rootfs.diff.tar"
                | "application/vnd.docker.image.rootfs.diff.tar.zstd"
        )
    }
}

/// A reference to content: what it is, its digest and its size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's bytes.
    pub size: u64,
    /// What the content runs on, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free-form notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Fields this version does not know (`urls`, `data`, `artifactType`, …).
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Descriptor {
    /// Of content of which nothing else is to be said; `size` in bytes.
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            annotations: None,
            extra: Map::new(),
        }
    }
}

/// One image: a config and layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// What the document says it is; OCI allows silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers as transported, bottom first.
    pub layers: Vec<Descriptor>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The same image for several platforms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// What the document says it is; OCI allows silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// One descriptor for each manifest.
    pub manifests: Vec<Descriptor>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a manifest request may answer.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "made once per pull and matched at once"
)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

impl Document {
    /// Reads a document of the media type that its descriptor or the `Content-Type` header named (parameters such as
    /// `; charset=utf-8` are ignored).
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Self, DocumentError> {
        let named = media_type.split(';').next().unwrap_or("").trim();
        match named {
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => {
                let manifest: Manifest = read("manifest", bytes, "manifests")?;
                check(
                    "manifest",
                    manifest.schema_version,
                    named,
                    manifest.media_type.as_deref(),
                )?;
                manifest.check()?;
                Ok(Self::Manifest(manifest))
            }
            media_type::OCI_INDEX | media_type::DOCKER_INDEX => {
                let index: Index = read("index", bytes, "layers")?;
                check(
                    "index",
                    index.schema_version,
                    named,
                    index.media_type.as_deref(),
                )?;
                if index.manifests.len() > MANIFESTS_LIMIT {
                    return Err(invalid(
                        "index",
                        format!(
                            "it lists {} manifests, more than {MANIFESTS_LIMIT}",
                            index.manifests.len()
                        ),
                    ));
                }
                Ok(Self::Index(index))
            }
            _ => Err(DocumentError::MediaType(media_type.to_owned())),
        }
    }
}

/// Manifests one index may list.
const MANIFESTS_LIMIT: usize = 1024;

impl Manifest {
    fn check(&self) -> Result<(), DocumentError> {
        if self.layers.len() > MAX_LAYERS {
            let reason = format!(
                "it has {} layers, more than {MAX_LAYERS}",
                self.layers.len()
            );
            return Err(invalid("manifest", reason));
        }
        if self.config.size > CONFIG_LIMIT {
            return Err(DocumentError::TooLarge {
                what: "image config",
                size: self.config.size,
                limit: CONFIG_LIMIT,
            });
        }
        Ok(())
    }
}

/// Parses a document that must not have the field `foreign`, the mark of the other kind.
fn read<T: for<'de> Deserialize<'de>>(
    what: &'static str,
    bytes: &[u8],
    foreign: &str,
) -> Result<T, DocumentError> {
    let size = bytes.len() as u64;
    if size > MANIFEST_LIMIT {
        return Err(DocumentError::TooLarge {
            what,
            size,
            limit: MANIFEST_LIMIT,
        });
    }
    let malformed = |source| DocumentError::Malformed { what, source };
    let fields: Map<String, Value> = serde_json::from_slice(bytes).map_err(malformed)?;
    // Go's parser, and so every other client, takes names in any case.
    if let Some(name) = fields
        .keys()
        .find(|name| name.eq_ignore_ascii_case(foreign) || name.eq_ignore_ascii_case("fsLayers"))
    {
        return Err(invalid(
            what,
            format!("it has {name:?}, which is not a field of this kind of document"),
        ));
    }
    // From the bytes and not from `fields`, so that a field that comes twice is refused.
    serde_json::from_slice(bytes).map_err(malformed)
}

fn check(
    what: &'static str,
    schema: u32,
    named: &str,
    inside: Option<&str>,
) -> Result<(), DocumentError> {
    if schema != 2 {
        return Err(invalid(
            what,
            format!("its schemaVersion is {schema}, not 2"),
        ));
    }
    match inside {
        Some(inside) if inside != named => Err(invalid(
            what,
            format!("it was announced as {named:?} and calls itself {inside:?}"),
        )),
        _ => Ok(()),
    }
}

fn invalid(what: &'static str, reason: String) -> DocumentError {
    DocumentError::Invalid { what, reason }
}

impl Index {
    /// The manifest for a platform: the first whose platform satisfies `wanted`, attestations passed over.
    /// An exact match of the variant goes before a compatible one.
    #[must_use]
    pub fn select(&self, wanted: &Platform) -> Option<&Descriptor> {
        let mut fitting = self.manifests.iter().filter(|descriptor| {
            let platform = descriptor.platform.as_ref();
            platform.is_some_and(|platform| platform.satisfies(wanted))
        });
        let first = fitting.next()?;
        let variant = |descriptor: &Descriptor| {
            let platform = descriptor.platform.as_ref();
            platform.and_then(|platform| platform.variant.clone())
        };
        if variant(first) == wanted.variant {
            return Some(first);
        }
        Some(
            fitting
                .find(|d| variant(d) == wanted.variant)
                .unwrap_or(first),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn manifest(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{DIGEST}","size":2,"urls":["x"]}},
                "layers":[],"annotations":{{"a":"b"}}{extra}}}"#
        )
    }

    #[test]
    fn unknown_fields_survive() {
        let parsed = Document::parse(
            "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
            manifest("").as_bytes(),
        );
        let Ok(Document::Manifest(parsed)) = parsed else {
            panic!("{parsed:?}");
        };
        let back = serde_json::to_value(&parsed).unwrap();
        assert_eq!(back["annotations"]["a"], "b");
        assert_eq!(back["config"]["urls"][0], "x");
    }

    #[test]
    fn documents_that_could_be_two_things_are_refused() {
        for (media_type, text) in [
            (media_type::OCI_MANIFEST, manifest(r#","manifests":[]"#)),
            (media_type::OCI_MANIFEST, manifest(r#","Manifests":null"#)),
            (media_type::OCI_MANIFEST, manifest(r#","layers":[]"#)),
            (media_type::OCI_MANIFEST, manifest(r#","fsLayers":[]"#)),
            (
                media_type::OCI_MANIFEST,
                manifest(r#","mediaType":"application/vnd.oci.image.index.v1+json""#),
            ),
            (media_type::OCI_INDEX, manifest("")),
            (
                media_type::DOCKER_INDEX,
                r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.into(),
            ),
            ("application/json", manifest("")),
            (media_type::OCI_MANIFEST, "[".repeat(100_000)),
        ] {
            let result = Document::parse(media_type, text.as_bytes());
            assert!(result.is_err(), "{media_type} {text:.200}");
        }
    }

    #[test]
    fn the_platform_is_chosen_and_attestations_are_not() {
        let entry = |platform: &str| {
            format!(
                r#"{{"mediaType":"m","digest":"{DIGEST}","size":{},"platform":{platform}}}"#,
                platform.len()
            )
        };
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{},{},{}]}}"#,
            entry(r#"{"os":"unknown","architecture":"unknown"}"#),
            entry(r#"{"os":"linux","architecture":"arm","variant":"v6"}"#),
            entry(r#"{"os":"linux","architecture":"arm","variant":"v7"}"#),
            entry(r#"{"os":"linux","architecture":"amd64"}"#),
        );
        let Ok(Document::Index(index)) = Document::parse(media_type::OCI_INDEX, text.as_bytes())
        else {
            panic!("not an index");
        };
        for (wanted, found) in [
            ("linux/amd64", Some("linux/amd64")),
            ("linux/arm/v7", Some("linux/arm/v7")),
            ("linux/s390x", None),
        ] {
            let wanted: Platform = wanted.parse().unwrap();
            let selected = index.select(&wanted);
            let shown = selected.map(|d| d.platform.as_ref().unwrap().to_string());
            assert_eq!(shown.as_deref(), found);
        }
    }
}
