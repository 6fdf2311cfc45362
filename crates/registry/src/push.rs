//! A whole push: layers side by side, then the config, then the manifest that makes an image of them.
//!
//! A layer is compressed only if the registry has it neither in the repository nor, as far as we know, in another one: what
//! manifests that came by here said of it is tried first.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use hoist_image::Sha256;
use hoist_image::document::{
    CONFIG_LIMIT, Descriptor, Document, MANIFEST_LIMIT, Manifest, media_type,
};
use hoist_image::{ContentStore, LayerCompression, OutgoingImage, PushedImage, Snapshotter};
use hoist_model::{Digest, ImageReference, Progress, Repository, UploadPhase};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::PullError;
use crate::manifest::digest_of;
use crate::pull::ProgressReport;
use crate::session::{LONGEST_PAUSE, Session};
use crate::transport::Transport;
use crate::upload::{Begun, Place, Uploads};

/// Pieces compressed ahead of the connection.
const PIECES: usize = 4;
/// The least time between two reports of one layer.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Sends an image to where `reference`, which has a tag, says. Blobs that are there are not sent again.
///
/// Where all layers are there as the image's own manifest names them, that manifest is sent as it is, so that the image
/// keeps its digest. Otherwise a manifest of the same kind as Docker's is made (schema 2; OCI's if a layer is in a format that
/// schema 2 does not know). The manifest sent is put into `content` too. Dropping the future ends the connections; what the
/// registry has of an upload by then is the registry's to forget.
///
/// Reports every layer's phases by its diff id; what is said before and afterwards is the caller's.
///
/// # Errors
/// See [`PullError`]; a registry's refusal is told in its own words.
pub async fn push(
    client: &Client,
    content: &Arc<ContentStore>,
    snapshotter: &Arc<dyn Snapshotter>,
    image: &OutgoingImage,
    reference: &ImageReference,
    credentials: Option<Credentials>,
    progress: ProgressReport,
) -> Result<PushedImage, PullError> {
    let repository = reference.repository().clone();
    for layer in image.layers.iter().rev() {
        progress(Progress::Upload {
            layer: layer.clone(),
            phase: UploadPhase::Preparing,
        });
    }
    let documents = documents(content, image).await?;
    let transport = Transport::new(Arc::clone(&client.0), repository.host());
    let sources = documents.sources(&repository);
    let session = Arc::new(Session::for_push(
        transport,
        &repository,
        &sources,
        credentials,
    ));
    let known = Arc::new(documents.known);
    let mut tasks = JoinSet::new();
    let mut distinct = std::collections::HashSet::new();
    for layer in image.layers.iter().rev() {
        if distinct.insert(layer.clone()) {
            let upload = LayerUpload {
                session: Arc::clone(&session),
                repository: repository.clone(),
                snapshotter: Arc::clone(snapshotter),
                layer: layer.clone(),
                known: Arc::clone(&known),
                compression: image.compression,
                progress: Arc::clone(&progress),
            };
            tasks.spawn(upload.run());
        }
    }
    let mut sent = HashMap::new();
    let mut failure = None;
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok((layer, descriptor))) => drop(sent.insert(layer, descriptor)),
            Ok(Err(error)) => {
                // The first failure is the cause; the others are told to stop.
                failure.get_or_insert(error);
                tasks.abort_all();
            }
            Err(error) if error.is_cancelled() => {}
            Err(_) => drop(failure.get_or_insert(PullError::Worker(image.id.clone()))),
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    let layers = image.layers.iter().filter_map(|layer| sent.get(layer));
    let layers: Vec<Descriptor> = layers.cloned().collect();
    let uploads = Uploads {
        session: &session,
        repository: &repository,
    };
    if !uploads.has(&image.id).await? {
        uploads.put(&image.id, &documents.config).await?;
    }
    let (kind, bytes) = match documents.own {
        Some((manifest, kind, bytes)) if same(&manifest.layers, &layers) => (kind, bytes),
        _ => manifest(&image.id, documents.config.len() as u64, &layers),
    };
    let selector = reference.manifest_selector();
    uploads.manifest(selector, &kind, &bytes).await?;
    let pushed = PushedImage {
        digest: digest_of(&bytes),
        size: bytes.len() as u64,
    };
    let content = Arc::clone(content);
    let put = tokio::task::spawn_blocking(move || content.put(&bytes));
    put.await
        .map_err(|_| PullError::Worker(image.id.clone()))??;
    Ok(pushed)
}

