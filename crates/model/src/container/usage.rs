//! What a container uses, and what runs in it: readings, in the kernel's units.

use std::collections::BTreeMap;

use crate::timestamp::Timestamp;

/// Everything that is read of a running container at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerStats {
    /// When.
    pub at: Timestamp,
    /// Of its control groups.
    pub groups: CgroupStats,
    /// Of its network interfaces, loopback left out; empty where it shares the host's.
    pub interfaces: Vec<InterfaceStats>,
    /// CPU time of the whole machine since boot, idle included, in nanoseconds.
    pub machine_cpu: u64,
    /// CPUs online.
    pub online_cpus: u32,
    /// Bytes of memory of the machine.
    pub machine_memory: u64,
}

/// Counters of one network interface since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceStats {
    /// `eth0`.
    pub name: String,
    /// Received.
    pub received: InterfaceCounters,
    /// Sent.
    pub sent: InterfaceCounters,
}

/// One direction of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets with errors.
    pub errors: u64,
    /// Packets thrown away.
    pub dropped: u64,
}

/// One process of a container as proc(5) tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Process id in the host's namespace.
    pub pid: i32,
    /// The thread that is told of; the process id where the process is.
    pub thread: i32,
    /// Its parent's.
    pub parent: i32,
    /// Process group.
    pub group: i32,
    /// Session.
    pub session: i32,
    /// Its controlling terminal's device number; 0 is none.
    pub terminal: u64,
    /// The foreground process group of that terminal; -1 is none.
    pub foreground: i32,
    /// `R`, `S`, `D`, `Z`, `T`, …
    pub state: char,
    /// Kernel flags of the task.
    pub flags: u32,
    /// Scheduling priority as the kernel counts it.
    pub priority: i64,
    /// Nice value, -20 to 19.
    pub nice: i64,
    /// Threads.
    pub threads: u64,
    /// When it started.
    pub started_at: Timestamp,
    /// CPU time in milliseconds, user and kernel.
    pub cpu_milliseconds: u64,
    /// Bytes of address space.
    pub virtual_bytes: u64,
    /// Bytes in memory.
    pub resident_bytes: u64,
    /// The CPU it last ran on.
    pub processor: u32,
    /// Whether it has pages locked in memory.
    pub locked_pages: bool,
    /// Page faults that read nothing, and those that did.
    pub faults: [u64; 2],
    /// Scheduling policy as sched_setscheduler(2) numbers it.
    pub policy: u32,
    /// Real-time priority; 0 where the policy is none of real time.
    pub realtime_priority: u32,
    /// Bytes of the program's code.
    pub code_bytes: u64,
    /// Masks of signals that are pending, blocked, ignored and caught, hexadecimal.
    pub signals: [String; 4],
    /// Real, effective, saved and file system user.
    pub users: [NumberedName; 4],
    /// Real, effective, saved and file system group.
    pub groups: [NumberedName; 4],
    /// Name of the executable, 15 bytes at most.
    pub command: String,
    /// The words of its command line; empty of kernel threads and zombies.
    pub arguments: Vec<String>,
}

/// A user or group: its number and, where the host knows one, its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumberedName {
    /// The number.
    pub id: u32,
    /// The name in the host's database.
    pub name: Option<String>,
}

/// One reading of a container's control groups.
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
