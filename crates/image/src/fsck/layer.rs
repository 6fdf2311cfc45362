//! One layer: its tar against its name, its index and its extracted files against its tar.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use hoist_model::Digest;

use super::tree::compare;
use crate::erofs::write_index;
use crate::snapshot::{LayerError, LayerFiles};
use crate::tree::Tree;

/// What a check of a layer found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerCheck {
    /// Bytes of all regular files in it; 0 where the tar is not good.
    pub file_bytes: u64,
    /// What is wrong with the tar: then nothing can be said of the rest.
    pub tar: Result<(), String>,
    /// The index beside it.
    pub index: PartState,
    /// Its extracted files.
    pub tree: PartState,
}

/// What became of something that is made from a tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartState {
    /// It is not there.
    Absent,
    /// It is what the tar says.
    Good,
    /// It differs from the tar, in this.
    Wrong(String),
}

/// Reads a whole layer. `None` when it is not here (any more).
///
/// # Errors
/// The file system's: a layer that cannot be read is not known to be bad.
pub fn check_layer(root: &Path, layer: &Digest) -> Result<Option<LayerCheck>, LayerError> {
    let files = LayerFiles::unopened(root);
    let unknown = |reason: String| LayerCheck {
        file_bytes: 0,
        tar: Err(reason),
        index: PartState::Absent,
        tree: PartState::Absent,
    };
    let tree = match files.read_tree(layer) {
        Ok((tree, found)) if found == *layer => tree,
        Ok((_, found)) => return Ok(Some(unknown(format!("its content is {found}")))),
        Err(LayerError::Invalid(reason)) => {
            return Ok(Some(unknown(format!("it is no tar: {reason}"))));
        }
        Err(LayerError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let tar_path = files.tar(layer);
    let failed = |source| LayerError::Io {
        action: "reading",
        path: tar_path.clone(),
        source,
    };
    let tar = File::open(&tar_path).map_err(failed)?;
    let tar_bytes = tar.metadata().map_err(failed)?.len();
    let index = check_index(&files, layer, &tree, tar_bytes)?;
    let extracted = match compare(&tree, &tar, &files.tree(layer)) {
        Ok(None) => PartState::Absent,
        Ok(Some(None)) => PartState::Good,
        Ok(Some(Some(difference))) => PartState::Wrong(difference),
        Err(source) => {
            return Err(LayerError::Io {
                action: "reading",
                path: files.tree(layer),
                source,
            });
        }
    };
    Ok(Some(LayerCheck {
        file_bytes: tree.file_bytes(),
        tar: Ok(()),
        index,
        tree: extracted,
    }))
}

/// Compares an index with the one that would be written now.
fn check_index(
    files: &LayerFiles,
    layer: &Digest,
    tree: &Tree,
    tar_bytes: u64,
) -> Result<PartState, LayerError> {
    let path = files.index(layer);
    let failed = |source| LayerError::Io {
        action: "reading",
        path: path.clone(),
        source,
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(PartState::Absent),
        Err(error) => return Err(failed(error)),
    };
    let length = file.metadata().map_err(failed)?.len();
    let mut comparison = Comparison {
        file: BufReader::with_capacity(64 << 10, file),
        at: 0,
        differs: None,
        buffer: Vec::new(),
    };
    write_index(tree, layer, tar_bytes, &mut comparison).map_err(failed)?;
    Ok(match comparison.differs {
        Some(at) => PartState::Wrong(format!("it differs from its tar's at byte {at}")),
        None if comparison.at != length => PartState::Wrong(format!(
            "it has {length} bytes and should have {}",
            comparison.at
        )),
        None => PartState::Good,
    })
}

/// Takes the bytes that a file should have.
struct Comparison {
    file: BufReader<File>,
    at: u64,
    differs: Option<u64>,
    buffer: Vec<u8>,
}

impl Write for Comparison {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.differs.is_none() {
            self.buffer.clear();
            let mut part = (&mut self.file).take(bytes.len() as u64);
            part.read_to_end(&mut self.buffer)?;
            let same = bytes.iter().zip(&self.buffer).take_while(|(a, b)| a == b);
            let same = same.count();
            if same < bytes.len() {
                self.differs = Some(self.at + same as u64);
            }
        }
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
