//! Caches elsewhere: what one builder did, another with nothing of it need not do.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex};

use hoist_build::ports::{BoxFuture, CacheStore, PortError};
use hoist_build::{CacheMode, RemoteCache};
use hoist_image::document::{Descriptor, Manifest, media_type};
use hoist_image::{Snapshotter, unpack_layer};
use hoist_model::{Digest, ErrorClass, Platform};
use sha2::{Digest as _, Sha256};

use crate::support::{Bench, bench};

/// What is elsewhere: blobs, and what the name leads to.
#[derive(Default)]
struct Elsewhere {
    blobs: HashMap<Digest, Vec<u8>>,
    named: Option<Digest>,
    /// Layers that came and went.
    sent: usize,
    fetched: usize,
}

/// It as one builder sees it. Layers travel as they are.
#[derive(Clone)]
struct Door {
    elsewhere: Arc<Mutex<Elsewhere>>,
    snapshotter: Arc<dyn Snapshotter>,
}

fn described(kind: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: kind.to_owned(),
        digest: Digest::from_sha256(&Sha256::digest(bytes).into()),
        size: bytes.len() as u64,
        platform: None,
        annotations: None,
        extra: serde_json::Map::new(),
    }
}

impl Door {
    fn of(bench: &Bench, elsewhere: &Arc<Mutex<Elsewhere>>) -> Arc<dyn CacheStore> {
        Arc::new(Self {
            elsewhere: elsewhere.clone(),
            snapshotter: bench.snapshotter.clone(),
        })
    }

    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, PortError> {
        let blob = self.elsewhere.lock().unwrap().blobs.get(digest).cloned();
        blob.ok_or_else(|| PortError {
            message: format!("{digest} is not there"),
            class: ErrorClass::NotFound,
        })
    }

    fn keep(&self, kind: &str, bytes: Vec<u8>) -> Descriptor {
        let described = described(kind, &bytes);
        let mut elsewhere = self.elsewhere.lock().unwrap();
        elsewhere.blobs.insert(described.digest.clone(), bytes);
        described
    }
}

impl CacheStore for Door {
    fn manifest(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>, PortError>> {
        let named = self.elsewhere.lock().unwrap().named.clone();
        let found = named.map(|digest| self.blob(&digest)).transpose();
        Box::pin(async move { found })
    }

    fn document(&self, descriptor: Descriptor) -> BoxFuture<'_, Result<Vec<u8>, PortError>> {
        let found = self.blob(&descriptor.digest);
        Box::pin(async move { found })
    }

    fn fetch(
        &self,
        descriptor: Descriptor,
        diff_id: Digest,
    ) -> BoxFuture<'_, Result<(), PortError>> {
        let fetched = self.blob(&descriptor.digest).map(|blob| {
            let size = descriptor.size;
            unpack_layer(&blob[..], size, &diff_id, self.snapshotter.as_ref()).unwrap();
            self.elsewhere.lock().unwrap().fetched += 1;
        });
        Box::pin(async move { fetched })
    }

    fn send(
        &self,
        layer: Digest,
        known: Option<Descriptor>,
    ) -> BoxFuture<'_, Result<Descriptor, PortError>> {
        if let Some(known) = known {
            return Box::pin(async move { Ok(known) });
        }
        let mut tar = Vec::new();
        let mut from = self.snapshotter.open_tar(&layer).unwrap();
        from.read_to_end(&mut tar).unwrap();
        self.elsewhere.lock().unwrap().sent += 1;
        let kept = self.keep(media_type::OCI_LAYER, tar);
        Box::pin(async move { Ok(kept) })
    }

    fn put<'a>(
        &'a self,
        media_type: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<Descriptor, PortError>> {
        let kept = self.keep(media_type, bytes);
        Box::pin(async move { Ok(kept) })
    }

    fn name<'a>(
        &'a self,
        media_type: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<Descriptor, PortError>> {
        let kept = self.keep(media_type, bytes);
        self.elsewhere.lock().unwrap().named = Some(kept.digest.clone());
        Box::pin(async move { Ok(kept) })
    }
}

