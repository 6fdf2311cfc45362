//! A runtime, network and image source that are none: a thread plays the process.
//!
//! What it plays is named by the first word: `echo` prints the rest, `cat` gives back its input, `sleep` waits for a
//! signal, `exit` ends with the code that follows; anything else is an executable that is not there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use hoist_engine::containers::AttachRequest;
use hoist_engine::error::NetworkError;
use hoist_engine::ports::{
    Adoption, BoxFuture, BridgeFacts, Credentials, Download, ExecLaunch, ExecUnderWay, ExitNotice,
    ImageSource, LaunchFailure, LaunchRequest, Launched, Network, NetworkLease, ProcessOwner,
    ProgressFn, RemoteImage, Runtime, SearchHit, SourceError,
};
use hoist_engine::records::{ContainerRecord, NetworkAttachment};
use hoist_http::mux::{self, Stream};
use hoist_image::{OutgoingImage, PushedImage, StoredImage};
use hoist_model::container::{ContainerStats, PortMapping, ProcessFacts, Resources};
use hoist_model::network::{PlaceRequest, Segment, SubnetUsage};
use hoist_model::{
    ContainerId, Digest, EndpointId, ErrorClass, ImageReference, NetworkId, Platform, Progress,
    Repository, SandboxId, Signal, Timestamp,
};
use tokio::sync::mpsc::UnboundedSender;

/// The signal sent to a process, and those who wait for it.
type Signals = Arc<(Mutex<Option<i32>>, Condvar)>;

pub(crate) struct FakeRuntime {
    notices: UnboundedSender<ExitNotice>,
    signals: Mutex<HashMap<ProcessOwner, Signals>>,
}

/// One process to play.
struct Play {
    owner: ProcessOwner,
    words: Vec<String>,
    terminal: bool,
    streams: Vec<UnixStream>,
    log: Option<PathBuf>,
    signals: Signals,
    notices: UnboundedSender<ExitNotice>,
}

impl FakeRuntime {
    pub(crate) fn new(notices: UnboundedSender<ExitNotice>) -> Self {
        Self {
            notices,
            signals: Mutex::default(),
        }
    }

    fn play(
        &self,
        owner: ProcessOwner,
        words: Vec<String>,
        terminal: bool,
        streams: Vec<UnixStream>,
        log: Option<PathBuf>,
    ) -> Result<i32, LaunchFailure> {
        let known = ["echo", "cat", "sleep", "exit"];
        if !words
            .first()
            .is_some_and(|word| known.contains(&word.as_str()))
        {
            return Err(LaunchFailure {
                message: format!(
                    "exec: {:?}: executable file not found in $PATH",
                    words.first()
                ),
                exit_code: 127,
            });
        }
        let signals = Signals::default();
        self.signals
            .lock()
            .unwrap()
            .insert(owner.clone(), signals.clone());
        let play = Play {
            owner,
            words,
            terminal,
            streams,
            log,
            signals,
            notices: self.notices.clone(),
        };
        std::thread::spawn(move || play.run());
        Ok(4242)
    }
}

impl Play {
    fn run(mut self) {
        let exit_code = match self.words[0].as_str() {
            "echo" => {
                let text = format!("{}\n", self.words[1..].join(" "));
                self.say(text.as_bytes());
                0
            }
            "cat" => {
                let mut input = self.streams.first().map(|s| s.try_clone().unwrap());
                let mut chunk = [0; 1024];
                while let Some(Ok(length @ 1..)) = input.as_mut().map(|s| s.read(&mut chunk)) {
                    self.say(&chunk[..length]);
                }
                0
            }
            "sleep" => {
                let (signal, changed) = &*self.signals;
                let sent = changed
                    .wait_while(signal.lock().unwrap(), |signal| signal.is_none())
                    .unwrap();
                128 + sent.unwrap()
            }
            _ => self.words[1].parse().unwrap(),
        };
        self.streams.clear();
        let _ = self.notices.send(ExitNotice {
            of: self.owner,
            exit_code,
            oom_killed: false,
            finished_at: now(),
            error: String::new(),
        });
    }

