//! The entries of an archive, in whatever order they come: documents in memory, layers in the snapshotter.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, Read};

use hoist_model::{Digest, LayerPhase, Progress, ProgressSink};

use super::LoadError;
use crate::copy::{CopyError, copy_layer};
use crate::decompress::{Compression, Decompressor, layer_limit};
use crate::document::CONFIG_LIMIT;
use crate::sha256::Sha256;
use crate::snapshot::{LayerError, Snapshotter};
use crate::tar::{Archive, Entry, EntryKind, is_header, normal_path};

/// Bytes of all documents of one archive.
const DOCUMENTS_LIMIT: u64 = 64 << 20;
/// Entries of one archive.
const ENTRIES_LIMIT: usize = 100_000;
/// Symlinks and hard links followed for one name.
const HOPS_LIMIT: usize = 8;
/// Bytes between two reports of progress.
const PROGRESS_STEP: u64 = 4 << 20;

/// What an entry turned out to be.
enum Part {
    Document(Vec<u8>),
    /// A layer with the digest of its bytes in the archive, or why it is none, told once.
    Layer(Result<(Digest, Digest), Cell<Option<LoadError>>>),
    /// Another name of an entry.
    Alias(String),
}

/// All entries by name.
pub(super) struct Parts {
    parts: HashMap<String, Part>,
}

impl Parts {
    /// Reads a whole archive.
    pub(super) fn read(
        reader: impl Read,
        snapshotter: &dyn Snapshotter,
        progress: ProgressSink<'_>,
    ) -> Result<Self, LoadError> {
        let plain = Decompressor::new(reader, u64::MAX).map_err(LoadError::Read)?;
        let mut archive = Archive::new(plain);
        let mut parts = HashMap::new();
        let mut documents = 0;
        while let Some(entry) = archive.next_entry().map_err(LoadError::Read)? {
            let name = String::from_utf8_lossy(&entry.path).into_owned();
            let part = match &entry.kind {
                EntryKind::File { size, .. } => {
                    let reading = Reading {
                        name: &name,
                        size: *size,
                        snapshotter,
                        progress,
                    };
                    reading.part(&mut archive)?
                }
                _ => alias(&entry).map(Part::Alias),
            };
            if let Some(Part::Document(bytes)) = &part {
                documents += bytes.len() as u64;
            }
            if parts.len() > ENTRIES_LIMIT || documents > DOCUMENTS_LIMIT {
                let text = "more documents than an archive of images has";
                let error = io::Error::new(io::ErrorKind::InvalidData, text);
                return Err(LoadError::Read(error));
            }
            parts.extend(part.map(|part| (name, part)));
        }
        Ok(Self { parts })
    }

    /// Whether there is an entry of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parts.contains_key(name)
    }

    /// A document; a blob's is checked against its name.
    pub(super) fn document(&self, name: &str) -> Result<&[u8], LoadError> {
        match self.find(name)? {
            (at, Part::Document(bytes)) => {
                check_blob(at, || Sha256::digest(bytes))?;
                Ok(bytes)
            }
            _ => Err(LoadError::Missing(name.to_owned())),
        }
    }

    /// A layer's diff id; a blob's bytes are checked against its name.
    pub(super) fn layer(&self, name: &str) -> Result<&Digest, LoadError> {
        match self.find(name)? {
            (at, Part::Layer(Ok((raw, diff_id)))) => {
                check_blob(at, || raw.clone())?;
                Ok(diff_id)
            }
            (_, Part::Layer(Err(error))) => Err(error
                .take()
                .unwrap_or_else(|| LoadError::Missing(name.to_owned()))),
            _ => Err(LoadError::Missing(name.to_owned())),
        }
    }

    fn find(&self, name: &str) -> Result<(&str, &Part), LoadError> {
        let missing = || LoadError::Missing(name.to_owned());
        let path = normal_path(name.as_bytes()).map_err(|_| missing())?;
        let mut at = String::from_utf8(path).map_err(|_| missing())?;
        for _ in 0..HOPS_LIMIT {
            match self.parts.get_key_value(&at).ok_or_else(missing)? {
                (_, Part::Alias(target)) => at.clone_from(target),
                (name, part) => return Ok((name, part)),
            }
        }
        Err(missing())
    }
}

/// The name a link leads to: of a hard link as it is, of a symlink relative to its own directory.
fn alias(entry: &Entry) -> Option<String> {
    let target = match &entry.kind {
        EntryKind::HardLink { target } => return String::from_utf8(target.clone()).ok(),
        EntryKind::Symlink { target } => std::str::from_utf8(target).ok()?,
        _ => return None,
    };
    let path = std::str::from_utf8(&entry.path).ok()?;
    let mut at: Vec<&str> = path.split('/').collect();
    at.pop();
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                at.pop()?;
            }
            name => at.push(name),
        }
    }
    Some(at.join("/"))
}

