//! Images that a build made, and what the build's cache keeps.

use std::sync::Arc;

use hoist_image::{ContentStore, Snapshotter, StoredImage};
use hoist_model::Digest;

use super::{Images, Inner, Intake};
use crate::error::ImageError;
use crate::records::ImageRecord;

/// Tells of layers that are kept though neither an image nor a container has them.
pub type OtherLayers = Arc<dyn Fn() -> Vec<Digest> + Send + Sync>;

impl Inner {
    /// The layers of others than images and containers.
    pub(super) fn other_layers(&self) -> Vec<Digest> {
        self.others.get().map_or_else(Vec::new, |others| others())
    }
}

impl Images {
    /// Says who else keeps layers. Once, before the first of them is made.
    pub fn keep_layers_of(&self, others: OtherLayers) {
        let _ = self.inner.others.set(others);
    }

    /// Takes over an image whose parts were stored while `intake` was held, under its names.
    pub async fn adopt_built(
        &self,
        stored: &StoredImage,
        intake: Intake,
    ) -> Result<Arc<ImageRecord>, ImageError> {
        let image = self.adopt(stored, "create", stored.id.as_str()).await?;
        intake.finish();
        Ok(image)
    }

    /// Says that something may be nobody's any more: a build's context, or what its cache let go of.
    pub fn collect_soon(&self) {
        self.request_collection();
    }

    /// Where documents and layers are, for who makes images.
    #[must_use]
    pub fn stores(&self) -> (Arc<ContentStore>, Arc<dyn Snapshotter>) {
        (self.inner.content.clone(), self.inner.snapshotter.clone())
    }
}
