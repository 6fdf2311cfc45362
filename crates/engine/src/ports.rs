//! What the engine needs from outside and has two implementations of: one for the machine, one for tests.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use hoist_image::{OutgoingImage, PushedImage, StoredImage};
use hoist_model::container::{ContainerStats, ProcessFacts, Resources, StartedWith};
use hoist_model::network::{PlaceRequest, Segment, Subnet, SubnetUsage};
use hoist_model::{
    ContainerId, Digest, ErrorClass, ExecId, ImageReference, NetworkId, Platform, Progress,
    Repository, Signal, Timestamp,
};

use crate::containers::AttachRequest;
use crate::error::NetworkError;
use crate::execs::ExecRequest;
use crate::records::{ContainerRecord, NetworkAttachment};

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

/// Where images come from and go to: a registry, or a directory in tests.
///
/// `pull` brings every layer and document of one image into the content store and the snapshotter. Dropping the
/// future leaves nothing half-made. Whoever stores parts of it holds `progress`: when the last is dropped, nothing more is
/// stored. The image's `references` hold the tag pulled and the repository digest.
pub trait ImageSource: Send + Sync {
    /// Brings an image here.
    fn pull<'a>(
        &'a self,
        reference: &'a ImageReference,
        platform: Option<&'a Platform>,
        credentials: Option<Credentials>,
        progress: ProgressFn,
    ) -> BoxFuture<'a, Result<StoredImage, SourceError>>;

    /// Sends an image to where the reference, which has a tag, says. What is there already is not sent again. Dropping the
    /// future ends it.
    fn push<'a>(
        &'a self,
        image: &'a OutgoingImage,
        reference: &'a ImageReference,
        credentials: Option<Credentials>,
        progress: ProgressFn,
    ) -> BoxFuture<'a, Result<PushedImage, SourceError>>;

    /// Says what a reference names at its registry, without bringing it here.
    fn describe<'a>(
        &'a self,
        reference: &'a ImageReference,
        credentials: Option<Credentials>,
    ) -> BoxFuture<'a, Result<RemoteImage, SourceError>>;

    /// The tags that a repository has at its registry.
    fn tags<'a>(
        &'a self,
        repository: &'a Repository,
        credentials: Option<Credentials>,
    ) -> BoxFuture<'a, Result<Vec<String>, SourceError>>;

    /// Searches the server that `term` begins with (`host/words`), else the default one, for at most `limit` repositories.
    fn search<'a>(
        &'a self,
        term: &'a str,
        limit: u32,
        credentials: Option<Credentials>,
    ) -> BoxFuture<'a, Result<Vec<SearchHit>, SourceError>>;

    /// Asks for a file of the web, to be imported.
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Download, SourceError>>;

    /// Asks the registry whether these credentials are good; answers its status sentence and, if it gave one, an
    /// identity token.
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> BoxFuture<'_, Result<(String, Option<String>), SourceError>>;
}

/// What a reference names at its registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteImage {
    /// The media type of the manifest or index.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// What it runs on.
    pub platforms: Vec<Platform>,
}

/// A repository that a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchHit {
    /// Its name, as one would pull it.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// Whether it is one of the registry's own.
    pub official: bool,
    /// How many people starred it.
    pub stars: i64,
}

