//! A builder over a real layer store, with programs that a table says what they do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hoist_build::plan::{Address, Base, BaseName, MAIN_CONTEXT};
use hoist_build::ports::{
    BaseImages, BoxFuture, Executor, Fetch, Fetched, OutputFn, PortError, RunOutcome, RunRequest,
    Stream,
};
use hoist_build::{
    BuildError, BuildEvent, BuildRequest, Builder, CacheRecord, Finished, LatestRecord, Parts,
    Secrets,
};
use hoist_image::document::ImageConfig;
use hoist_image::files::Root;
use hoist_image::{
    ContentStore, Ids, Snapshotter, SnapshotterChoice, StoredImage, open_snapshotter,
};
use hoist_model::{Digest, ErrorClass, Timestamp};
use hoist_store::Store;
use hoist_testkit::{TarBuilder, TemporaryDirectory};
use tokio::sync::{Barrier, Notify};

pub(crate) struct Bench {
    pub(crate) builder: Builder,
    pub(crate) snapshotter: Arc<dyn Snapshotter>,
    pub(crate) programs: Arc<State>,
    pub(crate) web: Arc<Web>,
    bases: Arc<OneBase>,
    events: Arc<Mutex<Vec<BuildEvent>>>,
    _directory: TemporaryDirectory,
}

/// Runs `write NAME TEXT`, which makes a layer with that file; `fail CODE`, which ends so; `fail-later`, which does it
/// once another hangs; `meet`, which waits for another that does;
/// `hang`, which never ends; and anything else, which does nothing.
pub(crate) struct Programs {
    snapshotter: Arc<dyn Snapshotter>,
    pub(crate) state: Arc<State>,
}

pub(crate) struct State {
    pub(crate) ran: Mutex<Vec<RunRequest>>,
    /// What time programs write files at, in seconds since 1970.
    pub(crate) time: AtomicU64,
    meet: Barrier,
    /// Told when a program hangs.
    pub(crate) hanging: Notify,
    /// How many programs were dropped before their end.
    pub(crate) dropped: AtomicUsize,
}

/// The web: addresses, and what is there in which state.
pub(crate) struct Web {
    snapshotter: Arc<dyn Snapshotter>,
    pub(crate) files: Mutex<BTreeMap<String, (Vec<u8>, String)>>,
    /// Each question, and with what validator.
    pub(crate) asked: Mutex<Vec<(String, Option<String>)>>,
}

impl Fetch for Web {
    fn fetch<'a>(
        &'a self,
        address: &'a Address,
        validator: Option<String>,
    ) -> BoxFuture<'a, Result<Fetched, PortError>> {
        let text = address.to_string();
        self.asked
            .lock()
            .unwrap()
            .push((text.clone(), validator.clone()));
        let found = self.files.lock().unwrap().get(&text).cloned();
        let name = match address {
            Address::Web(web) => web.name.clone(),
            Address::Git(_) => "README".to_owned(),
        };
        let answer = match found {
            None => Err(PortError {
                message: format!("{text} is not there"),
                class: ErrorClass::NotFound,
            }),
            Some((_, state)) if validator.as_ref() == Some(&state) => Ok(Fetched::Unchanged),
            Some((content, state)) => {
                let tar = TarBuilder::new().file(&name, 0o600, content).finish();
                Ok(Fetched::Files {
                    layer: layer(self.snapshotter.as_ref(), tar),
                    validator: (!state.is_empty()).then_some(state),
                })
            }
        };
        Box::pin(async move { answer })
    }
}

struct OneBase {
    layer: Digest,
    asked: AtomicUsize,
}

pub(crate) fn bench() -> Option<Bench> {
    if !hoist_testkit::is_root() {
        hoist_testkit::skip("needs root");
        return None;
    }
    let directory = TemporaryDirectory::new("build");
    let root = directory.path();
    let content = Arc::new(ContentStore::open(root).unwrap());
    let snapshotter = open_snapshotter(root, SnapshotterChoice::Directory).unwrap();
    let store = Store::builder()
        .table::<CacheRecord>()
        .table::<LatestRecord>()
        .table::<hoist_build::ContextRecord>()
        .open(&root.join("store"))
        .unwrap();
    let programs = Arc::new(Programs {
        snapshotter: snapshotter.clone(),
        state: Arc::new(State {
            ran: Mutex::default(),
            time: AtomicU64::new(0),
            meet: Barrier::new(2),
            hanging: Notify::new(),
            dropped: AtomicUsize::new(0),
        }),
    });
    let passwd = b"root:x:0:0::/:/bin/sh\napp:x:7:8::/:/bin/sh\n".to_vec();
    let base = TarBuilder::new().file("etc/passwd", 0o644, passwd).finish();
    let bases = Arc::new(OneBase {
        layer: layer(snapshotter.as_ref(), base),
        asked: AtomicUsize::new(0),
    });
    let web = Arc::new(Web {
        snapshotter: snapshotter.clone(),
        files: Mutex::default(),
        asked: Mutex::default(),
    });
    let builder = Builder::new(Parts {
        store,
        content,
        snapshotter: snapshotter.clone(),
        executor: programs.clone(),
        fetch: web.clone(),
        cache_mounts: root.join("cache-mounts"),
        scratch: root.join("scratch"),
        clock,
    });
    Some(Bench {
        builder,
        snapshotter,
        programs: programs.state.clone(),
        web,
        bases,
        events: Arc::default(),
        _directory: directory,
    })
}

