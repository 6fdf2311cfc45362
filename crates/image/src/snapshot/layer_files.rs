//! The files of the layers, and which layers are here.
//!
//! ```text
//! <root>/layers/<64 hex>.erofs    the index; written and renamed before the tar
//! <root>/layers/<64 hex>.tar      the uncompressed tar; its name is the layer's commit
//! <root>/layers/<64 hex>.tree/    its files, where directories serve as lowers
//! <root>/layers/.tmp-*            being written or removed; swept at open
//! ```

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use hoist_model::Digest;

use super::{Doomed, LayerError, LayerRecord};
use crate::erofs::{IndexSummary, SUMMARY_BYTES, read_summary, write_index};
use crate::sha256::Sha256;
use crate::tar::{Event, Parser};
use crate::tree::Tree;

/// The directory of layers and what is known of each.
#[derive(Debug)]
pub(crate) struct LayerFiles {
    directory: PathBuf,
    /// Whether commits are synced; a probe's are not.
    pub(super) durable: bool,
    /// What is here. Short sections only: lookups, and one insert or remove per layer.
    known: Mutex<HashMap<Digest, IndexSummary>>,
    /// Those whose tar is not what its name says, to be replaced by the next that is. Locked after `known`, never before.
    damaged: Mutex<HashSet<Digest>>,
    /// Those that were replaced or rebuilt since somebody asked. Locked after the others.
    renewed: Mutex<Vec<Digest>>,
    temporaries: AtomicU64,
}

impl LayerFiles {
    /// Opens the directory, sweeps leftovers, and reads which layers are here.
    pub(super) fn open(root: &Path, durable: bool) -> Result<Self, LayerError> {
        let mut files = Self::unopened(root);
        files.durable = durable;
        make_directory(&files.directory)?;
        files.sweep()?;
        Ok(files)
    }

