//! A whole pull: manifest, config, layers side by side, then the documents.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use hoist_image::document::{ImageConfig, media_type};
use hoist_image::{ContentError, ContentStore, MAX_LAYERS, Snapshotter, StoredImage};
use hoist_model::{DOCKER_HUB, Digest, ImageReference, LayerPhase, Platform, Progress, Repository};
use http::{HeaderMap, Method};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::PullError;
use crate::manifest::{Chosen, choose, config, digest_of};
use crate::origin::Origin;
use crate::session::Session;
use crate::transport::{Transport, unreachable};

/// Where a pull's reports go. Called from runtime threads; must not block. Whoever stores something for the pull holds it: when
/// the last is dropped, nothing more of the pull is stored, also of one whose future was dropped.
pub type ProgressReport = Arc<dyn Fn(Progress) + Send + Sync>;

/// Fetches an image for `platform` (the host's, if none is asked for) and stores all its parts.
///
/// Layers come first, the config and the manifests last: whatever interrupts a pull, there is no document of an image
/// that is not whole. Layers that were stored before a failure stay, for the next attempt to find; whoever owns
/// the image table removes those that no image has. Dropping the future ends the connections; a layer in
/// the making is dropped by its worker a moment later, and what came of it is kept for the next attempt where the registry answers ranges.
///
/// Reports `Pulling from …`, every layer's phases and `Digest: …`; the `Status: …` line is the caller's, who knows
/// what the tag meant before.
///
/// Images of Docker Hub come from the first of the mirrors that has them whole, where there are mirrors.
///
/// # Errors
/// See [`PullError`].
pub async fn pull(
    client: &Client,
    content: &Arc<ContentStore>,
    snapshotter: Arc<dyn Snapshotter>,
    reference: &ImageReference,
    platform: Option<&Platform>,
    credentials: Option<Credentials>,
    progress: ProgressReport,
) -> Result<StoredImage, PullError> {
    let platform = platform.cloned().unwrap_or_else(Platform::host);
    let store = Store {
        content,
        snapshotter,
        reference,
        platform: &platform,
        progress,
    };
    let repository = reference.repository();
    let mirrors: &[String] = match repository.host() {
        DOCKER_HUB => &client.0.settings.mirrors,
        _ => &[],
    };
    let mut tried = Vec::new();
    for mirror in mirrors {
        match Box::pin(from_mirror(client, mirror, &store)).await {
            Ok(image) => return Ok(image),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                let error = hoist_model::chain(error);
                tracing::warn!(%mirror, %error, "pulling from the next");
                tried.push(format!("mirror {mirror}: {error}"));
            }
        }
    }
    let transport = Transport::new(Arc::clone(&client.0), repository.host());
    let session = Session::new(transport, repository, credentials);
    // Found before anything is said: "Pulling from" a registry that does not answer would mislead.
    let pulled = async {
        session.endpoint().await?;
        from(session, &store).await
    };
    match Box::pin(pulled).await {
        // Who is offline wants to know of everything that was tried.
        Err(last) if !tried.is_empty() && unreachable(&last) => Err(PullError::AfterMirrors {
            last: Box::new(last),
            mirrors: tried,
        }),
        pulled => pulled,
    }
}

/// What is wanted, and where it goes.
struct Store<'a> {
    content: &'a Arc<ContentStore>,
    snapshotter: Arc<dyn Snapshotter>,
    reference: &'a ImageReference,
    platform: &'a Platform,
    progress: ProgressReport,
}

/// Asks a mirror once whether it is there, then as any registry.
async fn from_mirror(
    client: &Client,
    mirror: &str,
    store: &Store<'_>,
) -> Result<StoredImage, PullError> {
    let session = at_mirror(client, mirror, store.reference.repository()).await?;
    from(session, store).await
}

/// A session with a mirror, which was asked once whether it is there.
pub(crate) async fn at_mirror(
    client: &Client,
    mirror: &str,
    repository: &Repository,
) -> Result<Session, PullError> {
    let broken = || PullError::Protocol {
        host: mirror.to_owned(),
        reason: "it is no mirror: expected scheme://host".to_owned(),
    };
    let uri = mirror.parse().map_err(|_| broken())?;
    let origin = Origin::of_uri(&uri).ok_or_else(broken)?;
    let transport = Transport::new(Arc::clone(&client.0), &origin.authority());
    let none = HeaderMap::new();
    // Once: a mirror that is away is no reason to wait.
    transport.ask(&origin, Method::GET, "/v2/", &none).await?;
    Ok(Session::for_mirror(transport, origin, repository))
}

