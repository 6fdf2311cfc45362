//! What the engine hands over for one start: everything resolved, nothing left to look up.
//!
//! Paths are inside the container unless a field says otherwise; files of the host come as descriptors.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use hoist_model::{ContainerId, ExecId};

use crate::capabilities::ProcessCapabilities;
use crate::cgroup::CgroupHandle;
use crate::defaults::MountAttributes;
use crate::devices::DeviceNode;
use crate::seccomp::Program;

/// A container to be started.
#[derive(Debug)]
pub struct LaunchSpec {
    /// Its identity; names the directory of its monitor.
    pub id: ContainerId,
    /// Its root file system: a detached mount.
    pub rootfs: OwnedFd,
    /// Whether the root is made read-only once everything is mounted.
    pub read_only_rootfs: bool,
    /// Its namespaces. The mount namespace is always its own.
    pub namespaces: Namespaces,
    /// Host name, for a UTS namespace of its own.
    pub hostname: Option<String>,
    /// NIS domain name, for a UTS namespace of its own.
    pub domain_name: Option<String>,
    /// Mounts, in the order in which they are made.
    pub mounts: Vec<Mount>,
    /// Device nodes to make, after the mounts.
    pub devices: Vec<DeviceNode>,
    /// Symbolic links to make, after the mounts: path and what it says. One that is there already stays.
    pub links: Vec<(String, String)>,
    /// Paths to hide. One that is not there is no error.
    pub masked_paths: Vec<String>,
    /// Paths to make read-only with everything mounted below. One that is not there is no error.
    pub read_only_paths: Vec<String>,
    /// Kernel parameters as `net.ipv4.ip_forward` and value.
    pub sysctls: Vec<(String, String)>,
    /// What runs.
    pub process: Process,
    /// Ways into its control groups; `None` leaves it in the engine's.
    pub cgroups: Option<CgroupHandle>,
    /// `memory.events` (v2) or `memory.oom_control` (v1), open for reading: read after the end for `oom_kill`.
    pub oom_counter: Option<OwnedFd>,
    /// Where its output is logged; `None` logs nothing.
    pub log: Option<LogSpec>,
    /// Streams that carry output from the first byte on.
    pub attached: Vec<(Streams, UnixStream)>,
}

/// A further process in a running container.
#[derive(Debug)]
pub struct ExecSpec {
    /// Its identity.
    pub id: ExecId,
    /// The container.
    pub container: ContainerId,
    /// What runs. An empty working directory means `/`.
    pub process: Process,
    /// Ways into the container's control groups.
    pub cgroups: Option<CgroupHandle>,
    /// Streams that carry output from the first byte on.
    pub attached: Vec<(Streams, UnixStream)>,
}

/// A program and the circumstances it runs in.
#[derive(Clone, Debug)]
pub struct Process {
    /// Program and arguments. A program without a slash is looked up in the `PATH` of `env`.
    pub args: Vec<String>,
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// Absolute working directory, made if missing; empty is `/`.
    pub cwd: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// A terminal of this size in place of three pipes.
    pub terminal: Option<WindowSize>,
    /// Whether standard input is a pipe; otherwise it is `/dev/null`. With a terminal input always arrives.
    pub open_stdin: bool,
    /// Whether the end of an attached client's input closes standard input.
    pub stdin_once: bool,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// The five capability sets.
    pub capabilities: ProcessCapabilities,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// `/proc/self/oom_score_adj`; `None` inherits the monitor's, which is 0.
    pub oom_score_adj: Option<i32>,
    /// The system call filter; `None` is unconfined.
    pub seccomp: Option<Arc<Program>>,
}

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// One resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_*` of `getrlimit(2)`; [`Rlimit::resource_by_name`] knows them by name.
    pub resource: u32,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

impl Rlimit {
    /// The number of `nofile`, `RLIMIT_NOFILE` and the like.
    #[must_use]
    pub fn resource_by_name(name: &str) -> Option<u32> {
        const NAMES: [&str; 16] = [
            "cpu",
            "fsize",
            "data",
            "stack",
            "core",
            "rss",
            "nproc",
            "nofile",
            "memlock",
            "as",
            "locks",
            "sigpending",
            "msgqueue",
            "nice",
            "rtprio",
            "rttime",
        ];
        let lower = name.to_ascii_lowercase();
        let plain = lower.strip_prefix("rlimit_").unwrap_or(&lower);
        NAMES
            .iter()
            .position(|known| *known == plain)
            .and_then(|index| u32::try_from(index).ok())
    }
}

/// The namespaces of a container, by kind.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// Process ids.
    pub pid: Namespace,
    /// Network.
    pub network: Namespace,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// The view of the control groups.
    pub cgroup: Namespace,
}

/// One namespace of a container.
#[derive(Debug, Default)]
pub enum Namespace {
    /// A fresh one.
    #[default]
    New,
    /// The engine's.
    Host,
    /// This one: a descriptor of a `/proc/<pid>/ns` file or of a bind mount of one.
    Join(OwnedFd),
}

impl Namespace {
    /// The namespace that a process is in; `kind` is a name in `/proc/<pid>/ns` such as `net`. Blocking.
    pub fn of_process(pid: i32, kind: &str) -> io::Result<Self> {
        let file = File::open(format!("/proc/{pid}/ns/{kind}"))?;
        Ok(Self::Join(file.into()))
    }
}

/// One mount.
#[derive(Debug)]
pub struct Mount {
    /// Where: an absolute path. Made if missing, as a directory or as a file, whichever the source is.
    pub target: String,
    /// What.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Debug)]
pub enum MountSource {
    /// A detached mount (`open_tree` with `OPEN_TREE_CLONE`, or `fsmount`) with its attributes and propagation set.
    Detached(OwnedFd),
    /// A new instance of a kernel file system, made inside the container's namespaces.
    Filesystem {
        /// `proc`, `tmpfs`, `devpts`, `sysfs`, `mqueue`, `cgroup2` and so on.
        fs_type: String,
        /// The source, as the mount table shows it.
        source: String,
        /// `fsconfig` options as key and value; an empty value is a flag.
        options: Vec<(String, String)>,
        /// Per-mount attributes.
        attributes: MountAttributes,
    },
}

/// Where and how output is logged, in Docker's json-file format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSpec {
    /// The newest file, a path of the host. Its directory exists.
    pub path: PathBuf,
    /// Bytes after which a file is rotated.
    pub max_size: u64,
    /// How many files there are at most, the newest included; at least 1.
    pub max_files: u32,
}

impl LogSpec {
    /// Five files of 10 MB, so that no container fills the disk by talking.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            max_size: 10_000_000,
            max_files: 5,
        }
    }
}

/// Which streams a client takes and gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// What the client sends becomes standard input.
    pub stdin: bool,
    /// The client gets standard output.
    pub stdout: bool,
    /// The client gets standard error.
    pub stderr: bool,
}
