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
//!    └ remove ─► background thread: rmdir, again while busy; keeps a few v1 groups ready
//! ```
//!
//! Only controllers in use get a directory, because each costs: memory, cpu, cpuacct, pids and devices always, blkio
//! where the kernel counts with it or a limit asks for it, cpuset when a limit asks for it, the v1 freezer only where
//! no v2 tree is (the v2 tree freezes and kills even where it owns no controller).
//!
//! Where systemd runs, the parent is a scope that it delegates to us, and a container may have a scope of its own, in any
//! slice (`scope.rs`): systemd makes that directory, and takes it away when the last process is gone.
//!
//! Absent: v2 delegation to unprivileged users.

mod apply;
mod background;
mod device_program;
pub mod devices;
mod directory;
mod error;
mod group;
mod hierarchies;
mod layout;
mod make;
mod monitors;
mod oom;
mod scope;
mod stats;
pub mod systemd;
mod writes;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hoist_model::ContainerId;
use hoist_model::container::Resources;

use crate::devices::DeviceRule;
use background::Background;
use hierarchies::Hierarchies;

pub use error::CgroupError;
pub use group::Group;
pub use oom::OomWatch;

/// Who makes the control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    /// Directories made by Hoist itself; where systemd runs, within a scope that it leaves to us.
    Cgroupfs,
    /// systemd: every container has a scope of its own.
    Systemd,
}

/// What [`Cgroups::start`] needs to know.
#[derive(Clone, Debug)]
pub struct CgroupSettings {
    /// The control group all containers of this engine live in, from the hierarchy's root: `/hoist-<instance>`, or
    /// that of the scope of which `seed` is in.
    pub parent: String,
    /// How names of containers' own scopes begin.
    pub prefix: String,
    /// Where systemd runs: a process that has its place in the scope `parent`, which is moved to where monitors are.
    pub seed: Option<u32>,
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
    /// Block IO throttling.
    pub blkio: bool,
    /// Block IO weights.
    pub blkio_weight: bool,
    /// Block IO weights of devices.
    pub blkio_weight_device: bool,
    /// `MemorySwappiness`; v1 only.
    pub memory_swappiness: bool,
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
    /// Device access beyond the default list: [`devices::resolve`]'s rules, then the parsed extra rules.
    pub devices: &'a [DeviceRule],
    /// Every device may be used.
    pub privileged: bool,
    /// Where the container gets a scope of its own ([`Cgroups::wants_scope`]): a process to begin it with, which has to
    /// stay until the container's first process is in.
    pub seed: Option<u32>,
}

/// The file a process of one thread writes `0` to, to enter a v1 group. Not `cgroup.procs`: that takes the kernel's
/// thread-group lock and with it an RCU grace period, 10 to 20 ms, where this takes microseconds (kernel 5.5,
/// cgroup_procs_write_start).
const JOIN: &str = "tasks";

/// Where scopes of containers are that name no slice.
const SYSTEM_SLICE: &str = "system.slice";

/// How a process enters a container's control groups.
#[derive(Debug)]
pub struct CgroupHandle {
    /// `tasks` of each v1 directory, open for writing: a process of one thread that writes `0` to each joins them.
    pub attach: Vec<OwnedFd>,
    /// The v2 directory, for `CLONE_INTO_CGROUP`.
    pub unified: Option<OwnedFd>,
}

/// One mounted hierarchy of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMount {
    /// The last part of its mount point, `cpu,cpuacct` or `unified`: its name below `/sys/fs/cgroup` in a container.
    pub name: String,
    /// Where the host has it.
    pub mount_point: String,
    /// Whether it is the v2 tree.
    pub unified: bool,
}

/// The control groups of this engine's containers.
#[derive(Debug)]
pub struct Cgroups {
    hierarchies: Arc<Hierarchies>,
    background: Background,
    /// Whether systemd makes those of containers that name no parent.
    by_systemd: AtomicBool,
    prefix: String,
}

impl Cgroups {
    /// Finds the hierarchies of this host and makes the engine's parent group in them.
    ///
    /// Blocking; once per engine. Fails where no hierarchy is mounted or the parent cannot be made.
    pub fn start(settings: &CgroupSettings) -> Result<Self, CgroupError> {
        let hierarchies = Arc::new(Hierarchies::open(&settings.parent, settings.seed)?);
        let background = Background::start(&hierarchies);
        Ok(Self {
            hierarchies,
            background,
            by_systemd: AtomicBool::new(settings.driver == CgroupDriver::Systemd),
            prefix: settings.prefix.clone(),
        })
    }

    /// Who makes the groups of containers that are started now.
    #[must_use]
    pub fn driver(&self) -> CgroupDriver {
        if self.by_systemd.load(Ordering::Relaxed) {
            CgroupDriver::Systemd
        } else {
            CgroupDriver::Cgroupfs
        }
    }

