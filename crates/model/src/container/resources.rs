//! Limits on what a container may use, in the units of Docker's `HostConfig` (API `ContainerCreate`, `Resources`).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Resource limits; a zero, `None` or empty field means "no limit of ours".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Memory limit in bytes; 0 is none.
    pub memory: i64,
    /// Memory plus swap in bytes; 0 is twice `memory`, -1 unlimited swap.
    pub memory_swap: i64,
    /// Soft memory limit in bytes; 0 is none.
    pub memory_reservation: i64,
    /// How eagerly anonymous pages are swapped, 0 to 100; `None` inherits.
    pub memory_swappiness: Option<i64>,
    /// Whether the out-of-memory killer is turned off (cgroup v1 only).
    pub oom_kill_disable: bool,
    /// CPU time in billionths of a CPU; 0 is none. Excludes `cpu_period` and `cpu_quota`.
    pub nano_cpus: i64,
    /// Relative CPU weight, 2 to 262144, 1024 being the default; 0 inherits.
    pub cpu_shares: i64,
    /// Length of a CFS period in µs; 0 is the kernel's.
    pub cpu_period: i64,
    /// CPU time per period in µs; 0 is none.
    pub cpu_quota: i64,
    /// CPUs allowed, `0-2,4`; empty is all.
    pub cpuset_cpus: String,
    /// Memory nodes allowed; empty is all.
    pub cpuset_mems: String,
    /// Number of processes and threads; `None`, 0 and negative are no limit.
    pub pids_limit: Option<i64>,
    /// Relative block IO weight, 10 to 1000; 0 inherits.
    pub blkio_weight: u16,
    /// Relative block IO weights of devices.
    pub io_weights: Vec<IoWeight>,
    /// Per-device IO throttles.
    pub io_throttles: Vec<IoThrottle>,
    /// Devices made inside the container and allowed by its device cgroup.
    pub devices: Vec<DeviceMapping>,
    /// Extra device cgroup rules, `c 1:3 rwm`.
    pub device_cgroup_rules: Vec<String>,
    /// Resource limits of the processes (setrlimit(2)).
    pub ulimits: Vec<Ulimit>,
    /// Devices that a driver would have to find (`--gpus`); there is none, which a start says.
    pub device_requests: Vec<DeviceRequest>,
}

/// Devices asked for by what they can do (API `DeviceRequest`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// Name of the driver; empty is any.
    pub driver: String,
    /// How many; -1 is all.
    pub count: i64,
    /// Which, in the driver's own names.
    pub device_ids: Vec<String>,
    /// Sets of which one has to be fulfilled whole.
    pub capabilities: Vec<Vec<String>>,
    /// For the driver.
    pub options: BTreeMap<String, String>,
}

impl fmt::Display for DeviceRequest {
    /// As Docker says that no driver takes it (moby `daemon/devices.go`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sets: Vec<String> = self
            .capabilities
            .iter()
            .map(|set| format!("[{}]", set.join(" ")))
            .collect();
        write!(
            f,
            "could not select device driver {:?} with capabilities: [{}]",
            self.driver,
            sets.join(" ")
        )
    }
}

/// One device's share of block IO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoWeight {
    /// Path of the block device on the host.
    pub path: String,
    /// 10 to 1000; 0 inherits.
    pub weight: u16,
}

/// One limit on one block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoThrottle {
    /// Path of the block device on the host.
    pub path: String,
    /// What is limited.
    pub kind: IoThrottleKind,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// What an [`IoThrottle`] limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IoThrottleKind {
    /// Bytes read per second.
    ReadBytes,
    /// Bytes written per second.
    WriteBytes,
    /// Reads per second.
    ReadOperations,
    /// Writes per second.
    WriteOperations,
}

/// A host device given to a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// Path on the host.
    pub path_on_host: String,
    /// Path inside the container.
    pub path_in_container: String,
    /// Any of `r`, `w` and `m`.
    pub permissions: String,
}

/// One resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, `core`, … (setrlimit(2) without `RLIMIT_`, in lower case).
    pub name: String,
    /// Soft limit, -1 is unlimited.
    pub soft: i64,
    /// Hard limit, -1 is unlimited.
    pub hard: i64,
}