/// A file on its way here.
pub struct Download {
    /// Its bytes, if that is known.
    pub length: Option<u64>,
    /// They, piece by piece.
    pub pieces: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
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

/// Everything the runtime needs for one start, resolved by the engine.
#[derive(Debug)]
pub struct LaunchRequest {
    /// The container.
    pub record: Arc<ContainerRecord>,
    /// Its root file system: a detached mount.
    pub rootfs: OwnedFd,
    /// Its network namespace.
    pub network: NetworkNamespace,
    /// Variables that the container's links give, under its own.
    pub environment: Vec<String>,
    /// Detached mounts for mount points that have no path on the host, by destination.
    pub detached: Vec<(String, OwnedFd)>,
    /// Host paths of the files to be mounted as /etc/hostname, /etc/hosts and /etc/resolv.conf.
    pub etc_files: Vec<(String, PathBuf)>,
    /// Where its output is logged; `None` logs nothing.
    pub log_path: Option<PathBuf>,
    /// Streams that clients attached before the start: carry output from the first byte on.
    pub attached: Vec<(AttachRequest, UnixStream)>,
    /// Rows and columns of the terminal.
    pub console_size: Option<(u16, u16)>,
    /// Process ids whose namespaces are joined, by namespace.
    pub joins: Joins,
    /// Sockets kept open for the next engine for as long as the process runs; closed before its end is told.
    pub kept: Vec<OwnedFd>,
}

/// Processes whose namespaces a container shares (`container:X` modes).
#[derive(Clone, Copy, Debug, Default)]
pub struct Joins {
    /// Its PID namespace.
    pub pid: Option<i32>,
    /// Its IPC namespace.
    pub ipc: Option<i32>,
}

/// Which network namespace a process gets.
#[derive(Debug)]
pub enum NetworkNamespace {
    /// This one.
    Own(OwnedFd),
    /// The host's.
    Host,
    /// That of this process.
    OfProcess(i32),
}

/// A process to be started in a running container.
#[derive(Clone, Debug)]
pub struct ExecLaunch {
    /// Its identity.
    pub id: ExecId,
    /// The container.
    pub container: Arc<ContainerRecord>,
    /// Variables that the container's links give, under its own.
    pub environment: Vec<String>,
    /// What runs.
    pub request: ExecRequest,
    /// Rows and columns of the terminal.
    pub console_size: Option<(u16, u16)>,
    /// Whether nobody attaches.
    pub detached: bool,
}

/// A container that was started.
#[derive(Debug)]
pub struct Launched {
    /// Its first process's id in the host's PID namespace.
    pub pid: i32,
    /// What it was given that it does not say.
    pub started_with: Option<StartedWith>,
}

/// A further process whose start is under way.
pub struct ExecUnderWay {
    /// Its streams, unless nobody attaches. They end when it could not be started, too.
    pub stream: Option<UnixStream>,
    /// Its id in the host's PID namespace, once its program was executed.
    pub started: BoxFuture<'static, Result<i32, LaunchFailure>>,
}

/// Why a process could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LaunchFailure {
    /// The whole sentence, with the step and the operand.
    pub message: String,
    /// 127 not found, 126 not executable, 128 anything else.
    pub exit_code: i32,
}

/// The end of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitNotice {
    /// Whose.
    pub of: ProcessOwner,
    /// 0 to 255; 128 + n for signal n.
    pub exit_code: i32,
    /// Whether the memory limit ended it.
    pub oom_killed: bool,
    /// When.
    pub finished_at: Timestamp,
    /// What went wrong around it; empty if nothing.
    pub error: String,
}

/// Whose first process ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProcessOwner {
    /// A container's.
    Container(ContainerId),
    /// An exec's.
    Exec(ExecId),
}

/// What became of a container while no engine watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// It runs, and its monitor reports to us from now on.
    Running {
        /// Its process.
        pid: i32,
    },
    /// It ended, and the exit record tells how.
    Exited(ExitNotice),
    /// Nobody knows.
    Unknown,
}

/// Turns a container into a process. Implemented over the zygote and, in tests, by a fake.
///
/// `launch` answers once the program was executed or could not be; from then on exactly one [`ExitNotice`] follows on
/// the channel that the implementation was given. No method blocks for longer than a few system calls.
pub trait Runtime: Send + Sync {
    /// Starts a container's first process.
    fn launch(&self, request: LaunchRequest)
    -> BoxFuture<'static, Result<Launched, LaunchFailure>>;

    /// Starts a further process in a running container. It is under way when this returns, whoever waits for it.
    fn exec(&self, request: ExecLaunch) -> Result<ExecUnderWay, LaunchFailure>;

    /// Connects to the streams of a running container.
    fn attach(&self, id: &ContainerId, request: AttachRequest) -> io::Result<UnixStream>;

    /// Sends a signal to a first process. A process that is no more is no error.
    fn signal(&self, owner: &ProcessOwner, signal: Signal) -> io::Result<()>;

    /// Whether a running container's first process has no way to come to know of a signal, as far as a look tells.
    fn is_deaf(&self, id: &ContainerId, signal: Signal) -> bool;

    /// Sets a terminal's size.
    fn resize(&self, owner: &ProcessOwner, rows: u16, columns: u16) -> io::Result<()>;

    /// Freezes every process of a container.
    fn pause(&self, id: &ContainerId) -> io::Result<()>;

    /// Thaws them.
    fn unpause(&self, id: &ContainerId) -> io::Result<()>;

    /// Processes of a running container, or each of their threads.
    fn processes(&self, id: &ContainerId, threads: bool) -> io::Result<Vec<ProcessFacts>>;

    /// What a running container, whose first process this is, uses; its interfaces only if `interfaces`.
    fn stats(&self, id: &ContainerId, pid: i32, interfaces: bool) -> io::Result<ContainerStats>;

    /// Changes limits of a running container; what `limits` leaves empty stays as it is.
    fn update(&self, id: &ContainerId, limits: &Resources) -> io::Result<()>;

