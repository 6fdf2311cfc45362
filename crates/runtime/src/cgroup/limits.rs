//! What a container may use, in the kernel-independent words of Docker's `HostConfig`.

/// Everything [`super::Cgroups::create`] needs besides the id.
#[derive(Clone, Debug, Default)]
pub struct CgroupRequest {
    /// Instead of the engine's own parent: `--cgroup-parent`, absolute.
    pub parent: Option<String>,
    /// The limits.
    pub limits: Limits,
    /// Which device nodes may be used.
    pub devices: DeviceAccess,
}

/// Limits; `None` (or empty) means not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Memory plus swap in bytes; `-1` is without limit. Docker's default with a memory limit is twice that limit.
    pub memory_swap: Option<i64>,
    /// Soft limit in bytes.
    pub memory_reservation: Option<u64>,
    /// 0 to 100; v1 only.
    pub memory_swappiness: Option<u64>,
    /// Do not kill on out of memory; v1 only.
    pub oom_kill_disable: bool,
    /// Billionths of a CPU.
    pub nano_cpus: Option<u64>,
    /// Relative weight, 2 to 262144, 1024 by default.
    pub cpu_shares: Option<u64>,
    /// Period of the CPU quota in µs.
    pub cpu_period: Option<u64>,
    /// µs of CPU time per period.
    pub cpu_quota: Option<i64>,
    /// Period of the real-time quota in µs; v1 only.
    pub cpu_realtime_period: Option<u64>,
    /// µs of real-time CPU time per period; v1 only.
    pub cpu_realtime_runtime: Option<i64>,
    /// CPUs such as `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes such as `0,1`.
    pub cpuset_mems: Option<String>,
    /// How many tasks; `-1` is without limit.
    pub pids: Option<i64>,
    /// Block IO weight, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// Block IO weight per device.
    pub blkio_weight_devices: Vec<WeightDevice>,
    /// Read rate in bytes per second per device.
    pub blkio_read_bps: Vec<RateDevice>,
    /// Write rate in bytes per second per device.
    pub blkio_write_bps: Vec<RateDevice>,
    /// Read operations per second per device.
    pub blkio_read_iops: Vec<RateDevice>,
    /// Write operations per second per device.
    pub blkio_write_iops: Vec<RateDevice>,
}

/// A block IO weight of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// 10 to 1000.
    pub weight: u16,
}

/// A rate limit of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// Which device nodes a container may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceAccess {
    /// Docker's default list and nothing else.
    #[default]
    Default,
    /// Docker's default list and these (`--device`, `--device-cgroup-rule`), in this order.
    Extra(Vec<DeviceRule>),
    /// Everything (`--privileged`).
    All,
}

/// Character or block devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Both kinds, whatever the numbers.
    Any,
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

/// One line of device access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// Which kind.
    pub kind: DeviceKind,
    /// Major number; `None` is any.
    pub major: Option<u32>,
    /// Minor number; `None` is any.
    pub minor: Option<u32>,
    /// May open for reading.
    pub read: bool,
    /// May open for writing.
    pub write: bool,
    /// May make the node.
    pub mknod: bool,
}
