//! What is there, and what it is worth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hoist_image::ContentError;
use hoist_image::fsck::{Inventory, LayerCheck, check_blob, check_layer};
use hoist_model::{Digest, chain};

/// A look at one thing: what it is, or why that is not known.
pub(super) type Look<T> = Result<T, String>;

/// Everything under an image root, read.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) root: PathBuf,
    pub(super) inventory: Inventory,
    /// Of each document that could be read, its damage.
    pub(super) documents: BTreeMap<Digest, Look<Option<String>>>,
    pub(super) layers: BTreeMap<Digest, Look<LayerCheck>>,
    /// Layers that belong to others than images and containers.
    pub(super) kept: Vec<Digest>,
}

impl Evidence {
    /// Reads everything; of what `before` found good, only that it is still there. Blocking.
    pub(super) fn gather(root: &Path, before: Option<Self>) -> Result<Self, String> {
        let mut evidence = Self::names(root)?;
        let before = before.unwrap_or_default();
        for digest in evidence.inventory.blobs.keys() {
            let good = matches!(before.documents.get(digest), Some(Ok(None)));
            let looked = if good {
                Ok(None)
            } else {
                match check_blob(root, digest) {
                    Ok(Some(_)) => Ok(None),
                    // Removed since it was listed.
                    Ok(None) => continue,
                    Err(error @ ContentError::Corrupt { .. }) => Ok(Some(error.to_string())),
                    Err(error) => Err(chain(&error)),
                }
            };
            evidence.documents.insert(digest.clone(), looked);
        }
        for digest in evidence.inventory.layers.keys() {
            let looked = match before.layers.get(digest) {
                Some(Ok(check)) if is_good(check) => Ok(check.clone()),
                _ => match check_layer(root, digest) {
                    Ok(Some(check)) => Ok(check),
                    Ok(None) => continue,
                    Err(error) => Err(chain(&error)),
                },
            };
            evidence.layers.insert(digest.clone(), looked);
        }
        let (documents, layers) = (&evidence.documents, &evidence.layers);
        let inventory = &mut evidence.inventory;
        inventory.blobs.retain(|d, _| documents.contains_key(d));
        inventory.layers.retain(|d, _| layers.contains_key(d));
        Ok(evidence)
    }

    /// Only the names.
    pub(super) fn names(root: &Path) -> Result<Self, String> {
        let inventory = Inventory::take(root)
            .map_err(|(path, error)| format!("reading {}: {error}", path.display()))?;
        Ok(Self {
            root: root.to_owned(),
            inventory,
            ..Self::default()
        })
    }

    /// Bytes that were read.
    pub(super) fn bytes(&self) -> u64 {
        let tars = self.inventory.layers.values().map(|parts| parts.tar_bytes);
        tars.chain(self.inventory.blobs.values().copied()).sum()
    }

    /// A layer that is wholly good.
    pub(super) fn good_layer(&self, layer: &Digest) -> Option<&LayerCheck> {
        let check = self.layers.get(layer)?.as_ref().ok()?;
        check.tar.is_ok().then_some(check)
    }
}

fn is_good(check: &LayerCheck) -> bool {
    use hoist_image::fsck::PartState::{Absent, Good};
    check.tar.is_ok() && check.index == Good && matches!(check.tree, Absent | Good)
}