/// Goes on by a second each time it is asked.
fn clock() -> Timestamp {
    static SECONDS: AtomicUsize = AtomicUsize::new(1_000_000_000);
    let seconds = SECONDS.fetch_add(1, Ordering::Relaxed);
    Timestamp::from_seconds(i64::try_from(seconds).unwrap())
}

pub(crate) fn layer(snapshotter: &dyn Snapshotter, tar: Vec<u8>) -> Digest {
    let mut writer = snapshotter.layer_writer().unwrap();
    std::io::Write::write_all(&mut writer, &tar).unwrap();
    writer.finish(None).unwrap().diff_id
}

impl Bench {
    pub(crate) fn request(&self, dockerfile: &str, context: &[(&str, &str)]) -> BuildRequest {
        let mut tar = TarBuilder::new();
        for (path, text) in context {
            tar = tar.file(path, 0o644, text.as_bytes().to_vec());
        }
        let context = layer(self.snapshotter.as_ref(), tar.finish());
        BuildRequest {
            dockerfile: dockerfile.to_owned(),
            contexts: BTreeMap::from([(MAIN_CONTEXT.to_owned(), vec![context])]),
            ..BuildRequest::default()
        }
    }

    pub(crate) async fn run(&self, request: BuildRequest) -> Result<StoredImage, BuildError> {
        Ok(self.finish(request).await?.image)
    }

    pub(crate) async fn finish(&self, request: BuildRequest) -> Result<Finished, BuildError> {
        self.events.lock().unwrap().clear();
        let events = self.events.clone();
        let sink = Arc::new(move |event| events.lock().unwrap().push(event));
        self.builder.build(request, self.bases.clone(), sink).await
    }

    pub(crate) async fn build(
        &self,
        dockerfile: &str,
        context: &[(&str, &str)],
    ) -> Result<StoredImage, BuildError> {
        self.run(self.request(dockerfile, context)).await
    }

    /// How many steps of the last build were done, and how many had been done before.
    pub(crate) fn done(&self) -> (usize, usize) {
        let events = self.events.lock().unwrap();
        let cached = events.iter().filter_map(|event| match event {
            BuildEvent::Done { cached, .. } => Some(*cached),
            _ => None,
        });
        let cached: Vec<bool> = cached.collect();
        let hits = cached.iter().filter(|cached| **cached).count();
        (cached.len() - hits, hits)
    }

    pub(crate) fn read(&self, image: &StoredImage, path: &str) -> Option<String> {
        let view = self.snapshotter.view(&image.layers, Ids::Host).unwrap();
        let content = Root::new(view).read(path, 1 << 20).ok()?;
        Some(String::from_utf8(content).unwrap())
    }

    pub(crate) fn asked_for_bases(&self) -> usize {
        self.bases.asked.load(Ordering::Relaxed)
    }
}

impl BaseImages for OneBase {
    fn find<'a>(
        &'a self,
        name: &'a BaseName,
        _: bool,
        _: OutputFn,
    ) -> BoxFuture<'a, Result<Base, PortError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let found = if name.reference == "base" {
            let mut config = ImageConfig::default();
            config.rootfs.diff_ids = vec![self.layer.clone()];
            config.config.env = vec!["PATH=/bin".to_owned()];
            Ok(Base {
                id: self.layer.to_string(),
                config,
                layers: vec![self.layer.clone()],
            })
        } else {
            Err(PortError {
                message: format!("no image {}", name.reference),
                class: ErrorClass::NotFound,
            })
        };
        Box::pin(async move { found })
    }
}

/// A program that has not ended.
struct Running(Arc<State>, bool);

impl Drop for Running {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Executor for Programs {
    fn run(
        &self,
        request: RunRequest,
        output: OutputFn,
    ) -> BoxFuture<'static, Result<RunOutcome, PortError>> {
        let line = request.words.last().cloned().unwrap_or_default();
        let state = self.state.clone();
        state.ran.lock().unwrap().push(request);
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let snapshotter = self.snapshotter.clone();
        Box::pin(async move {
            let mut running = Running(state.clone(), false);
            output(Stream::Output, format!("ran {line}\n").as_bytes());
            let (mut exit_code, mut made) = (0, None);
            match words[0].as_str() {
                "write" => {
                    let text = words[2..].join(" ").into_bytes();
                    let mtime = state.time.load(Ordering::SeqCst);
                    let tar = TarBuilder::new()
                        .modified(mtime)
                        .file(&words[1], 0o644, text);
                    made = Some(layer(snapshotter.as_ref(), tar.finish()));
                }
                "fail" => exit_code = words[1].parse().unwrap(),
                "fail-later" => {
                    state.hanging.notified().await;
                    exit_code = 7;
                }
                "hang" => {
                    state.hanging.notify_one();
                    std::future::pending::<()>().await;
                }
                "meet" => {
                    state.meet.wait().await;
                }
                _ => {}
            }
            running.1 = true;
            Ok(RunOutcome {
                exit_code,
                out_of_memory: false,
                layer: made,
            })
        })
    }
}

pub(crate) fn secrets(pairs: &[(&str, &str)]) -> Secrets {
    let owned = pairs
        .iter()
        .map(|(id, text)| ((*id).to_owned(), text.as_bytes().to_vec()));
    Secrets(owned.collect())
}
