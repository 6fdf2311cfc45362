//! Images: pulled, loaded, imported, tagged and removed.

use std::io::Read;
use std::sync::Arc;

use hoist_image::document::ImageConfig;
use hoist_model::{Digest, ImageId, ImageReference, Platform};

use crate::error::ImageError;
use crate::ports::{Credentials, ProgressFn};
use crate::records::ImageRecord;

/// The images of this node.
#[derive(Clone)]
pub struct Images;

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

/// One change that a removal made, in order (API `ImageDelete`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageChange {
    /// A name went away (familiar form).
    Untagged(String),
    /// An image or layer went away.
    Deleted(Digest),
}

impl Images {
    /// Finds an image by id, unique id prefix or reference.
    pub fn resolve(&self, _name: &str) -> Result<Arc<ImageRecord>, ImageError> {
        unimplemented!()
    }

    /// All images, newest first.
    pub fn list(&self) -> Vec<Arc<ImageRecord>> {
        unimplemented!()
    }

    /// The names of an image: tags and repository digests.
    pub fn references(&self, _id: &ImageId) -> Vec<ImageReference> {
        unimplemented!()
    }

    /// Its configuration document.
    pub fn config(&self, _id: &ImageId) -> Result<ImageConfig, ImageError> {
        unimplemented!()
    }

    /// Brings an image from its registry.
    pub async fn pull(
        &self,
        _reference: &ImageReference,
        _platform: Option<&Platform>,
        _credentials: Option<Credentials>,
        _progress: ProgressFn,
    ) -> Result<Pulled, ImageError> {
        unimplemented!()
    }

    /// Asks a registry whether credentials are good.
    pub async fn authenticate(
        &self,
        _credentials: Credentials,
    ) -> Result<(String, Option<String>), ImageError> {
        unimplemented!()
    }

    /// Takes over the images of an archive made by `docker save` or in OCI layout; answers each with its names.
    pub async fn load(
        &self,
        _archive: Box<dyn Read + Send>,
        _progress: ProgressFn,
    ) -> Result<Vec<(Arc<ImageRecord>, Vec<ImageReference>)>, ImageError> {
        unimplemented!()
    }

    /// Makes an image of one layer from a root file system's tar.
    pub async fn import(
        &self,
        _archive: Box<dyn Read + Send>,
        _reference: Option<&ImageReference>,
        _message: &str,
        _changes: &[String],
        _platform: Option<&Platform>,
    ) -> Result<Arc<ImageRecord>, ImageError> {
        unimplemented!()
    }

    /// Gives an image another name.
    pub async fn tag(&self, _source: &str, _target: &ImageReference) -> Result<(), ImageError> {
        unimplemented!()
    }

    /// Takes a name away and, with the last, the image.
    pub async fn remove(
        &self,
        _name: &str,
        _force: bool,
        _prune: bool,
    ) -> Result<Vec<ImageChange>, ImageError> {
        unimplemented!()
    }
}