fn check_blob(name: &str, digest: impl FnOnce() -> Digest) -> Result<(), LoadError> {
    let Some(wanted) = blob_digest(name) else {
        return Ok(());
    };
    let found = digest();
    if found == wanted {
        return Ok(());
    }
    Err(LoadError::Mismatch {
        name: name.to_owned(),
        wanted,
        found,
    })
}

fn blob_digest(name: &str) -> Option<Digest> {
    let hex = name.strip_prefix("blobs/sha256/")?;
    format!("sha256:{hex}").parse().ok()
}

/// One file of the archive.
struct Reading<'a> {
    name: &'a str,
    size: u64,
    snapshotter: &'a dyn Snapshotter,
    progress: ProgressSink<'a>,
}

impl Reading<'_> {
    fn part(&self, data: &mut impl Read) -> Result<Option<Part>, LoadError> {
        let mut start = Vec::with_capacity(512);
        data.take(512)
            .read_to_end(&mut start)
            .map_err(LoadError::Read)?;
        let compressed = Compression::sniff(&start) != Compression::Plain;
        let first = start.iter().find(|b| !b.is_ascii_whitespace());
        let json = matches!(first, Some(b'{' | b'[')) && !is_header(&start) && !compressed;
        if json && self.size <= CONFIG_LIMIT {
            data.read_to_end(&mut start).map_err(LoadError::Read)?;
            return Ok(Some(Part::Document(start)));
        }
        if start.len() < 512 && !compressed {
            return Ok(None); // `VERSION` and such: shorter than any tar
        }
        match self.layer((&start[..]).chain(data), compressed) {
            // A full disk will not get better with the next entry.
            Err(
                error @ LoadError::Layer {
                    source: LayerError::Io { .. },
                    ..
                },
            ) => Err(error),
            result => Ok(Some(Part::Layer(
                result.map_err(|error| Cell::new(Some(error))),
            ))),
        }
    }

    /// Stores a layer while digesting its bytes as they are in the archive.
    fn layer(&self, data: impl Read, compressed: bool) -> Result<(Digest, Digest), LoadError> {
        let name = || self.name.to_owned();
        let decode = |source| LoadError::Decode {
            name: name(),
            source,
        };
        let consumed = Cell::new(0);
        let mut raw = Digesting {
            inner: data,
            hasher: compressed.then(Sha256::new),
            consumed: &consumed,
        };
        let writer = self
            .snapshotter
            .layer_writer()
            .map_err(|source| LoadError::Layer {
                name: name(),
                source,
            })?;
        let shown = shown_digest(self.name);
        let report = |phase| {
            if let Some(layer) = shown.clone() {
                (self.progress)(Progress::Layer { layer, phase });
            }
        };
        let mut reported = 0;
        let limit = if compressed {
            layer_limit(self.size)
        } else {
            u64::MAX
        };
        let plain = Decompressor::new(&mut raw, limit).map_err(decode)?;
        let record = copy_layer(plain, writer, None, |_| {
            let current = consumed.get();
            if current - reported >= PROGRESS_STEP {
                reported = current;
                let total = self.size;
                report(LayerPhase::Extracting { current, total });
            }
        })
        .map_err(|error| match error {
            CopyError::Read(source) => decode(source),
            CopyError::Layer(source) => LoadError::Layer {
                name: name(),
                source,
            },
        })?;
        // What a decoder left unread behind its last frame belongs to the blob's digest.
        io::copy(&mut raw, &mut io::sink()).map_err(LoadError::Read)?;
        report(LayerPhase::Complete);
        let raw = match raw.hasher {
            Some(hasher) => hasher.finish(),
            None => record.diff_id.clone(),
        };
        Ok((raw, record.diff_id))
    }
}

/// The 64 digits in a layer's name, for display: what its diff id is, is known only at its end.
fn shown_digest(name: &str) -> Option<Digest> {
    name.split(['/', '.'])
        .find_map(|part| format!("sha256:{part}").parse().ok())
}

struct Digesting<'a, R> {
    inner: R,
    /// None for a layer that is not compressed: its bytes are its tar, and have the digest of that.
    hasher: Option<Sha256>,
    consumed: &'a Cell<u64>,
}

impl<R: Read> Read for Digesting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..read]);
        }
        self.consumed.set(self.consumed.get() + read as u64);
        Ok(read)
    }
}
