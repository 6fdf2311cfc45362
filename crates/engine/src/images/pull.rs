//! What registries are asked for: images, and what they say of them.

use std::sync::Arc;

use hoist_model::{Digest, ImageReference, Platform, Repository};

use super::{Images, Intake};
use crate::error::ImageError;
use crate::ports::{Credentials, Download, ProgressFn, RemoteImage, SearchHit};
use crate::records::{ImageRecord, TagRecord};

/// What a pull did.
#[derive(Debug)]
pub struct Pulled {
    /// The image.
    pub image: Arc<ImageRecord>,
    /// Digest of the manifest or index the reference named.
    pub digest: Digest,
    /// Whether the tag named something else, or nothing, before.
    pub newer: bool,
}

impl Images {
    /// Brings an image from its registry.
    pub async fn pull(
        &self,
        reference: &ImageReference,
        platform: Option<&Platform>,
        credentials: Option<Credentials>,
        progress: ProgressFn,
    ) -> Result<Pulled, ImageError> {
        let intake = self.intake().await;
        self.pull_within(intake, reference, platform, credentials, progress)
            .await
    }

    /// The same for who has the intake already: a share of it.
    pub async fn pull_within(
        &self,
        intake: Intake,
        reference: &ImageReference,
        platform: Option<&Platform>,
        credentials: Option<Credentials>,
        progress: ProgressFn,
    ) -> Result<Pulled, ImageError> {
        let intake = Arc::new(intake);
        let held = intake.clone();
        // Whoever stores parts of it has this, and goes on for a moment when nobody waits for the pull any more.
        let progress: ProgressFn = Arc::new(move |report| {
            let _ = &held;
            progress(report);
        });
        let stored = self
            .inner
            .source
            .pull(reference, platform, credentials, progress)
            .await?;
        let digest = stored
            .references
            .iter()
            .find_map(|name| name.digest().cloned())
            .or_else(|| stored.manifest.clone())
            .unwrap_or_else(|| stored.id.clone());
        let before = self
            .inner
            .store
            .snapshot()
            .get::<TagRecord>(&reference.to_string());
        let newer = before.is_none_or(|tag| tag.image != stored.id);
        let image = self.adopt(&stored, "pull", &reference.familiar()).await?;
        if let Some(intake) = Arc::into_inner(intake) {
            intake.finish();
        }
        Ok(Pulled {
            image,
            digest,
            newer,
        })
    }

    /// Brings every tag of a repository, one after another; answers whether anything is new. The first failure ends it.
    pub async fn pull_all(
        &self,
        repository: &Repository,
        platform: Option<&Platform>,
        credentials: Option<Credentials>,
        progress: ProgressFn,
    ) -> Result<bool, ImageError> {
        let source = &self.inner.source;
        let mut newer = false;
        for tag in source.tags(repository, credentials.clone()).await? {
            let reference = format!("{repository}:{tag}");
            let reference = ImageReference::parse_exact(&reference)
                .map_err(|error| ImageError::InvalidReference(error.to_string()))?;
            let pulled = self.pull(&reference, platform, credentials.clone(), progress.clone());
            newer |= pulled.await?.newer;
        }
        Ok(newer)
    }

    /// Asks a registry whether credentials are good.
    pub async fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Result<(String, Option<String>), ImageError> {
        Ok(self.inner.source.authenticate(credentials).await?)
    }

    /// What a reference names at its registry.
    pub async fn describe(
        &self,
        reference: &ImageReference,
        credentials: Option<Credentials>,
    ) -> Result<RemoteImage, ImageError> {
        Ok(self.inner.source.describe(reference, credentials).await?)
    }

    /// Searches a registry for repositories.
    pub async fn search(
        &self,
        term: &str,
        limit: u32,
        credentials: Option<Credentials>,
    ) -> Result<Vec<SearchHit>, ImageError> {
        Ok(self.inner.source.search(term, limit, credentials).await?)
    }

    /// Asks for a file of the web, to be imported.
    pub async fn fetch(&self, url: &str) -> Result<Download, ImageError> {
        Ok(self.inner.source.fetch(url).await?)
    }
}
