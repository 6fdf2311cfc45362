//! What a registry says of an image, without fetching the image (API 1.55, `GET /distribution/{name}/json`).

use std::sync::Arc;

use hoist_image::document::Document;
use hoist_model::{DOCKER_HUB, Digest, ImageReference, Platform};

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::PullError;
use crate::manifest::{config, fetch, parse};
use crate::pull::at_mirror;
use crate::session::Session;
use crate::transport::Transport;

/// What a reference names at its registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The media type of the manifest or index.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// What an index lists, in its order; the config's one of a single manifest, unless the config names none.
    pub platforms: Vec<Platform>,
}

impl Client {
    /// Asks the registry, or for Docker Hub's images a mirror that has it, what a reference names.
    ///
    /// # Errors
    /// See [`PullError`]; a registry's refusal is told in its own words, as Docker does here.
    pub async fn describe(
        &self,
        reference: &ImageReference,
        credentials: Option<Credentials>,
    ) -> Result<Described, PullError> {
        let repository = reference.repository();
        if repository.host() == DOCKER_HUB {
            for mirror in &self.0.settings.mirrors {
                let found = async {
                    let session = at_mirror(self, mirror, repository).await?;
                    Box::pin(described(&session, reference)).await
                };
                match found.await {
                    Ok(found) => return Ok(found),
                    Err(error) => tracing::debug!(%mirror, %error, "asking the next"),
                }
            }
        }
        let transport = Transport::new(Arc::clone(&self.0), repository.host());
        let session = Session::new(transport, repository, credentials);
        Box::pin(described(&session, reference))
            .await
            .map_err(PullError::in_its_own_words)
    }
}

async fn described(session: &Session, reference: &ImageReference) -> Result<Described, PullError> {
    let selector = reference.manifest_selector();
    let raw = fetch(session, reference, selector, reference.digest()).await?;
    let platforms = match parse(reference, &raw)? {
        Document::Index(index) => {
            let listed = index.manifests.into_iter();
            listed.filter_map(|manifest| manifest.platform).collect()
        }
        Document::Manifest(manifest) => {
            // An artifact that is no image has a digest, too, but runs nowhere.
            match config(session, reference, &manifest.config).await {
                Ok((_, config)) => vec![config.platform()],
                Err(PullError::NotAnImage { .. } | PullError::Document { .. }) => Vec::new(),
                Err(error) => return Err(error),
            }
        }
    };
    Ok(Described {
        media_type: raw.media_type,
        digest: raw.digest,
        size: raw.bytes.len() as u64,
        platforms,
    })
}
