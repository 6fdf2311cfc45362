//! The engine's images on the shelf of a registry in its process (`--registry`).
//!
//! An image tagged `app:1` is `app:1` there, and `team/app:1` is `team/app:1`: names that say no registry, for which this one may
//! stand. An image whose name says another registry is that one's, and is not shown.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use hoist_engine::Engine;
use hoist_image::document::CONFIG_LIMIT;
use hoist_image::{ContentStore, Snapshotter};
use hoist_model::{DOCKER_HUB, Digest, ImageReference};
use hoist_registry::server::{HeldImage, Shelf};

/// The port over the engine's images and where their parts are.
pub(super) struct EngineShelf {
    engine: Engine,
    content: Arc<ContentStore>,
    snapshotter: Arc<dyn Snapshotter>,
}

impl EngineShelf {
    pub(super) fn new(
        engine: Engine,
        content: Arc<ContentStore>,
        snapshotter: Arc<dyn Snapshotter>,
    ) -> Self {
        Self {
            engine,
            content,
            snapshotter,
        }
    }
}

/// What a name is called on the shelf, and its tag.
fn shown(reference: &ImageReference) -> Option<(String, String)> {
    let repository = reference.repository();
    let tag = reference.tag().filter(|_| reference.digest().is_none())?;
    (repository.host() == DOCKER_HUB).then(|| (repository.familiar(), tag.to_owned()))
}

impl Shelf for EngineShelf {
    fn repositories(&self) -> Vec<(String, Vec<String>)> {
        let mut found = BTreeMap::<String, Vec<String>>::new();
        for image in self.engine.images.list() {
            for (name, tag) in self
                .engine
                .images
                .references(&image.id)
                .iter()
                .filter_map(shown)
            {
                found.entry(name).or_default().push(tag);
            }
        }
        found.into_iter().collect()
    }

    fn image(&self, repository: &str, tag: &str) -> Option<HeldImage> {
        let reference = ImageReference::parse_exact(&format!("{repository}:{tag}")).ok()?;
        // What looks like another registry's name is none of the shelf's.
        let (name, _) = shown(&reference)?;
        if name != repository {
            return None;
        }
        let image = self
            .engine
            .images
            .resolve(&format!("{repository}:{tag}"))
            .ok()?;
        let config = self.content.get(&image.id, CONFIG_LIMIT);
        let layers = image.layers.iter().map(|layer| {
            let record = self.snapshotter.layer(layer)?;
            Ok((layer.clone(), record.tar_bytes))
        });
        let layers: Result<Vec<_>, hoist_image::LayerError> = layers.collect();
        match (config, layers) {
            (Ok(config), Ok(layers)) => Some(HeldImage {
                config: config.into(),
                layers,
            }),
            (Err(error), _) => {
                tracing::error!(%repository, tag, error = hoist_model::chain(&error), "an image is not served");
                None
            }
            (_, Err(error)) => {
                tracing::error!(%repository, tag, error = hoist_model::chain(&error), "an image is not served");
                None
            }
        }
    }

    fn layer(&self, digest: &Digest) -> Option<File> {
        self.snapshotter.open_tar(digest).ok()
    }
}
