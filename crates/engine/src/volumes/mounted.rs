//! Volumes with driver options while somebody uses them: mounted on their directory with the first use, taken down after
//! the last, as Docker's local driver does. The mount is in the host's table, so it outlives an engine with the containers.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::Volumes;
use super::driver::{DriverOptions, is_mounted};
use crate::error::VolumeError;
use crate::records::{ContainerRecord, MountKind, VolumeRecord};

/// Who uses what. The outer lock is for finding the inner one; the inner one is held while a volume is mounted or taken
/// down, so that neither happens twice at once.
#[derive(Debug, Default)]
pub(super) struct Uses {
    volumes: Mutex<HashMap<String, Arc<Mutex<HashSet<u64>>>>>,
    next: AtomicU64,
}

/// One use of one volume; given back with [`Volumes::release`]. Dropped without, the volume stays mounted, which is right
/// when the engine ends and its containers do not.
#[derive(Debug)]
#[must_use]
pub(crate) struct VolumeUse {
    name: String,
    token: u64,
}

impl Uses {
    fn of(&self, name: &str) -> Arc<Mutex<HashSet<u64>>> {
        let mut volumes = locked(&self.volumes);
        volumes.entry(name.to_owned()).or_default().clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Volumes {
    /// Sees to it that every volume of a container is mounted; what was taken before a failure is in `uses`, too.
    /// Blocking.
    pub(crate) fn acquire(
        &self,
        record: &ContainerRecord,
        uses: &mut Vec<VolumeUse>,
    ) -> Result<(), VolumeError> {
        for volume in self.mountable(record) {
            uses.push(self.mount(&volume)?);
        }
        Ok(())
    }

    /// As [`Volumes::acquire`], of a container that runs since an earlier engine: what it uses is mounted.
    pub(crate) fn note(&self, record: &ContainerRecord) -> Vec<VolumeUse> {
        let volumes = self.mountable(record).into_iter();
        volumes.map(|volume| self.used(&volume.name)).collect()
    }

    fn used(&self, name: &str) -> VolumeUse {
        let token = self.uses.next.fetch_add(1, Ordering::Relaxed);
        locked(&self.uses.of(name)).insert(token);
        VolumeUse {
            name: name.to_owned(),
            token,
        }
    }

    fn mount(&self, volume: &VolumeRecord) -> Result<VolumeUse, VolumeError> {
        let target = self.mountpoint(&volume.name);
        let failed = |text: String| {
            VolumeError::Mount(format!(
                "error while mounting volume '{}': {text}",
                target.display()
            ))
        };
        let token = self.uses.next.fetch_add(1, Ordering::Relaxed);
        let users = self.uses.of(&volume.name);
        let mut users = locked(&users);
        if users.is_empty()
            && let Some(options) = DriverOptions::parse(&volume.options).map_err(failed)?
            && !is_mounted(&target).map_err(|error| failed(error.to_string()))?
        {
            options.mount(&target, &*self.resolve).map_err(failed)?;
        }
        users.insert(token);
        Ok(VolumeUse {
            name: volume.name.clone(),
            token,
        })
    }

    /// Gives uses back; what nobody uses any more is taken down. Blocking.
    pub(crate) fn release(&self, uses: Vec<VolumeUse>) {
        for VolumeUse { name, token } in uses {
            let users = self.uses.of(&name);
            let mut users = locked(&users);
            users.remove(&token);
            if users.is_empty() {
                self.take_down(&name);
            }
        }
    }

    /// Takes down what is mounted of volumes that nobody uses: an earlier engine did not come to it. Blocking.
    pub(crate) fn sweep(&self) {
        for volume in self.list().iter().filter(|volume| needs_mount(volume)) {
            let users = self.uses.of(&volume.name);
            let users = locked(&users);
            if users.is_empty() {
                self.take_down(&volume.name);
            }
        }
    }

    /// Takes down what is mounted of a volume that goes, and fails if something stays: its files are not ours to delete.
    pub(super) fn clear(&self, name: &str) -> std::io::Result<()> {
        let users = self.uses.of(name);
        let users = locked(&users);
        if users.is_empty() {
            self.take_down(name);
        }
        let directory = self.mountpoint(name);
        match is_mounted(&directory) {
            Ok(true) => Err(std::io::Error::other(format!(
                "{} is still mounted",
                directory.display()
            ))),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn take_down(&self, name: &str) {
        let target = self.mountpoint(name);
        // More than once, if somebody mounted over it.
        while matches!(is_mounted(&target), Ok(true)) {
            if let Err(error) = unmounted(&target) {
                tracing::warn!(volume = name, %error, "a volume stays mounted");
                return;
            }
        }
    }

    /// The volumes of a container that are more than a directory.
    fn mountable(&self, record: &ContainerRecord) -> Vec<Arc<VolumeRecord>> {
        let names: HashSet<&str> = record
            .mounts
            .iter()
            .filter(|point| point.kind == MountKind::Volume)
            .map(|point| point.name.as_str())
            .collect();
        let volumes = names.into_iter().filter_map(|name| self.get(name).ok());
        volumes.filter(|volume| needs_mount(volume)).collect()
    }
}

fn needs_mount(volume: &VolumeRecord) -> bool {
    matches!(DriverOptions::parse(&volume.options), Ok(Some(_)))
}

/// At once; where somebody on the host has a file open, when they let go.
fn unmounted(target: &Path) -> std::io::Result<()> {
    match unmount(target, UnmountFlags::NOFOLLOW) {
        Err(Errno::BUSY) => {
            let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
            Ok(unmount(target, flags)?)
        }
        result => Ok(result?),
    }
}