/// What is known of a layer: how it was transported, and where it was.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) descriptor: Descriptor,
    pub(crate) repository: Option<Repository>,
}

struct Documents {
    config: Bytes,
    /// The image's own manifest, its media type and its bytes.
    own: Option<(Manifest, String, Bytes)>,
    /// By diff id.
    known: HashMap<Digest, Vec<Known>>,
}

impl Documents {
    /// Other repositories of this one's registry that have a layer of the image, as far as we know.
    fn sources(&self, repository: &Repository) -> Vec<Repository> {
        let all = self.known.values().flatten();
        let mut sources: Vec<Repository> = all
            .filter_map(|known| known.repository.clone())
            .filter(|other| other.host() == repository.host() && other != repository)
            .collect();
        sources.sort_by(|a, b| a.path().cmp(b.path()));
        sources.dedup();
        sources
    }
}

/// Reads what a push needs of the content store.
async fn documents(
    content: &Arc<ContentStore>,
    image: &OutgoingImage,
) -> Result<Documents, PullError> {
    let (content, image) = (Arc::clone(content), image.clone());
    let failed = PullError::Worker(image.id.clone());
    let read = tokio::task::spawn_blocking(move || {
        let config = Bytes::from(content.get(&image.id, CONFIG_LIMIT)?);
        let own = image
            .manifest
            .as_ref()
            .and_then(|digest| parsed(&content, digest, &image.layers));
        let mut known: HashMap<Digest, Vec<Known>> = HashMap::new();
        // The image's own first: all of its layers as that names them keep its digest.
        let (own_names, others): (Vec<_>, Vec<_>) = image
            .known
            .iter()
            .partition(|known| Some(&known.manifest) == image.manifest.as_ref());
        for one in own_names.into_iter().chain(others) {
            let Some((manifest, ..)) = parsed(&content, &one.manifest, &one.layers) else {
                continue;
            };
            for (layer, descriptor) in one.layers.iter().zip(manifest.layers) {
                if !image.layers.contains(layer) || transport(&descriptor).is_none() {
                    continue;
                }
                let entry = known.entry(layer.clone()).or_default();
                entry.extend(one.repositories.iter().map(|repository| Known {
                    descriptor: descriptor.clone(),
                    repository: Some(repository.clone()),
                }));
                if one.repositories.is_empty() {
                    entry.push(Known {
                        descriptor,
                        repository: None,
                    });
                }
            }
        }
        Ok::<_, PullError>(Documents { config, own, known })
    });
    read.await.map_err(|_| failed)?
}

/// A manifest that is here, if it is one of these layers.
fn parsed(
    content: &ContentStore,
    digest: &Digest,
    layers: &[Digest],
) -> Option<(Manifest, String, Bytes)> {
    let bytes = content.get(digest, MANIFEST_LIMIT).ok()?;
    for kind in [media_type::DOCKER_MANIFEST, media_type::OCI_MANIFEST] {
        if let Ok(Document::Manifest(manifest)) = Document::parse(kind, &bytes)
            && manifest.layers.len() == layers.len()
        {
            let named = manifest.media_type.clone();
            // OCI's may be silent about what it is.
            let kind = named.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
            return Some((manifest, kind, bytes.into()));
        }
    }
    None
}

/// How a layer is compressed that may be named in a manifest again; none of uncompressed ones, which are compressed first.
fn transport(descriptor: &Descriptor) -> Option<Transported> {
    match descriptor.media_type.as_str() {
        media_type::DOCKER_LAYER_GZIP | media_type::OCI_LAYER_GZIP => Some(Transported::Gzip),
        media_type::OCI_LAYER_ZSTD => Some(Transported::Zstd),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transported {
    Gzip,
    Zstd,
}

fn same(own: &[Descriptor], sent: &[Descriptor]) -> bool {
    let digests = |layers: &[Descriptor]| -> Vec<Digest> {
        layers.iter().map(|layer| layer.digest.clone()).collect()
    };
    digests(own) == digests(sent)
}

/// The manifest of an image whose layers were sent so, with its media type.
fn manifest(config: &Digest, size: u64, layers: &[Descriptor]) -> (String, Bytes) {
    let oci = layers
        .iter()
        .any(|layer| transport(layer) == Some(Transported::Zstd));
    let (kind, of_config) = match oci {
        true => (media_type::OCI_MANIFEST, media_type::OCI_CONFIG),
        false => (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG),
    };
    let descriptor = |kind: &str, size: u64, digest: &Digest| serde_json::json!({"mediaType": kind, "size": size, "digest": digest.as_str()});
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            let kind = match (oci, transport(layer)) {
                (false, _) => media_type::DOCKER_LAYER_GZIP,
                (true, Some(Transported::Zstd)) => media_type::OCI_LAYER_ZSTD,
                (true, _) => media_type::OCI_LAYER_GZIP,
            };
            descriptor(kind, layer.size, &layer.digest)
        })
        .collect();
    let document = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": kind,
        "config": descriptor(of_config, size, config),
        "layers": layers,
    });
    (kind.to_owned(), document.to_string().into())
}