    /// For who only reads: touches nothing and knows of no layer.
    pub(crate) fn unopened(root: &Path) -> Self {
        Self {
            directory: root.join("layers"),
            durable: false,
            known: Mutex::default(),
            damaged: Mutex::default(),
            renewed: Mutex::default(),
            temporaries: AtomicU64::new(0),
        }
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
                    // It stays: what containers need of it may be good, and whoever has it whole replaces it.
                    tracing::error!(layer = %digest, %error, "a layer is damaged: hoist fsck tells more");
                    self.damaged().insert(digest);
                }
            }
        }
        for (digest, path) in parts {
            if !self.known().contains_key(&digest) && !self.damaged().contains(&digest) {
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
        let (summary, index, _) = self.index_again(digest, length)?;
        index.commit(&path)?;
        Ok(summary)
    }

    /// Makes a layer's index from its tar again, which is checked.
    fn index_again(
        &self,
        digest: &Digest,
        tar_bytes: u64,
    ) -> Result<(IndexSummary, Temporary, Tree), LayerError> {
        let (tree, found) = self.read_tree(digest)?;
        if found != *digest {
            let wanted = digest.clone();
            return Err(LayerError::Mismatch { wanted, found });
        }
        let (summary, index) = self.write_index(&tree, digest, tar_bytes)?;
        Ok((summary, index, tree))
    }

    /// Makes what stands beside a layer's tar anew from it; `extract` gives its files, if any are wanted.
    pub(super) fn rebuild(
        &self,
        digest: &Digest,
        extract: impl FnOnce(&Tree, &File) -> Result<Option<Temporary>, LayerError>,
    ) -> Result<(), LayerError> {
        let path = self.tar(digest);
        let tar = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LayerError::NotFound(digest.clone()));
            }
            opened => opened.map_err(io_at("opening", &path))?,
        };
        let length = tar.metadata().map_err(io_at("reading", &path))?.len();
        let (summary, index, tree) = self.index_again(digest, length)?;
        let files = extract(&tree, &tar)?;
        let mut known = self.known();
        index.commit(&self.index(digest))?;
        self.replace_tree(digest, files, &tree, &tar)?;
        known.insert(digest.clone(), summary);
        self.damaged().remove(digest);
        self.renewed().push(digest.clone());
        drop(known);
        self.sync()
    }

    /// Gives extracted files their name, unless those that have it are as good: containers may run on them. Others go.
    fn replace_tree(
        &self,
        digest: &Digest,
        files: Option<Temporary>,
        tree: &Tree,
        tar: &File,
    ) -> Result<(), LayerError> {
        let path = self.tree(digest);
        let same = crate::fsck::compare(tree, tar, &path);
        if same.map_err(io_at("reading", &path))? == Some(None) {
            return Ok(());
        }
        let doomed = Temporary {
            path: self.temporary_path(),
        };
        match fs::rename(&path, &doomed.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_at("replacing", &path)(error));
            }
            _ => {}
        }
        files.map_or(Ok(()), |files| files.commit(&path))
    }

    fn sync(&self) -> Result<(), LayerError> {
        if !self.durable {
            return Ok(());
        }
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(io_at("syncing", &self.directory))
    }

    /// Parses a stored tar again: its tree and its digest.
    pub(crate) fn read_tree(&self, digest: &Digest) -> Result<(Tree, Digest), LayerError> {
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
        Ok((tree, hasher.finish()))
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
        files: Option<Temporary>,
        (tree, file): (&Tree, &File),
    ) -> Result<(), LayerError> {
        let digest = summary.diff_id.clone();
        // Two writers of one layer: the first one wins, the other's files vanish with their `Temporary`.
        let mut known = self.known();
        let damaged = self.damaged().contains(&digest);
        if known.contains_key(&digest) && !damaged {
            return Ok(());
        }
        // Of a damaged one the index is replaced first, too: beside the old tar it is as good as the old one.
        index.commit(&self.index(&digest))?;
        match files {
            files if damaged => self.replace_tree(&digest, files, tree, file)?,
            Some(files) => files.commit(&self.tree(&digest))?,
            None => {}
        }
        tar.commit(&self.tar(&digest))?;
        if damaged {
            self.damaged().remove(&digest);
            self.renewed().push(digest.clone());
        }
        known.insert(digest, summary);
        drop(known);
        self.sync()
    }

    pub(super) fn summary(&self, digest: &Digest) -> Result<IndexSummary, LayerError> {
        let known = self.known();
        match known.get(digest) {
            Some(summary) => Ok(summary.clone()),
            None if self.damaged().contains(digest) => Err(LayerError::Damaged(digest.clone())),
            None => Err(LayerError::NotFound(digest.clone())),
        }
    }

    /// What a writer need not write again.
    pub(super) fn good(&self, digest: &Digest) -> Option<IndexSummary> {
        let known = self.known();
        let summary = known.get(digest)?;
        (!self.damaged().contains(digest)).then(|| summary.clone())
    }

    /// No longer takes a layer for good: it serves whom it serves until it is replaced.
    pub(super) fn distrust(&self, digest: &Digest) {
        let known = self.known();
        if known.contains_key(digest) {
            self.damaged().insert(digest.clone());
        }
    }

    pub(super) fn list_damaged(&self) -> Vec<Digest> {
        self.damaged().iter().cloned().collect()
    }

    /// Those that were replaced since the last call.
    pub(super) fn take_renewed(&self) -> Vec<Digest> {
        std::mem::take(&mut *self.renewed())
    }

    pub(super) fn list(&self) -> Vec<Digest> {
        self.known().keys().cloned().collect()
    }

    /// Bytes allocated by the files of a layer.
    pub(super) fn disk_bytes(&self, digest: &Digest) -> Result<u64, LayerError> {
        let mut bytes = 0;
        for path in [self.tar(digest), self.index(digest), self.tree(digest)] {
            bytes += match crate::files::allocated(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                found => found.map_err(io_at("measuring", &path))?,
            };
        }
        Ok(bytes)
    }

    /// Takes a layer's names away; the caller made sure that nobody stands on it. Its files go with what is returned.
    pub(super) fn remove(&self, digest: &Digest) -> Result<Doomed, LayerError> {
        let known = self.known().remove(digest).is_some();
        let damaged = self.damaged().remove(digest);
        let mut doomed = Doomed::nothing();
        if !known && !damaged {
            return Ok(doomed);
        }
        // The tar first: without it the others are parts of nothing, and swept.
        for path in [self.tar(digest), self.index(digest), self.tree(digest)] {
            let gone = self.temporary_path();
            match fs::rename(&path, &gone) {
                Ok(()) => doomed.and(gone),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_at("removing", &path)(error)),
            }
        }
        Ok(doomed)
    }

    pub(crate) fn tar(&self, digest: &Digest) -> PathBuf {
        self.named(digest, "tar")
    }

    pub(crate) fn index(&self, digest: &Digest) -> PathBuf {
        self.named(digest, "erofs")
    }

    pub(crate) fn tree(&self, digest: &Digest) -> PathBuf {
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
        lock(&self.known)
    }

    fn damaged(&self) -> MutexGuard<'_, HashSet<Digest>> {
        lock(&self.damaged)
    }

    fn renewed(&self) -> MutexGuard<'_, Vec<Digest>> {
        lock(&self.renewed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
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
