//! The group of zygote and monitors: outside of the engine's own, so that a service manager which ends everything in the
//! engine's group leaves alone what carries running containers; and outside of the containers' limits.
//!
//! Only in the hierarchies that service managers follow: the unified one and systemd's named one of v1.

use std::os::fd::OwnedFd;

use super::directory::Directory;
use super::hierarchies::Hierarchies;
use super::{CgroupError, Cgroups};

/// Below the engine's parent group; containers' names are ids.
const NAME: &str = "monitors";

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

    /// Makes room for the removal of a parent group: what is still among the monitors, when no container is left, is about
    /// to end and does so in the root group.
    pub(super) fn dissolve_monitors(root: &Directory, parent: &str) {
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