/// One layer's way.
pub(crate) struct LayerUpload {
    pub(crate) session: Arc<Session>,
    pub(crate) repository: Repository,
    pub(crate) snapshotter: Arc<dyn Snapshotter>,
    pub(crate) layer: Digest,
    pub(crate) known: Arc<HashMap<Digest, Vec<Known>>>,
    pub(crate) compression: LayerCompression,
    pub(crate) progress: ProgressReport,
}

impl LayerUpload {
    fn report(&self, phase: UploadPhase) {
        (self.progress)(Progress::Upload {
            layer: self.layer.clone(),
            phase,
        });
    }

    pub(crate) async fn run(self) -> Result<(Digest, Descriptor), PullError> {
        let shared = Arc::clone(self.session.transport.shared());
        let _permit = match shared.uploads.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => {
                self.report(UploadPhase::Waiting);
                shared.uploads.acquire().await.ok()
            }
        };
        let uploads = Uploads {
            session: &self.session,
            repository: &self.repository,
        };
        let known = self.known.get(&self.layer).map_or(&[][..], Vec::as_slice);
        let wanted = |known: &&Known| {
            self.compression == LayerCompression::Gzip
                || transport(&known.descriptor) == Some(Transported::Zstd)
        };
        let known: Vec<&Known> = known.iter().filter(wanted).collect();
        let mut asked = Vec::new();
        for one in &known {
            let digest = &one.descriptor.digest;
            if asked.contains(&digest) {
                continue;
            }
            asked.push(digest);
            if uploads.has(digest).await? {
                self.report(UploadPhase::AlreadyExists);
                return Ok((self.layer.clone(), one.descriptor.clone()));
            }
        }
        for one in known {
            let Some(from) = &one.repository else {
                continue;
            };
            if from.host() != self.repository.host() || *from == self.repository {
                continue;
            }
            let wanted = (&one.descriptor.digest, from);
            // Where it does not mount, it offers an upload instead, which it forgets when nothing comes.
            if let Begun::Mounted = uploads.begin(Some(wanted)).await? {
                self.report(UploadPhase::MountedFrom(from.path().to_owned()));
                return Ok((self.layer.clone(), one.descriptor.clone()));
            }
        }
        let descriptor = self.send(&uploads).await?;
        self.report(UploadPhase::Pushed);
        Ok((self.layer, descriptor))
    }

    /// Compresses and sends the layer. Where a connection broke, it goes on at the byte that the registry has it to: a layer
    /// is compressed to the same bytes every time.
    async fn send(&self, uploads: &Uploads<'_>) -> Result<Descriptor, PullError> {
        let settings = &self.session.transport.shared().settings;
        let mut pause = settings.backoff;
        let mut number = 1;
        let mut begun = None;
        loop {
            let known = match begun.take() {
                Some(place) => uploads.progress(&place).await.unwrap_or_default(),
                None => None,
            };
            match Box::pin(self.attempt(uploads, known, &mut begun)).await {
                Err(error) if error.is_transient() && number < settings.max_attempts => {
                    tracing::debug!(layer = %self.layer, %error, number, "uploading a layer again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    number += 1;
                }
                other => return other,
            }
        }
    }

    /// One upload, or the rest of one of which the registry has so many bytes; `begun` is where it can be asked for that later.
    async fn attempt(
        &self,
        uploads: &Uploads<'_>,
        known: Option<(Place, u64)>,
        begun: &mut Option<Place>,
    ) -> Result<Descriptor, PullError> {
        let (place, skip) = match known {
            Some(known) => known,
            None => match uploads.begin(None).await? {
                Begun::At(place) => (place, 0),
                Begun::Mounted => {
                    return Err(PullError::Protocol {
                        host: self.repository.host().to_owned(),
                        reason: "it says that a layer is there which it was not told of".to_owned(),
                    });
                }
            },
        };
        *begun = Some(place.clone());
        let (sender, pieces) = mpsc::channel(PIECES);
        let (snapshotter, layer) = (Arc::clone(&self.snapshotter), self.layer.clone());
        let progress = Arc::clone(&self.progress);
        let how = self.compression;
        let worker = tokio::task::spawn_blocking(move || {
            compress(&*snapshotter, &layer, how, &progress, &sender, skip)
        });
        let sent = uploads.stream(place, pieces).await;
        // The channel is closed, so the worker ends.
        let made = worker
            .await
            .map_err(|_| PullError::Worker(self.layer.clone()))?;
        let (place, (digest, size)) = match (sent, made) {
            (Ok(place), Ok(made)) => (place, made),
            // A connection that broke ends the worker, too; a layer that cannot be sent breaks the connection.
            (Err(error), Ok(_) | Err(PullError::Worker(_))) | (_, Err(error)) => return Err(error),
        };
        uploads.finish(&place, &digest, &Bytes::new()).await?;
        let kind = match self.compression {
            LayerCompression::Gzip => media_type::DOCKER_LAYER_GZIP,
            LayerCompression::Zstd => media_type::OCI_LAYER_ZSTD,
        };
        Ok(Descriptor::new(kind, digest, size))
    }
}