    fn say(&mut self, bytes: &[u8]) {
        if let Some(path) = &self.log {
            let line = serde_json::json!({
                "log": String::from_utf8_lossy(bytes), "stream": "stdout", "time": now().to_string(),
            });
            let mut log = File::options()
                .append(true)
                .create(true)
                .open(path)
                .unwrap();
            writeln!(log, "{line}").unwrap();
        }
        for stream in &mut self.streams {
            stream.set_nonblocking(false).unwrap();
            let _ = if self.terminal {
                stream.write_all(bytes)
            } else {
                stream.write_all(&mux::frame(Stream::Stdout, bytes))
            };
        }
    }
}

pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap())
}

impl Runtime for FakeRuntime {
    fn launch(
        &self,
        request: LaunchRequest,
    ) -> BoxFuture<'static, Result<Launched, LaunchFailure>> {
        let process = &request.record.spec.process;
        let launched = self.play(
            ProcessOwner::Container(request.record.id.clone()),
            process.arguments(),
            process.terminal,
            request
                .attached
                .into_iter()
                .map(|(_, stream)| stream)
                .collect(),
            request.log_path,
        );
        Box::pin(async move {
            launched.map(|pid| Launched {
                pid,
                started_with: None,
            })
        })
    }

    fn exec(&self, request: ExecLaunch) -> Result<ExecUnderWay, LaunchFailure> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let process = &request.request.process;
        let launched = self.play(
            ProcessOwner::Exec(request.id),
            process.arguments(),
            process.terminal,
            vec![theirs],
            None,
        );
        Ok(ExecUnderWay {
            stream: (!request.detached).then_some(ours),
            started: Box::pin(std::future::ready(launched)),
        })
    }

    fn attach(&self, _id: &ContainerId, _request: AttachRequest) -> io::Result<UnixStream> {
        Err(io::Error::other("only before the start"))
    }

    fn signal(&self, owner: &ProcessOwner, signal: Signal) -> io::Result<()> {
        if let Some(signals) = self.signals.lock().unwrap().get(owner) {
            *signals.0.lock().unwrap() = Some(signal.number());
            signals.1.notify_all();
        }
        Ok(())
    }

    fn is_deaf(&self, _id: &ContainerId, _signal: Signal) -> bool {
        false
    }

    fn resize(&self, _owner: &ProcessOwner, _rows: u16, _columns: u16) -> io::Result<()> {
        Ok(())
    }

    fn pause(&self, _id: &ContainerId) -> io::Result<()> {
        Ok(())
    }

    fn unpause(&self, _id: &ContainerId) -> io::Result<()> {
        Ok(())
    }

    fn processes(&self, _id: &ContainerId, _threads: bool) -> io::Result<Vec<ProcessFacts>> {
        Ok(vec![ProcessFacts {
            pid: 42,
            state: 'S',
            command: "sleep".to_owned(),
            arguments: vec!["sleep".to_owned(), "1".to_owned()],
            ..ProcessFacts::default()
        }])
    }

    fn stats(&self, _id: &ContainerId, _pid: i32, _interfaces: bool) -> io::Result<ContainerStats> {
        Ok(ContainerStats {
            at: now(),
            ..ContainerStats::default()
        })
    }

    fn update(&self, _id: &ContainerId, _limits: &Resources) -> io::Result<()> {
        Ok(())
    }

    fn kill_all(&self, _record: &ContainerRecord) -> io::Result<()> {
        Ok(())
    }

    fn release(&self, _record: &ContainerRecord) {}

    fn forget(&self, _id: &ContainerId) {}

    fn sweep(&self, _id: &ContainerId) {}

    fn adopt(&self, _record: &ContainerRecord) -> BoxFuture<'static, Adoption> {
        Box::pin(async { Adoption::Unknown })
    }

    fn take_kept(&self, _id: &ContainerId) -> Vec<OwnedFd> {
        Vec::new()
    }

    fn leftovers(&self) -> Vec<ContainerId> {
        Vec::new()
    }
}

