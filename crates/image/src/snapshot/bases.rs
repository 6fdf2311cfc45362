//! What every container's root has to have, made once per stack of layers and shared by its containers.
//!
//! A root needs mount points (`/proc`, `/dev`, `/etc/hosts`, …) that images need not bring. Docker makes them in a layer of each
//! container's own; here one such layer stands on each stack of image layers, as the topmost lower of every container on that
//! stack. A start makes no file for them, a removal deletes none, and they are no change of the container's.
//!
//! ```text
//! <root>/bases/<64 hex>/upper      the mount points that the layers lack; the name is the SHA-256 of the diff ids joined by ':'
//! <root>/bases/<64 hex>/layers.N   the layers it stands on, as in snapshots/
//! <root>/bases/.tmp-*              being made or removed; swept at open
//! ```

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use hoist_model::Digest;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2, renameat, statat,
    symlinkat,
};
use rustix::io::Errno;

use super::SnapshotError;
use super::containers::{io_at, make_directories, read_layers};
use super::layer_files::{make_directory, remove_any};
use super::overlay::Writable;
use crate::directory::open_directory;
use crate::erofs::RootAttributes;
use crate::sha256::Sha256;

/// One thing a root has to have, unless something of that name is there.
enum Place {
    Directory(&'static str),
    File(&'static str),
    Link(&'static str, &'static str),
}

/// Docker's own set (the init layer of its engine), with its modes.
const PLACES: &[Place] = &[
    Place::Directory("dev"),
    Place::Directory("dev/pts"),
    Place::Directory("dev/shm"),
    Place::Directory("proc"),
    Place::Directory("sys"),
    Place::Directory("etc"),
    Place::File("dev/console"),
    Place::File("etc/hostname"),
    Place::File("etc/hosts"),
    Place::File("etc/resolv.conf"),
    Place::File(".dockerenv"),
    Place::Link("etc/mtab", "/proc/mounts"),
];

/// The mode of everything made here.
const MODE: Mode = Mode::from_raw_mode(0o755);

/// All bases.
#[derive(Debug)]
pub(super) struct Bases {
    directory: PathBuf,
    fd: OwnedFd,
    /// What is here and what it stands on. Held while one is made, so that each is made once.
    known: Mutex<HashMap<String, Vec<Digest>>>,
    temporaries: AtomicU64,
}

impl Bases {
    /// Opens the directory, sweeps leftovers, and reads what is here.
    pub(super) fn open(root: &Path) -> Result<Self, SnapshotError> {
        let directory = root.join("bases");
        make_directory(&directory)?;
        let failed = io_at("reading", &directory);
        let fd = open_directory(CWD, &directory).map_err(&failed)?;
        let mut known = HashMap::new();
        for entry in fs::read_dir(&directory).map_err(&failed)? {
            let entry = entry.map_err(&failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let layers = read_layers(&entry.path());
            match layers {
                Ok(layers) if name_of(&layers) == name => drop(known.insert(name, layers)),
                // Half made, or written by something else: the next container makes it anew.
                _ => remove_any(&entry.path())?,
            }
        }
        drop(failed);
        Ok(Self {
            directory,
            fd,
            known: Mutex::new(known),
            temporaries: AtomicU64::new(0),
        })
    }

    /// The base of a stack, made if it is not there: then `root` says what the layers say of the root directory, and `mount` stacks the layers under a writable side.
    pub(super) fn of(
        &self,
        layers: &[Digest],
        root: impl FnOnce() -> Result<Option<RootAttributes>, SnapshotError>,
        mount: impl FnOnce(Writable<'_>) -> Result<OwnedFd, SnapshotError>,
    ) -> Result<OwnedFd, SnapshotError> {
        let name = name_of(layers);
        let mut known = self.known();
        if !known.contains_key(&name) {
            self.make(&name, layers, root()?, mount)?;
            known.insert(name.clone(), layers.to_vec());
        }
        drop(known);
        let path = format!("{name}/upper");
        open_directory(&self.fd, &*path).map_err(io_at("opening", &self.directory.join(path)))
    }

    /// Removes what stands on a layer that goes.
    pub(super) fn remove_on(&self, layer: &Digest) -> Result<(), SnapshotError> {
        let mut known = self.known();
        let doomed: Vec<String> = known
            .iter()
            .filter(|(_, layers)| layers.contains(layer))
            .map(|(name, _)| name.clone())
            .collect();
        for name in doomed {
            known.remove(&name);
            let temporary = self.temporary();
            let path = self.directory.join(&name);
            renameat(&self.fd, &name, &self.fd, &temporary)
                .map_err(|error| io_at("removing", &path)(error.into()))?;
            remove_any(&self.directory.join(temporary))?;
        }
        Ok(())
    }

    fn make(
        &self,
        name: &str,
        layers: &[Digest],
        root: Option<RootAttributes>,
        mount: impl FnOnce(Writable<'_>) -> Result<OwnedFd, SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let temporary = self.temporary();
        let path = self.directory.join(&temporary);
        let failed = io_at("making the mount points in", &path);
        let made = || -> Result<(), SnapshotError> {
            make_directories(&self.fd, &temporary, layers, root).map_err(&failed)?;
            let at = open_directory(&self.fd, &*temporary).map_err(&failed)?;
            let open = |name: &str| open_directory(&at, name).map_err(&failed);
            let (upper, work) = (open("upper")?, open("work")?);
            let mounted = mount(Writable {
                upper: upper.as_fd(),
                work: work.as_fd(),
                volatile: false,
            })?;
            PLACES
                .iter()
                .try_for_each(|place| ensure(mounted.as_fd(), place))
                .map_err(&failed)?;
            drop(mounted);
            drop(work);
            remove_any(&path.join("work"))?;
            renameat(&self.fd, &temporary, &self.fd, name).map_err(|error| failed(error.into()))
        };
        made().inspect_err(|_| {
            if let Err(error) = remove_any(&path) {
                tracing::warn!(error = %error, "a temporary directory stays until the next start");
            }
        })
    }

    fn temporary(&self) -> String {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        format!(".tmp-{number}")
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Vec<Digest>>> {
        self.known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

pub(crate) fn name_of(layers: &[Digest]) -> String {
    let text: Vec<&str> = layers.iter().map(Digest::hex).collect();
    let digest = Sha256::digest(text.join(":"));
    digest.hex().to_owned()
}

/// Makes a place unless its name is taken. Where the image has something odd on the way to it (a file for a directory, a link that leads
/// nowhere) nothing is made: the start, which needs the place, says what is wrong with it.
fn ensure(root: BorrowedFd<'_>, place: &Place) -> io::Result<()> {
    let (Place::Directory(path) | Place::File(path) | Place::Link(path, _)) = *place;
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let parent = match openat2(root, parent, flags, Mode::empty(), resolve) {
        Ok(parent) => parent,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => {}
        Ok(_) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match place {
        Place::Directory(_) => {
            mkdirat(&parent, name, MODE)?;
            fchmod(open_directory(&parent, name)?, MODE)?;
        }
        Place::File(_) => {
            let flags =
                OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fchmod(openat(&parent, name, flags, MODE)?, MODE)?;
        }
        Place::Link(_, target) => symlinkat(*target, &parent, name)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn ensure_all(root: &Path) {
        let fd = open_directory(CWD, root).unwrap();
        for place in PLACES {
            ensure(fd.as_fd(), place).unwrap();
        }
    }

    #[test]
    fn an_empty_root_gets_what_dockers_init_layer_has() {
        let root = tempfile::tempdir().unwrap();
        ensure_all(root.path());
        let mode = |path: &str| {
            let metadata = fs::symlink_metadata(root.path().join(path)).unwrap();
            metadata.permissions().mode() & 0o170_777
        };
        for directory in ["dev/pts", "dev/shm", "proc", "sys", "etc"] {
            assert_eq!(mode(directory), 0o040_755, "{directory}");
        }
        for file in [
            "dev/console",
            "etc/hostname",
            "etc/hosts",
            "etc/resolv.conf",
            ".dockerenv",
        ] {
            assert_eq!(mode(file), 0o100_755, "{file}");
        }
        let mtab = fs::read_link(root.path().join("etc/mtab")).unwrap();
        assert_eq!(mtab, Path::new("/proc/mounts"));
    }

    #[test]
    fn what_an_image_brings_stays_and_nothing_is_made_outside() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        // An absolute link leads below the root, not to the host's directory.
        symlink(outside.path(), root.path().join("etc")).unwrap();
        fs::write(root.path().join("proc"), "a file").unwrap();
        symlink("/nowhere", root.path().join("dev")).unwrap();
        ensure_all(root.path());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert_eq!(
            fs::read_to_string(root.path().join("proc")).unwrap(),
            "a file"
        );
        assert_eq!(
            fs::read_link(root.path().join("dev")).unwrap(),
            Path::new("/nowhere")
        );
        assert!(root.path().join("sys").is_dir());
    }
}
