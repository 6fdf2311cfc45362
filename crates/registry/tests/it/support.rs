//! Where pulled images go, and what was reported.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hoist_image::{
    ContentStore, LayerCompression, Snapshotter, SnapshotterChoice, StoredImage, open_snapshotter,
};
use hoist_model::{ImageReference, LayerPhase, Platform, Progress};
use hoist_registry::{Client, Credentials, PullError, Settings, pull};
use hoist_testkit::{Compression, ImageBuilder, TarBuilder, TemporaryDirectory};

pub(crate) struct House {
    pub(crate) directory: TemporaryDirectory,
    pub(crate) content: Arc<ContentStore>,
    pub(crate) snapshotter: Arc<dyn Snapshotter>,
    pub(crate) reports: Arc<Mutex<Vec<Progress>>>,
    /// How layers go to where it pushes.
    pub(crate) compression: LayerCompression,
}

impl House {
    pub(crate) fn new() -> Self {
        let directory = TemporaryDirectory::new("pull");
        let content = Arc::new(ContentStore::open(directory.path()).unwrap());
        let snapshotter = open_snapshotter(directory.path(), SnapshotterChoice::Directory).unwrap();
        Self {
            directory,
            content,
            snapshotter,
            reports: Arc::default(),
            compression: LayerCompression::default(),
        }
    }

    pub(crate) async fn pull(
        &self,
        client: &Client,
        reference: &str,
        credentials: Option<Credentials>,
    ) -> Result<StoredImage, PullError> {
        self.pull_for(client, reference, None, credentials).await
    }

    pub(crate) async fn pull_for(
        &self,
        client: &Client,
        reference: &str,
        platform: Option<&Platform>,
        credentials: Option<Credentials>,
    ) -> Result<StoredImage, PullError> {
        let reports = Arc::clone(&self.reports);
        let reference = ImageReference::parse(reference).unwrap();
        let pulling = pull(
            client,
            &self.content,
            Arc::clone(&self.snapshotter),
            &reference,
            platform,
            credentials,
            Arc::new(move |progress| reports.lock().unwrap().push(progress)),
        );
        tokio::time::timeout(Duration::from_secs(120), pulling)
            .await
            .expect("the pull hangs")
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.snapshotter.layers().is_empty() && self.content.list().unwrap().is_empty()
    }

    pub(crate) fn phases(&self) -> Vec<LayerPhase> {
        let reports = self.reports.lock().unwrap();
        let phases = reports.iter().filter_map(|report| match report {
            Progress::Layer { phase, .. } => Some(phase.clone()),
            _ => None,
        });
        phases.collect()
    }

    pub(crate) fn messages(&self) -> Vec<String> {
        let reports = self.reports.lock().unwrap();
        let texts = reports.iter().filter_map(|report| match report {
            Progress::Message { text, .. } => Some(text.clone()),
            _ => None,
        });
        texts.collect()
    }
}

/// Quick to try again, and blind to the machine's own certificates directory.
pub(crate) fn settings() -> Settings {
    Settings {
        certificates: None,
        backoff: Duration::from_millis(5),
        max_attempts: 3,
        connect_deadline: Duration::from_secs(30),
        head_deadline: Duration::from_secs(30),
        idle_deadline: Duration::from_secs(30),
        ..Settings::default()
    }
}

pub(crate) fn client() -> Client {
    Client::new(settings())
}

/// Two layers: a small one, and one of 4 MiB that no compressor shrinks.
pub(crate) fn image() -> ImageBuilder {
    ImageBuilder::new()
        .layer(TarBuilder::new().file("small", 0o644, "small").finish())
        .layer(
            TarBuilder::new()
                .file("noise", 0o644, noise(4 << 20))
                .finish(),
        )
        .compression(Compression::Gzip)
}

/// Bytes that no compressor shrinks.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut noise = vec![0u8; length];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for byte in &mut noise {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state.to_le_bytes()[3];
    }
    noise
}