    /// Gives back the cgroup that a start took, once the process is no more; in the background.
    fn release(&self, record: &ContainerRecord);

    /// Deletes how a process ended: once that is written in the store. Until then it is what a later engine has to go by.
    fn forget(&self, id: &ContainerId);

    /// Finds out what became of a container that ran under an earlier engine, as that engine recorded it.
    fn adopt(&self, record: &ContainerRecord) -> BoxFuture<'static, Adoption>;

    /// Takes what an adopted container was given as [`LaunchRequest::kept`] under an earlier engine: once.
    fn take_kept(&self, id: &ContainerId) -> Vec<OwnedFd>;

    /// Kills every process of a container that should have none, whoever started them, and waits until they are gone:
    /// blocking, normally some milliseconds, at most two seconds.
    fn kill_all(&self, record: &ContainerRecord) -> io::Result<()>;

    /// Ids of containers of which something is left over from earlier engines.
    fn leftovers(&self) -> Vec<ContainerId>;

    /// Removes what is left over of a container that nobody knows any more.
    fn sweep(&self, id: &ContainerId);
}

/// What a container gets of the network.
#[derive(Debug)]
pub struct NetworkLease {
    /// Its network namespace.
    pub namespace: OwnedFd,
    /// Its places, for the record.
    pub attachments: Vec<NetworkAttachment>,
    /// Duplicates of the sockets that reserve its published ports, for [`LaunchRequest::kept`].
    pub reserving: Vec<OwnedFd>,
}

/// Connects containers. Implemented over hoist-net and, in tests, by a fake.
pub trait Network: Send + Sync {
    /// Gives a container a namespace with these places and publishes its ports; errors name the port or address.
    fn attach(
        &self,
        record: &ContainerRecord,
        places: Vec<PlaceRequest>,
    ) -> BoxFuture<'static, Result<NetworkLease, NetworkError>>;

    /// Puts a running container on one more network; answers all its places.
    fn connect(
        &self,
        record: &ContainerRecord,
        place: PlaceRequest,
    ) -> BoxFuture<'static, Result<Vec<NetworkAttachment>, NetworkError>>;

    /// Takes a running container from a network; answers the places that are left.
    fn disconnect(
        &self,
        record: &ContainerRecord,
        network: &NetworkId,
    ) -> BoxFuture<'static, Result<Vec<NetworkAttachment>, NetworkError>>;

    /// A running container has other names from now on; these are its places.
    fn renamed(&self, record: &ContainerRecord, places: Vec<PlaceRequest>);

    /// Makes a network, or finds it again after a restart; answers it with what was chosen. Making one that is made answers
    /// it as it is.
    fn make(&self, segment: Segment) -> BoxFuture<'static, Result<Segment, NetworkError>>;

    /// Removes a network; refused while containers are on it. One that is not there is no error.
    fn unmake(&self, id: &NetworkId) -> BoxFuture<'static, Result<(), NetworkError>>;

    /// A namespace with a loopback interface only.
    fn isolated(&self) -> BoxFuture<'static, Result<OwnedFd, NetworkError>>;

    /// Takes it back; in the background.
    fn detach(&self, id: &ContainerId);

    /// Takes note of an attachment made under an earlier engine, of a container whose process still runs; `kept` are the
    /// sockets that the runtime kept meanwhile, on which there may be connections to be served.
    fn restore(
        &self,
        record: &ContainerRecord,
        places: Vec<PlaceRequest>,
        pid: i32,
        kept: Vec<OwnedFd>,
    ) -> Result<(), NetworkError>;

    /// Which way a running container's packets take, and what would stop them: sentences.
    fn explain(&self, id: &ContainerId) -> Result<Vec<String>, NetworkError>;

    /// The text of a container's /etc/resolv.conf.
    fn resolv_conf(&self, record: &ContainerRecord) -> String;

    /// The address that `host-gateway` means.
    fn host_gateway(&self) -> Option<IpAddr>;

    /// The default bridge, for the record of the network, where there is one.
    fn bridge(&self) -> Option<BridgeFacts>;

    /// How much of the subnets of a user's network is in use; nothing for one that is not made.
    fn usage(&self, id: &NetworkId) -> Vec<SubnetUsage>;

    /// What an operator should know about the host's firewall and forwarding.
    fn warnings(&self) -> Vec<String>;
}

/// What there is to know of the default bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeFacts {
    /// Name of the interface.
    pub name: String,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether its containers reach each other.
    pub inter_container: bool,
    /// Whether what leaves takes the host's address.
    pub masquerade: bool,
    /// Host address of ports published without one.
    pub host_ip: Option<IpAddr>,
}
