//! Images: pulled, pushed, loaded, imported, tagged and removed.
//!
//! An image is a record, its names are records of their own, and its layers belong to whoever names them: images
//! and containers. Layers nobody names any more are collected when nothing is being brought in, so that a pull
//! can rely on a layer it found here.

mod built;
mod collection;
mod configs;
pub mod fsck;
mod load;
mod manifests;
mod pull;
mod push;
mod removal;
mod usage;

use std::sync::{Arc, OnceLock};

use hoist_image::document::{CONFIG_LIMIT, ImageConfig};
use hoist_image::{ContentStore, Snapshotter, StoredImage};
use hoist_model::{
    Digest, ErrorClass, Event, EventKind, ImageId, ImageReference, ImageSelector, Timestamp,
};
use hoist_store::{Class, Store, StoreError, Transaction};

use crate::clock::now;
use crate::error::ImageError;
use crate::paced::paced;
use crate::ports::{ImageSource, SourceError};
use crate::records::{ImageRecord, TagRecord};
use hoist_model::chain;

pub use built::OtherLayers;
pub use collection::Intake;
pub use manifests::{ManifestKind, ManifestSummary};
pub use pull::Pulled;
pub use push::Pushing;
pub use usage::ImageUsage;

use self::collection::Collection;
use self::configs::Configs;

/// The images of this node.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    content: Arc<ContentStore>,
    snapshotter: Arc<dyn Snapshotter>,
    source: Arc<dyn ImageSource>,
    configs: Configs,
    collection: Arc<Collection>,
    /// Who keeps layers beside images and containers.
    others: OnceLock<OtherLayers>,
}

/// One change that a removal made, in order (API `ImageDelete`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageChange {
    /// A name went away (familiar form).
    Untagged(String),
    /// An image or layer went away.
    Deleted(Digest),
}

impl From<StoreError> for ImageError {
    fn from(error: StoreError) -> Self {
        Self::Store(chain(&error))
    }
}

impl From<SourceError> for ImageError {
    fn from(error: SourceError) -> Self {
        Self::Source {
            message: error.message,
            class: error.class,
        }
    }
}

