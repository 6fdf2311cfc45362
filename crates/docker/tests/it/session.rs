//! A BuildKit client as the daemon sees it: a session that answers for its files, counting what it is asked for.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat, packet::PacketType};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage as StreamBytes;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::filesync::packet::file_send_server::{
    FileSend as PacketSend, FileSendServer as PacketSendServer,
};
use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::{FileSend, FileSendServer};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::{FileSync, FileSyncServer};
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use bollard_buildkit_proto::moby::upload::v1::BytesMessage as UploadBytes;
use bollard_buildkit_proto::moby::upload::v1::upload_server::{Upload, UploadServer};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::Method;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tower::ServiceExt as _;

use crate::support::{Server, request};

/// Files, told of, with their contents.
pub(crate) type Entries = Vec<(Stat, Vec<u8>)>;

/// A regular file.
pub(crate) fn file(path: &str, text: &str) -> (Stat, Vec<u8>) {
    let stat = Stat {
        path: path.to_owned(),
        mode: 0o644,
        size: i64::try_from(text.len()).unwrap(),
        mod_time: 1_700_000_000_000_000_000,
        ..Stat::default()
    };
    (stat, text.as_bytes().to_vec())
}

/// A directory.
pub(crate) fn directory(path: &str) -> (Stat, Vec<u8>) {
    let stat = Stat {
        path: path.to_owned(),
        mode: (1 << 31) | 0o755,
        ..Stat::default()
    };
    (stat, Vec::new())
}

/// A symbolic link.
pub(crate) fn link(path: &str, target: &str) -> (Stat, Vec<u8>) {
    let stat = Stat {
        path: path.to_owned(),
        mode: (1 << 27) | 0o777,
        linkname: target.to_owned(),
        ..Stat::default()
    };
    (stat, Vec::new())
}

/// A directory of the client's.
#[derive(Clone)]
pub(crate) struct Directory(Arc<Content>);

enum Content {
    /// Told of and sent as the protocol has it.
    Files(Vec<(Stat, Vec<u8>)>),
    /// These packets, whatever is asked.
    Saying(Vec<Packet>),
}

impl Directory {
    pub(crate) fn of(files: Vec<(Stat, Vec<u8>)>) -> Self {
        Self(Arc::new(Content::Files(files)))
    }

    pub(crate) fn saying(packets: Vec<Packet>) -> Self {
        Self(Arc::new(Content::Saying(packets)))
    }
}

/// What was asked of one directory.
#[derive(Default)]
struct Asked {
    times: AtomicUsize,
    sent: AtomicUsize,
    followed: Mutex<Vec<String>>,
}

/// What a client shares beside directories, and what it gets.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    pub(crate) secrets: HashMap<String, Vec<u8>>,
    /// Ids of ssh agents.
    pub(crate) agents: HashSet<String>,
    /// What `http://buildkit-session/archive` is.
    pub(crate) archive: Vec<u8>,
    /// Of an output that is one file: its bytes.
    pub(crate) output: Arc<Mutex<Vec<u8>>>,
    /// Of an output that is a directory: its files.
    pub(crate) files: Option<Arc<Mutex<Entries>>>,
}

/// A session that is open for as long as this is there.
pub(crate) struct Session {
    pub(crate) id: String,
    asked: Arc<HashMap<&'static str, Asked>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Files {
    directories: HashMap<&'static str, Directory>,
    asked: Arc<HashMap<&'static str, Asked>>,
}

impl Session {
    /// Opens a session that shares these directories.
    pub(crate) async fn start(server: &Server, dockerfile: Directory, context: Directory) -> Self {
        Self::sharing(server, dockerfile, context, Shared::default()).await
    }

    /// Opens a session that shares these directories and more.
    pub(crate) async fn sharing(
        server: &Server,
        dockerfile: Directory,
        context: Directory,
        shared: Shared,
    ) -> Self {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let id = format!("session-{}", LAST.fetch_add(1, Ordering::Relaxed));
        let mut opening = request(Method::POST, "/session", None);
        for (name, value) in [
            ("uuid", id.as_str()),
            ("name", "test"),
            ("sharedkey", "the same directory"),
            ("grpc-method", "/moby.filesync.v1.FileSync/DiffCopy"),
            ("grpc-method", "/moby.filesync.v1.FileSend/DiffCopy"),
            ("grpc-method", "/moby.buildkit.secrets.v1.Secrets/GetSecret"),
            ("grpc-method", "/moby.upload.v1.Upload/Pull"),
            ("grpc-method", "/moby.sshforward.v1.SSH/CheckAgent"),
        ] {
            let name = format!("x-docker-expose-session-{name}");
            let name: http::HeaderName = name.parse().unwrap();
            opening.headers_mut().append(name, value.parse().unwrap());
        }
        let (response, connection) = server.client.upgrade(opening, "h2c").await.unwrap();
        assert_eq!(response.status(), 101);
        let asked = Arc::new(HashMap::from([
            ("dockerfile", Asked::default()),
            ("context", Asked::default()),
        ]));
        let files = Files {
            directories: HashMap::from([("dockerfile", dockerfile), ("context", context)]),
            asked: asked.clone(),
        };
        let serving = tokio::spawn(serve(connection.unwrap(), files, shared));
        Self { id, asked, serving }
    }

