//! What the façade has to know of the node it speaks for: fixed at start, handed in by the composition root.

use std::collections::BTreeMap;

use hoist_model::Timestamp;
use hoist_model::container::{LogConfig, NamespaceMode, SecuritySpec};

use crate::ApiVersion;

/// The Docker release whose API is matched: `Version` of `/version`, `ServerVersion` of `/info`, the `Server` header.
pub const DOCKER_RELEASE: &str = "29.7.2";

/// How AppArmor stands among the security options of a node where it confines containers.
pub const APPARMOR: &str = "name=apparmor";

/// One engine as `/version` and `/info` tell of it.
#[derive(Clone, Debug)]
pub struct Node {
    /// Host name.
    pub name: String,
    /// Identity of the data root, a UUID.
    pub id: String,
    /// Hoist's own version.
    pub version: String,
    /// The commit it was built of; may be empty.
    pub git_commit: String,
    /// When it was built, RFC 3339; may be empty.
    pub build_time: String,
    /// When the engine started.
    pub started_at: Timestamp,
    /// Where everything is kept.
    pub data_root: String,
    /// How layers are kept: `erofs` or `directory`.
    pub storage_driver: String,
    /// Pairs of facts about it, as `docker info` lists them.
    pub storage_status: Vec<(String, String)>,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// Release of the kernel, as uname(2) says.
    pub kernel_version: String,
    /// `Debian GNU/Linux 12 (bookworm)`.
    pub operating_system: String,
    /// `12`; may be empty.
    pub operating_system_version: String,
    /// Machine as uname(2) says: `x86_64`.
    pub architecture: String,
    /// Number of CPUs.
    pub cpus: usize,
    /// The CPUs there are, as the kernel lists them: `0-3,8`.
    pub online_cpus: String,
    /// The memory nodes there are, in the same form.
    pub memory_nodes: String,
    /// Bytes of memory.
    pub memory: u64,
    /// Whether the kernel and its cgroups can do these; false adds Docker's warning.
    pub limits: LimitSupport,
    /// Security features: `name=seccomp,profile=builtin`, `name=apparmor`, `name=cgroupns`.
    pub security_options: Vec<String>,
    /// `key=value` labels of the daemon.
    pub labels: Vec<String>,
    /// Whether it runs in debug mode.
    pub debug: bool,
    /// Whether IPv4 packets are forwarded.
    pub ipv4_forwarding: bool,
    /// Registries reached without verified TLS, `host[:port]` or CIDR.
    pub insecure_registries: Vec<String>,
    /// Mirrors of Docker Hub, URLs.
    pub registry_mirrors: Vec<String>,
    /// Where output goes when a container does not say.
    pub log: LogConfig,
    /// What containers get that do not say.
    pub defaults: ContainerDefaults,
    /// Whether experimental features are said to be on.
    pub experimental: bool,
    /// The oldest API that is served here.
    pub min_api_version: ApiVersion,
    /// Pools automatic subnets are taken of: base and prefix length.
    pub address_pools: Vec<(String, u8)>,
    /// Proxies of the daemon: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`.
    pub proxies: BTreeMap<String, String>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// What containers get, when they are made, where the caller says nothing (daemon.json `default-shm-size`,
/// `default-ipc-mode`, `default-cgroupns-mode`, `cgroup-parent`, `no-new-privileges`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerDefaults {
    /// Bytes of /dev/shm; 0 is Docker's 64 MiB.
    pub shm_size: i64,
    /// Private or shareable.
    pub ipc: NamespaceMode,
    /// Private or host; `None` is host on v1 and hybrid, private on v2.
    pub cgroup: Option<NamespaceMode>,
    /// Parent of their control groups; empty is the engine's own.
    pub cgroup_parent: String,
    /// Whether no execve may gain privileges.
    pub no_new_privileges: bool,
}

/// What the host's cgroups can limit.
#[derive(Clone, Copy, Debug)]
pub struct LimitSupport {
    /// Memory.
    pub memory: bool,
    /// Swap.
    pub swap: bool,
    /// Turning the out-of-memory killer off.
    pub oom_kill_disable: bool,
    /// CFS period.
    pub cpu_period: bool,
    /// CFS quota.
    pub cpu_quota: bool,
    /// CPU weights.
    pub cpu_shares: bool,
    /// CPU sets.
    pub cpuset: bool,
    /// Number of processes.
    pub pids: bool,
    /// Swappiness per container.
    pub memory_swappiness: bool,
    /// Block IO throttles.
    pub blkio: bool,
    /// Block IO weights.
    pub blkio_weight: bool,
    /// Block IO weights of devices.
    pub blkio_weight_device: bool,
}

impl LimitSupport {
    /// A kernel that can do everything.
    pub const ALL: Self = Self {
        memory: true,
        swap: true,
        oom_kill_disable: true,
        cpu_period: true,
        cpu_quota: true,
        cpu_shares: true,
        cpuset: true,
        pids: true,
        memory_swappiness: true,
        blkio: true,
        blkio_weight: true,
        blkio_weight_device: true,
    };
}

impl Node {
    /// What confines a container here: nothing where AppArmor is off.
    pub(crate) fn apparmor_profile<'a>(&self, security: &'a SecuritySpec) -> &'a str {
        let is_on = self.security_options.iter().any(|o| o == APPARMOR);
        match (&security.apparmor, is_on) {
            (Some(profile), _) if !profile.is_empty() => profile,
            (_, false) => "",
            (_, true) if security.privileged => "unconfined",
            (_, true) => "docker-default",
        }
    }

    /// Whether a container has a cgroup namespace of its own where nothing else was asked for (moby: version 2).
    pub(crate) fn private_cgroup_namespace(&self) -> bool {
        self.cgroup_version == "2"
    }
}
