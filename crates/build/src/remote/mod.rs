//! Caches elsewhere: in a registry, in a directory of the client's, in an image. What another machine did is not done again.
//!
//! ```text
//! import   name ─▶ manifest ─▶ document: key ─▶ layer            the layer comes when a step asks for it
//! export   steps ─▶ layers sent ─▶ document ─▶ manifest ─▶ name
//! ```
//!
//! A key is of all that a step reads (`cache`), so what is here under a key is right wherever it was made; whether who wrote the cache is to be
//! trusted is for who names it.

mod document;

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::try_join_all;
use hoist_image::document::{
    CONFIG_LIMIT, Descriptor, Document, ImageConfig, Manifest, media_type,
};
use hoist_model::{Digest, ErrorClass, Platform, Timestamp, chain};

pub(crate) use self::document::INLINE_FIELD;
use self::document::{
    CACHE_CONFIG, CacheDocument, CacheEntry, CacheLayer, DIFF_ID, DOCUMENT_LIMIT, ENTRIES_LIMIT,
};
use crate::ports::{CacheStore, PortError};

/// A cache elsewhere whose document was read.
#[derive(Clone)]
pub struct RemoteCache {
    store: Arc<dyn CacheStore>,
    /// By key.
    hits: HashMap<String, Hit>,
}

impl std::fmt::Debug for RemoteCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut told = f.debug_struct("RemoteCache");
        told.field("entries", &self.hits.len())
            .finish_non_exhaustive()
    }
}

/// What a step made elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hit {
    /// Its layer and how it travels; none if it changed nothing.
    pub(crate) layer: Option<(Digest, Descriptor)>,
    pub(crate) created: Option<Timestamp>,
}

/// One step's result, as it is told elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exported {
    pub(crate) key: String,
    pub(crate) layer: Option<Digest>,
    pub(crate) created: Timestamp,
    /// Whether it is a part of the image.
    pub(crate) in_image: bool,
}

/// What a build leaves for caches elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheExport {
    pub(crate) steps: Vec<Exported>,
}

/// How much of a build is exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// The steps that the image is made of.
    #[default]
    Min,
    /// All of them.
    Max,
}

fn broken(what: impl std::fmt::Display) -> PortError {
    PortError {
        message: format!("the cache is none that is understood: {what}"),
        class: ErrorClass::InvalidArgument,
    }
}

impl RemoteCache {
    /// Reads what a cache has; of an image with a cache inside, the one for `platform`.
    ///
    /// # Errors
    /// There is none, it cannot be had, or it is no cache's.
    pub async fn import(
        store: Arc<dyn CacheStore>,
        platform: &Platform,
    ) -> Result<Self, PortError> {
        let manifest = store.manifest().await?.ok_or_else(|| PortError {
            message: "there is no cache".to_owned(),
            class: ErrorClass::NotFound,
        })?;
        let hits = match parse(&manifest)? {
            Document::Manifest(manifest) => of_manifest(store.as_ref(), &manifest).await?,
            Document::Index(index) => {
                let document = index
                    .manifests
                    .iter()
                    .find(|m| m.media_type == CACHE_CONFIG);
                match document {
                    Some(document) => {
                        of_document(store.as_ref(), document, &index.manifests).await?
                    }
                    None => {
                        let nobody = || broken(format!("it has nothing for {platform}"));
                        let chosen = index.select(platform).ok_or_else(nobody)?.clone();
                        let bytes = store.document(chosen).await?;
                        match parse(&bytes)? {
                            Document::Manifest(manifest) => {
                                of_manifest(store.as_ref(), &manifest).await?
                            }
                            Document::Index(_) => return Err(broken("an index of indexes")),
                        }
                    }
                }
            }
        };
        Ok(Self { store, hits })
    }