    /// Changes who makes the groups of containers from their next start on; those that run keep theirs. Fails, and changes
    /// nothing, where systemd is asked for and gave us no scope.
    pub fn choose_driver(&self, driver: CgroupDriver) -> Result<(), CgroupError> {
        let by_systemd = driver == CgroupDriver::Systemd;
        if by_systemd && !self.hierarchies.is_delegated() {
            return Err(CgroupError::InvalidValue {
                option: "native.cgroupdriver",
                value: "systemd".to_owned(),
                reason: "systemd does not run this machine, or gave no scope",
            });
        }
        self.by_systemd.store(by_systemd, Ordering::Relaxed);
        Ok(())
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

    /// Makes the groups of one container, sets its limits and opens the ways in. Blocking, about 0.2 ms.
    ///
    /// Groups left over from the container's last run are taken away first. On error nothing stays.
    pub fn create(
        &self,
        id: &ContainerId,
        request: &CgroupRequest<'_>,
    ) -> Result<CgroupHandle, CgroupError> {
        let group = match self.scope_of(id, request.parent)? {
            Some(group) => group,
            None => self.plain_group(id, request.parent),
        };
        self.background.forget(&group);
        if group.slice.is_some() {
            group.begin_scope(request.seed)?;
        }
        let ready = if request.parent.is_empty() && group.slice.is_none() {
            self.background.take_ready()
        } else {
            None
        };
        let (made, unused) = group.create(request, ready);
        if let Some(unused) = unused {
            self.background.remove(unused);
        }
        made
    }

    /// The groups of one container, which need not exist. `parent` as in [`CgroupRequest`].
    #[must_use]
    pub fn group(&self, id: &ContainerId, parent: &str) -> Group {
        let plain = self.plain_group(id, parent);
        if !self.hierarchies.is_delegated() {
            return plain;
        }
        // A container may be older than the driver that is configured now.
        match self.scope_of(id, parent) {
            Ok(Some(scope)) if !parent.is_empty() || !plain.exists() => scope,
            Ok(None) if parent.is_empty() && !plain.exists() => {
                let scope = self.scope_in(id, SYSTEM_SLICE);
                scope.ok().filter(Group::exists).unwrap_or(plain)
            }
            _ => plain,
        }
    }

    /// Whether a container with this parent gets a scope of its own, which needs a seed to begin with.
    #[must_use]
    pub fn wants_scope(&self, parent: &str) -> bool {
        parent.ends_with(".slice") || (self.driver() == CgroupDriver::Systemd && parent.is_empty())
    }

    fn plain_group(&self, id: &ContainerId, parent: &str) -> Group {
        Group::new(Arc::clone(&self.hierarchies), id.as_str(), parent)
    }

    /// The scope that a container with this parent has; `None` where it has a directory.
    fn scope_of(&self, id: &ContainerId, parent: &str) -> Result<Option<Group>, CgroupError> {
        let invalid = |reason| CgroupError::InvalidValue {
            option: "cgroup parent",
            value: parent.to_owned(),
            reason,
        };
        if !self.wants_scope(parent) {
            return match (self.driver(), parent) {
                (CgroupDriver::Cgroupfs, _) => Ok(None),
                // moby daemon/daemon_unix.go, verifyPlatformContainerSettings
                (CgroupDriver::Systemd, _) => Err(invalid(
                    "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"",
                )),
            };
        }
        if !self.hierarchies.is_delegated() {
            return Err(invalid("slices are systemd's, and it does not run here"));
        }
        let slice = if parent.is_empty() {
            SYSTEM_SLICE
        } else {
            parent
        };
        self.scope_in(id, slice).map(Some)
    }

    fn scope_in(&self, id: &ContainerId, slice: &str) -> Result<Group, CgroupError> {
        let path = crate::systemd::slice_path(slice).filter(|path| !path.is_empty());
        let path = path.ok_or_else(|| CgroupError::InvalidValue {
            option: "cgroup parent",
            value: slice.to_owned(),
            reason: "expected the name of a slice below the root, a-b.slice",
        })?;
        let name = format!("{}-{}.scope", self.prefix, id.as_str());
        let mut group = Group::new(Arc::clone(&self.hierarchies), &name, &path);
        group.slice = Some(slice.to_owned());
        Ok(group)
    }

    /// Removes a container's groups in the background, trying again while the kernel still says busy.
    pub fn remove(&self, group: Group) {
        self.background.remove(group);
    }

    /// Waits until everything given to [`Cgroups::remove`] was tried at least once more, at most about a second.
    pub fn settle(&self) {
        self.background.settle();
    }

    /// Where the hierarchies are mounted, for `/sys/fs/cgroup` in containers that share the host's cgroup namespace.
    #[must_use]
    pub fn mounts(&self) -> Vec<CgroupMount> {
        self.hierarchies.mounts()
    }

    /// The containers that have groups under the engine's own parent now, for the sweep at start.
    pub fn existing(&self) -> Result<Vec<ContainerId>, CgroupError> {
        self.hierarchies.existing()
    }

    /// Ends the background work and removes the engine's parent groups, unless containers are still in them. Dropping
    /// does the same; this one says what failed.
    pub fn remove_parent(&self) -> Result<(), CgroupError> {
        self.background.close_pool();
        self.settle();
        self.hierarchies.remove_parent()
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if let Err(error) = self.remove_parent() {
            tracing::debug!(%error, "the engine's control groups stay");
        }
    }
}
