//! A content store of the client's (containerd `api/services/content/v1`): the directory that a local build cache is.
//!
//! Only what a cache takes: `Info`, `Read`, `Write`. The messages are written out here, since no crate that we have makes them.

use std::io;
use std::sync::Arc;

use futures_util::stream;
use hoist_build::ports::{BoxFuture, CacheStore, PortError};
use hoist_image::document::{Descriptor, media_type};
use hoist_image::{LayerCompression, Sha256, Snapshotter, compress, unpack_layer};
use hoist_model::{Digest, ErrorClass, chain};
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::Session;
use super::upload::Pieces;

/// Which of the client's stores a request is for (buildkit `session/content`).
const STORE: &str = "buildkit-attachable-store-id";
const INFO: &str = "/containerd.services.content.v1.Content/Info";
const READ: &str = "/containerd.services.content.v1.Content/Read";
const WRITE: &str = "/containerd.services.content.v1.Content/Write";
/// Pieces that wait for the other end.
const WAITING: usize = 4;
/// Bytes of the first document, whose size nobody says.
const MANIFEST_LIMIT: u64 = 16 << 20;

#[derive(Clone, PartialEq, prost::Message)]
struct InfoRequest {
    #[prost(string, tag = "1")]
    digest: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    info: Option<BlobInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BlobInfo {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(int64, tag = "2")]
    size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReadRequest {
    #[prost(string, tag = "1")]
    digest: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReadResponse {
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum WriteAction {
    Stat = 0,
    Write = 1,
    Commit = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WriteRequest {
    #[prost(enumeration = "WriteAction", tag = "1")]
    action: i32,
    #[prost(string, tag = "2")]
    reference: String,
    #[prost(int64, tag = "3")]
    total: i64,
    #[prost(string, tag = "4")]
    expected: String,
    #[prost(int64, tag = "5")]
    offset: i64,
    #[prost(bytes = "vec", tag = "6")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WriteResponse {
    #[prost(enumeration = "WriteAction", tag = "1")]
    action: i32,
    #[prost(int64, tag = "4")]
    offset: i64,
}

/// A cache in a directory of the client's.
pub(crate) struct ClientStore {
    session: Session,
    /// `local:` and the directory, as the client named it.
    store: String,
    /// The manifest that is read; none where one is to be written.
    manifest: Option<Digest>,
    snapshotter: Arc<dyn Snapshotter>,
}

fn refused(status: &Status) -> PortError {
    let class = match status.code() {
        Code::NotFound => ErrorClass::NotFound,
        Code::InvalidArgument => ErrorClass::InvalidArgument,
        Code::PermissionDenied => ErrorClass::Forbidden,
        _ => ErrorClass::Unavailable,
    };
    PortError {
        message: format!("the client's directory: {}", status.message()),
        class,
    }
}

fn fell() -> PortError {
    PortError {
        message: "the thread that reads or writes a layer fell".to_owned(),
        class: ErrorClass::Internal,
    }
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

impl ClientStore {
    /// The store of this directory, if the client's session has content stores.
    pub(crate) fn new(
        session: Session,
        directory: &str,
        manifest: Option<Digest>,
        snapshotter: Arc<dyn Snapshotter>,
    ) -> Result<Self, Status> {
        if !session.serves(WRITE) {
            return Err(Status::failed_precondition(
                "the client's session has no directory for a cache",
            ));
        }
        Ok(Self {
            session,
            store: format!("local:{directory}"),
            manifest,
            snapshotter,
        })
    }

    async fn ready(&self) -> Result<Grpc<super::Channel>, Status> {
        let mut client = Grpc::new(self.session.channel.clone());
        let ready = client.ready().await;
        ready.map_err(|error| Status::unavailable(format!("the session is over: {error}")))?;
        Ok(client)
    }

    fn asks<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        let store = self.store.parse();
        let store = store.map_err(|_| Status::invalid_argument("a directory's name is no text"))?;
        request.metadata_mut().insert(STORE, store);
        Ok(request)
    }

    /// The size of a blob that is there.
    async fn size(&self, digest: &Digest) -> Result<Option<u64>, Status> {
        let message = InfoRequest {
            digest: digest.to_string(),
        };
        let codec = ProstCodec::<InfoRequest, InfoResponse>::default();
        let request = self.asks(message)?;
        let mut client = self.ready().await?;
        let asked = client.unary(request, PathAndQuery::from_static(INFO), codec);
        match asked.await {
            Ok(reply) => {
                let info = reply.into_inner().info.unwrap_or_default();
                Ok(Some(u64::try_from(info.size).unwrap_or(0)))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    async fn read(&self, digest: &Digest) -> Result<Streaming<ReadResponse>, Status> {
        let message = ReadRequest {
            digest: digest.to_string(),
        };
        let codec = ProstCodec::<ReadRequest, ReadResponse>::default();
        let request = self.asks(message)?;
        let mut client = self.ready().await?;
        let asked = client.server_streaming(request, PathAndQuery::from_static(READ), codec);
        Ok(asked.await?.into_inner())
    }

    /// A document of at most so many bytes, verified.
    async fn small(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, PortError> {
        let mut pieces = self.read(digest).await.map_err(|status| refused(&status))?;
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.message().await.map_err(|status| refused(&status))? {
            bytes.extend_from_slice(&piece.data);
            if bytes.len() as u64 > limit {
                return Err(PortError {
                    message: format!("the client's directory: {digest} is too large"),
                    class: ErrorClass::InvalidArgument,
                });
            }
        }
        let found = Sha256::digest(&bytes);
        if found == *digest {
            return Ok(bytes);
        }
        Err(PortError {
            message: format!("the client's directory: {digest} has the digest {found}"),
            class: ErrorClass::InvalidArgument,
        })
    }

    async fn layer(&self, descriptor: Descriptor, diff_id: Digest) -> Result<(), PortError> {
        let asked = self.read(&descriptor.digest).await;
        let mut pieces = asked.map_err(|status| refused(&status))?;
        let (sender, body) = Pieces::channel(WAITING);
        let snapshotter = self.snapshotter.clone();
        let writing = tokio::task::spawn_blocking(move || {
            unpack_layer(body, descriptor.size, &diff_id, snapshotter.as_ref())
        });
        let receiving = async {
            while let Some(piece) = pieces.message().await? {
                // A layer may end before what it comes in does.
                if sender.send(Some(piece.data)).await.is_err() {
                    return Ok(());
                }
            }
            let _ = sender.send(None).await;
            Ok::<_, Status>(())
        };
        let received = receiving.await;
        drop(sender);
        let written = writing.await.map_err(|_| fell())?;
        received.map_err(|status| refused(&status))?;
        written.map(drop).map_err(|error| PortError {
            message: chain(&error),
            class: error.class(),
        })
    }

    /// Writes what comes through the channel as one blob; its digest comes last.
    async fn write(
        &self,
        name: String,
        mut pieces: mpsc::Receiver<Outgoing>,
    ) -> Result<(), Status> {
        let (sender, receiver) = mpsc::channel::<WriteRequest>(1);
        let requests = stream::unfold(receiver, |mut receiver| async {
            let message = receiver.recv().await?;
            Some((message, receiver))
        });
        let codec = ProstCodec::<WriteRequest, WriteResponse>::default();
        let request = self.asks(requests)?;
        let mut client = self.ready().await?;
        // The first message goes before the answer to the call, which waits for it.
        let first = WriteRequest {
            action: WriteAction::Stat.into(),
            reference: name,
            ..WriteRequest::default()
        };
        let closed = |_| Status::unavailable("the client takes no more");
        sender.send(first).await.map_err(closed)?;
        let path = PathAndQuery::from_static(WRITE);
        let mut replies = client.streaming(request, path, codec).await?.into_inner();
        let ended = || Status::unavailable("the client ended the writing of a blob");
        replies.message().await?.ok_or_else(ended)?;
        let mut offset = 0;
        while let Some(piece) = pieces.recv().await {
            let message = match piece {
                Outgoing::Data(data) => WriteRequest {
                    action: WriteAction::Write.into(),
                    offset,
                    data,
                    ..WriteRequest::default()
                },
                Outgoing::End(digest) => WriteRequest {
                    action: WriteAction::Commit.into(),
                    offset,
                    total: offset,
                    expected: digest.to_string(),
                    ..WriteRequest::default()
                },
            };
            let is_last = message.action == i32::from(WriteAction::Commit);
            offset += signed(message.data.len() as u64);
            sender.send(message).await.map_err(closed)?;
            // One reply each: a client that writes slowly is waited for.
            replies.message().await?.ok_or_else(ended)?;
            if is_last {
                return Ok(());
            }
        }
        Err(Status::internal("a blob without an end"))
    }

    async fn blob(&self, name: String, pieces: mpsc::Receiver<Outgoing>) -> Result<(), PortError> {
        match self.write(name, pieces).await {
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            written => written.map_err(|status| refused(&status)),
        }
    }

    async fn compressed(&self, layer: Digest) -> Result<Descriptor, PortError> {
        let (sender, pieces) = mpsc::channel(WAITING);
        let name = format!("hoist-{layer}");
        let snapshotter = self.snapshotter.clone();
        let making = tokio::task::spawn_blocking(move || {
            let failed = |error: &(dyn std::error::Error + 'static), class| PortError {
                message: chain(error),
                class,
            };
            let tar = snapshotter.open_tar(&layer);
            let tar = tar.map_err(|error| failed(&error, error.class()))?;
            let (mut hash, mut size) = (Sha256::new(), 0);
            let made = compress(LayerCompression::Gzip, tar, |piece| {
                hash.update(&piece);
                size += piece.len() as u64;
                let sent = sender.blocking_send(Outgoing::Data(piece));
                sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
            });
            made.map_err(|error| failed(&error, ErrorClass::Internal))?;
            let digest = hash.finish();
            // Nobody there any more: the writing has the reason.
            let _ = sender.blocking_send(Outgoing::End(digest.clone()));
            Ok(Descriptor::new(media_type::OCI_LAYER_GZIP, digest, size))
        });
        let written = self.blob(name, pieces).await;
        let made = making.await.map_err(|_| fell())?;
        written?;
        made
    }

    async fn put_bytes(&self, kind: &str, bytes: Vec<u8>) -> Result<Descriptor, PortError> {
        let digest = Sha256::digest(&bytes);
        let described = Descriptor::new(kind, digest.clone(), bytes.len() as u64);
        let (sender, pieces) = mpsc::channel(2);
        let sending = async {
            let _ = sender.send(Outgoing::Data(bytes)).await;
            let _ = sender.send(Outgoing::End(digest.clone())).await;
        };
        let (written, ()) = tokio::join!(self.blob(format!("hoist-{digest}"), pieces), sending);
        written.map(|()| described)
    }
}

/// A blob on its way.
enum Outgoing {
    Data(Vec<u8>),
    End(Digest),
}

impl CacheStore for ClientStore {
    fn manifest(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>, PortError>> {
        Box::pin(async {
            match &self.manifest {
                None => Ok(None),
                Some(digest) => self.small(digest, MANIFEST_LIMIT).await.map(Some),
            }
        })
    }

    fn document(&self, descriptor: Descriptor) -> BoxFuture<'_, Result<Vec<u8>, PortError>> {
        Box::pin(async move { self.small(&descriptor.digest, descriptor.size).await })
    }

    fn fetch(
        &self,
        descriptor: Descriptor,
        diff_id: Digest,
    ) -> BoxFuture<'_, Result<(), PortError>> {
        Box::pin(self.layer(descriptor, diff_id))
    }

    fn send(
        &self,
        layer: Digest,
        known: Option<Descriptor>,
    ) -> BoxFuture<'_, Result<Descriptor, PortError>> {
        Box::pin(async move {
            if let Some(known) = known {
                let size = self.size(&known.digest).await;
                if size.map_err(|status| refused(&status))? == Some(known.size) {
                    return Ok(known);
                }
            }
            self.compressed(layer).await
        })
    }

    fn put<'a>(
        &'a self,
        media_type: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<Descriptor, PortError>> {
        Box::pin(self.put_bytes(media_type, bytes))
    }

    /// The client keeps the name itself, in the directory's `index.json`.
    fn name<'a>(
        &'a self,
        media_type: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<Descriptor, PortError>> {
        Box::pin(self.put_bytes(media_type, bytes))
    }
}
