//! The writable directories of containers.
//!
//! ```text
//! <root>/snapshots/<64 hex>/upper      the container's own changes
//! <root>/snapshots/<64 hex>/work       overlay's scratch
//! <root>/snapshots/<64 hex>/layers.N   symlinks whose targets are diff ids joined by ':', 62 each, bottom first
//! <root>/snapshots/<64 hex>/remapped   of a container that is remapped: a symlink whose target is its root's uid.gid on the host,
//!                                      which its upper's files belong to
//! <root>/snapshots/.tmp-*              being made or removed; swept at open
//! <root>/snapshots/.blank-N            `upper` and `work` made ahead, for a container to come; swept at open
//! ```
//!
//! Layers are listed in symlinks because a symlink is one call and metadata: after a power cut it is whole or absent, as the
//! rename of the directory that holds it, without a sync on the path of every create.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use hoist_model::{ContainerId, Digest, UserMapping};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Uid, chmodat, chownat, mkdirat, readlinkat, renameat, symlinkat,
};

use super::blanks::Blanks;
use super::layer_files::make_directory;
use super::{Doomed, Ids, SnapshotError};
use crate::directory::open_directory;
use crate::erofs::RootAttributes;

/// 62 digests of 64 digits and their separators fit a symlink's 4095 bytes.
const LAYERS_PER_LINK: usize = 62;

/// The root directory of layers that say nothing of it.
const DEFAULT_ROOT: RootAttributes = RootAttributes {
    mode: 0o755,
    uid: 0,
    gid: 0,
};

/// All containers' directories.
#[derive(Debug)]
pub(super) struct Containers {
    directory: PathBuf,
    fd: OwnedFd,
    /// How many were removed; makes names for what is on its way out.
    removals: AtomicU64,
    /// What is known of each. Short sections only.
    known: Mutex<HashMap<ContainerId, Known>>,
    blanks: Blanks,
}

/// What a container stands on, and whose ids its files are.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) layers: Vec<Digest>,
    pub(super) ids: Ids,
}

/// Marks a container that is remapped.
const REMAPPED: &str = "remapped";

/// The open directories of one container, for a mount.
pub(super) struct OpenDirectories {
    pub(super) upper: OwnedFd,
    pub(super) work: OwnedFd,
}

impl Containers {
    /// Opens the directory, sweeps leftovers, and reads what is prepared.
    pub(super) fn open(root: &Path) -> Result<Self, SnapshotError> {
        let directory = root.join("snapshots");
        make_directory(&directory)?;
        let failed = io_at("reading", &directory);
        let fd = open_directory(CWD, &directory).map_err(&failed)?;
        crate::scatter(&fd);
        let mut known = HashMap::new();
        for entry in fs::read_dir(&directory).map_err(&failed)? {
            let entry = entry.map_err(&failed)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if let Ok(key) = name.parse::<ContainerId>() {
                let path = entry.path();
                let ids = match fs::symlink_metadata(path.join(REMAPPED)) {
                    Ok(_) => Ids::Remapped,
                    Err(_) => Ids::Host,
                };
                let layers = read_layers(&path)?;
                known.insert(key, Known { layers, ids });
            } else if [".tmp-", ".gone-", Blanks::PREFIX]
                .iter()
                .any(|p| name.starts_with(p))
            {
                super::layer_files::remove_any(&entry.path())?;
            } else {
                tracing::warn!(path = %entry.path().display(), "unknown file among the snapshots");
            }
        }
        drop(failed);
        Ok(Self {
            directory,
            fd,
            removals: AtomicU64::new(0),
            known: Mutex::new(known),
            blanks: Blanks::default(),
        })
    }

    /// Makes a few blank directories for containers to come, as far as there are fewer.
    pub(super) fn make_ready(&self) -> Result<(), SnapshotError> {
        self.blanks
            .fill(|name| make_blank(&self.fd, name))
            .map_err(io_at("making directories ahead in", &self.directory))
    }