    /// How many steps it knows.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.hits.len()
    }

    /// What is known under a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Hit> {
        self.hits.get(key)
    }

    /// Brings a layer here.
    pub(crate) async fn fetch(
        &self,
        layer: &Digest,
        descriptor: &Descriptor,
    ) -> Result<(), PortError> {
        self.store.fetch(descriptor.clone(), layer.clone()).await
    }
}

/// A manifest or an index, whichever it says or looks like.
fn parse(bytes: &[u8]) -> Result<Document, PortError> {
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(broken)?;
    let kind = match value["mediaType"].as_str() {
        Some(kind) => kind,
        None if value.get("manifests").is_some() => media_type::OCI_INDEX,
        None => media_type::OCI_MANIFEST,
    };
    Document::parse(kind, bytes).map_err(|error| broken(chain(&error)))
}

async fn of_manifest(
    store: &dyn CacheStore,
    manifest: &Manifest,
) -> Result<HashMap<String, Hit>, PortError> {
    if manifest.config.media_type == CACHE_CONFIG {
        return of_document(store, &manifest.config, &manifest.layers).await;
    }
    if manifest.config.size > CONFIG_LIMIT {
        return Err(broken("the image's config is too large"));
    }
    let config = store.document(manifest.config.clone()).await?;
    let config = ImageConfig::parse(&config).map_err(|error| broken(chain(&error)))?;
    of_image(&config, &manifest.layers)
}

/// The entries of a cache inside of an image; none where there is none.
fn of_image(
    config: &ImageConfig,
    layers: &[Descriptor],
) -> Result<HashMap<String, Hit>, PortError> {
    let Some(inline) = config
        .extra
        .get(INLINE_FIELD)
        .and_then(|text| text.as_str())
    else {
        return Ok(HashMap::new());
    };
    let records = STANDARD.decode(inline).map_err(broken)?;
    let records: Vec<CacheEntry> = serde_json::from_slice(&records).map_err(broken)?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != layers.len() {
        return Err(broken("its image has other layers than it says"));
    }
    let layers = diff_ids.iter().cloned().zip(layers.iter().cloned());
    let layers: Vec<_> = layers.map(Some).collect();
    hits(records, &layers)
}

async fn of_document(
    store: &dyn CacheStore,
    document: &Descriptor,
    blobs: &[Descriptor],
) -> Result<HashMap<String, Hit>, PortError> {
    if document.size > DOCUMENT_LIMIT {
        return Err(broken("its document is too large"));
    }
    let bytes = store.document(document.clone()).await?;
    let document: CacheDocument = serde_json::from_slice(&bytes).map_err(broken)?;
    if document.layers.len() > ENTRIES_LIMIT {
        return Err(broken("it has too many layers"));
    }
    let blobs: HashMap<_, _> = blobs.iter().map(|blob| (&blob.digest, blob)).collect();
    let layers = document.layers.into_iter().map(|layer| {
        let descriptor = (*blobs.get(&layer.blob)?).clone();
        let diff_id = layer
            .annotations
            .and_then(|annotations| annotations.diff_id);
        Some((diff_id.or_else(|| diff_id_of(&descriptor))?, descriptor))
    });
    let layers: Vec<_> = layers.collect();
    hits(document.records, &layers)
}

/// What a descriptor says of its layer uncompressed.
fn diff_id_of(descriptor: &Descriptor) -> Option<Digest> {
    descriptor.annotations.as_ref()?.get(DIFF_ID)?.parse().ok()
}

/// Entries of ours: of one layer or none. What else there is has keys that we do not make.
fn hits(
    records: Vec<CacheEntry>,
    layers: &[Option<(Digest, Descriptor)>],
) -> Result<HashMap<String, Hit>, PortError> {
    if records.len() > ENTRIES_LIMIT {
        return Err(broken("it has too many records"));
    }
    let mut hits = HashMap::new();
    for record in records {
        let key = record.digest.strip_prefix("sha256:");
        let (Some(key), Some(made)) = (key, record.chains.first()) else {
            continue;
        };
        let layer = match made.layers.as_slice() {
            [] => None,
            [one] => match layers.get(*one).cloned().flatten() {
                Some(layer) => Some(layer),
                None => continue,
            },
            _ => continue,
        };
        let created = made.created_at.parse().ok();
        hits.insert(key.to_owned(), Hit { layer, created });
    }
    Ok(hits)
}

