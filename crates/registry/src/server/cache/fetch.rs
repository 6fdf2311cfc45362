//! One fetch of a blob, and all who follow it.
//!
//! ```text
//! other registry ──► upload (written, digested) ──► blob
//!                        │ how far it is
//!                        ├──► reply of who asked first
//!                        └──► replies of who asked meanwhile, from the same file
//! ```
//!
//! The last byte is given only when the digest was right: nobody gets all of what is wrong. A fetch goes on when those who follow
//! it leave.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use axum::body::Body;
use bytes::Bytes;
use http::Method;
use tokio::sync::{OnceCell, watch};

use super::{Cache, Refused, Wanted, length};
use crate::server::Server;
use crate::server::failure::Failure;
use crate::server::names::{ContentDigest, RepositoryName};
use crate::server::uploads::receive;

/// Bytes read at once for a follower.
const PIECE: u64 = 256 << 10;

/// How far a fetch is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Bytes that are in the file.
    pub(crate) written: u64,
    /// Whether it ended, and well.
    pub(crate) ended: Option<bool>,
}

/// One that is on its way.
#[derive(Clone)]
pub(super) struct Fetch {
    path: PathBuf,
    /// Bytes that the other registry announced.
    total: u64,
    progress: watch::Receiver<Progress>,
}

impl Cache {
    /// Fetches a blob, or follows who does: its bytes, and how many they are. `None`: it came to be here without a fetch.
    pub(crate) async fn blob(
        self: &Arc<Self>,
        server: &Server,
        name: &RepositoryName,
        digest: &ContentDigest,
        unknown: impl FnOnce() -> Failure,
    ) -> Result<Option<(Body, u64)>, Failure> {
        // What another repository has need not come again, if the other registry says that this one has it.
        let (to, wanted) = (name.clone(), digest.clone());
        let has = server.blocking("reading a blob", move |shared| {
            Ok(shared.storage.open_content(&wanted)?.is_some())
        });
        if has.await? {
            self.blob_size(name, digest, unknown).await?;
            let wanted = digest.clone();
            server
                .blocking("storing a blob", move |shared| {
                    shared.storage.mark_content(&to, &wanted)
                })
                .await?;
            return Ok(None);
        }
        let key = (name.clone(), digest.clone());
        let cell = {
            let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(
                fetches
                    .entry(key.clone())
                    .or_insert_with(|| Arc::new(OnceCell::new())),
            )
        };
        let begun = cell
            .get_or_try_init(|| self.begin(server, name, digest))
            .await;
        match begun {
            Ok(fetch) => Ok(Some((
                follow(fetch.clone(), server.clone(), digest.clone()),
                fetch.total,
            ))),
            Err(refused) => {
                self.forget(&key);
                Err(self.failure(refused, unknown))
            }
        }
    }

    fn forget(&self, key: &Wanted) {
        self.fetches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }

    async fn begin(
        self: &Arc<Self>,
        server: &Server,
        name: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<Fetch, Refused> {
        let target = format!("/v2/{name}/blobs/{digest}");
        let response = self.ask(name, Method::GET, &target).await?;
        let total = length(response.headers());
        let total = total.ok_or_else(|| {
            Refused::Unavailable(format!("{}{target}: no Content-Length", self.origin))
        })?;
        let uploads = Arc::clone(&server.0.uploads);
        let upload = uploads.begin(name.clone(), Some(digest.algorithm()));
        let mut upload = upload.map_err(|error| Refused::Unavailable(error.to_string()))?;
        let (sender, progress) = watch::channel(Progress::default());
        let fetch = Fetch {
            path: upload.path().to_owned(),
            total,
            progress,
        };
        upload.watch(sender.clone());
        let (cache, key) = (Arc::clone(self), (name.clone(), digest.clone()));
        // Owned by nobody who may leave; it ends with the other registry's body, whose pieces have deadlines.
        tokio::spawn(async move {
            let (mut upload, received) =
                receive(upload, Body::new(response.into_body()), Some(total)).await;
            let wanted = key.1.clone();
            let finished = tokio::task::spawn_blocking(move || match received {
                Ok(()) => uploads.finish(&mut upload, &wanted),
                Err(error) => {
                    uploads.end(&mut upload);
                    Err(error)
                }
            });
            let ended = match finished.await {
                Ok(Ok(())) => true,
                Ok(Err(error)) => {
                    tracing::warn!(name = %key.0, digest = %key.1, error = hoist_model::chain(&error), "a blob was not fetched");
                    false
                }
                Err(error) => {
                    tracing::error!(%error, "a fetch stopped");
                    false
                }
            };
            cache.forget(&key);
            sender.send_modify(|progress| progress.ended = Some(ended));
        });
        Ok(fetch)
    }
}

/// What a follower knows.
struct Follower {
    fetch: Fetch,
    server: Server,
    digest: ContentDigest,
    file: Option<Arc<File>>,
    position: u64,
}

/// The blob's bytes, as they come.
fn follow(fetch: Fetch, server: Server, digest: ContentDigest) -> Body {
    let follower = Follower {
        fetch,
        server,
        digest,
        file: None,
        position: 0,
    };
    let stream = futures_util::stream::try_unfold(follower, |mut follower| async move {
        match follower.next().await {
            Ok(Some(bytes)) => Ok(Some((bytes, follower))),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        }
    });
    Body::from_stream(stream)
}

impl Follower {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let total = self.fetch.total;
            let progress = *self.fetch.progress.borrow_and_update();
            let most = match progress.ended {
                Some(true) => total,
                Some(false) => {
                    return Err(io::Error::other("the cached registry sent something else"));
                }
                None => progress.written.min(total.saturating_sub(1)),
            };
            if self.position < most {
                return self.read(PIECE.min(most - self.position)).await.map(Some);
            }
            if self.position == total && progress.ended.is_some() {
                return Ok(None);
            }
            let changed = self.fetch.progress.changed().await;
            changed.map_err(|_| io::Error::other("the fetch stopped"))?;
        }
    }

    async fn read(&mut self, length: u64) -> io::Result<Bytes> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => {
                let file = Arc::new(self.open()?);
                self.file = Some(Arc::clone(&file));
                file
            }
        };
        let position = self.position;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, position)?;
            io::Result::Ok(bytes)
        });
        let bytes = read.await.map_err(io::Error::other)??;
        self.position += bytes.len() as u64;
        Ok(bytes.into())
    }

    /// The file where it is: an upload, until it is a blob.
    fn open(&self) -> io::Result<File> {
        File::open(&self.fetch.path).or_else(|_| {
            let found = self
                .server
                .0
                .storage
                .open_content(&self.digest)
                .map_err(io::Error::other)?;
            found
                .map(|(file, _)| file)
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }
}
