//! `FileSync.DiffCopy`: a directory of the client's, of which only what is new is sent.
//!
//! ```text
//!  client                      here
//!   STAT, STAT, …, STAT(none) ─▶ a tree, checked           nothing was asked for: it walks and tells
//!  ◀─ REQ(number), REQ(number), … of files that changed, some at a time
//!   DATA(number), …, DATA(number, none) ─▶ in the order of the tree, to whoever wants them
//!  ◀─ FIN, FIN ─▶
//! ```
//!
//! Source: tonistiigi/fsutil `send.go`, `receive.go`, `types/wire.proto`.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use bollard_buildkit_proto::fsutil::types::{Packet, packet::PacketType};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_client::FileSyncClient;
use hoist_image::{LayerError, SnapshotError};
use hoist_model::ErrorClass;
use tokio::sync::mpsc;
use tonic::metadata::{AsciiMetadataKey, MetadataMap};
use tonic::{Request, Status, Streaming};

use super::Session;
use super::tree::{Tree, TreeError};

/// A file up to this size is asked for before those ahead of it are here.
const SMALL: u64 = 1 << 20;
/// Bytes that are asked for and not here, and files.
const WINDOW: u64 = 8 << 20;
const WINDOW_FILES: usize = 256;
/// What a file may have grown by since it was told of.
const GROWN: u64 = 1 << 20;
/// Pieces that wait for whoever takes them.
pub(super) const PIECES: usize = 32;

/// Which directory, and what of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// As the client calls it: `context`, `dockerfile`.
    pub(crate) name: String,
    /// Patterns of `.dockerignore`.
    pub(crate) exclude: Vec<String>,
    /// Paths that alone are of interest, and what they point to; empty for all.
    pub(crate) follow: Vec<String>,
}