impl CacheExport {
    fn chosen(&self, mode: CacheMode) -> impl Iterator<Item = &Exported> {
        let steps = self.steps.iter();
        steps.filter(move |step| mode == CacheMode::Max || step.in_image)
    }

    /// The records of a cache inside of an image of these layers, as its config has them.
    pub(crate) fn inline(&self, layers: &[Digest]) -> Result<String, serde_json::Error> {
        let records = self.chosen(CacheMode::Min).filter_map(|step| {
            let layer = match &step.layer {
                None => None,
                Some(layer) => Some(layers.iter().position(|one| one == layer)?),
            };
            Some(CacheEntry::new(&step.key, layer, step.created))
        });
        let records: Vec<_> = records.collect();
        Ok(STANDARD.encode(serde_json::to_vec(&records)?))
    }

    /// Sends the layers and what is to be known of them, and names it; answers how many steps the cache has, and its manifest.
    ///
    /// # Errors
    /// It cannot be sent.
    pub async fn export(
        &self,
        store: &dyn CacheStore,
        mode: CacheMode,
    ) -> Result<(usize, Descriptor), PortError> {
        let steps: Vec<_> = self.chosen(mode).collect();
        let mut wanted: Vec<(&Digest, Timestamp)> = Vec::new();
        for step in &steps {
            if let Some(layer) = &step.layer
                && !wanted.iter().any(|(known, _)| *known == layer)
            {
                wanted.push((layer, step.created));
            }
        }
        // What was there before under this name need not be compressed to find out.
        let before = known(store).await;
        let sent = wanted.iter().map(|(layer, _)| {
            let known = before.get(*layer).cloned();
            store.send((*layer).clone(), known)
        });
        let sent = try_join_all(sent).await?;
        let mut document = CacheDocument::default();
        let mut blobs = Vec::new();
        for ((layer, created), mut descriptor) in wanted.iter().zip(sent) {
            document
                .layers
                .push(CacheLayer::new(&descriptor, layer, *created));
            let annotations = descriptor.annotations.get_or_insert_default();
            annotations.insert(DIFF_ID.to_owned(), layer.to_string());
            blobs.push(descriptor);
        }
        document.records.extend(steps.iter().map(|step| {
            let layer = step.layer.as_ref();
            let layer =
                layer.and_then(|layer| wanted.iter().position(|(known, _)| *known == layer));
            CacheEntry::new(&step.key, layer, step.created)
        }));
        let internal = |error: serde_json::Error| PortError {
            message: error.to_string(),
            class: ErrorClass::Internal,
        };
        let bytes = serde_json::to_vec(&document).map_err(internal)?;
        let config = store.put(CACHE_CONFIG, bytes).await?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config,
            layers: blobs,
            extra: serde_json::Map::new(),
        };
        let bytes = serde_json::to_vec(&manifest).map_err(internal)?;
        let named = store.name(media_type::OCI_MANIFEST, bytes).await?;
        Ok((steps.len(), named))
    }
}

/// How the layers of the cache that has this name now travel, by diff id.
async fn known(store: &dyn CacheStore) -> HashMap<Digest, Descriptor> {
    let Ok(Some(bytes)) = store.manifest().await else {
        return HashMap::new();
    };
    let Ok(Document::Manifest(manifest)) = parse(&bytes) else {
        return HashMap::new();
    };
    let layers = manifest.layers.into_iter();
    layers
        .filter_map(|layer| Some((diff_id_of(&layer)?, layer)))
        .collect()
}
