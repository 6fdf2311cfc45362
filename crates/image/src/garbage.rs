//! Takes away what nobody names.

use std::collections::HashSet;

use hoist_model::Digest;
use serde_json::Value;

use crate::content::{ContentError, ContentStore};
use crate::document::MANIFEST_LIMIT;
use crate::snapshot::{Doomed, LayerError, Snapshotter};

/// What has to stay.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// Layers, by diff id.
    pub layers: HashSet<Digest>,
    /// Documents: configs, manifests and indexes. What is here of the documents that they name in turn stays, too.
    pub documents: HashSet<Digest>,
}

impl Named {
    /// Adds the documents that the documents name, and those that these name.
    pub fn follow(&mut self, content: &ContentStore) {
        let mut pending: Vec<Digest> = self.documents.iter().cloned().collect();
        while let Some(digest) = pending.pop() {
            for below in below(content, &digest) {
                if self.documents.insert(below.clone()) {
                    pending.push(below);
                }
            }
        }
    }
}

/// What a document names: an index its manifests, a manifest its config. Of anything else, and of what cannot be read, nothing.
fn below(content: &ContentStore, digest: &Digest) -> Vec<Digest> {
    let Ok(bytes) = content.get(digest, MANIFEST_LIMIT) else {
        return Vec::new();
    };
    let Ok(document) = serde_json::from_slice::<Value>(&bytes) else {
        return Vec::new();
    };
    let manifests = document["manifests"].as_array();
    let named = manifests.into_iter().flatten().chain([&document["config"]]);
    named
        .filter_map(|descriptor| descriptor["digest"].as_str()?.parse().ok())
        .collect()
}

/// What a collection did.
#[derive(Debug, Default)]
pub struct Collected {
    /// Layers removed.
    pub layers: Vec<Digest>,
    /// Documents removed.
    pub documents: Vec<Digest>,
    /// The layers' files, to be deleted when there is time.
    pub doomed: Vec<Doomed>,
    /// What could not be removed; the rest was.
    pub failed: Vec<CollectError>,
}

/// Why something could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A layer.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A document.
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl CollectError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> hoist_model::ErrorClass {
        match self {
            Self::Layer(source) => source.class(),
            Self::Content(source) => source.class(),
        }
    }
}

/// Takes away every layer and document that is not `named`. Layers that containers stand on stay. Blocking.
///
/// Pulls, loads, imports and commits store parts before their image exists, and rely on parts that they find: the caller runs
/// this only while none of them runs (one lock: they share it, this has it alone) and lists the names under that lock.
pub fn collect_garbage(
    named: &Named,
    content: &ContentStore,
    snapshotter: &dyn Snapshotter,
) -> Collected {
    let mut collected = Collected::default();
    let mut layers = snapshotter.layers();
    layers.extend(snapshotter.damaged_layers());
    for layer in layers {
        if named.layers.contains(&layer) {
            continue;
        }
        match snapshotter.remove_layer(&layer) {
            Ok(doomed) => {
                collected.doomed.push(doomed);
                collected.layers.push(layer);
            }
            Err(LayerError::InUse { .. }) => {}
            Err(error) => collected.failed.push(error.into()),
        }
    }
    let known = content.list().unwrap_or_else(|error| {
        collected.failed.push(error.into());
        Vec::new()
    });
    for document in known {
        if named.documents.contains(&document) {
            continue;
        }
        match content.remove(&document) {
            Ok(()) => collected.documents.push(document),
            Err(error) => collected.failed.push(error.into()),
        }
    }
    collected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kept_document_names_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let content = ContentStore::open(root.path()).unwrap();
        let put = |text: String| content.put(text.as_bytes()).unwrap();
        let config = put(r#"{"config":{"Env":[]}}"#.to_owned());
        let manifest = put(format!(r#"{{"config":{{"digest":"{config}"}}}}"#));
        let absent = format!("sha256:{}", "0".repeat(64));
        let inner = put(format!(
            r#"{{"manifests":[{{"digest":"{absent}"}},{{"digest":"{manifest}"}},{{"digest":"{manifest}"}}]}}"#
        ));
        let outer = put(format!(r#"{{"manifests":[{{"digest":"{inner}"}},7]}}"#));
        let other = put("[no document]".to_owned());
        let mut named = Named::default();
        named.documents.insert(outer.clone());
        named.follow(&content);
        for kept in [&config, &manifest, &inner, &outer] {
            assert!(named.documents.contains(kept));
        }
        assert!(!named.documents.contains(&other));
    }
}