const FILE: &str = "FROM base AS tools\nRUN write tool a tool\nRUN true\n\
    FROM base\nCOPY a /\nRUN nothing\nCOPY --from=tools /tool /\nENV X=y";
const CONTEXT: &[(&str, &str)] = &[("a", "1")];

async fn import(bench: &Bench, elsewhere: &Arc<Mutex<Elsewhere>>) -> Arc<RemoteCache> {
    let store = Door::of(bench, elsewhere);
    let read = RemoteCache::import(store, &Platform::host()).await;
    Arc::new(read.unwrap())
}

#[tokio::test]
async fn what_another_builder_did_is_not_done_again() {
    let (Some(first), Some(second)) = (bench(), bench()) else {
        return;
    };
    let elsewhere = Arc::new(Mutex::new(Elsewhere::default()));
    let built = first.finish(first.request(FILE, CONTEXT)).await.unwrap();
    assert_eq!(first.done(), (5, 0));
    let store = Door::of(&first, &elsewhere);
    let (steps, _) = built
        .cache
        .export(store.as_ref(), CacheMode::Max)
        .await
        .unwrap();
    // Every step, and when the image was made.
    assert_eq!(steps, 6);

    let mut request = second.request(FILE, CONTEXT);
    request.caches = vec![import(&second, &elsewhere).await];
    let again = second.run(request).await.unwrap();
    assert_eq!(second.done(), (0, 5));
    assert!(second.programs.ran.lock().unwrap().is_empty());
    // The same image to its id: times too are those of when it was made.
    assert_eq!(again.id, built.image.id);
    assert_eq!(second.read(&again, "/tool").as_deref(), Some("a tool"));
    assert_eq!(elsewhere.lock().unwrap().fetched, 3);

    // It is this builder's own by now.
    second.run(second.request(FILE, CONTEXT)).await.unwrap();
    assert_eq!(second.done(), (0, 5));

    // The same under the same name: no layer is made again to find that out.
    let sent = elsewhere.lock().unwrap().sent;
    built
        .cache
        .export(store.as_ref(), CacheMode::Max)
        .await
        .unwrap();
    assert_eq!(elsewhere.lock().unwrap().sent, sent);
}

#[tokio::test]
async fn a_small_export_has_what_the_image_is_made_of() {
    let (Some(first), Some(second)) = (bench(), bench()) else {
        return;
    };
    let elsewhere = Arc::new(Mutex::new(Elsewhere::default()));
    let built = first.finish(first.request(FILE, CONTEXT)).await.unwrap();
    let store = Door::of(&first, &elsewhere);
    built
        .cache
        .export(store.as_ref(), CacheMode::Min)
        .await
        .unwrap();
    assert_eq!(elsewhere.lock().unwrap().sent, 2);
    let mut request = second.request(FILE, CONTEXT);
    request.caches = vec![import(&second, &elsewhere).await];
    let again = second.run(request).await.unwrap();
    // The steps of the other stage are done, to find what is copied from it.
    assert_eq!(second.done(), (2, 3));
    assert_eq!(again.id, built.image.id);
}