/// Why a directory could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    /// The client has no directories to give.
    #[error("the client's session shares no directories")]
    NotServed,
    /// The client refused, or went.
    #[error("{}", .0.message())]
    Refused(#[source] Box<Status>),
    /// The client failed.
    #[error("the client could not read its files: {0}")]
    Failed(String),
    /// An entry breaks a rule.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// What came is not what the protocol has.
    #[error("the client's session broke the protocol of files: {0}")]
    Protocol(&'static str),
    /// A pattern that no header can carry.
    #[error("a pattern cannot be sent to the client: {0:?}")]
    Pattern(String),
    /// A file is not what it was.
    #[error("{0} became shorter while it was sent")]
    Shrunk(String),
    /// More than can be held.
    #[error("{0} is larger than it may be")]
    TooLarge(String),
    /// The layer could not be stored.
    #[error("storing the build context")]
    Layer(#[from] LayerError),
    /// The layer of before cannot be looked at.
    #[error("reading the build context of before")]
    Snapshot(#[from] SnapshotError),
    /// A file of it cannot be read.
    #[error("writing the build context")]
    Io(#[from] io::Error),
    /// A thread fell.
    #[error("the thread that writes the build context fell")]
    Worker,
}

impl From<Status> for SyncError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl SyncError {
    pub(crate) fn class(&self) -> ErrorClass {
        match self {
            Self::Refused(status) if status.code() == tonic::Code::NotFound => ErrorClass::NotFound,
            Self::Refused(_) | Self::Failed(_) => ErrorClass::Unavailable,
            Self::NotServed
            | Self::Tree(_)
            | Self::Protocol(_)
            | Self::Pattern(_)
            | Self::Shrunk(_)
            | Self::TooLarge(_) => ErrorClass::InvalidArgument,
            Self::Layer(error) => error.class(),
            Self::Snapshot(error) => error.class(),
            Self::Io(_) | Self::Worker => ErrorClass::Internal,
        }
    }
}

/// Contents on their way to whoever takes them, in the order of the tree.
pub(super) enum Piece {
    /// A file's, all of it.
    Whole(Vec<u8>),
    /// Some of a file's; an empty one is its end.
    Part(Vec<u8>),
}

/// One directory on its way.
pub(super) struct Transfer {
    requests: mpsc::UnboundedSender<Packet>,
    packets: Streaming<Packet>,
}

impl Transfer {
    pub(super) async fn begin(session: &Session, asked: &Asked) -> Result<Self, SyncError> {
        if !session.serves("/moby.filesync.v1.FileSync/DiffCopy") {
            return Err(SyncError::NotServed);
        }
        let (requests, receiver) = mpsc::unbounded_channel();
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
            let packet = receiver.recv().await?;
            Some((packet, receiver))
        });
        let mut request = Request::new(stream);
        let metadata = request.metadata_mut();
        put(metadata, "dir-name", std::slice::from_ref(&asked.name))?;
        put(metadata, "exclude-patterns", &asked.exclude)?;
        put(metadata, "followpaths", &asked.follow)?;
        let mut client = FileSyncClient::new(session.channel.clone());
        let packets = client.diff_copy(request).await?.into_inner();
        Ok(Self { requests, packets })
    }

    async fn next(&mut self) -> Result<Option<Packet>, SyncError> {
        let Some(packet) = self.packets.message().await? else {
            return Ok(None);
        };
        if packet.r#type() == PacketType::PacketErr {
            let text: String = String::from_utf8_lossy(&packet.data)
                .chars()
                .take(1000)
                .collect();
            return Err(SyncError::Failed(text));
        }
        Ok(Some(packet))
    }

    /// What there is.
    pub(super) async fn tree(&mut self) -> Result<Tree, SyncError> {
        let mut tree = Tree::default();
        loop {
            let packet = self.next().await?;
            let packet = packet.ok_or(SyncError::Protocol("it ended before its files did"))?;
            match (packet.r#type(), packet.stat) {
                (PacketType::PacketStat, Some(stat)) => tree.push(stat)?,
                (PacketType::PacketStat, None) => return Ok(tree),
                _ => {
                    return Err(SyncError::Protocol(
                        "something else than a file was told of",
                    ));
                }
            }
        }
    }

    fn send(&self, kind: PacketType, number: u32) {
        // Who does not read any more has ended, which the next packet tells.
        let _ = self.requests.send(Packet {
            r#type: kind.into(),
            id: number,
            ..Packet::default()
        });
    }

    /// Asks for files and hands their contents on, in order. Ends early if nobody takes them.
    pub(super) async fn contents(
        &mut self,
        wanted: Vec<(u32, u64)>,
        taker: &mpsc::Sender<Piece>,
        on_bytes: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), SyncError> {
        let mut wanted = VecDeque::from(wanted);
        let mut coming: BTreeMap<u32, Coming> = BTreeMap::new();
        let mut expected = 0;
        loop {
            while let Some(&(number, size)) = wanted.front() {
                let fits =
                    size <= SMALL && expected + size <= WINDOW && coming.len() < WINDOW_FILES;
                let large_comes = coming.values().any(|coming| coming.size > SMALL);
                if !coming.is_empty() && (!fits || large_comes) {
                    break;
                }
                wanted.pop_front();
                expected += size;
                coming.insert(number, Coming::of(size));
                self.send(PacketType::PacketReq, number);
            }
            let Some(&first) = coming.keys().next() else {
                return Ok(());
            };
            let packet = self.next().await?;
            let packet = packet.ok_or(SyncError::Protocol("it ended before its contents did"))?;
            if packet.r#type() != PacketType::PacketData {
                return Err(SyncError::Protocol("something else than contents came"));
            }
            let Some(file) = coming.get_mut(&packet.id) else {
                return Err(SyncError::Protocol("contents came that nobody asked for"));
            };
            if file.done {
                return Err(SyncError::Protocol("contents came behind their end"));
            }
            on_bytes(packet.data.len() as u64);
            if packet.data.is_empty() {
                file.done = true;
            } else if file.size > SMALL {
                if taker.send(Piece::Part(packet.data)).await.is_err() {
                    return Ok(());
                }
                continue;
            } else {
                if (file.data.len() + packet.data.len()) as u64 > file.size + GROWN {
                    return Err(SyncError::Protocol(
                        "a file is far larger than it was told to be",
                    ));
                }
                file.data.extend_from_slice(&packet.data);
            }
            let mut next = Some(first);
            while let Some(number) = next
                && let Some(entry) = coming.first_entry()
                && *entry.key() == number
                && entry.get().done
            {
                let file = entry.remove();
                expected -= file.size;
                let piece = if file.size > SMALL {
                    Piece::Part(Vec::new())
                } else {
                    Piece::Whole(file.data)
                };
                if taker.send(piece).await.is_err() {
                    return Ok(());
                }
                next = coming.keys().next().copied();
            }
        }
    }

    /// Says that all is here, and hears that it was understood.
    pub(super) async fn end(mut self) -> Result<(), SyncError> {
        self.send(PacketType::PacketFin, 0);
        match self.next().await? {
            Some(packet) if packet.r#type() == PacketType::PacketFin => Ok(()),
            None => Ok(()),
            Some(_) => Err(SyncError::Protocol("something came behind the end")),
        }
    }
}

