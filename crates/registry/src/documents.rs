//! One repository's documents, for who works with manifests and moves no layers: `docker manifest`.

use std::sync::Arc;

use bytes::Bytes;
use hoist_image::document::{Descriptor, ImageConfig};
use hoist_model::{Digest, ImageReference, Repository};

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::PullError;
use crate::manifest::{Raw, config, digest_of, fetch};
use crate::session::Session;
use crate::transport::Transport;
use crate::upload::{Begun, Uploads};

/// A repository that is asked for documents, or given some.
pub struct Documents {
    session: Session,
    repository: Repository,
}

/// A manifest or index as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedManifest {
    /// Its digest, of these bytes.
    pub digest: Digest,
    /// What the registry, or else the document itself, says it is.
    pub media_type: String,
    /// At most 4 MiB.
    pub bytes: Bytes,
}

impl Client {
    /// A repository's documents, to read.
    #[must_use]
    pub fn documents(
        &self,
        repository: &Repository,
        credentials: Option<Credentials>,
    ) -> Documents {
        let transport = Transport::new(Arc::clone(&self.0), repository.host());
        Documents {
            session: Session::new(transport, repository, credentials),
            repository: repository.clone(),
        }
    }

    /// The same, to read and to write; blobs may be taken over from `sources`, repositories of the same registry.
    #[must_use]
    pub fn documents_to_write(
        &self,
        repository: &Repository,
        sources: &[Repository],
        credentials: Option<Credentials>,
    ) -> Documents {
        let transport = Transport::new(Arc::clone(&self.0), repository.host());
        Documents {
            session: Session::for_push(transport, repository, sources, credentials),
            repository: repository.clone(),
        }
    }
}

impl Documents {
    /// Whether the registry is spoken to by TLS. Finds it first.
    ///
    /// # Errors
    /// See [`PullError`], here and below.
    pub async fn is_secure(&self) -> Result<bool, PullError> {
        Ok(self.session.endpoint().await?.tls)
    }

    /// What a reference of this repository names, verified where it says a digest.
    pub async fn manifest(&self, reference: &ImageReference) -> Result<FetchedManifest, PullError> {
        let selector = reference.manifest_selector();
        let fetched = fetch(&self.session, reference, selector, reference.digest()).await?;
        let Raw {
            digest,
            media_type,
            bytes,
        } = fetched;
        Ok(FetchedManifest {
            digest,
            media_type,
            bytes,
        })
    }

    /// The config that a manifest names, verified.
    pub async fn config(
        &self,
        reference: &ImageReference,
        descriptor: &Descriptor,
    ) -> Result<ImageConfig, PullError> {
        let (_, config) = config(&self.session, reference, descriptor).await?;
        Ok(config)
    }

    /// Takes a blob over from another repository; `false` where the registry would rather be sent it.
    pub async fn mount(&self, digest: &Digest, from: &Repository) -> Result<bool, PullError> {
        let begun = self.uploads().begin(Some((digest, from))).await?;
        Ok(matches!(begun, Begun::Mounted))
    }

    /// Stores a manifest or index under a tag or its digest, and answers the digest.
    pub async fn put(
        &self,
        selector: &str,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<Digest, PullError> {
        let uploads = self.uploads();
        uploads.manifest(selector, media_type, bytes).await?;
        Ok(digest_of(bytes))
    }

    fn uploads(&self) -> Uploads<'_> {
        Uploads {
            session: &self.session,
            repository: &self.repository,
        }
    }
}
