//! The group of zygote and monitors: outside of the engine's own, so that a service manager which ends everything in the
//! engine's group leaves alone what carries running containers; and outside of the containers' limits.
//!
//! Only in the hierarchies that service managers follow: the unified one and systemd's named one of v1.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::directory::Directory;
use super::hierarchies::Hierarchies;
use super::{CgroupError, Cgroups};

/// Below the engine's parent group; containers' names are ids.
const NAME: &str = "monitors";
/// Between tries to remove a busy group; each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(512);

impl Cgroups {
    /// Makes the group, and opens its way in: a process whose id is written to each of these is in it, and so are its
    /// children. Blocking; once per engine.
    pub fn monitors(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        let parents = self.hierarchies.followed_parents()?;
        let seats = parents
            .iter()
            .map(|parent| parent.ensure_child(NAME)?.open_for_writing("cgroup.procs"));
        seats.collect()
    }
}

impl Hierarchies {
    /// Moves a process from the parent group, which has to be there, to the monitors.
    pub(super) fn seat(root: &Directory, parent: &str, process: u32) -> Result<(), CgroupError> {
        let group = root.child(parent)?;
        let group = group.ok_or_else(|| CgroupError::NotFound(parent.to_owned()))?;
        let seats = group.ensure_child(NAME)?;
        seats.write("cgroup.procs", &process.to_string())
    }

    /// Removes a parent group and the monitors' in it, when no container is left. A process that is dying can neither be moved
    /// away nor is it gone, so a busy group is tried again for a while.
    pub(super) fn remove_with_monitors(root: &Directory, parent: &str) -> Result<(), CgroupError> {
        let mut pause = FIRST_PAUSE;
        loop {
            Self::dissolve_monitors(root, parent);
            match root.remove_child(parent) {
                Err(error) if error.is_busy() && pause <= LAST_PAUSE => std::thread::sleep(pause),
                result => return result,
            }
            pause *= 2;
        }
    }

    /// Makes room for the removal of a parent group: what is still among the monitors is about to end and does so in the root
    /// group.
    fn dissolve_monitors(root: &Directory, parent: &str) {
        let group = match root.child(&format!("{parent}/{NAME}")) {
            Ok(Some(group)) => group,
            Ok(None) | Err(_) => return,
        };
        for pid in group.procs().unwrap_or_default() {
            if let Err(error) = root.write("cgroup.procs", &pid.to_string()) {
                tracing::debug!(pid, %error, "a monitor stays in its group");
            }
        }
    }
}
