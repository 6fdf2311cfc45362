//! An engine over a fake runtime behind a real socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hoist_docker::{Api, LimitSupport, Node, is_hijackable};
use hoist_engine::Engine;
use hoist_engine::containers::{Containers, Parts};
use hoist_engine::events::Events;
use hoist_engine::execs::Execs;
use hoist_engine::images::Images;
use hoist_engine::networks::Networks;
use hoist_engine::records::{ContainerRecord, ImageRecord, NetworkRecord, TagRecord, VolumeRecord};
use hoist_engine::volumes::Volumes;
use hoist_http::client::{Client, Deadlines, Endpoint, RequestBody, empty, full};
use hoist_http::{Hijacked, Listener, ServeOptions, StaticNames, UnixSocket, serve};
use hoist_image::document::Descriptor;
use hoist_image::{ContentStore, SnapshotterChoice, open_snapshotter};
use hoist_model::Digest;
use hoist_testkit::{ImageBuilder, TemporaryDirectory};
use http::{Method, Request, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::fake::{FakeNetwork, FakeRuntime, FakeSource, now};

/// Runs nothing; `ask-agent` says what the agent says.
struct NoPrograms;

/// Says something to the agent that a program is given, and hears what it says to that.
async fn ask_agent(request: &hoist_build::ports::RunRequest) -> Vec<u8> {
    use hoist_build::ports::ReadyMount;
    let named = request.environment.iter();
    let mut named = named.filter_map(|one| one.strip_prefix("SSH_AUTH_SOCK="));
    let at = named.next().expect("the program is told of the agent");
    let sockets = request.mounts.iter().find_map(|mount| match mount {
        ReadyMount::Host { source, target, .. } if target == at => Some(source),
        _ => None,
    });
    let socket = sockets.expect("the agent is mounted");
    let mut agent = tokio::net::UnixStream::connect(socket).await.unwrap();
    agent.write_all(b"who?").await.unwrap();
    let mut answer = vec![0; 64];
    let count = agent.read(&mut answer).await.unwrap();
    answer.truncate(count);
    answer
}

/// Has no caches: asked for one, it says so.
struct NoRegistries;

impl hoist_buildkit::CacheRegistries for NoRegistries {
    fn open(
        &self,
        reference: hoist_model::ImageReference,
        _: Option<hoist_engine::ports::Credentials>,
        _: hoist_buildkit::CacheAccess,
    ) -> Arc<dyn hoist_build::ports::CacheStore> {
        Arc::new(NoCache(reference.to_string()))
    }
}

/// A cache that cannot be had.
struct NoCache(String);

impl NoCache {
    fn refused<T: Send + 'static>(
        &self,
    ) -> hoist_build::ports::BoxFuture<'static, Result<T, hoist_build::ports::PortError>> {
        let message = format!("{} is not there", self.0);
        let class = hoist_model::ErrorClass::Unavailable;
        Box::pin(async move { Err(hoist_build::ports::PortError { message, class }) })
    }
}

type Answer<'a, T> = hoist_build::ports::BoxFuture<'a, Result<T, hoist_build::ports::PortError>>;

impl hoist_build::ports::CacheStore for NoCache {
    fn manifest(&self) -> Answer<'_, Option<Vec<u8>>> {
        self.refused()
    }

    fn document(&self, _: Descriptor) -> Answer<'_, Vec<u8>> {
        self.refused()
    }

    fn fetch(&self, _: Descriptor, _: Digest) -> Answer<'_, ()> {
        self.refused()
    }

    fn send(&self, _: Digest, _: Option<Descriptor>) -> Answer<'_, Descriptor> {
        self.refused()
    }

    fn put<'a>(&'a self, _: &'a str, _: Vec<u8>) -> Answer<'a, Descriptor> {
        self.refused()
    }

    fn name<'a>(&'a self, _: &'a str, _: Vec<u8>) -> Answer<'a, Descriptor> {
        self.refused()
    }
}

/// Has nothing.
struct NoWeb;

