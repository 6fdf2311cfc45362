//! `Upload.Pull`: a context that the client has as one archive, such as one that came on its standard input.

use std::io::{self, Read};
use std::sync::Arc;

use bollard_buildkit_proto::moby::upload::v1::BytesMessage;
use bollard_buildkit_proto::moby::upload::v1::upload_client::UploadClient;
use hoist_image::decompress::Decompressor;
use hoist_image::{CompleteTar, Snapshotter};
use hoist_model::Digest;
use tokio::sync::mpsc;
use tonic::Request;

use super::{Session, SyncError};

/// How addresses of such contexts begin; the rest is the archive's name.
const ADDRESS: &str = "http://buildkit-session/";
/// Messages that wait to be written.
const WAITING: usize = 8;
/// Bytes of a context when it is unpacked.
const LIMIT: u64 = 1 << 40;

/// Whether an address is of an archive of the client's session.
pub(crate) fn is_upload(address: &str) -> bool {
    address.starts_with(ADDRESS)
}

/// Fetches an archive, compressed or not, as a layer.
pub(crate) async fn fetch_upload(
    session: &Session,
    address: &str,
    snapshotter: Arc<dyn Snapshotter>,
    on_bytes: &(dyn Fn(u64) + Send + Sync),
) -> Result<Digest, SyncError> {
    if !session.serves("/moby.upload.v1.Upload/Pull") {
        return Err(SyncError::NotServed);
    }
    let name = address.strip_prefix(ADDRESS).unwrap_or_default();
    let mut request = Request::new(futures_util::stream::pending::<BytesMessage>());
    let refused = || SyncError::Pattern(name.to_owned());
    let path = format!("/{name}").parse().map_err(|_| refused())?;
    request.metadata_mut().insert("urlpath", path);
    let host = "buildkit-session".parse().map_err(|_| refused())?;
    request.metadata_mut().insert("urlhost", host);
    let mut client = UploadClient::new(session.channel.clone());
    let mut messages = client.pull(request).await?.into_inner();
    let (sender, body) = Pieces::channel(WAITING);
    let writing = tokio::task::spawn_blocking(move || store_archive(body, snapshotter.as_ref()));
    let receiving = async {
        while let Some(message) = messages.message().await? {
            on_bytes(message.data.len() as u64);
            // An archive may end before what it comes in does.
            if sender.send(Some(message.data)).await.is_err() {
                return Ok(());
            }
        }
        let _ = sender.send(None).await;
        Ok::<_, SyncError>(())
    };
    let received = receiving.await;
    drop(sender);
    let written = writing.await.map_err(|_| SyncError::Worker)?;
    received?;
    written
}

/// Keeps an archive, compressed or not, as a layer. Blocking.
pub(crate) fn store_archive(
    body: impl Read,
    snapshotter: &dyn Snapshotter,
) -> Result<Digest, SyncError> {
    let body = Decompressor::new(body, LIMIT)?;
    let mut body = CompleteTar::new(body);
    let mut writer = snapshotter.layer_writer()?;
    if let Err(error) = io::copy(&mut body, &mut writer) {
        // A writer that refused what it was given says why when it is asked to finish.
        return Err(match writer.finish(None) {
            Err(refused) => refused.into(),
            Ok(_) => SyncError::Io(error),
        });
    }
    Ok(writer.finish(None)?.diff_id)
}

/// Messages as bytes, for a thread.
pub(super) struct Pieces {
    piece: Vec<u8>,
    at: usize,
    ended: bool,
    /// `None` is the end; that nothing more comes without it is a failure.
    receiver: mpsc::Receiver<Option<Vec<u8>>>,
}

impl Pieces {
    /// Both ends; so many messages may wait.
    pub(super) fn channel(waiting: usize) -> (mpsc::Sender<Option<Vec<u8>>>, Self) {
        let (sender, receiver) = mpsc::channel(waiting);
        let pieces = Self {
            piece: Vec::new(),
            at: 0,
            ended: false,
            receiver,
        };
        (sender, pieces)
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Some(piece)) => {
                    self.piece = piece;
                    self.at = 0;
                }
                Some(None) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
