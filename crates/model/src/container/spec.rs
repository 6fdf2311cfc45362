//! What a container was asked to be: fixed at create, resolved against its image.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{MountSpec, PortKey, PortRequest, Resources, RestartPolicy};
use crate::digest::ImageId;
use crate::ids::ContainerId;
use crate::signal::Signal;

/// The whole request, after the image's defaults were merged in.
///
/// Source: Docker Engine API 1.55, `ContainerCreate` body (`ContainerConfig`, `HostConfig`, `NetworkingConfig`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The image as the caller named it; inspect shows it.
    pub image: String,
    /// The image itself, resolved at create.
    pub image_id: Option<ImageId>,
    /// What runs.
    pub process: ProcessSpec,
    /// Name inside the UTS namespace; empty is the short id.
    pub hostname: String,
    /// NIS domain name; may be empty.
    pub domainname: String,
    /// User's key/value pairs, the image's merged in.
    pub labels: BTreeMap<String, String>,
    /// Ports the image or the caller says the process listens on.
    pub exposed_ports: Vec<PortKey>,
    /// Paths that get an anonymous volume when nothing else is mounted there.
    pub anonymous_volumes: Vec<String>,
    /// Signal that asks the process to end; `None` is SIGTERM.
    pub stop_signal: Option<Signal>,
    /// The same as written, for inspect; empty where nobody wrote one.
    #[serde(default)]
    pub stop_signal_text: String,
    /// Seconds between the stop signal and SIGKILL; `None` is the engine's default of 10, negative waits for ever.
    pub stop_timeout: Option<i64>,
    /// What is mounted where, beyond the defaults.
    pub mounts: Vec<MountSpec>,
    /// The binds as the caller wrote them (`src:dst:opts`), kept for inspect.
    pub binds: Vec<String>,
    /// tmpfs mounts of `--tmpfs` as written, path to options, kept for inspect; `mounts` holds them too.
    pub tmpfs: BTreeMap<String, String>,
    /// Containers whose mounts are taken over, `name[:ro|:rw]`.
    pub volumes_from: Vec<String>,
    /// Limits.
    pub resources: Resources,
    /// Network membership and published ports.
    pub network: NetworkSpec,
    /// Namespaces and privileges.
    pub security: SecuritySpec,
    /// What happens after the process ended.
    pub restart_policy: RestartPolicy,
    /// Whether the container goes away when it stopped.
    pub auto_remove: bool,
    /// Whether a tiny init is PID 1.
    pub init: Option<bool>,
    /// Bytes of /dev/shm; 0 is 64 MiB.
    pub shm_size: i64,
    /// Where output goes.
    pub log: LogConfig,
    /// Attached streams as asked at create; inspect shows them.
    pub attach: AttachFlags,
    /// Rows and columns to give the terminal before the process starts.
    pub console_size: Option<(u16, u16)>,
    /// Path of the parent cgroup; empty is the engine's own.
    pub cgroup_parent: String,
    /// Health probe; `None` has none.
    pub healthcheck: Option<Healthcheck>,
    /// OCI annotations.
    pub annotations: BTreeMap<String, String>,
    /// `ONBUILD` triggers carried from the image's configuration, shown by inspect.
    pub on_build: Vec<String>,
    /// The shell of shell-form commands, carried from the image's configuration.
    pub shell: Vec<String>,
    /// File the caller asked the id to be written to; inspect shows it.
    pub container_id_file: String,
    /// The platform asked for, `os/arch[/variant]`.
    pub platform: Option<String>,
    /// What has one meaning here by any of its names.
    #[serde(default)]
    pub named: NamedAlternatives,
}

/// Names that a caller may give to what exists once, kept as given for inspect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedAlternatives {
    /// `HostConfig.Runtime`: ours, by its own name or by those that clients know.
    pub runtime: String,
    /// `HostConfig.Isolation`: empty or `default`.
    pub isolation: String,
    /// `HostConfig.VolumeDriver`: any driver, as long as no volume is made with it.
    pub volume_driver: String,
}

/// What runs in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSpec {
    /// Words before the command; `None` where neither caller nor image set any.
    pub entrypoint: Option<Vec<String>>,
    /// The command, or arguments of the entrypoint.
    pub command: Option<Vec<String>>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Absolute path; empty is `/`.
    pub working_directory: String,
    /// `user[:group]` by name or number; empty is root.
    pub user: String,
    /// Whether a terminal is made.
    pub terminal: bool,
    /// Whether stdin stays open.
    pub open_stdin: bool,
    /// Whether stdin closes when its first client leaves.
    pub stdin_once: bool,
    /// Supplementary groups, by name or number.
    pub additional_groups: Vec<String>,
}

impl ProcessSpec {
    /// The words of the execve(2) call: entrypoint, then command.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut words = self.entrypoint.clone().unwrap_or_default();
        words.extend(self.command.iter().flatten().cloned());
        words
    }
}

/// The streams named by `AttachStdin`, `AttachStdout` and `AttachStderr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachFlags {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// How a container is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSpec {
    /// Which network namespace.
    pub mode: NetworkMode,
    /// Whether it was asked for none by `NetworkDisabled`, which inspect tells; the mode is `None` then.
    pub disabled: bool,
    /// Membership settings by network name.
    pub endpoints: BTreeMap<String, EndpointSpec>,
    /// Whether it was taken from the network of its mode.
    pub left: bool,
    /// Ports published on the host.
    pub ports: Vec<PortRequest>,
    /// Publish every exposed port on an ephemeral one.
    pub publish_all: bool,
    /// Nameservers in place of the host's.
    pub dns: Vec<IpAddr>,
    /// Search domains in place of the host's.
    pub dns_search: Vec<String>,
    /// Resolver options in place of the host's.
    pub dns_options: Vec<String>,
    /// `name:address` lines for /etc/hosts; the address may be `host-gateway`.
    pub extra_hosts: Vec<String>,
    /// Links to other containers, `name:alias`.
    pub links: Vec<String>,
    /// The MAC address asked for, if any.
    pub mac_address: Option<String>,
}

