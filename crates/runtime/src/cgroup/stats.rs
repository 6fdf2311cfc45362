//! What a container uses, as read from its control groups.

use std::collections::BTreeMap;

/// One reading of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupStats {
    /// Memory.
    pub memory: MemoryStats,
    /// CPU time.
    pub cpu: CpuStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Bytes moved per device and operation.
    pub blkio_bytes: Vec<BlkioEntry>,
    /// Operations per device and operation.
    pub blkio_operations: Vec<BlkioEntry>,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use now, page cache included.
    pub usage: u64,
    /// The most ever in use; 0 where the kernel does not tell.
    pub max_usage: u64,
    /// The limit; the machine's memory when not limited is for the caller to put in.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
    /// `memory.stat` as the kernel gives it (bytes and counts, keys differ between v1 and v2).
    pub details: BTreeMap<String, u64>,
}

/// CPU time in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// All time.
    pub total: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// Per CPU; v1 only.
    pub per_cpu: Vec<u64>,
    /// Quota periods that passed.
    pub periods: u64,
    /// Of these, with throttling.
    pub throttled_periods: u64,
    /// Time spent throttled.
    pub throttled: u64,
}

/// Tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
}

/// One number of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlkioEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `read`, `write`, `sync`, `async`, `discard`, `total`, as Docker spells them.
    pub operation: String,
    /// The number.
    pub value: u64,
}