/// A file that was asked for.
struct Coming {
    size: u64,
    data: Vec<u8>,
    done: bool,
}

impl Coming {
    fn of(size: u64) -> Self {
        Self {
            size,
            data: Vec::new(),
            done: false,
        }
    }
}

/// Puts values under a key, encoded where they are not ASCII, as the client decodes them.
fn put(metadata: &mut MetadataMap, key: &str, values: &[String]) -> Result<(), SyncError> {
    if values.is_empty() {
        return Ok(());
    }
    let refused = |value: &str| SyncError::Pattern(value.to_owned());
    let name = |key: &str| AsciiMetadataKey::from_bytes(key.as_bytes()).map_err(|_| refused(key));
    let encode = !values.iter().all(|value| value.is_ascii());
    for value in values {
        let text = if encode {
            let encoded = value.bytes().map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    char::from(byte).to_string()
                }
                byte => format!("%{byte:02X}"),
            });
            encoded.collect()
        } else {
            value.clone()
        };
        metadata.append(name(key)?, text.parse().map_err(|_| refused(value))?);
    }
    if encode {
        let one = "1".parse().map_err(|_| refused("1"))?;
        metadata.insert(name(&format!("{key}-encoded"))?, one);
    }
    Ok(())
}

/// Fetches some small files into memory, none larger than `limit` bytes.
pub(crate) async fn fetch_files(
    session: &Session,
    asked: &Asked,
    limit: u64,
) -> Result<super::Files, SyncError> {
    let mut transfer = Transfer::begin(session, asked).await?;
    let tree = transfer.tree().await?;
    let mut wanted = Vec::new();
    let mut sum = 0;
    for (number, stat) in tree.files() {
        sum += stat.size.unsigned_abs();
        if sum > limit {
            return Err(SyncError::TooLarge(stat.path.clone()));
        }
        wanted.push((number, stat.size.unsigned_abs()));
    }
    let (sender, mut receiver) = mpsc::channel(PIECES);
    let taken = async move {
        let mut contents = Vec::new();
        let mut part = Vec::new();
        while let Some(piece) = receiver.recv().await {
            match piece {
                Piece::Whole(data) => contents.push(data),
                Piece::Part(data) if data.is_empty() => contents.push(std::mem::take(&mut part)),
                Piece::Part(data) => {
                    part.extend_from_slice(&data);
                    if part.len() as u64 > limit {
                        break;
                    }
                }
            }
        }
        contents
    };
    let sending = async {
        let sent = transfer.contents(wanted, &sender, &|_| ()).await;
        drop(sender);
        sent
    };
    let (sent, contents) = tokio::join!(sending, taken);
    sent?;
    let files = super::Files::of(&tree, contents);
    transfer.end().await?;
    Ok(files)
}