    /// Makes a container's directories. `root` is what the layers say of the root directory, with the mapping of one that is
    /// remapped.
    pub(super) fn prepare(
        &self,
        key: &ContainerId,
        layers: &[Digest],
        root: Option<RootAttributes>,
        mapping: Option<&UserMapping>,
    ) -> Result<(), SnapshotError> {
        let root = root.unwrap_or(DEFAULT_ROOT);
        let owner = match mapping {
            Some(mapping) => {
                let owner = mapping.to_host((root.uid, root.gid));
                let why =
                    "the owner of the image's root directory is outside the range of mapped ids";
                owner.ok_or_else(|| SnapshotError::Mapping {
                    key: key.clone(),
                    why,
                })?
            }
            None => (root.uid, root.gid),
        };
        let (temporary, made) = match self.blanks.take() {
            Some(blank) => (blank, Ok(())),
            None => {
                let temporary = format!(".tmp-{}", key.as_str());
                let made = make_blank(&self.fd, &temporary);
                (temporary, made)
            }
        };
        let result = made
            .and_then(|()| fit(&self.fd, &temporary, layers, (owner, root.mode)))
            .and_then(|()| mark(&self.fd, &temporary, mapping))
            .and_then(|()| Ok(renameat(&self.fd, &temporary, &self.fd, key.as_str())?));
        if let Err(source) = result {
            if let Err(error) = crate::removal::remove_any(&self.directory.join(&temporary)) {
                tracing::warn!(container = %key, error = %error, "a temporary directory stays behind");
            }
            return Err(io_at("preparing", &self.path(key))(source));
        }
        Ok(())
    }

    /// Notes that `key` stands on `layers`; fails when it is noted already.
    pub(super) fn claim(
        &self,
        key: &ContainerId,
        layers: &[Digest],
        ids: Ids,
    ) -> Result<(), SnapshotError> {
        let mut known = self.known();
        if known.contains_key(key) {
            return Err(SnapshotError::Exists(key.clone()));
        }
        let layers = layers.to_vec();
        known.insert(key.clone(), Known { layers, ids });
        Ok(())
    }

    /// Takes the note back.
    pub(super) fn release(&self, key: &ContainerId) {
        self.known().remove(key);
    }

    /// What a container stands on.
    pub(super) fn of(&self, key: &ContainerId) -> Result<Known, SnapshotError> {
        let found = self.known().get(key).cloned();
        found.ok_or_else(|| SnapshotError::NotPrepared(key.clone()))
    }

    /// Some container that stands on a layer.
    pub(super) fn user_of(&self, layer: &Digest) -> Option<ContainerId> {
        let known = self.known();
        let mut users = known
            .iter()
            .filter(|(_, known)| known.layers.contains(layer));
        users.next().map(|(key, _)| key.clone())
    }

    pub(super) fn open_directories(
        &self,
        key: &ContainerId,
    ) -> Result<OpenDirectories, SnapshotError> {
        let open = |name: &str| {
            let path = format!("{}/{name}", key.as_str());
            open_directory(&self.fd, &*path).map_err(io_at("opening", &self.directory.join(path)))
        };
        Ok(OpenDirectories {
            upper: open("upper")?,
            work: open("work")?,
        })
    }

    /// A container's upper directory, open for reading.
    pub(super) fn open_upper(&self, key: &ContainerId) -> Result<OwnedFd, SnapshotError> {
        openat_relative(&self.fd, key).map_err(io_at("opening", &self.path(key)))
    }

    /// Removes the mark that an earlier volatile mount left, which keeps overlay from mounting these directories again: what
    /// was lost in a crash is lost for nobody.
    pub(super) fn forget_volatile(&self, key: &ContainerId) -> Result<(), SnapshotError> {
        let mark = self.path(key).join("work/work/incompat");
        crate::removal::remove_any(&mark).map_err(io_at("removing", &mark))
    }

    /// Takes a container's directories away by name; the files go with what is returned.
    pub(super) fn remove(&self, key: &ContainerId) -> Result<Doomed, SnapshotError> {
        let number = self.removals.fetch_add(1, Ordering::Relaxed);
        let doomed = format!(".gone-{number}");
        let renamed = renameat(&self.fd, key.as_str(), &self.fd, &doomed);
        self.release(key);
        match renamed {
            Ok(()) => Ok(Doomed::at(self.directory.join(doomed))),
            Err(rustix::io::Errno::NOENT) => Ok(Doomed::nothing()),
            Err(error) => Err(io_at("removing", &self.path(key))(error.into())),
        }
    }