    /// Opens a session inside of a gRPC stream, as builds do that share one.
    pub(crate) async fn inside(server: &Server, dockerfile: Directory, context: Directory) -> Self {
        let id = "session-inside".to_owned();
        let asked = Arc::new(HashMap::from([
            ("dockerfile", Asked::default()),
            ("context", Asked::default()),
        ]));
        let files = Files {
            directories: HashMap::from([("dockerfile", dockerfile), ("context", context)]),
            asked: asked.clone(),
        };
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let (mut read, mut write) = tokio::io::split(ours);
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let outgoing = stream::unfold(receiver, |mut receiver| async {
            let message = receiver.recv().await?;
            Some((message, receiver))
        });
        let mut request = Request::new(outgoing);
        let metadata = request.metadata_mut();
        metadata.insert("x-docker-expose-session-uuid", id.parse().unwrap());
        let method = "/moby.filesync.v1.FileSync/DiffCopy".parse().unwrap();
        metadata.insert("x-docker-expose-session-grpc-method", method);
        let mut client = control(server).await;
        let serving = tokio::spawn(async move {
            let answering = tokio::spawn(serve(theirs, files, Shared::default()));
            let sending = tokio::spawn(async move {
                let mut buffer = vec![0; 16 << 10];
                while let Ok(count @ 1..) = read.read(&mut buffer).await {
                    let data = buffer[..count].to_vec();
                    if sender.send(StreamBytes { data }).await.is_err() {
                        break;
                    }
                }
            });
            let mut incoming = client.session(request).await.unwrap().into_inner();
            while let Ok(Some(message)) = incoming.message().await {
                if write.write_all(&message.data).await.is_err() {
                    break;
                }
            }
            answering.abort();
            sending.abort();
        });
        Self { id, asked, serving }
    }

    /// How often a directory was asked for.
    pub(crate) fn asked(&self, directory: &str) -> usize {
        self.asked[directory].times.load(Ordering::SeqCst)
    }

    /// How many files of it were sent.
    pub(crate) fn sent(&self, directory: &str) -> usize {
        self.asked[directory].sent.load(Ordering::SeqCst)
    }

    /// What of it was of interest, the last time.
    pub(crate) fn followed(&self, directory: &str) -> Vec<String> {
        self.asked[directory].followed.lock().unwrap().clone()
    }
}

/// Answers on a session's connection until it ends.
async fn serve(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    files: Files,
    shared: Shared,
) {
    let service = FileSyncServer::new(files);
    let service = hyper::service::service_fn(move |request: http::Request<_>| {
        let (service, shared) = (service.clone(), shared.clone());
        async move {
            let path = request.uri().path();
            if path.starts_with("/moby.filesync.v1.FileSync/") {
                return service.oneshot(request).await;
            }
            if path.starts_with("/moby.buildkit.secrets.v1.Secrets/") {
                return SecretsServer::new(shared).oneshot(request).await;
            }
            if path.starts_with("/moby.sshforward.v1.SSH/") {
                return SshServer::new(shared).oneshot(request).await;
            }
            if path.starts_with("/moby.upload.v1.Upload/") {
                return UploadServer::new(shared).oneshot(request).await;
            }
            if shared.files.is_some() {
                return PacketSendServer::new(shared).oneshot(request).await;
            }
            FileSendServer::new(shared).oneshot(request).await
        }
    });
    let connection = TokioIo::new(connection);
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(connection, service)
        .await;
}