impl hoist_build::ports::Fetch for NoWeb {
    fn fetch<'a>(
        &'a self,
        address: &'a hoist_build::plan::Address,
        _: Option<String>,
    ) -> hoist_build::ports::BoxFuture<
        'a,
        Result<hoist_build::ports::Fetched, hoist_build::ports::PortError>,
    > {
        let message = format!("{address} is not there");
        let class = hoist_model::ErrorClass::NotFound;
        Box::pin(async move { Err(hoist_build::ports::PortError { message, class }) })
    }
}

impl hoist_build::ports::Executor for NoPrograms {
    fn run(
        &self,
        request: hoist_build::ports::RunRequest,
        output: hoist_build::ports::OutputFn,
    ) -> hoist_build::ports::BoxFuture<
        'static,
        Result<hoist_build::ports::RunOutcome, hoist_build::ports::PortError>,
    > {
        let exit_code = match request.words.last().map(String::as_str) {
            Some("false") => 1,
            _ => 0,
        };
        let asks = request.words.last().is_some_and(|word| word == "ask-agent");
        Box::pin(async move {
            if asks {
                let answer = ask_agent(&request).await;
                output(hoist_build::ports::Stream::Output, &answer);
            }
            Ok(hoist_build::ports::RunOutcome {
                exit_code,
                out_of_memory: false,
                layer: None,
            })
        })
    }
}

pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) socket: std::path::PathBuf,
    _directory: TemporaryDirectory,
}

/// A served engine with the image `busybox:latest`, or `None` where overlay mounts are not to be had.
pub(crate) async fn start() -> Option<Server> {
    if !rustix::process::geteuid().is_root() {
        hoist_testkit::skip("needs root for overlay mounts");
        return None;
    }
    let directory = TemporaryDirectory::new("facade");
    let root = directory.path();
    let store = hoist_store::Store::builder()
        .table::<ContainerRecord>()
        .table::<ImageRecord>()
        .table::<TagRecord>()
        .table::<VolumeRecord>()
        .table::<NetworkRecord>()
        .table::<hoist_build::CacheRecord>()
        .table::<hoist_build::LatestRecord>()
        .table::<hoist_build::ContextRecord>()
        .open(&root.join("state"))
        .unwrap();
    let content = Arc::new(ContentStore::open(root).unwrap());
    let snapshotter = open_snapshotter(root, SnapshotterChoice::Directory).unwrap();
    let images = Images::new(store.clone(), content, snapshotter, Arc::new(FakeSource));
    let network = Arc::new(FakeNetwork);
    let volumes = Volumes::open(
        store.clone(),
        &root.join("volumes"),
        std::sync::Arc::new(|_| Err(std::io::Error::other("no names here"))),
        (0, 0),
    )
    .unwrap();
    let networks = Networks::open(store.clone(), network.clone(), BTreeMap::new())
        .await
        .unwrap();
    let (sender, mut notices) = tokio::sync::mpsc::unbounded_channel();
    let runtime = Arc::new(FakeRuntime::new(sender));
    let containers = Containers::new(Parts {
        store: store.clone(),
        images: images.clone(),
        volumes: volumes.clone(),
        networks: networks.clone(),
        runtime: runtime.clone(),
        network,
        root: root.join("containers"),
        etc_root: root.join("etc"),
        remap: None,
    });
    let execs = Execs::new(store.clone(), containers.clone(), runtime);
    hoist_engine::health::probe(&containers, &execs);
    let engine = Engine {
        containers: containers.clone(),
        images,
        networks,
        volumes,
        execs: execs.clone(),
        events: Events::new(store.clone()),
    };
    let (content, snapshotter) = engine.images.stores();
    let builder = hoist_build::Builder::new(hoist_build::Parts {
        store,
        content,
        snapshotter,
        executor: Arc::new(NoPrograms),
        fetch: Arc::new(NoWeb),
        cache_mounts: root.join("build"),
        scratch: root.join("scratch"),
        clock: now,
    });
    tokio::spawn(async move {
        while let Some(notice) = notices.recv().await {
            execs.notice(&notice).await;
            containers.notice(notice);
        }
    });
    let socket = root.join("docker.sock");
    let options = UnixSocket {
        mode: 0o660,
        group: None,
    };
    let listener = Listener::unix(&socket, options).unwrap();
    let app = Api::new(
        engine,
        builder,
        Arc::new(NoRegistries),
        node(root.display().to_string()),
    )
    .router();
    let options = ServeOptions {
        hijackable: is_hijackable,
        grace: Duration::from_secs(1),
        head_deadline: hoist_http::HEAD_DEADLINE,
    };
    tokio::spawn(serve(
        vec![listener],
        app,
        options,
        CancellationToken::new(),
    ));
    let client = Client::new(
        Endpoint::Unix(socket.clone()),
        Arc::new(StaticNames::default()),
        Deadlines::local(),
    );
    let server = Server {
        client,
        socket,
        _directory: directory,
    };
    let archive = ImageBuilder::new()
        .layer(
            hoist_testkit::TarBuilder::new()
                .file("hello", 0o644, b"hi".to_vec())
                .finish(),
        )
        .config("Cmd", serde_json::json!(["echo", "from the image"]))
        .name("busybox:latest")
        .docker_archive();
    let (status, text) = server
        .ask(Method::POST, "/images/load?quiet=1", Some(archive.into()))
        .await;
    assert_eq!(
        (status, text.as_str()),
        (200, "{\"stream\":\"Loaded image: busybox:latest\\n\"}\r\n")
    );
    Some(server)
}

