//! Control groups of containers: detect, create, limit, watch, kill, remove.
//!
//! Each controller is used where the kernel has it mounted: a v1 hierarchy, the v2 tree, or both (hybrid). Mounts are
//! found once, at start; afterwards everything goes by directory fd and no mount table is read again.

mod error;
mod limits;
mod stats;

use std::os::fd::OwnedFd;

use hoist_model::ContainerId;

pub use error::CgroupError;
pub use limits::{
    CgroupRequest, DeviceAccess, DeviceKind, DeviceRule, Limits, RateDevice, WeightDevice,
};
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
    /// The control group all containers of this engine live in, absolute from the hierarchy's root: `/hoist-<instance>`.
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
pub struct Cgroups {}

impl Cgroups {
    /// Finds the hierarchies of this host and makes the engine's parent group in them. Blocking; once per engine.
    pub fn start(_settings: CgroupSettings) -> Result<Self, CgroupError> {
        unimplemented!()
    }

    /// The version `/info` shows.
    pub fn version(&self) -> CgroupVersion {
        unimplemented!()
    }

    /// Makes the groups of one container and sets its limits. Blocking, about 0.1 ms.
    pub fn create(
        &self,
        _id: &ContainerId,
        _request: &CgroupRequest,
    ) -> Result<CgroupHandle, CgroupError> {
        unimplemented!()
    }

    /// Opens the groups of a running container for one more process (exec).
    pub fn join(&self, _id: &ContainerId) -> Result<CgroupHandle, CgroupError> {
        unimplemented!()
    }

    /// Changes the limits of a running container.
    pub fn update(&self, _id: &ContainerId, _limits: &Limits) -> Result<(), CgroupError> {
        unimplemented!()
    }

    /// Stops every process of the container until [`Cgroups::thaw`].
    pub fn freeze(&self, _id: &ContainerId) -> Result<(), CgroupError> {
        unimplemented!()
    }

    /// Lets a frozen container run again.
    pub fn thaw(&self, _id: &ContainerId) -> Result<(), CgroupError> {
        unimplemented!()
    }

    /// Kills every process of the container with SIGKILL.
    pub fn kill(&self, _id: &ContainerId) -> Result<(), CgroupError> {
        unimplemented!()
    }

    /// The process ids of the container in the caller's pid namespace.
    pub fn procs(&self, _id: &ContainerId) -> Result<Vec<i32>, CgroupError> {
        unimplemented!()
    }

    /// How many processes of the container the kernel's out-of-memory killer took so far.
    pub fn oom_kills(&self, _id: &ContainerId) -> Result<u64, CgroupError> {
        unimplemented!()
    }

    /// What the container uses now.
    pub fn stats(&self, _id: &ContainerId) -> Result<CgroupStats, CgroupError> {
        unimplemented!()
    }

    /// Removes the container's groups in the background, trying again while the kernel still says busy.
    pub fn remove(&self, _id: &ContainerId) {
        unimplemented!()
    }

    /// The containers that have groups under the parent now, for the sweep at start.
    pub fn existing(&self) -> Result<Vec<ContainerId>, CgroupError> {
        unimplemented!()
    }
}
