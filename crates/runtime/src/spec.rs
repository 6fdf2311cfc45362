//! What is to be started: resolved data and descriptors, nothing left to look up.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use hoist_model::{ContainerId, ExecId};

use crate::capabilities::ProcessCapabilities;
use crate::seccomp::Program;
use crate::sysctl::Sysctl;
use hoist_cgroup::CgroupHandle;
use hoist_cgroup::devices::DeviceNode;

/// Whose process something is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum ProcessId {
    /// A container's first process.
    Container(ContainerId),
    /// A process started by exec.
    Exec(ExecId),
}

/// A container to be started.
#[derive(Debug)]
pub struct LaunchSpec {
    /// Whose it is.
    pub id: ContainerId,
    /// The root file system: a detached mount.
    pub rootfs: OwnedFd,
    /// Whether nothing may be written to it.
    pub readonly_rootfs: bool,
    /// Name of the UTS namespace; not set if that is not new.
    pub hostname: String,
    /// NIS domain name; may be empty.
    pub domainname: String,
    /// Which namespaces.
    pub namespaces: Namespaces,
    /// Everything mounted below the root, parents first.
    pub mounts: Vec<MountEntry>,
    /// Device nodes made below /dev, beyond the defaults.
    pub devices: Vec<DeviceNode>,
    /// Paths that are hidden.
    pub masked_paths: Vec<String>,
    /// Paths that become read-only.
    pub readonly_paths: Vec<String>,
    /// Kernel parameters.
    pub sysctls: Vec<Sysctl>,
    /// The cgroups it is put in.
    pub cgroup: CgroupHandle,
    /// What runs.
    pub process: Process,
    /// Whether it runs as the child of a tiny init of ours.
    pub init: bool,
    /// Where output is logged.
    pub log: Option<LogSpec>,
    /// Streams attached from the first byte on.
    pub attached: Vec<(Streams, UnixStream)>,
    /// Kept open by the monitor for as long as it runs, for an engine that adopts it: see [`crate::Runtime::kept`]. Closed
    /// before the end is told.
    pub kept: Vec<OwnedFd>,
    /// The user namespace it is made in, if not the engine's own. Then no device is among `devices`: nodes cannot be made in
    /// there, they are mounted.
    pub remapped: Option<Remapped>,
}

/// What a container in a user namespace of its own needs that has to be had outside of it.
#[derive(Debug)]
pub struct Remapped {
    /// The user namespace.
    pub namespace: OwnedFd,
    /// A whole procfs and a whole sysfs, as detached mounts: the kernel lets only who sees one whole make one (fs/namespace.c,
    /// `mount_too_revealing`). They lie under the root, and are gone with what else is there.
    pub visible: Vec<OwnedFd>,
    /// The host's user and group that the standard streams belong to.
    pub streams: (u32, u32),
}

/// A further process in a running container.
#[derive(Debug)]
pub struct ExecSpec {
    /// Whose it is.
    pub id: ExecId,
    /// The container's first process, whose namespaces are joined.
    pub pidfd: OwnedFd,
    /// The container's cgroups.
    pub cgroup: CgroupHandle,
    /// What runs.
    pub process: Process,
    /// The stream attached from the first byte on.
    pub attached: Option<(Streams, UnixStream)>,
    /// Of a remapped container: the host's user and group that the standard streams belong to.
    pub remapped: Option<(u32, u32)>,
}

/// What runs.
#[derive(Clone, Debug)]
pub struct Process {
    /// The program and its arguments; the program is looked up in the container's PATH if it has no slash.
    pub arguments: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Absolute; made if it is missing.
    pub working_directory: String,
    /// Numeric user.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Capability sets.
    pub capabilities: ProcessCapabilities,
    /// Whether no execve gains privileges.
    pub no_new_privileges: bool,
    /// The AppArmor profile that it is confined by; `None` leaves it as it is.
    pub apparmor: Option<String>,
    /// The system call filter.
    pub seccomp: Option<Arc<Program>>,
    /// Limits: number of setrlimit(2), soft, hard; `u64::MAX` is unlimited.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// -1000 to 1000; `None` inherits the engine's.
    pub oom_score_adj: Option<i32>,
    /// Rows and columns of a terminal to be made; `None` makes pipes.
    pub terminal: Option<(u16, u16)>,
    /// Whether standard input is kept open for clients.
    pub open_stdin: bool,
    /// Whether it closes when its first client has.
    pub stdin_once: bool,
}

/// Which streams an attached client takes part in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Streams {
    /// Gives input.
    pub stdin: bool,
    /// Takes output.
    pub stdout: bool,
    /// Takes errors.
    pub stderr: bool,
}

/// Where each namespace comes from.
#[derive(Debug)]
pub struct Namespaces {
    /// Processes.
    pub pid: NamespaceSource,
    /// Interfaces; never new: it comes ready from a pool.
    pub network: NamespaceSource,
    /// System V IPC and message queues.
    pub ipc: NamespaceSource,
    /// Host name.
    pub uts: NamespaceSource,
    /// The view on cgroups.
    pub cgroup: NamespaceSource,
}

/// Where a namespace comes from.
#[derive(Debug)]
pub enum NamespaceSource {
    /// Made for this container.
    New,
    /// The host's.
    Host,
    /// An open nsfs file.
    Join(OwnedFd),
}

/// Something mounted below the root.
#[derive(Debug)]
pub struct MountEntry {
    /// Absolute path in the container.
    pub target: String,
    /// What.
    pub source: MountFrom,
    /// Attributes to set, in the bits of `hoist_sys::mount_attributes`.
    pub attributes: u64,
    /// Whether attributes also go to mounts below (recursive binds).
    pub recursive: bool,
    /// `MS_PRIVATE` and its like, or 0 to leave it.
    pub propagation: u64,
}

/// What a [`MountEntry`] mounts.
#[derive(Debug)]
pub enum MountFrom {
    /// A detached mount: bind of a file or directory.
    Detached {
        /// The mount.
        mount: OwnedFd,
        /// Whether it is a directory, so that a missing target is made alike.
        directory: bool,
    },
    /// What the mount namespace of this descriptor has at the same path, whatever its container wrote there: no link is followed.
    OfProcess(OwnedFd),
    /// A new file system, made inside the container's namespaces.
    New {
        /// `proc`, `tmpfs`, …
        kind: String,
        /// Options as pairs; an empty value is a flag.
        options: Vec<(String, String)>,
    },
}

/// Where output is logged, and how.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct LogSpec {
    /// Absolute path of the newest file.
    pub path: std::path::PathBuf,
    /// Bytes after which a new file is begun.
    pub max_size: u64,
    /// Files kept, the newest among them.
    pub max_files: u32,
    /// How entries are written.
    pub format: hoist_model::container::LogFormat,
    /// A JSON object that goes with every entry of json-file, or nothing.
    pub attributes: String,
    /// Bytes that may wait to be written, beyond which lines are dropped; without, the container waits.
    pub buffer: Option<u64>,
}

impl LogSpec {
    /// A json-file log that nothing special is asked of.
    #[must_use]
    pub fn json_file(path: std::path::PathBuf, max_size: u64, max_files: u32) -> Self {
        Self {
            path,
            max_size,
            max_files,
            format: hoist_model::container::LogFormat::JsonFile,
            attributes: String::new(),
            buffer: None,
        }
    }
}