pub(crate) struct FakeNetwork;

fn namespace() -> OwnedFd {
    File::open("/proc/self/ns/net").unwrap().into()
}

impl Network for FakeNetwork {
    fn attach(
        &self,
        record: &ContainerRecord,
        _places: Vec<PlaceRequest>,
    ) -> BoxFuture<'static, Result<NetworkLease, NetworkError>> {
        let ports = record.spec.network.ports.iter().map(|request| PortMapping {
            container: request.container,
            host_ip: [0, 0, 0, 0].into(),
            host_port: request.host_ports.0,
        });
        let attachment = NetworkAttachment {
            network_id: NetworkId::from_bytes(&[2; 32]),
            network_name: "bridge".to_owned(),
            endpoint_id: EndpointId::from_bytes(&[3; 32]),
            sandbox_id: SandboxId::from_bytes(&[4; 32]),
            ipv4: Some([172, 30, 0, 2].into()),
            prefix_length: 16,
            gateway: Some([172, 30, 0, 1].into()),
            mac_address: "02:42:ac:1e:00:02".to_owned(),
            ports: ports.collect(),
            ipv6: None,
            prefix_length_v6: 0,
            gateway_v6: None,
            driver: "bridge".to_owned(),
            host: None,
        };
        Box::pin(async move {
            Ok(NetworkLease {
                namespace: namespace(),
                attachments: vec![attachment],
                reserving: Vec::new(),
            })
        })
    }

    fn isolated(&self) -> BoxFuture<'static, Result<OwnedFd, NetworkError>> {
        Box::pin(async { Ok(namespace()) })
    }

    fn detach(&self, _id: &ContainerId) {}

    fn connect(
        &self,
        record: &ContainerRecord,
        _place: PlaceRequest,
    ) -> BoxFuture<'static, Result<Vec<NetworkAttachment>, NetworkError>> {
        let places = record.attachments.clone();
        Box::pin(async { Ok(places) })
    }

    fn disconnect(
        &self,
        record: &ContainerRecord,
        network: &NetworkId,
    ) -> BoxFuture<'static, Result<Vec<NetworkAttachment>, NetworkError>> {
        let mut places = record.attachments.clone();
        places.retain(|place| place.network_id != *network);
        Box::pin(async { Ok(places) })
    }

    fn renamed(&self, _record: &ContainerRecord, _places: Vec<PlaceRequest>) {}

    fn usage(&self, _id: &NetworkId) -> Vec<SubnetUsage> {
        Vec::new()
    }

    fn make(&self, segment: Segment) -> BoxFuture<'static, Result<Segment, NetworkError>> {
        Box::pin(async { Ok(segment) })
    }

    fn unmake(&self, _id: &NetworkId) -> BoxFuture<'static, Result<(), NetworkError>> {
        Box::pin(async { Ok(()) })
    }

    fn restore(
        &self,
        _record: &ContainerRecord,
        _places: Vec<PlaceRequest>,
        _pid: i32,
        _kept: Vec<OwnedFd>,
    ) -> Result<(), NetworkError> {
        Ok(())
    }

    fn explain(&self, _id: &ContainerId) -> Result<Vec<String>, NetworkError> {
        Ok(Vec::new())
    }

    fn resolv_conf(&self, _record: &ContainerRecord) -> String {
        "nameserver 1.1.1.1\n".to_owned()
    }

    fn host_gateway(&self) -> Option<IpAddr> {
        None
    }

    fn bridge(&self) -> Option<BridgeFacts> {
        Some(BridgeFacts {
            name: "hoist0".to_owned(),
            subnets: Vec::new(),
            mtu: 1500,
            inter_container: true,
            masquerade: true,
            host_ip: None,
        })
    }

    fn warnings(&self) -> Vec<String> {
        vec!["the network is not real".to_owned()]
    }
}

