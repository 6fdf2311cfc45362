//! From a layer's pieces to a stored layer, on two threads of its own: one decompresses, one writes.
//!
//! ```text
//! pieces ─▶ decompress ─full buffers─▶ write (hash, index, disk)
//!                     ◀─empty buffers─
//! ```
//!
//! Inflating costs about as much as all that follows it; side by side a layer takes the longer of the two.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;
use hoist_image::decompress::{Decompressor, layer_limit};
use hoist_image::{LayerError, LayerWriter, PartialBlob, Snapshotter};
use hoist_model::Digest;
use tokio::sync::mpsc;

const BUFFER: usize = 256 << 10;
/// Buffers that go round between the two threads.
const BUFFERS: usize = 4;

/// A piece of a layer on its way here.
pub(crate) enum Piece {
    /// What comes is worth keeping: whoever asks again may go on where this ends.
    Keep,
    Data(Bytes),
    /// Everything came and the digest is right.
    Verified,
    /// Everything came and is not what was promised.
    Wrong,
}

/// Stores what comes through the channel as one layer. Blocking.
///
/// Commits only after [`Piece::Verified`]; a channel that closes without it leaves nothing but, in `partial`, what came so far.
/// What that has already is read first. `size` is the layer's as it comes.
pub(crate) fn unpack(
    channel: mpsc::Receiver<Piece>,
    snapshotter: &dyn Snapshotter,
    diff_id: &Digest,
    size: u64,
    partial: Option<PartialBlob>,
) -> Result<(), LayerError> {
    let limit = layer_limit(size);
    let mut pieces = Pieces {
        channel,
        current: Bytes::new(),
        kept: None,
        keep: false,
        partial,
        end: None,
        given_up: false,
    };
    if let Some(partial) = pieces.partial.as_ref().filter(|kept| kept.length() > 0) {
        let kept = partial
            .read()
            .map_err(|e| io_error("reading a part of", e))?;
        pieces.kept = Some(Box::new(kept));
        pieces.keep = true;
    }
    let unpacked = unpack_pieces(&mut pieces, snapshotter, diff_id, limit);
    // Given up before its end, it waits for the next attempt.
    let waits = pieces.given_up && pieces.keep;
    if let Some(partial) = pieces.partial.filter(|_| !waits) {
        partial.discard();
    }
    unpacked
}

fn unpack_pieces(
    pieces: &mut Pieces,
    snapshotter: &dyn Snapshotter,
    diff_id: &Digest,
    limit: u64,
) -> Result<(), LayerError> {
    let layer = snapshotter.layer_writer()?;
    std::thread::scope(|scope| {
        let (full, filled) = sync_channel::<Buffer>(BUFFERS);
        let (spent, empty) = sync_channel::<Buffer>(BUFFERS);
        let writer = std::thread::Builder::new()
            .name("layer writer".to_owned())
            .spawn_scoped(scope, move || write(layer, &filled, &spent))
            .map_err(|e| io_error("starting", e))?;
        let decoded = decompress(pieces, limit, &full, &empty);
        drop(full);
        let written = writer.join().unwrap_or_else(|_| {
            let panicked = io::Error::other("the layer writer panicked");
            Err(io_error("writing", panicked))
        });
        // A writer that failed is why the decoder could not go on.
        let layer = written?;
        decoded?;
        layer.finish(Some(diff_id)).map(drop)
    })
}

struct Buffer {
    bytes: Vec<u8>,
    length: usize,
}

/// Fills buffers until the stream and everything after it came, verified.
fn decompress(
    pieces: &mut Pieces,
    limit: u64,
    full: &SyncSender<Buffer>,
    empty: &Receiver<Buffer>,
) -> Result<(), LayerError> {
    let invalid = |e: io::Error| LayerError::Invalid(e.to_string());
    let mut decoder = Decompressor::new(&mut *pieces, limit).map_err(invalid)?;
    let mut made = 0;
    loop {
        let mut buffer = if made < BUFFERS {
            made += 1;
            Buffer {
                bytes: vec![0; BUFFER],
                length: 0,
            }
        } else {
            match empty.recv() {
                Ok(buffer) => buffer,
                // The writer gave up and knows why.
                Err(_) => return Ok(()),
            }
        };
        buffer.length = 0;
        while buffer.length < BUFFER {
            match decoder.read(&mut buffer.bytes[buffer.length..]) {
                Ok(0) => break,
                Ok(count) => buffer.length += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(invalid(e)),
            }
        }
        if buffer.length == 0 {
            break;
        }
        if full.send(buffer).is_err() {
            return Ok(());
        }
    }
    drop(decoder);
    // Whatever follows the compressed stream is still part of the blob, and only its end says that all is well.
    let mut rest = vec![0; BUFFER];
    while pieces.read(&mut rest).map_err(invalid)? > 0 {}
    Ok(())
}

/// Writes buffers until there are no more, and gives the unfinished layer back.
fn write(
    mut layer: Box<dyn LayerWriter>,
    filled: &Receiver<Buffer>,
    spent: &SyncSender<Buffer>,
) -> Result<Box<dyn LayerWriter>, LayerError> {
    while let Ok(buffer) = filled.recv() {
        if let Err(e) = layer.write_all(&buffer.bytes[..buffer.length]) {
            if e.kind() == io::ErrorKind::InvalidData {
                // The writer knows what is wrong with the tar.
                let invalid = LayerError::Invalid(e.to_string());
                return layer.finish(None).and(Err(invalid));
            }
            return Err(io_error("writing", e));
        }
        // Nobody takes it back once the decoder is done.
        let _ = spent.try_send(buffer);
    }
    Ok(layer)
}

fn io_error(action: &'static str, source: io::Error) -> LayerError {
    LayerError::Io {
        action,
        path: "the layer".into(),
        source,
    }
}

/// The channel as a reader, after what was kept of an earlier one; ends only with [`Piece::Verified`].
struct Pieces {
    channel: mpsc::Receiver<Piece>,
    current: Bytes,
    /// What is to be read first.
    kept: Option<Box<dyn Read>>,
    /// Whether what comes is kept.
    keep: bool,
    partial: Option<PartialBlob>,
    /// Whether the whole is what was promised; unknown before its end.
    end: Option<bool>,
    /// Whether the channel closed before that was known.
    given_up: bool,
}

impl Pieces {
    /// Keeps a piece. A disk that cannot take it is no reason to give up what needs no copy of it.
    fn keep(&mut self, data: &Bytes) {
        if !self.keep {
            return;
        }
        if let Some(partial) = &mut self.partial
            && let Err(error) = partial.append(data)
        {
            tracing::debug!(%error, "a layer's download will not be resumed");
            if let Some(partial) = self.partial.take() {
                partial.discard();
            }
        }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(kept) = &mut self.kept {
            match kept.read(buffer)? {
                0 => self.kept = None,
                count => return Ok(count),
            }
        }
        while self.current.is_empty() && self.end.is_none() {
            match self.channel.blocking_recv() {
                Some(Piece::Keep) => self.keep = true,
                Some(Piece::Data(data)) => {
                    self.keep(&data);
                    self.current = data;
                }
                Some(Piece::Verified) => self.end = Some(true),
                Some(Piece::Wrong) => self.end = Some(false),
                None => {
                    self.given_up = true;
                    let text = "the download was given up";
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, text));
                }
            }
        }
        if self.current.is_empty() && self.end == Some(false) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is not what was promised",
            ));
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
