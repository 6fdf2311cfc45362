//! A directory of the client's as a layer: what it was before is taken from the layer of before, the rest as it comes.

use std::io::{self, Read};
use std::sync::Arc;

use bollard_buildkit_proto::fsutil::types::Stat;
use hoist_image::files::Root;
use hoist_image::{Ids, Snapshotter, TarWriter};
use hoist_model::Digest;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use tokio::sync::mpsc;

use super::Session;
use super::sync::{Asked, PIECES, Piece, SyncError, Transfer};
use super::tree::{self, Tree};

/// A context that was sent: what it was told to be, and the layer that it became.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) tree: Arc<Tree>,
    pub(crate) layer: Digest,
}

/// Fetches a directory as a layer. What is as it was in `before` is not sent again; if all of it is, the layer is the same one.
pub(crate) async fn fetch_layer(
    session: &Session,
    asked: &Asked,
    snapshotter: Arc<dyn Snapshotter>,
    before: Option<Received>,
    on_bytes: &(dyn Fn(u64) + Send + Sync),
) -> Result<Received, SyncError> {
    let before = before.filter(|before| snapshotter.has_layer(&before.layer));
    let mut transfer = Transfer::begin(session, asked).await?;
    let tree = transfer.tree().await?;
    if let Some(before) = &before
        && before.tree.entries() == tree.entries()
    {
        transfer.end().await?;
        return Ok(before.clone());
    }
    let known = |stat: &Stat| {
        let before = before.as_ref()?;
        before.tree.find(&stat.path).filter(|known| *known == stat)
    };
    let files = tree.files().filter(|(_, stat)| known(stat).is_none());
    let files = files.map(|(number, stat)| (number, stat.size.unsigned_abs()));
    let wanted = files.collect();
    let tree = Arc::new(tree);
    let (sender, receiver) = mpsc::channel(PIECES);
    let writing = {
        let (tree, before) = (tree.clone(), before.clone());
        tokio::task::spawn_blocking(move || write(&tree, before, receiver, snapshotter.as_ref()))
    };
    let sent = transfer.contents(wanted, &sender, on_bytes).await;
    if let Err(error) = sent {
        // Whoever writes finds less than it waits for, and takes what it wrote away.
        drop(sender);
        let _ = writing.await;
        return Err(error);
    }
    drop(sender);
    let layer = writing.await.map_err(|_| SyncError::Worker)??;
    transfer.end().await?;
    Ok(Received { tree, layer })
}

/// Writes the layer of a tree: contents from the layer of before, or as they come. Blocking.
fn write(
    tree: &Tree,
    before: Option<Received>,
    mut pieces: mpsc::Receiver<Piece>,
    snapshotter: &dyn Snapshotter,
) -> Result<Digest, SyncError> {
    let mut old = None;
    if let Some(before) = before {
        let view = snapshotter.view(std::slice::from_ref(&before.layer), Ids::Host)?;
        old = Some((before.tree, Root::new(view)));
    }
    let mut layer = snapshotter.layer_writer()?;
    let written = entries(tree, old.as_ref(), &mut pieces, &mut layer);
    if let Err(error) = written {
        // A writer that refused what it was given says why when it is asked to finish.
        return Err(match (error, layer.finish(None)) {
            (SyncError::Io(_), Err(refused)) => refused.into(),
            (error, _) => error,
        });
    }
    Ok(layer.finish(None)?.diff_id)
}

fn entries(
    tree: &Tree,
    old: Option<&(Arc<Tree>, Root)>,
    pieces: &mut mpsc::Receiver<Piece>,
    out: impl io::Write,
) -> Result<(), SyncError> {
    let mut tar = TarWriter::new(out);
    for stat in tree.entries() {
        let size = stat.size.unsigned_abs();
        if !tree::is_file(stat) {
            if let Some(entry) = tree::tar_entry(stat, 0) {
                tar.entry(&entry)?;
            }
            continue;
        }
        let known = old.filter(|(old, _)| old.find(&stat.path) == Some(stat));
        if let Some((_, root)) = known {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let file = openat2(root, stat.path.as_str(), flags, Mode::empty(), inside);
            let file = std::fs::File::from(file.map_err(io::Error::from)?);
            // It may have been of another size than it was told to be.
            let size = file.metadata()?.len();
            if let Some(entry) = tree::tar_entry(stat, size) {
                tar.file(&entry, size, file)?;
            }
            continue;
        }
        match pieces.blocking_recv() {
            None => return Err(SyncError::Protocol("it ended before its contents did")),
            Some(Piece::Whole(data)) => {
                let size = data.len() as u64;
                if let Some(entry) = tree::tar_entry(stat, size) {
                    tar.file(&entry, size, data.as_slice())?;
                }
            }
            Some(Piece::Part(data)) => {
                let mut parts = Parts {
                    ended: data.is_empty(),
                    data,
                    at: 0,
                    pieces,
                };
                let Some(entry) = tree::tar_entry(stat, size) else {
                    continue;
                };
                match tar.file(&entry, size, &mut parts) {
                    Err(_) if parts.ended => return Err(SyncError::Shrunk(stat.path.clone())),
                    written => written?,
                }
                // What it grew by since is left out.
                io::copy(&mut parts, &mut io::sink())?;
            }
        }
    }
    tar.finish()?;
    Ok(())
}

/// A large file as it comes.
struct Parts<'p> {
    data: Vec<u8>,
    at: usize,
    ended: bool,
    pieces: &'p mut mpsc::Receiver<Piece>,
}

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.data.len() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Part(data)) => {
                    self.ended = data.is_empty();
                    self.data = data;
                    self.at = 0;
                }
                _ => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        let count = buffer.len().min(self.data.len() - self.at);
        buffer[..count].copy_from_slice(&self.data[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
