//! `RUN --mount=type=cache`: directories that stay from build to build.
//!
//! ```text
//! <root>/<digest of the id>/      shared, locked; private while nobody else has it
//! <root>/<digest of the id>-2/    private, while another has the first
//! ```
//!
//! An id is never a path: what it contains cannot lead anywhere.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hoist_image::Snapshotter;
use hoist_image::files::{Root, UnpackOptions, pack, unpack};
use hoist_model::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::dockerfile::{Mount, Sharing};
use crate::solve::key_of;

/// The directories there are.
#[derive(Clone, Debug)]
pub(crate) struct CacheMounts {
    root: PathBuf,
    /// Who uses them: shared ones are read-locked. One entry per directory ever used. Held for single look-ups.
    locks: Arc<Mutex<HashMap<String, Arc<RwLock<()>>>>>,
}

/// What a cache begins with.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    pub(crate) layers: Vec<Digest>,
    /// A directory in them; empty for all.
    pub(crate) source: String,
}

/// A directory that is in use.
#[derive(Debug)]
pub(crate) struct CacheMount {
    pub(crate) path: PathBuf,
    _held: Held,
}

#[derive(Debug)]
enum Held {
    Shared(#[allow(dead_code, reason = "held")] OwnedRwLockReadGuard<()>),
    Alone(#[allow(dead_code, reason = "held")] OwnedRwLockWriteGuard<()>),
}

impl CacheMounts {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            locks: Arc::default(),
        }
    }

    /// The directory of all of them.
    pub(crate) fn root(&self) -> &Path {
        // It is made with the first of them; its parent is the data root.
        match self.root.exists() {
            true => &self.root,
            false => self.root.parent().unwrap_or(&self.root),
        }
    }

    /// The directory of a mount, made if it is not there; waits where it is to be locked and another has it.
    pub(crate) async fn take(
        &self,
        mount: &Mount,
        sharing: Sharing,
        seed: Option<Seed>,
        snapshotter: &dyn Snapshotter,
    ) -> io::Result<CacheMount> {
        let target = mount.target.as_deref().unwrap_or_default();
        let mut id = Sha256::new_with_prefix(mount.id.as_deref().unwrap_or(target));
        if let Some(seed) = &seed {
            // What begins with other files is another cache.
            let layers: Vec<&str> = seed.layers.iter().map(Digest::as_str).collect();
            id.update(format!("\n{}\n{}", layers.join(" "), seed.source));
        }
        let mut name = key_of(id);
        name.truncate(32);
        let (name, held) = match sharing {
            Sharing::Shared => {
                let held = self.lock(&name).read_owned().await;
                (name, Held::Shared(held))
            }
            Sharing::Locked => {
                let held = self.lock(&name).write_owned().await;
                (name, Held::Alone(held))
            }
            Sharing::Private => self.private(&name),
        };
        let path = self.root.join(name);
        if !path.exists() {
            make(&path, mount, seed.as_ref(), snapshotter)?;
        }
        Ok(CacheMount { path, _held: held })
    }

    fn lock(&self, name: &str) -> Arc<RwLock<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(name.to_owned()).or_default().clone()
    }

    /// The first of its directories that nobody has.
    fn private(&self, name: &str) -> (String, Held) {
        let names = (2..).map(|number: u32| format!("{name}-{number}"));
        std::iter::once(name.to_owned())
            .chain(names)
            .find_map(|name| {
                let held = self.lock(&name).try_write_owned().ok()?;
                Some((name, Held::Alone(held)))
            })
            .expect("there are always more numbers")
    }
}

/// Made under another name first: one that is there has its owner and mode.
fn make(
    path: &Path,
    mount: &Mount,
    seed: Option<&Seed>,
    snapshotter: &dyn Snapshotter,
) -> io::Result<()> {
    let fresh = tempfile::Builder::new();
    let parent = path.parent().unwrap_or(path);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)?;
    let fresh = { fresh }.prefix(".new-").tempdir_in(parent)?;
    if let Some(seed) = seed {
        let view = crate::solve::view(snapshotter, &seed.layers).map_err(io::Error::other)?;
        let mut tar = tempfile::tempfile_in(parent)?;
        pack(&view, &format!("{}/.", seed.source), &mut tar).map_err(io::Error::other)?;
        tar.seek(SeekFrom::Start(0))?;
        let root = Root::new(fs::File::open(fresh.path())?.into());
        unpack(&root, "/", tar, UnpackOptions::default()).map_err(io::Error::other)?;
    }
    let mode = mount.mode.unwrap_or(0o755);
    fs::set_permissions(
        fresh.path(),
        std::os::unix::fs::PermissionsExt::from_mode(mode),
    )?;
    chown(
        fresh.path(),
        Some(mount.uid.unwrap_or(0)),
        Some(mount.gid.unwrap_or(0)),
    )?;
    match fs::rename(fresh.path(), path) {
        // Another made it meanwhile.
        Err(_) if path.exists() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            let _ = fresh.keep();
            Ok(())
        }
    }
}
