//! The engine's ImageSource port over hoist-registry.

use std::sync::{Arc, PoisonError, RwLock};

use hoist_engine::ports::{BoxFuture, Credentials, ImageSource, ProgressFn, SourceError};
use hoist_image::{ContentStore, OutgoingImage, PushedImage, Snapshotter, StoredImage};
use hoist_model::{ErrorClass, ImageReference, Platform, chain};
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

    fn client(&self) -> Client {
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

fn credentials(given: Credentials) -> hoist_registry::Credentials {
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
