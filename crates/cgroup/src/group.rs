//! One container's groups once they exist: joined, limited, frozen, killed, looked at.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use hoist_model::container::{CgroupStats, Resources};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::apply::{self, errno_of};
use super::directory::Directory;
use super::hierarchies::Hierarchies;
use super::layout::Controller;
use super::{CgroupError, CgroupHandle, JOIN, stats};

/// How long freezing may take before it is undone.
const FREEZE_STEPS: u32 = 2_000;
/// Between two looks at the freezer's state.
const FREEZE_STEP: Duration = Duration::from_millis(1);
/// How often a v1 group is killed anew while processes keep appearing.
const KILL_ROUNDS: u32 = 100;

/// The control groups of one container, by name: no directory is held open, and they need not exist.
#[derive(Clone, Debug)]
pub struct Group {
    pub(super) hierarchies: Arc<Hierarchies>,
    pub(super) name: String,
    pub(super) parent: String,
    /// Where it is a scope of systemd's: the slice that `parent` is the path of.
    pub(super) slice: Option<String>,
}

impl Group {
    pub(super) fn new(hierarchies: Arc<Hierarchies>, name: &str, parent: &str) -> Self {
        Self {
            hierarchies,
            name: name.to_owned(),
            parent: parent.to_owned(),
            slice: None,
        }
    }

    /// Whether it is there now.
    pub(super) fn exists(&self) -> bool {
        self.any_directory().is_ok()
    }

    /// Parent and name, which tell groups apart.
    pub(super) fn key(&self) -> (&str, &str) {
        (&self.parent, &self.name)
    }

    /// The path from any hierarchy's root, as `/proc/<pid>/cgroup` shows it.
    pub fn path(&self) -> Result<String, CgroupError> {
        self.hierarchies
            .path_of(&self.parent, &self.name)
            .map(|path| format!("/{path}"))
    }

    pub(super) fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    fn in_hierarchy(&self, position: usize) -> Result<Option<Directory>, CgroupError> {
        match self.hierarchies.parent_of(position, &self.parent)? {
            Some(parent) => parent.child(&self.name),
            None => Ok(None),
        }
    }

    /// The group's directory where `controller` lives.
    pub(super) fn directory(
        &self,
        controller: Controller,
    ) -> Result<Option<Directory>, CgroupError> {
        match self.hierarchies.position(controller) {
            Some(position) => self.in_hierarchy(position),
            None => Ok(None),
        }
    }

    fn not_found(&self) -> CgroupError {
        CgroupError::NotFound(self.name.clone())
    }

    /// Any directory that holds all processes of the container.
    fn any_directory(&self) -> Result<Directory, CgroupError> {
        for controller in [Controller::Freezer, Controller::Pids, Controller::Memory] {
            if let Some(directory) = self.directory(controller)? {
                return Ok(directory);
            }
        }
        Err(self.not_found())
    }

    pub(super) fn positions_for(&self, resources: &Resources) -> BTreeSet<usize> {
        let mut wanted = self.hierarchies.always.clone();
        if resources.blkio_weight != 0
            || !resources.io_weights.is_empty()
            || !resources.io_throttles.is_empty()
        {
            wanted.push(Controller::Blkio);
        }
        if !resources.cpuset_cpus.is_empty() || !resources.cpuset_mems.is_empty() {
            wanted.push(Controller::Cpuset);
        }
        wanted
            .into_iter()
            .filter_map(|controller| self.hierarchies.position(controller))
            .collect()
    }

    /// Opens the ways into a container that runs, for one more process (exec).
    pub fn join(&self) -> Result<CgroupHandle, CgroupError> {
        let mut handle = CgroupHandle {
            attach: Vec::new(),
            unified: None,
        };
        let path = self.hierarchies.path_of(&self.parent, &self.name)?;
        for hierarchy in &self.hierarchies.list {
            if hierarchy.unified {
                let directory = hierarchy.root.child(&path)?;
                handle.unified = directory.map(Directory::into_fd);
            } else {
                let file = hierarchy.root.find_for_writing(&format!("{path}/{JOIN}"))?;
                handle.attach.extend(file);
            }
        }
        if handle.attach.is_empty() && handle.unified.is_none() {
            return Err(self.not_found());
        }
        Ok(handle)
    }

    /// Changes the limits of a running container; what `resources` leaves empty stays as it is.
    pub fn update(&self, resources: &Resources) -> Result<(), CgroupError> {
        self.any_directory()?;
        let writes = apply::limit_writes(&self.hierarchies, resources)?;
        let positions = self.positions_for(resources);
        let mut directories = Vec::new();
        for position in positions {
            let directory = match self.in_hierarchy(position)? {
                Some(directory) => directory,
                None => self.enter_late(position)?,
            };
            directories.push((position, directory));
        }
        apply::apply(&writes, |controller| {
            let position = self.hierarchies.position(controller)?;
            directories
                .iter()
                .find(|(p, _)| *p == position)
                .map(|(_, directory)| directory)
        })
    }

