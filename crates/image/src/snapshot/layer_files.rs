//! The files of the layers, and which layers are here.
//!
//! ```text
//! <root>/layers/<64 hex>.erofs    the index; written and renamed before the tar
//! <root>/layers/<64 hex>.tar      the uncompressed tar; its name is the layer's commit
//! <root>/layers/<64 hex>.tree/    its files, where directories serve as lowers
//! <root>/layers/.tmp-*            being written or removed; swept at open
//! ```

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use hoist_model::Digest;
use sha2::{Digest as _, Sha256};

use super::{LayerError, LayerRecord};
use crate::erofs::{IndexSummary, SUMMARY_BYTES, read_summary, write_index};
use crate::tar::{Event, Parser};
use crate::tree::Tree;

/// The directory of layers and what is known of each.
#[derive(Debug)]
pub(super) struct LayerFiles {
    directory: PathBuf,
    /// Whether commits are synced; a probe's are not.
    pub(super) durable: bool,
    /// What is here. Short sections only: lookups, and one insert or remove per layer.
    known: Mutex<HashMap<Digest, IndexSummary>>,
    temporaries: AtomicU64,
}

impl LayerFiles {
    /// Opens the directory, sweeps leftovers, and reads which layers are here.
    pub(super) fn open(root: &Path, durable: bool) -> Result<Self, LayerError> {
        let directory = root.join("layers");
        make_directory(&directory)?;
        let files = Self {
            directory,
            durable,
            known: Mutex::new(HashMap::new()),
            temporaries: AtomicU64::new(0),
        };
        files.sweep()?;
        Ok(files)
    }

    fn sweep(&self) -> Result<(), LayerError> {
        let listing = fs::read_dir(&self.directory).map_err(io_at("reading", &self.directory))?;
        let mut tars = Vec::new();
        let mut parts = Vec::new();
        for entry in listing {
            let entry = entry.map_err(io_at("reading", &self.directory))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match name.rsplit_once('.') {
                _ if name.starts_with(".tmp-") => remove_any(&entry.path())?,
                Some((hex, "tar")) => tars.extend(digest(hex)),
                Some((hex, "erofs" | "tree")) => {
                    parts.extend(digest(hex).map(|digest| (digest, entry.path())));
                }
                _ => {
                    tracing::warn!(path = %entry.path().display(), "unknown file among the layers")
                }
            }
        }
        for digest in tars {
            match self.read_or_rebuild(&digest) {
                Ok(summary) => {
                    self.known().insert(digest, summary);
                }
                Err(error) => {
                    tracing::warn!(layer = %digest, error = %error, "removing a damaged layer");
                    self.unlink(&digest)?;
                }
            }
        }
        for (digest, path) in parts {
            if !self.known().contains_key(&digest) {
                remove_any(&path)?;
            }
        }
        Ok(())
    }

    fn read_or_rebuild(&self, digest: &Digest) -> Result<IndexSummary, LayerError> {
        let path = self.index(digest);
        let tar = self.tar(digest);
        let length = fs::metadata(&tar).map_err(io_at("reading", &tar))?.len();
        let mut head = Vec::with_capacity(SUMMARY_BYTES);
        if let Ok(index) = File::open(&path) {
            let index_bytes = index.metadata().map_err(io_at("reading", &path))?.len();
            index
                .take(SUMMARY_BYTES as u64)
                .read_to_end(&mut head)
                .map_err(io_at("reading", &path))?;
            if let Some(summary) = read_summary(&head)
                && summary.diff_id == *digest
                && summary.tar_bytes == length
                && summary.index_bytes == index_bytes
            {
                return Ok(summary);
            }
        }
        let (tree, found) = self.read_tree(digest)?;
        if found != *digest {
            return Err(LayerError::Mismatch {
                wanted: digest.clone(),
                found,
            });
        }
        let (summary, temporary) = self.write_index(&tree, digest, length)?;
        temporary.commit(&path)?;
        Ok(summary)
    }

