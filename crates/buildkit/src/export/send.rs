//! `FileSend`: what was built goes to the client, as one file or as a directory.

use std::io::{self, Read as _, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use bollard_buildkit_proto::fsutil::types::{Packet, packet::PacketType};
use bollard_buildkit_proto::moby::filesync::packet::file_send_client::FileSendClient as Packets;
use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_client::FileSendClient as Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tonic::{Request, Status};

use super::walk;
use crate::session::Session;

/// Bytes of a message, and messages that wait for a client that reads slowly.
const CHUNK: usize = 1 << 20;
const WAITING: usize = 4;
/// Bytes of a piece of a file.
const PIECE: usize = 32 << 10;

fn ids<T>(request: &mut Request<T>, exporter: usize) {
    if let Ok(value) = exporter.to_string().parse() {
        let key = "buildkit-attachable-exporter-id";
        request.metadata_mut().insert(key, value);
    }
}

fn serves(session: &Session) -> Result<(), Status> {
    if session.serves("/moby.filesync.v1.FileSend/DiffCopy") {
        Ok(())
    } else {
        Err(Status::failed_precondition(
            "the client's session takes no files",
        ))
    }
}

/// Sends what `write` writes as one file. `exporter` is the number of the exporter in the client's list.
pub(super) async fn file(
    session: &Session,
    exporter: usize,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Status> + Send + 'static,
) -> Result<(), Status> {
    serves(session)?;
    let (sender, receiver) = mpsc::channel::<BytesMessage>(WAITING);
    let messages = stream::unfold(receiver, |mut receiver| async {
        let message = receiver.recv().await?;
        Some((message, receiver))
    });
    let mut request = Request::new(messages);
    ids(&mut request, exporter);
    let writing = tokio::task::spawn_blocking(move || {
        let out = Outgoing { sender };
        let mut out = io::BufWriter::with_capacity(CHUNK, out);
        write(&mut out)?;
        out.flush()
            .map_err(|error| Status::unavailable(error.to_string()))
    });
    let mut client = Bytes::new(session.channel.clone());
    let sending = async {
        let mut reply = client.diff_copy(request).await?.into_inner();
        // It says nothing until it has all.
        while reply.message().await?.is_some() {}
        Ok::<_, Status>(())
    };
    let (sent, written) = tokio::join!(sending, writing);
    // What the client says of it tells more than that it takes no more.
    sent?;
    written.map_err(|_| Status::internal("the thread that writes the output fell"))?
}

/// Messages to a client, from a thread.
struct Outgoing {
    sender: mpsc::Sender<BytesMessage>,
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK);
        let message = BytesMessage {
            data: bytes[..count].to_vec(),
        };
        let sent = self.sender.blocking_send(message);
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client takes no more"))?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends all that is below a directory, file by file as the client asks for them.
pub(super) async fn directory(
    session: &Session,
    exporter: usize,
    root: OwnedFd,
) -> Result<(), Status> {
    serves(session)?;
    let failed = |error: io::Error| Status::internal(format!("reading what was built: {error}"));
    let fell = |_| Status::internal("the thread that reads what was built fell");
    let root = Arc::new(root);
    let entries = {
        let root = root.clone();
        let walking = tokio::task::spawn_blocking(move || walk::walk(root.as_fd()));
        walking.await.map_err(fell)?.map_err(failed)?
    };
    let (sender, receiver) = mpsc::channel::<Packet>(WAITING * 16);
    let packets = stream::unfold(receiver, |mut receiver| async {
        let packet = receiver.recv().await?;
        Some((packet, receiver))
    });
    let mut request = Request::new(packets);
    ids(&mut request, exporter);
    let paths: Vec<_> = entries.iter().map(|stat| stat.path.clone()).collect();
    let gone = |_| Status::unavailable("the client takes no more files");
    let telling = {
        let sender = sender.clone();
        async move {
            for stat in entries.into_iter().map(Some).chain([None]) {
                let packet = Packet {
                    r#type: PacketType::PacketStat.into(),
                    stat,
                    ..Packet::default()
                };
                sender.send(packet).await.map_err(gone)?;
            }
            Ok::<_, Status>(())
        }
    };
    let mut client = Packets::new(session.channel.clone());
    let answering = async {
        let mut asked = client.diff_copy(request).await?.into_inner();
        while let Some(packet) = asked.message().await? {
            match packet.r#type() {
                PacketType::PacketReq => {
                    let number = usize::try_from(packet.id).unwrap_or(usize::MAX);
                    let path = paths.get(number).cloned();
                    let path = path.ok_or_else(|| {
                        Status::invalid_argument("the client asks for a file that there is not")
                    })?;
                    let (root, sender) = (root.clone(), sender.clone());
                    let sending = move || content(&root, &path, packet.id, &sender);
                    let sent = tokio::task::spawn_blocking(sending).await;
                    sent.map_err(fell)?.map_err(failed)?;
                }
                PacketType::PacketFin => {
                    let packet = Packet {
                        r#type: PacketType::PacketFin.into(),
                        ..Packet::default()
                    };
                    sender.send(packet).await.map_err(gone)?;
                    break;
                }
                PacketType::PacketErr => {
                    let text = String::from_utf8_lossy(&packet.data);
                    return Err(Status::unknown(text.into_owned()));
                }
                _ => {
                    return Err(Status::invalid_argument(
                        "the client sends what nobody asked for",
                    ));
                }
            }
        }
        drop(sender);
        while asked.message().await?.is_some() {}
        Ok(())
    };
    let (told, answered) = tokio::join!(telling, answering);
    answered?;
    told
}

/// Sends a file's contents, and their end.
fn content(
    root: &OwnedFd,
    path: &str,
    number: u32,
    sender: &mpsc::Sender<Packet>,
) -> io::Result<()> {
    let mut file = walk::open(root, path)?;
    let mut buffer = vec![0; PIECE];
    loop {
        let count = file.read(&mut buffer)?;
        let packet = Packet {
            r#type: PacketType::PacketData.into(),
            id: number,
            data: buffer[..count].to_vec(),
            ..Packet::default()
        };
        let sent = sender.blocking_send(packet);
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client takes no more"))?;
        if count == 0 {
            return Ok(());
        }
    }
}
