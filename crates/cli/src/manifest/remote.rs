//! Manifests at registries.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hoist_image::document::{Descriptor, Document, Index, Manifest, media_type};
use hoist_model::{Digest, ImageReference, Repository, chain};
use hoist_registry::{
    Client, Credentials, Documents, FetchedManifest, InsecureRegistry, PullError, Settings,
};
use serde_json::Value;

use super::kept::KeptManifest;
use crate::{Context, Failure, output, registry};

/// What a reference names at its registry.
pub(super) enum Found {
    Manifest(Box<KeptManifest>),
    List(Vec<KeptManifest>),
}

/// Registries, with the client's logins.
pub(super) struct Registries<'a> {
    context: &'a Context,
    /// Whether they may be spoken to without TLS, and with certificates that nobody vouches for.
    insecure: bool,
}

impl<'a> Registries<'a> {
    pub(super) const fn new(context: &'a Context, insecure: bool) -> Self {
        Self { context, insecure }
    }

    /// Looks up a manifest with its platform, or all manifests of a list.
    pub(super) async fn find(&self, name: &ImageReference) -> Result<Found, Failure> {
        let repository = name.repository();
        let (client, credentials) = self.client(repository)?;
        let documents = client.documents(repository, credentials);
        let absent = || Failure::new(format!("no such manifest: {name}"));
        let failed = |error: PullError| match error {
            PullError::ManifestUnknown { .. }
            | PullError::RepositoryUnknown { .. }
            | PullError::Denied { .. }
            | PullError::Unauthorized(_)
            | PullError::Status { .. } => absent(),
            error => failure(&error),
        };
        // The stock client reads nothing by plain HTTP unless it is told to, not even on this machine.
        if !self.insecure && !documents.is_secure().await.map_err(failed)? {
            return Err(absent());
        }
        let fetched = documents.manifest(name).await.map_err(failed)?;
        match parse(&fetched)? {
            Document::Manifest(manifest) => {
                let mut kept = kept(name.to_string(), &fetched)?;
                kept.descriptor.platform = platform(&documents, name, &manifest).await?;
                Ok(Found::Manifest(Box::new(kept)))
            }
            Document::Index(index) => {
                let all = list(&documents, name, index).await?;
                Ok(Found::List(all))
            }
        }
    }

    /// Pushes a list, after those of its manifests that are in other repositories of the registry, with their blobs.
    pub(super) async fn push(
        &self,
        list: &ImageReference,
        all: &[KeptManifest],
        kind: &str,
        index: String,
    ) -> Result<Digest, Failure> {
        let repository = list.repository();
        let named = |kept: &KeptManifest| kept.named().map(|name| name.repository().clone());
        let sources: Vec<Repository> = all.iter().map(named).collect::<Result<_, _>>()?;
        let (client, credentials) = self.client(repository)?;
        let documents = client.documents_to_write(repository, &sources, credentials);
        let elsewhere = || {
            let both = all.iter().zip(&sources);
            both.filter(|(_, source)| *source != repository)
        };
        for (kept, source) in elsewhere() {
            for blob in kept.blobs() {
                let from = format!("{source}@{blob}");
                let mounted = documents.mount(&blob, source).await.map_err(|error| {
                    let error = chain(&error);
                    Failure::new(format!("failed to mount blob {from} to {list}: {error}"))
                })?;
                // Layers of Windows may be elsewhere altogether.
                let platform = kept.descriptor.platform.as_ref();
                if !mounted && platform.is_none_or(|platform| platform.os != "windows") {
                    return Err(Failure::new(format!("error mounting {from} to {list}")));
                }
            }
        }
        for (kept, _) in elsewhere() {
            let digest = &kept.descriptor.digest;
            let target = list.with_digest(digest);
            let bytes = Bytes::from(kept.bytes()?);
            put(&documents, &target, &kept.descriptor.media_type, &bytes).await?;
            output::line(format!("Pushed ref {target} with digest: {digest}"))?;
        }
        let index = Bytes::from(index);
        put(&documents, list, kind, &index).await
    }

    /// A client, and what is known of us at a repository's registry.
    fn client(&self, repository: &Repository) -> Result<(Client, Option<Credentials>), Failure> {
        let host = repository.host();
        let login = registry::login_for(self.context, host)?;
        let text = |field: &str| login[field].as_str().unwrap_or_default().to_owned();
        let some = |text: String| (!text.is_empty()).then_some(text);
        let credentials = Credentials {
            username: text("username"),
            password: text("password"),
            identity_token: some(text("identitytoken")),
            registry_token: some(text("registrytoken")),
        };
        let mut settings = Settings::default();
        if self.insecure {
            let host = host.to_ascii_lowercase();
            settings.insecure = vec![InsecureRegistry::Host(host)];
        }
        Ok((Client::new(settings), Some(credentials)))
    }
}

async fn put(
    documents: &Documents,
    target: &ImageReference,
    kind: &str,
    bytes: &Bytes,
) -> Result<Digest, Failure> {
    let put = documents.put(target.manifest_selector(), kind, bytes).await;
    put.map_err(|error| {
        let error = chain(&error);
        Failure::new(format!("failed to put manifest {target}: {error}"))
    })
}

/// The manifests of a list, each with the platform that the list says.
async fn list(
    documents: &Documents,
    name: &ImageReference,
    index: Index,
) -> Result<Vec<KeptManifest>, Failure> {
    let mut all = Vec::with_capacity(index.manifests.len());
    for descriptor in index.manifests {
        let one = name.with_digest(&descriptor.digest);
        let fetched = documents.manifest(&one).await;
        let fetched = fetched.map_err(|error| failure(&error))?;
        if !matches!(parse(&fetched)?, Document::Manifest(_)) {
            return Err(Failure::new(format!(
                "unsupported manifest type: {}",
                fetched.media_type
            )));
        }
        let mut kept = kept(format!("{name}@{}", descriptor.digest), &fetched)?;
        kept.descriptor.platform = descriptor.platform;
        all.push(kept);
    }
    Ok(all)
}

/// What an image's config says that it runs on; nothing for what is no image.
async fn platform(
    documents: &Documents,
    name: &ImageReference,
    manifest: &Manifest,
) -> Result<Option<hoist_model::Platform>, Failure> {
    match documents.config(name, &manifest.config).await {
        Ok(config) => Ok(Some(config.platform())),
        Err(PullError::NotAnImage { .. } | PullError::Document { .. }) => Ok(None),
        Err(error) => Err(failure(&error)),
    }
}

fn parse(fetched: &FetchedManifest) -> Result<Document, Failure> {
    let parsed = Document::parse(&fetched.media_type, &fetched.bytes);
    parsed.map_err(|error| Failure::new(chain(&error)))
}

/// A manifest as lists keep it.
fn kept(reference: String, fetched: &FetchedManifest) -> Result<KeptManifest, Failure> {
    let document: Value = serde_json::from_slice(&fetched.bytes)
        .map_err(|error| Failure::new(format!("{reference}: {error}")))?;
    let is_docker = fetched.media_type == media_type::DOCKER_MANIFEST;
    let (docker, oci) = match is_docker {
        true => (Some(document), None),
        false => (None, Some(document)),
    };
    Ok(KeptManifest {
        reference,
        descriptor: Descriptor::new(
            fetched.media_type.clone(),
            fetched.digest.clone(),
            fetched.bytes.len() as u64,
        ),
        raw: STANDARD.encode(&fetched.bytes),
        docker,
        oci,
    })
}

fn failure(error: &PullError) -> Failure {
    Failure::new(chain(error))
}