    /// Makes the group in a hierarchy the container did not need at start, and moves its processes there.
    fn enter_late(&self, position: usize) -> Result<Directory, CgroupError> {
        let parent = self.hierarchies.ensure_parent_of(position, &self.parent)?;
        let directory = parent.ensure_child(&self.name)?;
        if self.hierarchies.position(Controller::Cpuset) == Some(position) {
            let path = self.hierarchies.path_of(&self.parent, &self.name)?;
            self.hierarchies.inherit_cpuset(position, &path)?;
        }
        let source = self.any_directory()?;
        let mut moved = HashSet::new();
        // Until a look finds nobody new: a process may fork while its siblings are being moved.
        for _ in 0..KILL_ROUNDS {
            let fresh: Vec<i32> = source
                .procs()?
                .into_iter()
                .filter(|pid| moved.insert(*pid))
                .collect();
            if fresh.is_empty() {
                break;
            }
            for pid in fresh {
                match directory.write("cgroup.procs", &pid.to_string()) {
                    // Gone meanwhile.
                    Err(error) if errno_of(&error) == Some(Errno::SRCH) => {}
                    other => other?,
                }
            }
        }
        Ok(directory)
    }

    /// Stops every process of the container until [`Group::thaw`]. Blocking, normally under a millisecond, at most two
    /// seconds; a container that cannot be frozen in that time is thawed again.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.set_frozen(true)
    }

    /// Lets a frozen container run again.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), CgroupError> {
        let Some(position) = self.hierarchies.position(Controller::Freezer) else {
            return Err(CgroupError::MissingController {
                controller: "freezer",
                option: "pause",
            });
        };
        let directory = self
            .in_hierarchy(position)?
            .ok_or_else(|| self.not_found())?;
        let unified = self.hierarchies.list[position].unified;
        let (file, value) = match (unified, frozen) {
            (true, true) => ("cgroup.freeze", "1"),
            (true, false) => ("cgroup.freeze", "0"),
            (false, true) => ("freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED"),
        };
        directory.write(file, value)?;
        for _ in 0..FREEZE_STEPS {
            let reached = if unified {
                directory
                    .read("cgroup.events")?
                    .lines()
                    .any(|line| line.strip_prefix("frozen ") == Some(value))
            } else {
                directory.read(file)?.trim() == value
            };
            if reached {
                return Ok(());
            }
            sleep(FREEZE_STEP);
            if !unified {
                // v1 does not look at processes forked while it froze until it is told again.
                directory.write(file, value)?;
            }
        }
        if frozen {
            self.set_frozen(false)?;
        }
        let wanted = if frozen { "frozen" } else { "thawed" };
        Err(CgroupError::FreezerTimeout {
            path: directory.path().to_owned(),
            wanted,
        })
    }

    /// Kills every process of the container with SIGKILL, those that are frozen too. Returns when all were signalled.
    pub fn kill(&self) -> Result<(), CgroupError> {
        if let Some(position) = self.hierarchies.list.iter().position(|h| h.unified)
            && let Some(directory) = self.in_hierarchy(position)?
        {
            return directory.write("cgroup.kill", "1");
        }
        let directory = self.any_directory()?;
        let has_freezer = self.directory(Controller::Freezer)?.is_some();
        for _ in 0..KILL_ROUNDS {
            // Frozen processes cannot fork away or have their ids reused between reading and killing.
            if has_freezer {
                self.freeze()?;
            }
            let pids = directory.procs();
            for pid in pids.iter().flatten().filter_map(|pid| Pid::from_raw(*pid)) {
                // ESRCH: gone meanwhile.
                let _ = kill_process(pid, Signal::KILL);
            }
            if has_freezer {
                self.thaw()?;
            }
            if has_freezer || pids?.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// The process ids of the container in the caller's pid namespace, those in groups it made itself included.
    pub fn procs(&self) -> Result<Vec<i32>, CgroupError> {
        self.any_directory()?.procs()
    }

    /// What the container uses now.
    pub fn stats(&self) -> Result<CgroupStats, CgroupError> {
        self.any_directory()?;
        stats::read(self)
    }

    /// One try to remove every directory; what could not be removed and why.
    pub(super) fn remove_now(&self) -> Vec<CgroupError> {
        (0..self.hierarchies.list.len())
            .filter_map(|position| {
                let removed = self
                    .hierarchies
                    .parent_of(position, &self.parent)
                    .and_then(|parent| parent.map_or(Ok(()), |p| p.remove_child(&self.name)));
                removed.err()
            })
            .collect()
    }
}