/// Compresses a layer into the channel, but for the first bytes, of which the registry has `skip`; the digest and the bytes of the
/// whole then.
fn compress(
    snapshotter: &dyn Snapshotter,
    layer: &Digest,
    how: LayerCompression,
    progress: &ProgressReport,
    pieces: &mpsc::Sender<io::Result<Bytes>>,
    mut skip: u64,
) -> Result<(Digest, u64), PullError> {
    let unreadable = |cause| PullError::Layer {
        digest: layer.clone(),
        cause,
    };
    let total = snapshotter.layer(layer).map_err(unreadable)?.tar_bytes;
    let mut tar = Watched {
        inner: snapshotter.open_tar(layer).map_err(unreadable)?,
        hasher: Sha256::new(),
        read: 0,
        reported: None,
        failed: false,
        report: |current| {
            progress(Progress::Upload {
                layer: layer.clone(),
                phase: UploadPhase::Pushing { current, total },
            });
        },
    };
    let (mut hasher, mut size) = (Sha256::new(), 0);
    let done = hoist_image::compress(how, &mut tar, |piece| {
        hasher.update(&piece);
        size += piece.len() as u64;
        let mut piece = Bytes::from(piece);
        let over = usize::try_from(skip).map_or(piece.len(), |skip| skip.min(piece.len()));
        piece.advance(over);
        skip -= over as u64;
        if piece.is_empty() {
            return Ok(());
        }
        // Nobody there any more: the connection has the reason.
        pieces
            .blocking_send(Ok(piece))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    });
    let failure = match done {
        Ok(()) => {
            let found = tar.hasher.finish();
            if found == *layer {
                return Ok((hasher.finish(), size));
            }
            PullError::Mismatch {
                what: "filesystem layer",
                wanted: layer.clone(),
                found,
            }
        }
        Err(source) if tar.failed => PullError::ReadLayer {
            digest: layer.clone(),
            source,
        },
        Err(_) => return Err(PullError::Worker(layer.clone())),
    };
    // The body must not look whole.
    let _ = pieces.blocking_send(Err(io::ErrorKind::InvalidData.into()));
    Err(failure)
}

/// Hashes and counts what is read, and remembers whether it was the reading that failed.
struct Watched<R, F> {
    inner: R,
    hasher: Sha256,
    read: u64,
    reported: Option<Instant>,
    failed: bool,
    report: F,
}

impl<R: Read, F: FnMut(u64)> Read for Watched<R, F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into).inspect_err(|error| {
            self.failed = error.kind() != io::ErrorKind::Interrupted;
        })?;
        self.hasher.update(&into[..count]);
        self.read += count as u64;
        let now = Instant::now();
        let due = self
            .reported
            .is_none_or(|before| now.duration_since(before) >= REPORT_EVERY);
        if due {
            self.reported = Some(now);
            (self.report)(self.read);
        }
        Ok(count)
    }
}