/// Which network namespace a container is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// The default bridge.
    #[default]
    Bridge,
    /// Loopback only.
    None,
    /// The host's.
    Host,
    /// That of another container, named or by id as the caller wrote it.
    Container(String),
    /// A user's network, by name or id.
    Network(String),
}

/// Settings of one membership of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSpec {
    /// Extra names on this network.
    pub aliases: Vec<String>,
    /// Address asked for.
    pub ipv4_address: Option<IpAddr>,
    /// Address asked for.
    pub ipv6_address: Option<IpAddr>,
    /// Link-local addresses asked for besides.
    pub link_local_ips: Vec<IpAddr>,
    /// MAC address asked for.
    pub mac_address: Option<String>,
    /// Links, `name:alias`.
    pub links: Vec<String>,
    /// Driver options.
    pub driver_options: BTreeMap<String, String>,
    /// Of the networks that lead out, the one with the highest is the way out.
    pub gateway_priority: i64,
}

impl NetworkSpec {
    /// The names of the networks it is on: that of its mode first, then the others in order. None for whoever shares
    /// another's namespace.
    #[must_use]
    pub fn members(&self) -> Vec<&str> {
        let own = match &self.mode {
            NetworkMode::Bridge => Some("bridge"),
            NetworkMode::None => Some("none"),
            NetworkMode::Host => Some("host"),
            NetworkMode::Network(name) => Some(name.as_str()),
            NetworkMode::Container(_) => return Vec::new(),
        };
        let own = own.filter(|_| !self.left);
        let others = self.endpoints.keys().map(String::as_str);
        own.into_iter()
            .chain(others.filter(|name| Some(*name) != own))
            .collect()
    }
}

/// Namespaces, capabilities and the like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecuritySpec {
    /// Everything allowed.
    pub privileged: bool,
    /// Capabilities beyond the default, as written.
    pub cap_add: Vec<String>,
    /// Capabilities taken from the default, as written.
    pub cap_drop: Vec<String>,
    /// No execve may gain privileges.
    pub no_new_privileges: bool,
    /// Which system calls are allowed.
    pub seccomp: SeccompChoice,
    /// AppArmor profile; `None` is the default one where AppArmor is.
    pub apparmor: Option<String>,
    /// SELinux label options: `disable`, or what earlier engines took, all without effect.
    pub labels: Vec<String>,
    /// `--security-opt` values as written, for inspect.
    pub options: Vec<String>,
    /// Whether it may write to its cgroups; `None` is as its other privileges are.
    pub writable_cgroups: Option<bool>,
    /// Whether the root file system is read-only.
    pub readonly_rootfs: bool,
    /// Paths hidden from the container; `None` is the default list.
    pub masked_paths: Option<Vec<String>>,
    /// Paths made read-only; `None` is the default list.
    pub readonly_paths: Option<Vec<String>>,
    /// Kernel parameters, name to value.
    pub sysctls: BTreeMap<String, String>,
    /// Which PID namespace.
    pub pid: NamespaceMode,
    /// Which IPC namespace.
    pub ipc: NamespaceMode,
    /// Which UTS namespace.
    pub uts: NamespaceMode,
    /// Which cgroup namespace; `None` is host on v1 and hybrid, private on v2.
    pub cgroup: Option<NamespaceMode>,
    /// Which user namespace mode, as written (`host` or empty).
    pub userns: String,
    /// -1000 to 1000.
    pub oom_score_adj: i64,
}

/// Whose namespace is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// A new one.
    #[default]
    Private,
    /// The host's.
    Host,
    /// A new one others may join (IPC).
    Shareable,
    /// None at all (IPC: no /dev/shm).
    None,
    /// That of another container.
    Container(String),
}

/// Which system calls are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompChoice {
    /// The engine's: Docker's default profile where it was told nothing else.
    #[default]
    Default,
    /// Docker's default profile, whatever the engine's is.
    Builtin,
    /// All.
    Unconfined,
    /// The profile whose JSON text this is.
    Profile(String),
}

/// Where output goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// `json-file`, `local`, `none`, …
    pub driver: String,
    /// Driver options.
    pub options: BTreeMap<String, String>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            driver: "json-file".to_owned(),
            options: BTreeMap::new(),
        }
    }
}

/// A health probe; durations in ns, 0 inherits the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `NONE`, or `CMD` / `CMD-SHELL` and words.
    pub test: Vec<String>,
    /// Between probes.
    pub interval: i64,
    /// Of one probe.
    pub timeout: i64,
    /// Failures until unhealthy.
    pub retries: i64,
    /// During which failures do not count.
    pub start_period: i64,
    /// Between probes in the start period.
    pub start_interval: i64,
}

/// Docker's rule for a container's name (API `ContainerCreate`, `name`): `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
#[must_use]
pub fn is_container_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() > 1
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// The hostname a container gets when none was asked for.
#[must_use]
pub fn default_hostname(id: &ContainerId) -> String {
    id.short().to_owned()
}
