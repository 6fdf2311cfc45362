//! The engine's ImageSource port over hoist-registry.

use std::sync::{Arc, PoisonError, RwLock};

use hoist_engine::ports::{
    BoxFuture, Credentials, Download, ImageSource, ProgressFn, RemoteImage, SearchHit, SourceError,
};
use hoist_image::{ContentStore, OutgoingImage, PushedImage, Snapshotter, StoredImage};
use hoist_model::{ErrorClass, ImageReference, Platform, Repository, chain};
use hoist_registry::{Client, PullError};

/// A registry client, and where it puts what it brings and finds what it sends.
pub(crate) struct RegistrySource {
    /// Replaced by a reload; what is under way goes on with the one it began with.
    client: RwLock<Client>,
    content: Arc<ContentStore>,
    snapshotter: Arc<dyn Snapshotter>,
}

impl RegistrySource {
    pub(crate) fn new(
        client: Client,
        content: Arc<ContentStore>,
        snapshotter: Arc<dyn Snapshotter>,
    ) -> Self {
        Self {
            client: RwLock::new(client),
            content,
            snapshotter,
        }
    }

    pub(crate) fn renew(&self, client: Client) {
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// What speaks to registries, and to whoever else is on the web.
    pub(crate) fn client(&self) -> Client {
        let client = self.client.read().unwrap_or_else(PoisonError::into_inner);
        client.clone()
    }
}

fn translate(error: &PullError) -> SourceError {
    SourceError {
        message: chain(error),
        class: error.class(),
    }
}

/// A pull's failure. On 401 the stock client would ask for a login on its terminal and wait, script or not;
/// Docker's engine answers 500 to a pull that wants one.
fn refused_pull(error: &PullError) -> SourceError {
    let refused = translate(error);
    match refused.class {
        ErrorClass::Unauthorized => SourceError {
            class: ErrorClass::Internal,
            ..refused
        },
        _ => refused,
    }
}

pub(crate) fn credentials(given: Credentials) -> hoist_registry::Credentials {
    let some = |text: String| (!text.is_empty()).then_some(text);
    hoist_registry::Credentials {
        username: given.username,
        password: given.password,
        identity_token: some(given.identity_token),
        registry_token: some(given.registry_token),
    }
}

impl ImageSource for RegistrySource {
    fn pull<'a>(
        &'a self,
        reference: &'a ImageReference,
        platform: Option<&'a Platform>,
        given: Option<Credentials>,
        progress: ProgressFn,
    ) -> BoxFuture<'a, Result<StoredImage, SourceError>> {
        Box::pin(async move {
            hoist_registry::pull(
                &self.client(),
                &self.content,
                self.snapshotter.clone(),
                reference,
                platform,
                given.map(credentials),
                progress,
            )
            .await
            .map_err(|error| refused_pull(&error))
        })
    }

    fn push<'a>(
        &'a self,
        image: &'a OutgoingImage,
        reference: &'a ImageReference,
        given: Option<Credentials>,
        progress: ProgressFn,
    ) -> BoxFuture<'a, Result<PushedImage, SourceError>> {
        Box::pin(async move {
            hoist_registry::push(
                &self.client(),
                &self.content,
                &self.snapshotter,
                image,
                reference,
                given.map(credentials),
                progress,
            )
            .await
            .map_err(|error| translate(&error))
        })
    }

    fn describe<'a>(
        &'a self,
        reference: &'a ImageReference,
        given: Option<Credentials>,
    ) -> BoxFuture<'a, Result<RemoteImage, SourceError>> {
        Box::pin(async move {
            let client = self.client();
            let described = client.describe(reference, given.map(credentials)).await;
            let described = described.map_err(|error| translate(&error))?;
            Ok(RemoteImage {
                media_type: described.media_type,
                digest: described.digest,
                size: described.size,
                platforms: described.platforms,
            })
        })
    }

    fn tags<'a>(
        &'a self,
        repository: &'a Repository,
        given: Option<Credentials>,
    ) -> BoxFuture<'a, Result<Vec<String>, SourceError>> {
        Box::pin(async move {
            let client = self.client();
            let tags = client.tags(repository, given.map(credentials)).await;
            tags.map_err(|error| refused_pull(&error))
        })
    }

    fn search<'a>(
        &'a self,
        term: &'a str,
        limit: u32,
        given: Option<Credentials>,
    ) -> BoxFuture<'a, Result<Vec<SearchHit>, SourceError>> {
        Box::pin(async move {
            let client = self.client();
            let found = client.search(term, limit, given.map(credentials)).await;
            let found = found.map_err(|error| translate(&error))?.into_iter();
            let hits = found.map(|found| SearchHit {
                name: found.name,
                description: found.description,
                official: found.is_official,
                stars: found.star_count,
            });
            Ok(hits.collect())
        })
    }

    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Download, SourceError>> {
        Box::pin(async move {
            let fetched = self.client().fetch(url).await;
            let fetched = fetched.map_err(|error| translate(&error))?;
            let pieces = futures_util::stream::unfold(fetched.body, |mut body| async move {
                let piece = body.chunk().await.map_err(std::io::Error::other);
                Some((piece.transpose()?, body))
            });
            Ok(Download {
                length: fetched.length,
                pieces: Box::pin(pieces),
            })
        })
    }

    fn authenticate(
        &self,
        given: Credentials,
    ) -> BoxFuture<'_, Result<(String, Option<String>), SourceError>> {
        Box::pin(async move {
            let server = given.server_address.clone();
            let answer = self
                .client()
                .authenticate(&server, credentials(given))
                .await;
            answer
                .map(|answer| {
                    let token = Some(answer.identity_token).filter(|token| !token.is_empty());
                    (answer.status.to_owned(), token)
                })
                .map_err(|error| translate(&error))
        })
    }
}
