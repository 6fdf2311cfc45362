//! The docker-save layout: `manifest.json` lists images by the names of their entries (moby, image/tarexport).

use hoist_model::ImageReference;
use serde::Deserialize;

use super::{LoadError, Loader, invalid};
use crate::document::DocumentError;
use crate::snapshot::MAX_LAYERS;
use crate::stored::StoredImage;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

const NAME: &str = "manifest.json";

pub(super) fn load(loader: &Loader<'_>) -> Result<Vec<StoredImage>, LoadError> {
    let bytes = loader.parts.document(NAME)?;
    let items: Vec<Item> = serde_json::from_slice(bytes).map_err(|source| LoadError::Document {
        name: NAME.into(),
        source: DocumentError::Malformed {
            what: "manifest",
            source,
        },
    })?;
    if items.is_empty() {
        return Err(LoadError::NotAnImage);
    }
    let images = items.into_iter().map(|item| image(loader, item));
    images.filter_map(Result::transpose).collect()
}

fn image(loader: &Loader<'_>, item: Item) -> Result<Option<StoredImage>, LoadError> {
    let layers = item.layers.unwrap_or_default();
    if layers.len() > MAX_LAYERS {
        let reason = format!("it has {} layers, more than {MAX_LAYERS}", layers.len());
        return Err(invalid(NAME, "manifest", reason));
    }
    let references = item
        .repo_tags
        .unwrap_or_default()
        .iter()
        .map(|tag| {
            ImageReference::parse(tag).map_err(|error| invalid(NAME, "manifest", error.to_string()))
        })
        .collect::<Result<_, _>>()?;
    loader.image(&item.config, &layers, None, references)
}