#[async_trait]
impl FileSync for Files {
    type DiffCopyStream = BoxStream<'static, Result<Packet, Status>>;
    type TarStreamStream = BoxStream<'static, Result<Packet, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let name = request.metadata().get("dir-name").unwrap();
        let name = name.to_str().unwrap();
        let directory = self.directories.get(name).cloned();
        let directory = directory
            .ok_or_else(|| Status::not_found(format!("no access allowed to dir {name:?}")))?;
        let followed = request.metadata().get_all("followpaths").iter();
        let followed: Vec<_> = followed.map(|p| p.to_str().unwrap().to_owned()).collect();
        let asked = &self.asked[name];
        if followed != [".dockerignore"] {
            asked.times.fetch_add(1, Ordering::SeqCst);
            *asked.followed.lock().unwrap() = followed.clone();
        }
        let files = match directory.0.as_ref() {
            Content::Saying(packets) => {
                let packets = if followed == [".dockerignore"] {
                    told(Vec::new())
                } else {
                    packets.clone()
                };
                // It says what it says, and then that it is done.
                let said = packets.into_iter().map(Ok).collect::<Vec<_>>();
                return Ok(Response::new(stream::iter(said).boxed()));
            }
            Content::Files(files) => files.clone(),
        };
        let wanted = |path: &str| {
            let below = |followed: &String| path.starts_with(&format!("{followed}/"));
            followed.is_empty() || followed.iter().any(|f| f == path || below(f))
        };
        let files: Vec<_> = files
            .into_iter()
            .filter(|(stat, _)| wanted(&stat.path))
            .collect();
        let first = told(files.iter().map(|(stat, _)| stat.clone()).collect());
        let counted = self.asked.clone();
        let directory = if name == "context" {
            "context"
        } else {
            "dockerfile"
        };
        let answers = request.into_inner().flat_map(move |packet| {
            let Ok(packet) = packet else {
                return stream::iter(Vec::new());
            };
            let data = |data: &[u8]| Packet {
                r#type: PacketType::PacketData.into(),
                id: packet.id,
                data: data.to_vec(),
                ..Packet::default()
            };
            let answer = match packet.r#type() {
                PacketType::PacketReq => {
                    counted[directory].sent.fetch_add(1, Ordering::SeqCst);
                    let content = &files[packet.id as usize].1;
                    let mut answer: Vec<_> = content.chunks(30_000).map(data).collect();
                    answer.push(data(b""));
                    answer
                }
                _ => vec![packet],
            };
            stream::iter(answer.into_iter().map(Ok).collect::<Vec<_>>())
        });
        let first = stream::iter(first.into_iter().map(Ok).collect::<Vec<_>>());
        // A client ends when it has answered that it has nothing more.
        let mut over = false;
        let whole = first.chain(answers).take_while(move |packet| {
            let goes_on = !over;
            over = packet
                .as_ref()
                .is_ok_and(|p| p.r#type() == PacketType::PacketFin);
            std::future::ready(goes_on)
        });
        Ok(Response::new(whole.boxed()))
    }

    async fn tar_stream(
        &self,
        _: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("tar"))
    }
}

#[async_trait]
impl Secrets for Shared {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = &request.get_ref().id;
        let data = self.secrets.get(id).cloned();
        let data = data.ok_or_else(|| Status::not_found(format!("secret {id} not found")))?;
        Ok(Response::new(GetSecretResponse { data }))
    }
}

#[async_trait]
impl Upload for Shared {
    type PullStream = BoxStream<'static, Result<UploadBytes, Status>>;

    async fn pull(
        &self,
        request: Request<Streaming<UploadBytes>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        assert_eq!(request.metadata().get("urlpath").unwrap(), "/archive");
        let pieces = self.archive.chunks(1000).map(<[u8]>::to_vec);
        let pieces = pieces.map(|data| Ok(UploadBytes { data }));
        Ok(Response::new(
            stream::iter(pieces.collect::<Vec<_>>()).boxed(),
        ))
    }
}

#[async_trait]
impl FileSend for Shared {
    type DiffCopyStream = BoxStream<'static, Result<BytesMessage, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let mut messages = request.into_inner();
        while let Some(message) = messages.message().await? {
            self.output.lock().unwrap().extend(message.data);
        }
        Ok(Response::new(stream::empty().boxed()))
    }
}

#[async_trait]
impl PacketSend for Shared {
    type DiffCopyStream = BoxStream<'static, Result<Packet, Status>>;

    /// Asks for every file as soon as all are told of, as clients do.
    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let mut packets = request.into_inner();
        let files = self.files.clone().unwrap();
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            let ask = |kind: PacketType, id| {
                let packet = Packet {
                    r#type: kind.into(),
                    id,
                    ..Packet::default()
                };
                sender.send(Ok(packet)).unwrap();
            };
            let mut open = 0;
            let mut all_told = false;
            while let Some(packet) = packets.message().await.unwrap() {
                match (packet.r#type(), packet.stat) {
                    (PacketType::PacketStat, Some(stat)) => {
                        let mut files = files.lock().unwrap();
                        if stat.mode & !0o777 == 0 {
                            open += 1;
                            ask(PacketType::PacketReq, u32::try_from(files.len()).unwrap());
                        }
                        files.push((stat, Vec::new()));
                    }
                    (PacketType::PacketStat, None) => all_told = true,
                    (PacketType::PacketData, _) if packet.data.is_empty() => open -= 1,
                    (PacketType::PacketData, _) => {
                        files.lock().unwrap()[packet.id as usize]
                            .1
                            .extend(packet.data);
                    }
                    _ => break,
                }
                if all_told && open == 0 {
                    ask(PacketType::PacketFin, 0);
                    all_told = false;
                }
            }
        });
        let answers = stream::unfold(receiver, |mut receiver| async {
            let packet = receiver.recv().await?;
            Some((packet, receiver))
        });
        Ok(Response::new(answers.boxed()))
    }
}

fn told(stats: Vec<Stat>) -> Vec<Packet> {
    let stats = stats.into_iter().map(Some).chain([None]);
    let packet = |stat| Packet {
        r#type: PacketType::PacketStat.into(),
        stat,
        ..Packet::default()
    };
    stats.map(packet).collect()
}

/// HTTP/2 on the socket from the start, without an upgrade.
pub(crate) async fn channel(server: &Server) -> Channel {
    let socket = server.socket.clone();
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move {
            tokio::net::UnixStream::connect(socket)
                .await
                .map(TokioIo::new)
        }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connect).await.unwrap()
}

pub(crate) async fn control(server: &Server) -> ControlClient<Channel> {
    ControlClient::new(channel(server).await)
}