impl Images {
    /// Joins the parts.
    #[must_use]
    pub fn new(
        store: Store,
        content: Arc<ContentStore>,
        snapshotter: Arc<dyn Snapshotter>,
        source: Arc<dyn ImageSource>,
    ) -> Self {
        let inner = Inner {
            store,
            content,
            snapshotter,
            source,
            configs: Configs::default(),
            collection: Arc::default(),
            others: OnceLock::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Finds an image by id, reference or unique id prefix.
    pub fn resolve(&self, name: &str) -> Result<Arc<ImageRecord>, ImageError> {
        let snapshot = self.inner.store.snapshot();
        let selector = ImageSelector::parse(name);
        if let Some(image) = selector
            .id
            .and_then(|id| snapshot.get::<ImageRecord>(id.as_str()))
        {
            return Ok(image);
        }
        if let Some(reference) = &selector.reference {
            let exact = match reference.digest() {
                Some(digest) => reference.with_digest(digest),
                None => reference.clone(),
            };
            let image = snapshot
                .get::<TagRecord>(&exact.to_string())
                .and_then(|tag| snapshot.get::<ImageRecord>(tag.image.as_str()));
            if let Some(image) = image {
                return Ok(image);
            }
        }
        if let Some(prefix) = &selector.id_prefix {
            let mut found = snapshot
                .list::<ImageRecord>()
                .into_iter()
                .filter(|image| image.id.hex().starts_with(prefix));
            match (found.next(), found.next()) {
                (Some(image), None) => return Ok(image),
                (Some(_), Some(_)) => return Err(ImageError::Ambiguous(prefix.clone())),
                _ => {}
            }
        }
        match selector.reference {
            Some(reference) => Err(ImageError::NotFound(reference.familiar())),
            None if selector.id_prefix.is_some() => Err(ImageError::NotFound(name.to_owned())),
            None => match ImageReference::parse(name) {
                Err(error) => Err(ImageError::InvalidReference(error.to_string())),
                Ok(_) => Err(ImageError::NotFound(name.to_owned())),
            },
        }
    }

    /// All images, newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<ImageRecord>> {
        let mut images = self.inner.store.snapshot().list::<ImageRecord>();
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        images
    }

    /// The names of an image: tags and repository digests.
    #[must_use]
    pub fn references(&self, id: &ImageId) -> Vec<ImageReference> {
        let tags = self.inner.store.snapshot().list::<TagRecord>();
        tags.iter()
            .filter(|tag| tag.image == *id)
            .map(|tag| tag.reference.clone())
            .collect()
    }

    /// Its configuration document.
    pub fn config(&self, id: &ImageId) -> Result<Arc<ImageConfig>, ImageError> {
        if let Some(config) = self.inner.configs.get(id) {
            return Ok(config);
        }
        let broken = |detail: String| ImageError::Store(format!("configuration of {id}: {detail}"));
        let bytes = self
            .inner
            .content
            .get(id, CONFIG_LIMIT)
            .map_err(|e| broken(chain(&e)))?;
        let config = Arc::new(ImageConfig::parse(&bytes).map_err(|e| broken(chain(&e)))?);
        self.inner.configs.keep(id, &config, bytes.len());
        Ok(config)
    }

    /// The manifest it came by, as it came: none of images that came without one, or where it is gone.
    #[must_use]
    pub fn manifest(&self, image: &ImageRecord) -> Option<(Digest, Vec<u8>)> {
        let digest = image.manifest.as_ref()?;
        let bytes = self.inner.content.get(digest, CONFIG_LIMIT).ok()?;
        Some((digest.clone(), bytes))
    }

    /// Bytes of each layer's files, bottom first; 0 for one that is not here.
    #[must_use]
    pub fn layer_sizes(&self, image: &ImageRecord) -> Vec<u64> {
        let size = |layer| {
            self.inner
                .snapshotter
                .layer(layer)
                .map_or(0, |layer| layer.file_bytes)
        };
        image.layers.iter().map(size).collect()
    }

    /// The directory or mount that holds an image's layers, for those who mount it.
    pub(crate) fn snapshotter(&self) -> &Arc<dyn Snapshotter> {
        &self.inner.snapshotter
    }

    /// Gives an image another name.
    pub async fn tag(&self, source: &str, target: &ImageReference) -> Result<(), ImageError> {
        let image = self.resolve(source)?;
        let target = target.clone();
        self.inner
            .store
            .transaction(Class::Disk, move |tx| {
                let Some(record) = tx.get::<ImageRecord>(image.id.as_str()) else {
                    return Err(ImageError::NotFound(image.id.to_string()));
                };
                tx.event(image_event(
                    "tag",
                    image.id.as_str(),
                    &target.familiar(),
                    &record,
                ));
                tx.put(Arc::new(TagRecord {
                    reference: target,
                    image: image.id.clone(),
                }));
                tx.put(Arc::new(ImageRecord {
                    tagged_at: Some(now()),
                    ..(*record).clone()
                }));
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// Records an image whose parts are all stored, under its names, in one transaction.
    async fn adopt(
        &self,
        stored: &StoredImage,
        action: &'static str,
        actor: &str,
    ) -> Result<Arc<ImageRecord>, ImageError> {
        let record = Arc::new(ImageRecord {
            id: stored.id.clone(),
            manifest: stored.manifest.clone(),
            layers: stored.layers.clone(),
            size: stored.size,
            created: stored
                .config
                .created
                .as_deref()
                .and_then(|text| text.parse().ok()),
            platform: stored.config.platform(),
            labels: stored.config.config.labels.clone(),
            tagged_at: (!stored.references.is_empty()).then(now),
        });
        let references = stored.references.clone();
        let actor = actor.to_owned();
        let put = record.clone();
        self.inner
            .store
            .transaction(Class::Disk, move |tx: &mut Transaction| {
                let tags = |tx: &mut Transaction| {
                    for reference in &references {
                        tx.event(image_event("tag", &actor, &reference.familiar(), &put));
                    }
                };
                // An import names its image before it tells of it, a commit afterwards; what comes with its names is told
                // of alone (moby `daemon/images/image_import.go`, `daemon/commit.go`).
                if action == "import" {
                    tags(tx);
                }
                tx.event(image_event(action, &actor, &actor, &put));
                if action == "create" {
                    tags(tx);
                }
                for reference in references {
                    tx.put(Arc::new(TagRecord {
                        reference,
                        image: put.id.clone(),
                    }));
                }
                tx.put(put);
                Ok::<_, ImageError>(())
            })
            .await?;
        Ok(record)
    }
}

fn refused(message: String, class: ErrorClass) -> ImageError {
    ImageError::Source { message, class }
}

/// Runs blocking work on tokio's blocking threads; a panic there becomes an error.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(refused(
            format!("image worker: {error}"),
            ErrorClass::Internal,
        )),
    }
}

/// Runs work that goes at a client's pace.
async fn at_pace<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    paced(work).await.unwrap_or_else(|error| {
        Err(refused(
            format!("image worker: {error}"),
            ErrorClass::Internal,
        ))
    })
}

fn image_event(action: &str, actor: &str, name: &str, image: &ImageRecord) -> Event {
    let mut attributes = image.labels.clone();
    attributes.insert("name".to_owned(), name.to_owned());
    Event {
        at: now(),
        kind: EventKind::Image,
        action: action.to_owned(),
        actor: actor.to_owned(),
        attributes,
    }
}

/// When an image was made, for sorting and filters; the epoch where its configuration does not say.
#[must_use]
pub fn created_at(image: &ImageRecord) -> Timestamp {
    image.created.unwrap_or_default()
}