    pub(super) fn path(&self, key: &ContainerId) -> PathBuf {
        self.directory.join(key.as_str())
    }

    pub(super) fn list(&self) -> Vec<ContainerId> {
        self.known().keys().cloned().collect()
    }

    /// Bytes allocated under a container's upper directory, each inode once.
    pub(super) fn usage(&self, key: &ContainerId) -> Result<u64, SnapshotError> {
        let top = self.open_upper(key)?;
        crate::files::measure(top).map_err(io_at("measuring", &self.path(key)))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ContainerId, Known>> {
        self.known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Makes a directory with `upper`, `work` and the links that name the layers.
pub(super) fn make_directories(
    parent: &OwnedFd,
    name: &str,
    layers: &[Digest],
    root: Option<RootAttributes>,
) -> io::Result<()> {
    make_blank(parent, name)?;
    let root = root.unwrap_or(DEFAULT_ROOT);
    fit(parent, name, layers, ((root.uid, root.gid), root.mode))
}

/// Marks the directory of a container that is remapped.
fn mark(parent: &OwnedFd, name: &str, mapping: Option<&UserMapping>) -> io::Result<()> {
    if let Some(mapping) = mapping {
        let (uid, gid) = mapping.root();
        symlinkat(format!("{uid}.{gid}"), parent, format!("{name}/{REMAPPED}"))?;
    }
    Ok(())
}

/// What every container's directory holds before it is any container's.
fn make_blank(parent: &OwnedFd, name: &str) -> io::Result<()> {
    mkdirat(parent, name, Mode::RWXU)?;
    let at = open_directory(parent, name)?;
    mkdirat(&at, "upper", Mode::RWXU)?;
    mkdirat(&at, "work", Mode::RWXU)?;
    // Whatever the umask of this process is.
    let mode = Mode::from_raw_mode(DEFAULT_ROOT.mode.into());
    Ok(chmodat(&at, "upper", mode, AtFlags::empty())?)
}

/// Gives a blank directory the links that name its layers, and their root directory's owner and mode.
fn fit(
    parent: &OwnedFd,
    name: &str,
    layers: &[Digest],
    (owner, mode): ((u32, u32), u16),
) -> io::Result<()> {
    let at = open_directory(parent, name)?;
    for (number, part) in layers.chunks(LAYERS_PER_LINK).enumerate() {
        let text: Vec<&str> = part.iter().map(Digest::hex).collect();
        symlinkat(text.join(":"), &at, format!("layers.{number}"))?;
    }
    if owner != (DEFAULT_ROOT.uid, DEFAULT_ROOT.gid) {
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        chownat(&at, "upper", Some(uid), Some(gid), AtFlags::empty())?;
    }
    if mode != DEFAULT_ROOT.mode {
        let mode = Mode::from_raw_mode(mode.into());
        chmodat(&at, "upper", mode, AtFlags::empty())?;
    }
    Ok(())
}

fn openat_relative(at: &OwnedFd, key: &ContainerId) -> io::Result<OwnedFd> {
    open_directory(at, format!("{}/upper", key.as_str()))
}

/// The layers that the links in a directory name.
pub(crate) fn read_layers(container: &Path) -> Result<Vec<Digest>, SnapshotError> {
    let failed = io_at("reading the layers of", container);
    let at = open_directory(CWD, container).map_err(&failed)?;
    let mut layers = Vec::new();
    for number in 0.. {
        let text = match readlinkat(&at, format!("layers.{number}"), Vec::new()) {
            Ok(text) => text,
            Err(rustix::io::Errno::NOENT) => break,
            Err(error) => return Err(failed(error.into())),
        };
        for hex in text.to_string_lossy().split(':') {
            let digest = format!("sha256:{hex}").parse();
            layers.push(digest.map_err(|error| failed(io::Error::other(error)))?);
        }
    }
    Ok(layers)
}

/// Wraps an I/O error with what was done to what.
pub(super) fn io_at(
    action: &'static str,
    path: &Path,
) -> impl Fn(io::Error) -> SnapshotError + use<> {
    let path = path.to_owned();
    move |source| SnapshotError::Io {
        action,
        path: path.clone(),
        source,
    }
}
