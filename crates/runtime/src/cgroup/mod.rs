//! Control groups of containers: detect, create, limit, watch, kill, remove.
//!
//! Each controller is used where the kernel has it mounted: a v1 hierarchy, the v2 tree, or both (hybrid). Mounts are
//! found once, at start; afterwards everything goes by directory fd and no mount table is read again.
//!
//! ```text
//! <mount>/hoist-<instance>/<container id>      one directory in every hierarchy in use
//!
//! Cgroups::start ─ layout (mountinfo) ─ parent directories
//!    │ create                         ┌ limits (writes.rs) ┐
//!    ├────────► Group ── directories ─┤ devices            ├─► CgroupHandle ─► the child joins
//!    │            │                   └────────────────────┘
//!    │            └ join · update · freeze · kill · stats · oom
//!    └ remove ─► background thread: rmdir, again while busy
//! ```
//!
//! Only controllers in use get a directory, because each costs about 40 µs: memory, cpu, cpuacct, pids and devices
//! always, cpuset and blkio when a limit asks for them, the v1 freezer only where no v2 tree is (the v2 tree freezes
//! and kills even where it owns no controller).
//!
//! Absent: the systemd driver, and v2 delegation to unprivileged users.

mod device_program;
mod directory;
mod error;
mod group;
mod hierarchies;
mod layout;
mod oom;
mod remove;
mod stats;
mod writes;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use hoist_model::ContainerId;
use hoist_model::container::Resources;

use crate::devices::DeviceRule;
use hierarchies::Hierarchies;
use remove::Remover;

pub use error::CgroupError;
pub use group::Group;
pub use oom::OomWatch;
pub use stats::{BlkioEntry, CgroupStats, CpuStats, MemoryStats, PidsStats};

/// Who makes the control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    /// Directories made by Hoist itself.
    Cgroupfs,
}

/// What [`Cgroups::start`] needs to know.
#[derive(Clone, Debug)]
pub struct CgroupSettings {
    /// The control group all containers of this engine live in, from the hierarchy's root: `/hoist-<instance>`.
    pub parent: String,
    /// Who makes the directories.
    pub driver: CgroupDriver,
}

/// Which version of the interface the host's controllers live on, as `/info` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    /// v1 hierarchies, with or without a v2 tree beside them.
    V1,
    /// One v2 tree.
    V2,
}

/// What this host's kernel can limit, for `/info` and for warnings at create.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupSupport {
    /// `MemoryLimit`.
    pub memory: bool,
    /// `SwapLimit`.
    pub swap: bool,
    /// `OomKillDisable`; v1 only.
    pub oom_kill_disable: bool,
    /// `CPUShares`.
    pub cpu_shares: bool,
    /// `CpuCfsPeriod` and `CpuCfsQuota`.
    pub cpu_quota: bool,
    /// `CPUSet`.
    pub cpuset: bool,
    /// `PidsLimit`.
    pub pids: bool,
    /// Block IO weight and throttling.
    pub blkio: bool,
    /// Device access.
    pub devices: bool,
}

/// What one container asks of its control groups.
#[derive(Clone, Copy, Debug)]
pub struct CgroupRequest<'a> {
    /// `--cgroup-parent`, absolute; empty is the engine's own.
    pub parent: &'a str,
    /// The limits. `devices` and `device_cgroup_rules` in it are not read here: see the next field.
    pub resources: &'a Resources,
    /// Device access beyond the default list: [`crate::devices::resolve`]'s rules, then the parsed extra rules.
    pub devices: &'a [DeviceRule],
    /// Every device may be used.
    pub privileged: bool,
}

/// How a process enters a container's control groups.
#[derive(Debug)]
pub struct CgroupHandle {
    /// `cgroup.procs` of each v1 directory, open for writing: a process that writes `0` to each joins them.
    pub attach: Vec<OwnedFd>,
    /// The v2 directory, for `CLONE_INTO_CGROUP`.
    pub unified: Option<OwnedFd>,
}

/// The control groups of this engine's containers.
#[derive(Debug)]
pub struct Cgroups {
    hierarchies: Arc<Hierarchies>,
    remover: Remover,
}

impl Cgroups {
    /// Finds the hierarchies of this host and makes the engine's parent group in them.
    ///
    /// Blocking; once per engine. Fails where no hierarchy is mounted or the parent cannot be made.
    pub fn start(settings: &CgroupSettings) -> Result<Self, CgroupError> {
        let CgroupDriver::Cgroupfs = settings.driver;
        let hierarchies = Arc::new(Hierarchies::open(&settings.parent)?);
        Ok(Self {
            hierarchies,
            remover: Remover::start(),
        })
    }

    /// The version `/info` shows.
    #[must_use]
    pub fn version(&self) -> CgroupVersion {
        self.hierarchies.version()
    }

    /// What can be limited here.
    #[must_use]
    pub fn support(&self) -> CgroupSupport {
        self.hierarchies.support()
    }

    /// Makes the groups of one container, sets its limits and opens the ways in. Blocking, about 0.3 ms on v1.
    ///
    /// Groups left over from the container's last run are taken away first. On error nothing stays.
    pub fn create(
        &self,
        id: &ContainerId,
        request: &CgroupRequest<'_>,
    ) -> Result<CgroupHandle, CgroupError> {
        let group = self.group(id, request.parent);
        self.remover.forget(&group);
        group.create(request)
    }

    /// The groups of one container, which need not exist. `parent` as in [`CgroupRequest`].
    #[must_use]
    pub fn group(&self, id: &ContainerId, parent: &str) -> Group {
        Group::new(Arc::clone(&self.hierarchies), id.as_str(), parent)
    }

    /// Removes a container's groups in the background, trying again while the kernel still says busy.
    pub fn remove(&self, group: Group) {
        self.remover.remove(group);
    }

    /// Waits until everything given to [`Cgroups::remove`] was tried at least once more, at most about a second.
    pub fn settle(&self) {
        self.remover.settle();
    }

    /// The containers that have groups under the engine's own parent now, for the sweep at start.
    pub fn existing(&self) -> Result<Vec<ContainerId>, CgroupError> {
        self.hierarchies.existing()
    }

    /// Removes the engine's parent groups, which succeeds only where they are empty. For an engine that goes for good.
    pub fn remove_parent(&self) -> Result<(), CgroupError> {
        self.settle();
        self.hierarchies.remove_parent()
    }
}
