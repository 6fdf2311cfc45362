//! Sending images to registries.

use std::collections::BTreeMap;
use std::sync::Arc;

use hoist_image::{KnownManifest, LayerCompression, OutgoingImage};
use hoist_model::{Digest, ErrorClass, ImageReference, Progress, Repository};
use hoist_store::Class;

use super::{Images, image_event, refused};
use crate::error::ImageError;
use crate::ports::{Credentials, ProgressFn};
use crate::records::{ImageRecord, TagRecord};

/// Which names of a repository are pushed.
#[derive(Clone, Debug)]
pub enum Pushing {
    /// This tag.
    Tag(ImageReference),
    /// Every tag that is here.
    AllTags(Repository),
}

impl Pushing {
    fn repository(&self) -> &Repository {
        match self {
            Self::Tag(reference) => reference.repository(),
            Self::AllTags(repository) => repository,
        }
    }
}

impl Images {
    /// Sends images to their registry, tag by tag, and remembers the digests that they have there.
    ///
    /// Reports what is pushed to, every layer's phases, and each tag's digest. The texts of what is missing are Docker's (moby
    /// `distribution/push.go`), which tells of them after its first line.
    pub async fn push(
        &self,
        what: &Pushing,
        compression: LayerCompression,
        credentials: Option<Credentials>,
        progress: ProgressFn,
    ) -> Result<(), ImageError> {
        let repository = what.repository();
        progress(Progress::Message {
            subject: None,
            text: format!("The push refers to repository [{repository}]"),
        });
        let tags = self.tags_of(repository);
        if tags.is_empty() {
            return Err(missing(format!(
                "An image does not exist locally with the tag: {}",
                repository.familiar()
            )));
        }
        let wanted: Vec<_> = match what {
            Pushing::AllTags(_) => tags,
            Pushing::Tag(reference) => {
                let found = tags.into_iter().find(|tag| tag.reference == *reference);
                let absent = || missing(format!("tag does not exist: {}", reference.familiar()));
                vec![found.ok_or_else(absent)?]
            }
        };
        // Layers are not collected meanwhile.
        let intake = self.intake().await;
        for tag in wanted {
            let (credentials, progress) = (credentials.clone(), progress.clone());
            self.push_tag(&tag, compression, credentials, progress)
                .await?;
        }
        intake.finish();
        Ok(())
    }

    /// The tags of a repository, by name.
    fn tags_of(&self, repository: &Repository) -> Vec<Arc<TagRecord>> {
        let mut tags = self.inner.store.snapshot().list::<TagRecord>();
        tags.retain(|tag| {
            tag.reference.repository() == repository
                && tag.reference.tag().is_some()
                && tag.reference.digest().is_none()
        });
        tags.sort_by(|a, b| a.reference.tag().cmp(&b.reference.tag()));
        tags
    }

    async fn push_tag(
        &self,
        tag: &TagRecord,
        compression: LayerCompression,
        credentials: Option<Credentials>,
        progress: ProgressFn,
    ) -> Result<(), ImageError> {
        let Some(record) = self
            .inner
            .store
            .snapshot()
            .get::<ImageRecord>(tag.image.as_str())
        else {
            return Err(ImageError::NotFound(tag.image.to_string()));
        };
        let outgoing = OutgoingImage {
            id: record.id.clone(),
            layers: record.layers.clone(),
            manifest: record.manifest.clone(),
            known: self.known_manifests(),
            compression,
        };
        let pushed = self
            .inner
            .source
            .push(&outgoing, &tag.reference, credentials, progress.clone())
            .await?;
        let reference = tag.reference.with_digest(&pushed.digest);
        let familiar = tag.reference.familiar();
        self.inner
            .store
            .transaction(Class::Disk, move |tx| {
                tx.event(image_event("push", &familiar, &familiar, &record));
                // Removed meanwhile, it gets no name any more.
                if tx.get::<ImageRecord>(record.id.as_str()).is_some() {
                    tx.put(Arc::new(TagRecord {
                        reference,
                        image: record.id.clone(),
                    }));
                }
                Ok::<_, ImageError>(())
            })
            .await?;
        progress(Progress::Pushed {
            tag: tag.reference.tag().unwrap_or_default().to_owned(),
            digest: pushed.digest,
            size: pushed.size,
        });
        Ok(())
    }

    /// Every manifest that an image here came with or was pushed as, and where that was.
    fn known_manifests(&self) -> Vec<KnownManifest> {
        let snapshot = self.inner.store.snapshot();
        let mut names: BTreeMap<Digest, Vec<ImageReference>> = BTreeMap::new();
        for tag in snapshot.list::<TagRecord>() {
            if tag.reference.digest().is_some() {
                let of_image = names.entry(tag.image.clone()).or_default();
                of_image.push(tag.reference.clone());
            }
        }
        let mut known = Vec::new();
        for image in snapshot.list::<ImageRecord>() {
            let names = names.remove(&image.id).unwrap_or_default();
            let one = |manifest: &Digest, names: &[&ImageReference]| KnownManifest {
                manifest: manifest.clone(),
                layers: image.layers.clone(),
                repositories: names.iter().map(|name| name.repository().clone()).collect(),
            };
            // An index names no layers: what was pulled by it is known by the image's manifest.
            if let Some(manifest) = &image.manifest {
                known.push(one(manifest, &names.iter().collect::<Vec<_>>()));
            }
            for name in &names {
                if let Some(digest) = name
                    .digest()
                    .filter(|d| Some(*d) != image.manifest.as_ref())
                {
                    known.push(one(digest, &[name]));
                }
            }
        }
        known
    }
}

fn missing(message: String) -> ImageError {
    refused(message, ErrorClass::NotFound)
}
