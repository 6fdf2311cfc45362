//! Streams one tar into its file, its digest and its tree at once.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use hoist_model::Digest;
use sha2::{Digest as _, Sha256};

use super::form::LayerForm;
use super::layer_files::{LayerFiles, Temporary, io_at};
use super::{LayerError, LayerRecord, LayerWriter};
use crate::tar::{Event, Parser};
use crate::tree::Tree;

/// A layer being written.
pub(super) struct StreamingWriter<F> {
    files: Arc<LayerFiles>,
    form: Arc<F>,
    temporary: Temporary,
    file: File,
    hasher: Sha256,
    parser: Parser,
    tree: Tree,
    bytes: u64,
    /// Why the tar was refused; every later write fails too.
    refused: Option<String>,
}

impl<F: LayerForm> StreamingWriter<F> {
    pub(super) fn new(files: Arc<LayerFiles>, form: Arc<F>) -> Result<Self, LayerError> {
        let (temporary, file) = files.temporary_file()?;
        Ok(Self {
            files,
            form,
            temporary,
            file,
            hasher: Sha256::new(),
            parser: Parser::new(),
            tree: Tree::new(),
            bytes: 0,
            refused: None,
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

impl<F: LayerForm> Write for StreamingWriter<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.refused.is_none()
            && let Err(reason) = self.parse(bytes)
        {
            self.refused = Some(reason);
        }
        if let Some(reason) = &self.refused {
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason.clone()));
        }
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<F: LayerForm> LayerWriter for StreamingWriter<F> {
    fn finish(self: Box<Self>, expected: Option<&Digest>) -> Result<LayerRecord, LayerError> {
        if let Some(reason) = self.refused {
            return Err(LayerError::Invalid(reason));
        }
        let found = Digest::from_sha256(&self.hasher.finalize().into());
        if let Some(wanted) = expected
            && *wanted != found
        {
            let wanted = wanted.clone();
            return Err(LayerError::Mismatch { wanted, found });
        }
        self.parser
            .finish()
            .map_err(|error| LayerError::Invalid(error.to_string()))?;
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