#[tokio::test]
async fn an_image_may_be_a_cache_itself() {
    let (Some(first), Some(second)) = (bench(), bench()) else {
        return;
    };
    let elsewhere = Arc::new(Mutex::new(Elsewhere::default()));
    let mut request = first.request(FILE, CONTEXT);
    request.inline_cache = true;
    let built = first.finish(request).await.unwrap().image;
    let store = Door::of(&first, &elsewhere);
    let mut layers = Vec::new();
    for layer in &built.layers {
        layers.push(store.send(layer.clone(), None).await.unwrap());
    }
    let config = serde_json::to_vec(&built.config).unwrap();
    assert_eq!(described("", &config).digest.as_str(), built.id.as_str());
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config: store.put(media_type::OCI_CONFIG, config).await.unwrap(),
        layers,
        extra: serde_json::Map::new(),
    };
    let manifest = serde_json::to_vec(&manifest).unwrap();
    store
        .name(media_type::OCI_MANIFEST, manifest)
        .await
        .unwrap();

    let mut request = second.request(FILE, CONTEXT);
    request.caches = vec![import(&second, &elsewhere).await];
    request.inline_cache = true;
    let again = second.run(request).await.unwrap();
    assert_eq!(second.done(), (2, 3));
    assert_eq!(again.id, built.id);
    // Nor does an image that was begun from another say what that was made of.
    let request = first.request(FILE, CONTEXT);
    let plain = first.run(request).await.unwrap();
    assert!(!plain.config.extra.contains_key("moby.buildkit.cache.v0"));
}

#[tokio::test]
async fn a_layer_that_does_not_come_is_made() {
    let (Some(first), Some(second)) = (bench(), bench()) else {
        return;
    };
    let elsewhere = Arc::new(Mutex::new(Elsewhere::default()));
    let built = first.finish(first.request(FILE, CONTEXT)).await.unwrap();
    let store = Door::of(&first, &elsewhere);
    built
        .cache
        .export(store.as_ref(), CacheMode::Max)
        .await
        .unwrap();
    let mut request = second.request(FILE, CONTEXT);
    request.caches = vec![import(&second, &elsewhere).await];
    elsewhere.lock().unwrap().blobs.clear();
    let again = second.run(request).await.unwrap();
    // What changed nothing needs no layer.
    assert_eq!(second.done(), (3, 2));
    assert_eq!(second.read(&again, "/tool").as_deref(), Some("a tool"));
}

#[tokio::test]
async fn a_cache_of_buildkits_is_read_and_finds_nothing() {
    let Some(bench) = bench() else { return };
    let elsewhere = Arc::new(Mutex::new(Elsewhere::default()));
    let store = Door::of(&bench, &elsewhere);
    // As moby/buildkit v0.25.1 writes it.
    let blob = store
        .put(media_type::OCI_LAYER_GZIP, b"blob".to_vec())
        .await
        .unwrap();
    let digest = &blob.digest;
    let document = format!(
        r#"{{"layers":[{{"blob":"{digest}","parent":-1}},{{"blob":"{digest}"}}],"records":[
        {{"digest":"{digest}","layers":[{{"layer":1,"createdAt":"2025-01-01T00:00:00Z"}}],"inputs":[[{{"link":1}}]]}},
        {{"digest":"random:{digest}"}}]}}"#
    );
    let kind = "application/vnd.buildkit.cacheconfig.v0";
    let config = store.put(kind, document.into_bytes()).await.unwrap();
    for shape in ["manifest", "index"] {
        let text = match shape {
            "manifest" => {
                serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [blob]})
            }
            _ => {
                serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [blob, config]})
            }
        };
        store.name("", text.to_string().into_bytes()).await.unwrap();
        assert_eq!(import(&bench, &elsewhere).await.entries(), 0, "{shape}");
    }
    let nothing = Arc::new(Mutex::new(Elsewhere::default()));
    let read = RemoteCache::import(Door::of(&bench, &nothing), &Platform::host()).await;
    assert_eq!(read.unwrap_err().class, ErrorClass::NotFound);
}

#[tokio::test]
async fn the_steps_of_named_stages_are_done_anew() {
    let Some(bench) = bench() else { return };
    bench.build(FILE, CONTEXT).await.unwrap();
    let mut request = bench.request(FILE, CONTEXT);
    request.no_cache_stages = vec!["Tools".to_owned(), "other".to_owned()];
    bench.run(request).await.unwrap();
    assert_eq!(bench.done(), (2, 3));
}