/// A registry that has nothing, and says so after a line of progress if the repository is called `late`, after many if it is
/// called `talkative`.
pub(crate) struct FakeSource;

/// Lines of 1,000 bytes: more than any buffer on the way to a client holds.
const TALK: usize = 5000;

/// Told when the talkative repository has said all.
pub(crate) static TALKED: tokio::sync::Notify = tokio::sync::Notify::const_new();

impl ImageSource for FakeSource {
    fn pull<'a>(
        &'a self,
        reference: &'a ImageReference,
        _platform: Option<&'a Platform>,
        credentials: Option<Credentials>,
        progress: ProgressFn,
    ) -> BoxFuture<'a, Result<StoredImage, SourceError>> {
        Box::pin(async move {
            if reference.repository().path().ends_with("talkative") {
                for line in 0..TALK {
                    let (subject, text) = (None, format!("{line:1000}"));
                    progress(Progress::Message { subject, text });
                    tokio::task::yield_now().await;
                }
                TALKED.notify_one();
            }
            if reference.repository().path().ends_with("late") {
                progress(Progress::Message {
                    subject: reference.tag().map(str::to_owned),
                    text: format!("Pulling from {}", reference.repository().path()),
                });
            }
            let who = credentials.map(|c| c.username).unwrap_or_default();
            Err(SourceError {
                message: format!(
                    "pull access denied for {}, repository does not exist or may require 'docker login'{who}",
                    reference.repository().familiar()
                ),
                class: ErrorClass::NotFound,
            })
        })
    }

    fn push<'a>(
        &'a self,
        _image: &'a OutgoingImage,
        reference: &'a ImageReference,
        _credentials: Option<Credentials>,
        _progress: ProgressFn,
    ) -> BoxFuture<'a, Result<PushedImage, SourceError>> {
        Box::pin(async move {
            Err(SourceError {
                message: format!(
                    "denied: requested access to {} is denied",
                    reference.repository().familiar()
                ),
                class: ErrorClass::Internal,
            })
        })
    }

    fn describe<'a>(
        &'a self,
        reference: &'a ImageReference,
        _credentials: Option<Credentials>,
    ) -> BoxFuture<'a, Result<RemoteImage, SourceError>> {
        let digest = Digest::from_sha256(&[7; 32]);
        let known = reference.repository().path().ends_with("known");
        Box::pin(async move {
            if known {
                return Ok(RemoteImage {
                    media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
                    digest,
                    size: 700,
                    platforms: vec!["linux/arm64/v8".parse().unwrap()],
                });
            }
            Err(SourceError {
                message: "manifest unknown: manifest unknown".to_owned(),
                class: ErrorClass::NotFound,
            })
        })
    }

    fn tags<'a>(
        &'a self,
        _repository: &'a Repository,
        _credentials: Option<Credentials>,
    ) -> BoxFuture<'a, Result<Vec<String>, SourceError>> {
        Box::pin(async { Ok(vec!["one".to_owned(), "two".to_owned()]) })
    }

    fn search<'a>(
        &'a self,
        term: &'a str,
        limit: u32,
        _credentials: Option<Credentials>,
    ) -> BoxFuture<'a, Result<Vec<SearchHit>, SourceError>> {
        let hit = move |stars, official| SearchHit {
            name: format!("{term}{limit}"),
            description: "found".to_owned(),
            official,
            stars,
        };
        Box::pin(async move { Ok(vec![hit(9, true), hit(3, false)]) })
    }

    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Download, SourceError>> {
        Box::pin(async move {
            Err(SourceError {
                message: format!("failed to GET {url} with status 404 Not Found: none"),
                class: ErrorClass::NotFound,
            })
        })
    }

    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> BoxFuture<'_, Result<(String, Option<String>), SourceError>> {
        Box::pin(async move {
            if credentials.password == "good" {
                return Ok(("Login Succeeded".to_owned(), None));
            }
            Err(SourceError {
                message: "unauthorized: incorrect username or password".to_owned(),
                class: ErrorClass::Unauthorized,
            })
        })
    }
}
