//! The names under an image root.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hoist_model::{ContainerId, Digest};

use crate::snapshot::{Blanks, base_name, layers_of};

/// Everything that has a name under an image root, nothing of it read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Documents, with their length in bytes.
    pub blobs: BTreeMap<Digest, u64>,
    /// Layers that have a tar, with what they have beside it.
    pub layers: BTreeMap<Digest, LayerParts>,
    /// Writable directories of containers, with the layers that they stand on, bottom first.
    pub snapshots: BTreeMap<ContainerId, Vec<Digest>>,
    /// What else is there.
    pub strays: Vec<Stray>,
}

/// Which files a layer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerParts {
    /// Bytes of the tar.
    pub tar_bytes: u64,
    /// Whether an index is beside it.
    pub index: bool,
    /// Whether it is extracted, too.
    pub tree: bool,
}

/// A file or directory that is no part of anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: StrayKind,
}

/// Why something is no part of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrayKind {
    /// Was being written or removed; while an engine runs it may be still.
    Temporary,
    /// An index or a tree of a layer whose tar is not here.
    Part,
    /// Mount points for layers of which one is not here, or that are not those of its name.
    Base,
    /// Nothing that an engine of this version makes: never touched.
    Unknown,
}

impl Inventory {
    /// Lists what is there. What is removed meanwhile is left out.
    ///
    /// # Errors
    /// The path that could not be read.
    pub fn take(root: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let mut found = Self::default();
        found.blobs(&root.join("blobs/sha256"))?;
        let parts = found.layers(&root.join("layers"))?;
        for (digest, path) in parts {
            let Some(layer) = found.layers.get_mut(&digest) else {
                found.stray(path, StrayKind::Part);
                continue;
            };
            match path.extension().is_some_and(|suffix| suffix == "tree") {
                true => layer.tree = true,
                false => layer.index = true,
            }
        }
        found.snapshots(&root.join("snapshots"))?;
        found.bases(&root.join("bases"))?;
        found.strays.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn blobs(&mut self, directory: &Path) -> Result<(), (PathBuf, io::Error)> {
        for (name, entry) in entries(directory)? {
            match (digest(&name), entry.metadata()) {
                (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
                (_, Err(error)) => return Err((entry.path(), error)),
                (Some(digest), Ok(meta)) if meta.is_file() => {
                    self.blobs.insert(digest, meta.size());
                }
                _ => self.temporary_or_unknown(&name, entry.path()),
            }
        }
        Ok(())
    }

    /// The tars; answers what else has a layer's name.
    fn layers(&mut self, directory: &Path) -> Result<Vec<(Digest, PathBuf)>, (PathBuf, io::Error)> {
        let mut parts = Vec::new();
        for (name, entry) in entries(directory)? {
            let named = name.rsplit_once('.');
            let named = named.and_then(|(hex, suffix)| Some((digest(hex)?, suffix)));
            match named {
                Some((digest, "tar")) => match entry.metadata() {
                    Ok(meta) => {
                        let parts = LayerParts {
                            tar_bytes: meta.size(),
                            ..LayerParts::default()
                        };
                        self.layers.insert(digest, parts);
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err((entry.path(), error)),
                },
                Some((digest, "erofs" | "tree")) => parts.push((digest, entry.path())),
                _ => self.temporary_or_unknown(&name, entry.path()),
            }
        }
        Ok(parts)
    }

    fn snapshots(&mut self, directory: &Path) -> Result<(), (PathBuf, io::Error)> {
        for (name, entry) in entries(directory)? {
            let Ok(key) = name.parse::<ContainerId>() else {
                self.temporary_or_unknown(&name, entry.path());
                continue;
            };
            // One whose links cannot be read stands on nothing that is known.
            let layers = layers_of(&entry.path()).unwrap_or_default();
            if entry.path().exists() {
                self.snapshots.insert(key, layers);
            }
        }
        Ok(())
    }

    fn bases(&mut self, directory: &Path) -> Result<(), (PathBuf, io::Error)> {
        for (name, entry) in entries(directory)? {
            let path = entry.path();
            if name.starts_with('.') {
                self.temporary_or_unknown(&name, path);
                continue;
            }
            let stands = layers_of(&path).is_ok_and(|layers| {
                base_name(&layers) == name && layers.iter().all(|l| self.layers.contains_key(l))
            });
            if !stands && path.exists() {
                self.stray(path, StrayKind::Base);
            }
        }
        Ok(())
    }

    fn temporary_or_unknown(&mut self, name: &str, path: PathBuf) {
        // Made ahead for what is to come: part of every engine that was ended.
        if name.starts_with(Blanks::PREFIX) {
            return;
        }
        let temporary = [".tmp-", ".gone-"];
        let temporary = temporary.iter().any(|prefix| name.starts_with(prefix));
        self.stray(
            path,
            if temporary {
                StrayKind::Temporary
            } else {
                StrayKind::Unknown
            },
        );
    }

    fn stray(&mut self, path: PathBuf, kind: StrayKind) {
        self.strays.push(Stray { path, kind });
    }
}

fn digest(hex: &str) -> Option<Digest> {
    format!("sha256:{hex}").parse().ok()
}

/// What is in a directory; nothing where there is none.
fn entries(directory: &Path) -> Result<Vec<(String, DirEntry)>, (PathBuf, io::Error)> {
    let failed = |error| (directory.to_owned(), error);
    let listing = match fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let named = |entry: io::Result<DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name().to_string_lossy().into_owned(), entry))
    };
    listing
        .map(named)
        .collect::<io::Result<_>>()
        .map_err(failed)
}
