//! What images and volumes occupy on disk, and giving back what nobody uses.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hoist_image::{ArchiveOut, SavedImage, Snapshotter};
use hoist_model::{Digest, EventKind, ImageReference, ImageSelector, chain};
use hoist_store::Class;

use super::{ImageChange, Images, at_pace, blocking, created_at, image_event, refused};
use crate::containers::prune_event;
use crate::error::ImageError;
use crate::records::{ContainerRecord, ImageRecord};

/// What images have and share, in bytes of one kind.
#[derive(Debug, Default)]
pub struct ImageUsage {
    /// Bytes of all layers that images name, each once.
    pub layers: u64,
    /// Bytes of each image's layers, each once, in the order of [`Images::list`].
    pub sizes: Vec<u64>,
    /// Bytes of each image's layers that another image names, too, in the order of [`Images::list`].
    pub shared: Vec<u64>,
    /// Bytes of layers that no container's image names.
    pub reclaimable: u64,
}

/// An image and the tag it was found by.
type Named = (Arc<ImageRecord>, Option<ImageReference>);

impl Images {
    /// What images have of files, and how much of it they share: the bytes that an image's size sums up.
    #[must_use]
    pub fn file_usage(&self) -> ImageUsage {
        self.usage(|layers, layer| layers.layer(layer).map_or(0, |layer| layer.file_bytes))
    }

    /// What images occupy on disk, as du(1) counts it, and how much of it they share.
    pub async fn disk_usage(&self) -> Result<ImageUsage, ImageError> {
        let images = self.clone();
        blocking(move || Ok(images.usage(|layers, layer| layers.disk_bytes(layer).unwrap_or(0))))
            .await
    }

    /// Bytes allocated on disk for a layer; of one that is not here, none.
    #[must_use]
    pub fn layer_disk_bytes(&self, layer: &Digest) -> u64 {
        self.inner.snapshotter.disk_bytes(layer).unwrap_or(0)
    }

    /// The layers that images name.
    #[must_use]
    pub fn layers(&self) -> HashSet<Digest> {
        let images = self.list();
        let layers = images.iter().flat_map(|image| image.layers.iter().cloned());
        layers.collect()
    }

    fn usage(&self, bytes_of: impl Fn(&dyn Snapshotter, &Digest) -> u64) -> ImageUsage {
        let images = self.list();
        let mut users: HashMap<&Digest, usize> = HashMap::new();
        for image in &images {
            for layer in image.layers.iter().collect::<HashSet<_>>() {
                *users.entry(layer).or_default() += 1;
            }
        }
        let snapshotter = self.inner.snapshotter.as_ref();
        let bytes: HashMap<&Digest, u64> = users
            .keys()
            .map(|layer| (*layer, bytes_of(snapshotter, layer)))
            .collect();
        let containers = self.inner.store.snapshot().list::<ContainerRecord>();
        let used: HashSet<&Digest> = containers
            .iter()
            .flat_map(|container| &container.layers)
            .collect();
        let sum = |image: &ImageRecord, wanted: &dyn Fn(&Digest) -> bool| -> u64 {
            let own: HashSet<&Digest> = image.layers.iter().collect();
            let own = own.into_iter().filter(|layer| wanted(layer));
            own.filter_map(|layer| bytes.get(layer)).sum()
        };
        let is_shared = |layer: &Digest| users.get(layer).is_some_and(|users| *users > 1);
        let idle = bytes.iter().filter(|(layer, _)| !used.contains(*layer));
        ImageUsage {
            layers: bytes.values().sum(),
            sizes: images.iter().map(|image| sum(image, &|_| true)).collect(),
            shared: images.iter().map(|image| sum(image, &is_shared)).collect(),
            reclaimable: idle.map(|(_, bytes)| bytes).sum(),
        }
    }