impl Server {
    /// Asks and reads the whole answer.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<bytes::Bytes>,
    ) -> (u16, String) {
        let mut response = self.client.send(request(method, path, body)).await.unwrap();
        let limit = 16 << 20;
        let bytes = response
            .body_mut()
            .collect_within(limit)
            .await
            .unwrap()
            .unwrap();
        (
            response.status().as_u16(),
            String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let (status, text) = self.ask(Method::GET, path, None).await;
        (
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        )
    }

    /// Posts JSON (or nothing) and reads JSON (or nothing).
    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let body = (!body.is_null()).then(|| body.to_string().into());
        let (status, text) = self.ask(Method::POST, path, body).await;
        (
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        )
    }

    /// Makes a container of busybox and answers its id.
    pub(crate) async fn create(&self, name: &str, mut body: Value) -> String {
        body["Image"] = "busybox".into();
        let (status, created) = self
            .post(&format!("/containers/create?name={name}"), body)
            .await;
        assert_eq!(status, 201, "{created}");
        created["Id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn upgrade(
        &self,
        path: &str,
        body: Option<Value>,
    ) -> (Response<hoist_http::client::ResponseBody>, Option<Hijacked>) {
        let body = body.map(|body| body.to_string().into());
        self.client
            .upgrade(request(Method::POST, path, body), "tcp")
            .await
            .unwrap()
    }
}

pub(crate) fn request(
    method: Method,
    path: &str,
    body: Option<bytes::Bytes>,
) -> Request<RequestBody> {
    let mut request = Request::builder().method(method).uri(path);
    if body.as_ref().is_some_and(|body| body.starts_with(b"{")) {
        request = request.header("content-type", "application/json");
    }
    request.body(body.map_or_else(empty, full)).unwrap()
}

fn node(data_root: String) -> Node {
    Node {
        name: "host".to_owned(),
        id: "11111111-2222-3333-4444-555555555555".to_owned(),
        version: "0.1.0".to_owned(),
        git_commit: "abcdef0".to_owned(),
        build_time: String::new(),
        started_at: now(),
        data_root,
        storage_driver: "directory".to_owned(),
        storage_status: Vec::new(),
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: "1".to_owned(),
        kernel_version: "6.18.0".to_owned(),
        operating_system: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        operating_system_version: "12".to_owned(),
        architecture: "x86_64".to_owned(),
        cpus: 2,
        online_cpus: "0-1".to_owned(),
        memory_nodes: "0".to_owned(),
        memory: 8 << 30,
        limits: LimitSupport {
            memory_swappiness: false,
            ..LimitSupport::ALL
        },
        security_options: Vec::new(),
        labels: Vec::new(),
        debug: false,
        ipv4_forwarding: true,
        insecure_registries: Vec::new(),
        registry_mirrors: Vec::new(),
        log: hoist_model::container::LogConfig::default(),
        defaults: hoist_docker::ContainerDefaults::default(),
        experimental: false,
        min_api_version: hoist_docker::ApiVersion::OLDEST,
        address_pools: Vec::new(),
        proxies: BTreeMap::new(),
        warnings: Vec::new(),
    }
}
