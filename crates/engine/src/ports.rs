//! What the engine needs from outside and has two implementations of: one for the machine, one for tests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hoist_image::StoredImage;
use hoist_model::{ErrorClass, ImageReference, Platform, Progress};

/// A future that owns what it needs.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Takes progress reports; called from any thread, must not block.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// What a client sends to be let in at a registry. Never logged, never stored by the engine.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Account name.
    pub username: String,
    /// Its password.
    pub password: String,
    /// An OAuth2 refresh token in place of the two.
    pub identity_token: String,
    /// A bearer token in place of all.
    pub registry_token: String,
    /// The registry these are for, as the client named it.
    pub server_address: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

/// Where images come from: a registry, or a directory in tests.
///
/// `pull` brings every layer and document of one image into the content store and the snapshotter. Dropping the
/// future leaves nothing half-made. The image's `references` hold the tag pulled and the repository digest.
pub trait ImageSource: Send + Sync {
    /// Brings an image here.
    fn pull<'a>(
        &'a self,
        reference: &'a ImageReference,
        platform: Option<&'a Platform>,
        credentials: Option<Credentials>,
        progress: ProgressFn,
    ) -> BoxFuture<'a, Result<StoredImage, SourceError>>;

    /// Asks the registry whether these credentials are good; answers its status sentence and, if it gave one, an
    /// identity token.
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> BoxFuture<'_, Result<(String, Option<String>), SourceError>>;
}

/// Why an image could not be had; the text names the operand and is Docker's where clients match on it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// The whole sentence.
    pub message: String,
    /// Its kind.
    pub class: ErrorClass,
}