    /// Parses a stored tar again: its tree and its digest.
    pub(super) fn read_tree(&self, digest: &Digest) -> Result<(Tree, Digest), LayerError> {
        let path = self.tar(digest);
        let mut file = File::open(&path).map_err(io_at("opening", &path))?;
        let mut parser = Parser::new();
        let mut tree = Tree::new();
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = file.read(&mut buffer).map_err(io_at("reading", &path))?;
            if read == 0 {
                break;
            }
            let mut input = &buffer[..read];
            hasher.update(input);
            while let Some(event) = parser
                .next(&mut input)
                .map_err(|error| LayerError::Invalid(error.to_string()))?
            {
                if let Event::Entry(entry) = event {
                    tree.apply(entry).map_err(LayerError::Invalid)?;
                }
            }
        }
        parser
            .finish()
            .map_err(|error| LayerError::Invalid(error.to_string()))?;
        Ok((tree, Digest::from_sha256(&hasher.finalize().into())))
    }

    /// Writes an index under a temporary name.
    pub(super) fn write_index(
        &self,
        tree: &Tree,
        digest: &Digest,
        tar_bytes: u64,
    ) -> Result<(IndexSummary, Temporary), LayerError> {
        let (temporary, file) = self.temporary_file()?;
        let mut out = io::BufWriter::with_capacity(64 << 10, file);
        let failed = io_at("writing", &temporary.path);
        let summary = write_index(tree, digest, tar_bytes, &mut out).map_err(&failed)?;
        let file = out
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        if self.durable {
            file.sync_data().map_err(&failed)?;
        }
        drop(failed);
        Ok((summary, temporary))
    }

    /// Makes a layer visible: the index's name first, then the tar's.
    pub(super) fn commit(
        &self,
        summary: IndexSummary,
        tar: Temporary,
        index: Temporary,
        tree: Option<Temporary>,
    ) -> Result<(), LayerError> {
        let digest = summary.diff_id.clone();
        // Two writers of one layer: the first one wins, the other's files vanish with their `Temporary`.
        let mut known = self.known();
        if known.contains_key(&digest) {
            return Ok(());
        }
        index.commit(&self.index(&digest))?;
        if let Some(tree) = tree {
            tree.commit(&self.tree(&digest))?;
        }
        tar.commit(&self.tar(&digest))?;
        known.insert(digest, summary);
        drop(known);
        if self.durable {
            File::open(&self.directory)
                .and_then(|directory| directory.sync_all())
                .map_err(io_at("syncing", &self.directory))?;
        }
        Ok(())
    }

    pub(super) fn summary(&self, digest: &Digest) -> Result<IndexSummary, LayerError> {
        let found = self.known().get(digest).cloned();
        found.ok_or_else(|| LayerError::NotFound(digest.clone()))
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.known().contains_key(digest)
    }

    pub(super) fn list(&self) -> Vec<Digest> {
        self.known().keys().cloned().collect()
    }

    /// Removes a layer; the caller made sure that nobody stands on it.
    pub(super) fn remove(&self, digest: &Digest) -> Result<(), LayerError> {
        if self.known().remove(digest).is_none() {
            return Ok(());
        }
        self.unlink(digest)
    }

    fn unlink(&self, digest: &Digest) -> Result<(), LayerError> {
        for path in [self.tar(digest), self.index(digest)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_at("removing", &path)(error));
                }
                _ => {}
            }
        }
        let tree = self.tree(digest);
        let doomed = self.temporary_path();
        match fs::rename(&tree, &doomed) {
            Ok(()) => remove_any(&doomed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_at("removing", &tree)(error)),
        }
    }

    pub(super) fn tar(&self, digest: &Digest) -> PathBuf {
        self.named(digest, "tar")
    }

    pub(super) fn index(&self, digest: &Digest) -> PathBuf {
        self.named(digest, "erofs")
    }

    pub(super) fn tree(&self, digest: &Digest) -> PathBuf {
        self.named(digest, "tree")
    }

    fn named(&self, digest: &Digest, suffix: &str) -> PathBuf {
        self.directory.join(format!("{}.{suffix}", digest.hex()))
    }

    /// A name no other writer of this process uses; older processes' were swept.
    pub(super) fn temporary_path(&self) -> PathBuf {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        self.directory.join(format!(".tmp-{number}"))
    }

    pub(super) fn temporary_file(&self) -> Result<(Temporary, File), LayerError> {
        let path = self.temporary_path();
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(io_at("creating", &path))?;
        Ok((Temporary { path }, file))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Digest, IndexSummary>> {
        self.known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A file or directory that vanishes unless it is committed.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) path: PathBuf,
}

impl Temporary {
    /// Gives it its name.
    pub(super) fn commit(mut self, name: &Path) -> Result<(), LayerError> {
        fs::rename(&self.path, name).map_err(io_at("renaming to", name))?;
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty()
            && let Err(error) = remove_any(&self.path)
        {
            tracing::warn!(error = %error, "a temporary file stays behind until the next start");
        }
    }
}

impl From<&IndexSummary> for LayerRecord {
    fn from(summary: &IndexSummary) -> Self {
        Self {
            diff_id: summary.diff_id.clone(),
            tar_bytes: summary.tar_bytes,
            file_bytes: summary.file_bytes,
        }
    }
}

fn digest(hex: &str) -> Option<Digest> {
    format!("sha256:{hex}").parse().ok()
}

/// Makes a directory that only root may enter.
pub(super) fn make_directory(path: &Path) -> Result<(), LayerError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io_at("creating", path))
}

/// Removes a file or a whole directory, whichever it is; absent is fine.
pub(super) fn remove_any(path: &Path) -> Result<(), LayerError> {
    crate::removal::remove_any(path).map_err(io_at("removing", path))
}

/// Wraps an I/O error with what was done to what.
pub(super) fn io_at(action: &'static str, path: &Path) -> impl Fn(io::Error) -> LayerError + use<> {
    let path = path.to_owned();
    move |source| LayerError::Io {
        action,
        path: path.clone(),
        source,
    }
}