async fn from(session: Session, store: &Store<'_>) -> Result<StoredImage, PullError> {
    let session = Arc::new(session);
    let Store {
        content,
        snapshotter,
        reference,
        platform,
        progress,
    } = store;
    let chosen = Box::pin(choose(&session, reference, platform)).await?;
    progress(Progress::Message {
        subject: Some(reference.manifest_selector().to_owned()),
        text: format!("Pulling from {}", pulled_path(reference)),
    });
    let descriptor = &chosen.manifest.config;
    let (config_bytes, config) = Box::pin(config(&session, reference, descriptor)).await?;
    let layers = plan(&chosen, &config)?;
    let size = Box::pin(store_layers(
        &session,
        reference,
        &chosen,
        &layers,
        (content, snapshotter),
        progress,
    ))
    .await?;
    progress(Progress::Message {
        subject: None,
        text: format!("Digest: {}", chosen.top.digest),
    });
    let manifest = chosen.below.last().unwrap_or(&chosen.top).digest.clone();
    let mut references = vec![reference.with_digest(&chosen.top.digest)];
    if reference.digest().is_none() {
        references.insert(0, (*reference).clone());
    }
    let id = digest_of(&config_bytes);
    let mut documents = vec![config_bytes];
    documents.extend(chosen.below.into_iter().map(|raw| raw.bytes));
    documents.push(chosen.top.bytes);
    put_all(content, documents, progress).await?;
    Ok(StoredImage {
        id,
        config,
        layers,
        manifest: Some(manifest),
        size,
        references,
    })
}

/// How Docker names the repository while pulling: its path alone on Docker Hub and elsewhere.
fn pulled_path(reference: &ImageReference) -> &str {
    reference.repository().path()
}

/// The diff ids, checked against the manifest before anything is fetched.
fn plan(chosen: &Chosen, config: &ImageConfig) -> Result<Vec<Digest>, PullError> {
    let listed = &chosen.manifest.layers;
    let diff_ids = &config.rootfs.diff_ids;
    if listed.len() != diff_ids.len() || listed.len() > MAX_LAYERS {
        return Err(PullError::LayerCount {
            manifest: listed.len(),
            config: diff_ids.len(),
        });
    }
    for descriptor in listed {
        if !media_type::is_layer(&descriptor.media_type) {
            return Err(PullError::UnsupportedMediaType(
                descriptor.media_type.clone(),
            ));
        }
    }
    Ok(diff_ids.clone())
}

/// Stores every layer once, side by side, and sums up their files' bytes.
async fn store_layers(
    session: &Arc<Session>,
    reference: &ImageReference,
    chosen: &Chosen,
    diff_ids: &[Digest],
    (content, snapshotter): (&Arc<ContentStore>, &Arc<dyn Snapshotter>),
    progress: &ProgressReport,
) -> Result<u64, PullError> {
    let reference = Arc::new(reference.clone());
    // Dropped early, the set aborts its tasks.
    let mut tasks = JoinSet::new();
    let mut distinct = HashMap::new();
    for (descriptor, diff_id) in chosen.manifest.layers.iter().zip(diff_ids) {
        if distinct.insert(diff_id.clone(), ()).is_some() {
            continue;
        }
        progress(Progress::Layer {
            layer: descriptor.digest.clone(),
            phase: LayerPhase::Known,
        });
        let store = crate::layer::store(
            Arc::clone(session),
            Arc::clone(&reference),
            descriptor.clone(),
            diff_id.clone(),
            Arc::clone(snapshotter),
            Arc::clone(content),
            Arc::clone(progress),
        );
        tasks.spawn(store);
    }
    let mut failure = None;
    while let Some(ended) = tasks.join_next().await {
        let ended = match ended {
            Ok(ended) => ended,
            Err(e) if e.is_cancelled() => continue,
            Err(_) => Err(PullError::Worker(chosen.top.digest.clone())),
        };
        if let Err(e) = ended {
            // The first failure is the cause; the others are told to stop and waited for.
            failure.get_or_insert(e);
            tasks.abort_all();
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    let mut size = 0;
    for diff_id in diff_ids {
        let record = snapshotter
            .layer(diff_id)
            .map_err(|cause| PullError::Layer {
                digest: diff_id.clone(),
                cause,
            })?;
        size += record.file_bytes;
    }
    Ok(size)
}

/// Stores the documents in this order, off the runtime's threads: each is synced.
async fn put_all(
    content: &Arc<ContentStore>,
    documents: Vec<Bytes>,
    progress: &ProgressReport,
) -> Result<(), PullError> {
    let (content, held) = (Arc::clone(content), Arc::clone(progress));
    let put = tokio::task::spawn_blocking(move || -> Result<(), ContentError> {
        let put = documents
            .into_iter()
            .try_for_each(|bytes| content.put(&bytes).map(drop));
        drop(held);
        put
    });
    match put.await {
        Ok(put) => Ok(put?),
        Err(_) => Err(PullError::Protocol {
            host: "local".to_owned(),
            reason: "the documents could not be stored".to_owned(),
        }),
    }
}
