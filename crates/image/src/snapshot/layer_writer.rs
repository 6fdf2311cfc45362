//! Streams one tar into its file, its digest and its tree at once.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;

use hoist_model::Digest;

use super::background_digest::BackgroundDigest;
use super::form::Form;
use super::layer_files::{LayerFiles, Temporary, io_at};
use super::{LayerError, LayerRecord, LayerWriter};
use crate::tar::{Event, Parser};
use crate::tree::Tree;

/// Zeros of this many bytes, at a multiple of it, take no room.
const HOLE: usize = 16 << 10;
/// Between two looks at how much room is left, in bytes.
const LOOK_EVERY: u64 = 1 << 20;
/// What a layer leaves of the file system: one part of so many, but at least and at most so many bytes.
const LEFT_PART: u64 = 100;
const LEFT_LEAST: u64 = 2 << 20;
const LEFT_MOST: u64 = 64 << 20;

/// Bytes after which the disk begins to write what it was given, so that the end has little to wait for.
const BEGIN_EVERY: u64 = 16 << 20;

/// A layer being written.
pub(super) struct StreamingWriter {
    files: Arc<LayerFiles>,
    form: Arc<Form>,
    temporary: Temporary,
    file: File,
    digest: BackgroundDigest,
    parser: Parser,
    tree: Tree,
    bytes: u64,
    /// At how many bytes the room that is left is looked at.
    look_at: u64,
    /// Up to where the disk was told to write.
    begun: u64,
    /// Why the tar was refused; every later write fails too.
    refused: Option<String>,
    /// Why the file could not be written.
    failed: Option<io::Error>,
}

impl StreamingWriter {
    pub(super) fn new(files: Arc<LayerFiles>, form: Arc<Form>) -> Result<Self, LayerError> {
        let (temporary, file) = files.temporary_file()?;
        Ok(Self {
            files,
            form,
            temporary,
            file,
            digest: BackgroundDigest::new(),
            parser: Parser::new(),
            tree: Tree::new(),
            bytes: 0,
            look_at: LOOK_EVERY,
            begun: 0,
            refused: None,
            failed: None,
        })
    }

    fn parse(&mut self, mut input: &[u8]) -> Result<(), String> {
        while let Some(event) = self
            .parser
            .next(&mut input)
            .map_err(|error| error.to_string())?
        {
            if let Event::Entry(entry) = event {
                let path = String::from_utf8_lossy(&entry.path).into_owned();
                self.tree
                    .apply(entry)
                    .map_err(|reason| format!("entry {path:?}: {reason}"))?;
            }
        }
        Ok(())
    }
}

impl StreamingWriter {
    /// Writes at the end, and leaves holes where there are only zeros: an image with a large empty file is not large.
    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let at = usize::try_from(self.bytes % HOLE as u64).unwrap_or(0);
            let is_hole = |from: &[u8]| from.len() >= HOLE && from[..HOLE].iter().all(|b| *b == 0);
            let length = if at == 0 && is_hole(bytes) {
                self.file.seek(SeekFrom::Current(HOLE as i64))?;
                HOLE
            } else {
                let mut length = (HOLE - at).min(bytes.len());
                while length < bytes.len() && !is_hole(&bytes[length..]) {
                    length = (length + HOLE).min(bytes.len());
                }
                self.file.write_all(&bytes[..length])?;
                length
            };
            self.bytes += length as u64;
            bytes = &bytes[length..];
        }
        if self.bytes >= self.look_at {
            self.look_at = self.bytes + LOOK_EVERY;
            self.leave_room()?;
        }
        if self.files.durable && self.bytes - self.begun >= BEGIN_EVERY {
            // Who waits at the end is told what fails.
            let _ = hoist_sys::writeback::begin(&self.file, self.begun, self.bytes - self.begun);
            self.begun = self.bytes;
        }
        Ok(())
    }

    /// Fails before the disk is full: a small download can be a layer of any size, and others need room, too.
    fn leave_room(&self) -> io::Result<()> {
        let found = rustix::fs::fstatvfs(&self.file)?;
        let left = found.f_bavail.saturating_mul(found.f_frsize);
        let all = found.f_blocks.saturating_mul(found.f_frsize);
        if left < (all / LEFT_PART).clamp(LEFT_LEAST, LEFT_MOST) {
            let text = format!(
                "no space left on device: the layer has more than {} bytes, and only {left} are left on the disk",
                self.bytes
            );
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        Ok(())
    }
}

impl Write for StreamingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.refused.is_none()
            && let Err(reason) = self.parse(bytes)
        {
            self.refused = Some(reason);
        }
        if let Some(reason) = &self.refused {
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason.clone()));
        }
        // First, so that it is computed while the rest is done.
        self.digest.update(bytes);
        if let Err(error) = self.append(bytes) {
            // Whoever asks for the end is told the same: what is here so far is no archive, but that is not what is wrong.
            self.failed = Some(io::Error::new(error.kind(), error.to_string()));
            return Err(error);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LayerWriter for StreamingWriter {
    fn finish(self: Box<Self>, expected: Option<&Digest>) -> Result<LayerRecord, LayerError> {
        if let Some(reason) = self.refused {
            return Err(LayerError::Invalid(reason));
        }
        if let Some(error) = self.failed {
            return Err(io_at("writing", &self.temporary.path)(error));
        }
        let found = self.digest.finalize();
        if let Some(wanted) = expected
            && *wanted != found
        {
            let wanted = wanted.clone();
            return Err(LayerError::Mismatch { wanted, found });
        }
        self.parser
            .finish()
            .map_err(|error| LayerError::Invalid(error.to_string()))?;
        // It may end in a hole.
        self.file
            .set_len(self.bytes)
            .map_err(io_at("writing", &self.temporary.path))?;
        if let Some(known) = self.files.good(&found) {
            return Ok((&known).into());
        }
        let (summary, index) = self.files.write_index(&self.tree, &found, self.bytes)?;
        let extracted = self.form.extract(&self.files, &self.tree, &self.file)?;
        if self.files.durable {
            self.file
                .sync_data()
                .map_err(io_at("syncing", &self.temporary.path))?;
        }
        let record = (&summary).into();
        let written = (&self.tree, &self.file);
        self.files
            .commit(summary, self.temporary, index, extracted, written)?;
        Ok(record)
    }
}
