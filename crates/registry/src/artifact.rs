//! What one name of a repository leads to, part by part: manifests of whatever kind, documents, layers in any order. Build caches are kept so.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use hoist_image::document::{Descriptor, media_type};
use hoist_image::{ContentStore, LayerCompression, Snapshotter};
use hoist_model::{Digest, ImageReference};
use http::{HeaderMap, Method, StatusCode};

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::PullError;
use crate::manifest::{blob_target, collect, digest_of, fetch, named};
use crate::pull::ProgressReport;
use crate::push::{Known, LayerUpload};
use crate::session::Session;
use crate::transport::Transport;
use crate::upload::Uploads;

/// Whether something is to be sent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read.
    Pull,
    /// It is read and written.
    Push,
}

/// One name of a repository. Dropping a future of its ends the connection.
pub struct Artifact {
    session: Arc<Session>,
    reference: Arc<ImageReference>,
    content: Arc<ContentStore>,
    snapshotter: Arc<dyn Snapshotter>,
}

impl std::fmt::Debug for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Artifact").field(&self.reference).finish()
    }
}

fn unheard() -> ProgressReport {
    Arc::new(|_| {})
}

impl Artifact {
    /// What is under a name, with a tag or a digest; layers come from and go to these stores.
    #[must_use]
    pub fn new(
        client: &Client,
        (content, snapshotter): (Arc<ContentStore>, Arc<dyn Snapshotter>),
        reference: ImageReference,
        credentials: Option<Credentials>,
        access: Access,
    ) -> Self {
        let repository = reference.repository();
        let transport = Transport::new(Arc::clone(&client.0), repository.host());
        let session = match access {
            Access::Pull => Session::new(transport, repository, credentials),
            Access::Push => Session::for_push(transport, repository, &[], credentials),
        };
        Self {
            session: Arc::new(session),
            reference: Arc::new(reference),
            content,
            snapshotter,
        }
    }

    fn uploads(&self) -> Uploads<'_> {
        Uploads {
            session: &self.session,
            repository: self.reference.repository(),
        }
    }

    /// The manifest or index that the name leads to; none if there is none.
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn manifest(&self) -> Result<Option<Bytes>, PullError> {
        let selector = self.reference.manifest_selector();
        let fetched = fetch(
            &self.session,
            &self.reference,
            selector,
            self.reference.digest(),
        );
        match fetched.await {
            Ok(raw) => Ok(Some(raw.bytes)),
            Err(PullError::ManifestUnknown { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A document of at most its descriptor's size, verified: a manifest, or a blob.
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn document(&self, descriptor: &Descriptor) -> Result<Bytes, PullError> {
        let kind = descriptor.media_type.as_str();
        if matches!(kind, media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST) {
            let (selector, digest) = (descriptor.digest.as_str(), Some(&descriptor.digest));
            let raw = fetch(&self.session, &self.reference, selector, digest).await?;
            return Ok(raw.bytes);
        }
        let target = blob_target(&self.reference, &descriptor.digest);
        let none = HeaderMap::new();
        let asked = self.session.ask_patiently(Method::GET, &target, &none);
        let response = asked.await?;
        if response.status() != StatusCode::OK {
            let named = named(&self.reference);
            return Err(self.session.refused(&target, response, &named).await);
        }
        let body = response.into_body();
        let bytes = collect(&self.session, &target, body, "document", descriptor.size).await?;
        let found = digest_of(&bytes);
        if found != descriptor.digest {
            return Err(PullError::Mismatch {
                what: "document",
                wanted: descriptor.digest.clone(),
                found,
            });
        }
        Ok(bytes)
    }

    /// Stores a layer, unless it is here.
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn fetch_layer(
        &self,
        descriptor: Descriptor,
        diff_id: Digest,
    ) -> Result<(), PullError> {
        if !media_type::is_layer(&descriptor.media_type) {
            return Err(PullError::UnsupportedMediaType(descriptor.media_type));
        }
        let store = crate::layer::store(
            Arc::clone(&self.session),
            Arc::clone(&self.reference),
            descriptor,
            diff_id,
            Arc::clone(&self.snapshotter),
            Arc::clone(&self.content),
            unheard(),
        );
        Box::pin(store).await
    }

    /// Sends a layer, unless the repository has it as `known` says; answers how it is there, in OCI's words.
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn push_layer(
        &self,
        layer: Digest,
        known: Option<Descriptor>,
    ) -> Result<Descriptor, PullError> {
        let known = known.map(|descriptor| Known {
            descriptor,
            repository: None,
        });
        let known = HashMap::from([(layer.clone(), known.into_iter().collect())]);
        let upload = LayerUpload {
            session: Arc::clone(&self.session),
            repository: self.reference.repository().clone(),
            snapshotter: Arc::clone(&self.snapshotter),
            layer,
            known: Arc::new(known),
            compression: LayerCompression::Gzip,
            progress: unheard(),
        };
        let (_, mut descriptor) = Box::pin(upload.run()).await?;
        if descriptor.media_type == media_type::DOCKER_LAYER_GZIP {
            media_type::OCI_LAYER_GZIP.clone_into(&mut descriptor.media_type);
        }
        Ok(descriptor)
    }

    /// Puts a document there, unless it is.
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn put(&self, bytes: &Bytes) -> Result<Digest, PullError> {
        let digest = digest_of(bytes);
        if !self.uploads().has(&digest).await? {
            self.uploads().put(&digest, bytes).await?;
        }
        Ok(digest)
    }

    /// Makes a manifest what the name leads to.
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn put_manifest(&self, kind: &str, bytes: &Bytes) -> Result<Digest, PullError> {
        let selector = self.reference.manifest_selector();
        self.uploads().manifest(selector, kind, bytes).await?;
        Ok(digest_of(bytes))
    }
}