    /// Removes images no container uses: those without a tag or, with `all`, any that are `wanted`. Answers what went and the
    /// bytes of the layers that went with it.
    pub async fn prune(
        &self,
        all: bool,
        wanted: &(dyn Fn(&ImageRecord) -> bool + Sync),
    ) -> Result<(Vec<ImageChange>, u64), ImageError> {
        let before = self.disk_usage().await?.layers;
        let mut changes = Vec::new();
        for image in self.list() {
            let tagged = self
                .references(&image.id)
                .iter()
                .any(|name| name.tag().is_some());
            if (tagged && !all) || !wanted(&image) || self.is_used(&image) {
                continue;
            }
            // By id and forced: all names go. A container made in the meantime keeps it.
            match self.remove(image.id.as_str(), true, true).await {
                Ok(removed) => changes.extend(removed),
                Err(ImageError::Conflict(_) | ImageError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let freed = before.saturating_sub(self.disk_usage().await?.layers);
        let event = prune_event(EventKind::Image, freed);
        let store = &self.inner.store;
        let told = store.transaction(Class::Process, move |tx| {
            tx.event(event);
            Ok::<_, ImageError>(())
        });
        told.await?;
        Ok((changes, freed))
    }

    fn is_used(&self, image: &ImageRecord) -> bool {
        let containers = self.inner.store.snapshot().list::<ContainerRecord>();
        containers
            .iter()
            .any(|container| super::removal::uses(container, image))
    }

    /// Finds what `docker save` is to save: an id saves an image without names, a tag under that name, a repository under all
    /// its tags. In the order of the names, each image once.
    pub fn select(
        &self,
        names: &[String],
    ) -> Result<Vec<(Arc<ImageRecord>, SavedImage)>, ImageError> {
        let mut found: Vec<(Arc<ImageRecord>, SavedImage)> = Vec::new();
        for name in names {
            for (image, reference) in self.matching(name)? {
                let at = found.iter().position(|(known, _)| known.id == image.id);
                let at = at.unwrap_or_else(|| {
                    let saved = SavedImage {
                        id: image.id.clone(),
                        layers: image.layers.clone(),
                        references: Vec::new(),
                        created: created_at(&image).as_seconds(),
                    };
                    found.push((image, saved));
                    found.len() - 1
                });
                let references = &mut found[at].1.references;
                references.extend(reference.filter(|name| !references.contains(name)));
            }
        }
        Ok(found)
    }

    fn matching(&self, name: &str) -> Result<Vec<Named>, ImageError> {
        let selector = ImageSelector::parse(name);
        let last = name.rsplit('/').next().unwrap_or(name);
        if let Some(wanted) = selector.reference.filter(|_| !last.contains([':', '@'])) {
            let mut all = Vec::new();
            for image in self.list() {
                for reference in self.references(&image.id) {
                    let tagged = reference.tag().is_some() && reference.digest().is_none();
                    if tagged && reference.repository() == wanted.repository() {
                        all.push((image.clone(), Some(reference)));
                    }
                }
            }
            if !all.is_empty() {
                return Ok(all);
            }
        }
        let image = self.resolve(name)?;
        let named = ImageReference::parse(name).ok();
        let named = named.filter(|wanted| self.references(&image.id).contains(wanted));
        Ok(vec![(image, named.filter(|name| name.tag().is_some()))])
    }

    /// Writes images as one archive.
    pub async fn save(
        &self,
        images: Vec<(Arc<ImageRecord>, SavedImage)>,
        out: impl ArchiveOut + Send + 'static,
    ) -> Result<(), ImageError> {
        // Nothing that is being read is collected meanwhile.
        let intake = self.intake().await;
        let inner = self.inner.clone();
        let (records, saved): (Vec<_>, Vec<_>) = images.into_iter().unzip();
        at_pace(move || {
            let (content, snapshotter) = (&inner.content, inner.snapshotter.as_ref());
            let written = hoist_image::save_images(&saved, content, snapshotter, out);
            intake.finish();
            written.map_err(|error| refused(chain(&error), error.class()))
        })
        .await?;
        let store = &self.inner.store;
        let told = store.transaction(Class::Process, move |tx| {
            for image in &records {
                let id = image.id.as_str();
                tx.event(image_event("save", id, id, image));
            }
            Ok::<_, ImageError>(())
        });
        told.await?;
        Ok(())
    }
}
