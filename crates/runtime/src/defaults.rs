//! What every container gets, as data: Docker's default mounts, device nodes, links, masked and read-only paths.

/// One mount of every container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultMount {
    /// Where, inside the container.
    pub target: &'static str,
    /// The file system type.
    pub fs_type: &'static str,
    /// The source, as the mount table shows it.
    pub source: &'static str,
    /// `fsconfig` options as key and value; an empty value is a flag.
    pub options: &'static [(&'static str, &'static str)],
    /// `MOUNT_ATTR_*` attributes.
    pub attributes: MountAttributes,
}

/// Per-mount attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttributes {
    /// `MOUNT_ATTR_RDONLY`.
    pub read_only: bool,
    /// `MOUNT_ATTR_NOSUID`.
    pub no_suid: bool,
    /// `MOUNT_ATTR_NODEV`.
    pub no_dev: bool,
    /// `MOUNT_ATTR_NOEXEC`.
    pub no_exec: bool,
    /// `MOUNT_ATTR_STRICTATIME`.
    pub strict_atime: bool,
}

/// One character device of every container, mode 0666, owned by root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultDevice {
    /// Where, inside the container.
    pub path: &'static str,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

const RW: MountAttributes = MountAttributes {
    read_only: false,
    no_suid: true,
    no_dev: true,
    no_exec: true,
    strict_atime: false,
};
const RO: MountAttributes = MountAttributes {
    read_only: true,
    ..RW
};

/// The mounts in the order they are made. `/sys/fs/cgroup` is not here: it depends on the cgroup version.
pub const MOUNTS: &[DefaultMount] = &[
    DefaultMount {
        target: "/proc",
        fs_type: "proc",
        source: "proc",
        options: &[],
        attributes: RW,
    },
    DefaultMount {
        target: "/dev",
        fs_type: "tmpfs",
        source: "tmpfs",
        options: &[("mode", "755"), ("size", "65536k")],
        attributes: MountAttributes {
            read_only: false,
            no_suid: true,
            no_dev: false,
            no_exec: false,
            strict_atime: true,
        },
    },
    DefaultMount {
        target: "/dev/pts",
        fs_type: "devpts",
        source: "devpts",
        options: &[
            ("newinstance", ""),
            ("ptmxmode", "0666"),
            ("mode", "0620"),
            ("gid", "5"),
        ],
        attributes: MountAttributes {
            no_dev: false,
            ..RW
        },
    },
    DefaultMount {
        target: "/sys",
        fs_type: "sysfs",
        source: "sysfs",
        options: &[],
        attributes: RO,
    },
    DefaultMount {
        target: "/dev/mqueue",
        fs_type: "mqueue",
        source: "mqueue",
        options: &[],
        attributes: RW,
    },
    DefaultMount {
        target: "/dev/shm",
        fs_type: "tmpfs",
        source: "shm",
        options: &[("mode", "1777"), ("size", "67108864")],
        attributes: RW,
    },
];

/// The default size of `/dev/shm` in bytes.
pub const SHM_SIZE: u64 = 64 << 20;

/// The device nodes of every container.
pub const DEVICES: &[DefaultDevice] = &[
    DefaultDevice {
        path: "/dev/null",
        major: 1,
        minor: 3,
    },
    DefaultDevice {
        path: "/dev/random",
        major: 1,
        minor: 8,
    },
    DefaultDevice {
        path: "/dev/full",
        major: 1,
        minor: 7,
    },
    DefaultDevice {
        path: "/dev/tty",
        major: 5,
        minor: 0,
    },
    DefaultDevice {
        path: "/dev/zero",
        major: 1,
        minor: 5,
    },
    DefaultDevice {
        path: "/dev/urandom",
        major: 1,
        minor: 9,
    },
];

/// Links in `/dev`: path and what it says.
pub const SYMLINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Paths hidden from a container that is not privileged.
pub const MASKED_PATHS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that are read-only in a container that is not privileged.
pub const READ_ONLY_PATHS: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// `PATH` when the image says nothing.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
