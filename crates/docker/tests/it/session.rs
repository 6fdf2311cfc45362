//! A BuildKit client as the daemon sees it: a session that answers for its files, counting what it is asked for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat, packet::PacketType};
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::{FileSync, FileSyncServer};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::Method;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tower::ServiceExt as _;

use crate::support::{Server, request};

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
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let id = format!("session-{}", LAST.fetch_add(1, Ordering::Relaxed));
        let mut opening = request(Method::POST, "/session", None);
        for (name, value) in [
            ("uuid", id.as_str()),
            ("name", "test"),
            ("sharedkey", "the same directory"),
            ("grpc-method", "/moby.filesync.v1.FileSync/DiffCopy"),
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
        let service = FileSyncServer::new(files);
        let serving = tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let service = service.clone();
                async move { service.oneshot(request).await }
            });
            let connection = TokioIo::new(connection.unwrap());
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(connection, service)
                .await;
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
