//! `GET /containers/{id}/json` (API 1.55, `ContainerInspectResponse`).

use std::collections::BTreeMap;
use std::path::Path;

use hoist_engine::LogLost;
use hoist_engine::records::{ContainerRecord, MountPoint};
use hoist_model::container::{ContainerState, MountSource, NetworkMode, ProbeResult};
use hoist_model::{Digest, ZERO_TIME};
use serde::Serialize;
use serde_json::Value;

use super::host_config::{HostConfig, host_config};
use super::manifest_descriptor::ManifestDescriptor;
use super::network_settings::{NetworkSettings, network_settings};
use super::shape::{Member, shape, since, until};
use super::{Empty, Health};
use crate::{ApiVersion, Node};

/// Which members came and went (moby `api/docs/CHANGELOG.md`).
const MEMBERS: &[Member] = &[
    until(52, "GraphDriver"),
    since(52, "Storage"),
    until(52, "NetworkSettings/Bridge"),
    until(52, "NetworkSettings/HairpinMode"),
    until(52, "NetworkSettings/LinkLocalIPv6Address"),
    until(52, "NetworkSettings/LinkLocalIPv6PrefixLen"),
    until(52, "NetworkSettings/SecondaryIPAddresses"),
    until(52, "NetworkSettings/SecondaryIPv6Addresses"),
    until(52, "NetworkSettings/EndpointID"),
    until(52, "NetworkSettings/Gateway"),
    until(52, "NetworkSettings/GlobalIPv6Address"),
    until(52, "NetworkSettings/GlobalIPv6PrefixLen"),
    until(52, "NetworkSettings/IPAddress"),
    until(52, "NetworkSettings/IPPrefixLen"),
    until(52, "NetworkSettings/IPv6Gateway"),
    until(52, "NetworkSettings/MacAddress"),
    since(44, "NetworkSettings/Networks/*/DNSNames"),
    since(48, "NetworkSettings/Networks/*/GwPriority"),
    until(44, "Config/MacAddress"),
    since(42, "HostConfig/ConsoleSize"),
    since(43, "HostConfig/Annotations"),
    since(41, "HostConfig/CgroupnsMode"),
    since(48, "ImageManifestDescriptor"),
];

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Container<'a> {
    id: &'a str,
    created: String,
    path: String,
    args: Vec<String>,
    state: State<'a>,
    image: String,
    resolv_conf_path: String,
    hostname_path: String,
    hosts_path: String,
    log_path: &'a str,
    /// Ours, where any line is in no log file.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_lost: Option<Lost>,
    name: String,
    restart_count: u32,
    driver: &'a str,
    platform: &'a str,
    mount_label: &'static str,
    process_label: &'static str,
    app_armor_profile: &'a str,
    #[serde(rename = "ExecIDs")]
    exec_ids: Option<Vec<&'a str>>,
    host_config: HostConfig<'a>,
    graph_driver: GraphDriver<'a>,
    storage: Storage<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    mounts: Vec<Mounted<'a>>,
    config: Config<'a>,
    network_settings: NetworkSettings,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_manifest_descriptor: Option<ManifestDescriptor>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct State<'a> {
    status: &'static str,
    running: bool,
    paused: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    dead: bool,
    pid: i32,
    exit_code: i32,
    error: &'a str,
    started_at: String,
    finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthShown<'a>>,
}

/// API `Health`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthShown<'a> {
    status: &'static str,
    failing_streak: u32,
    log: Vec<ProbeShown<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ProbeShown<'a> {
    start: String,
    end: String,
    exit_code: i32,
    output: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GraphDriver<'a> {
    pub(crate) data: Option<()>,
    pub(crate) name: &'a str,
}

#[derive(Debug, Serialize)]
struct Storage<'a> {
    #[serde(rename = "RootFS")]
    rootfs: RootFs<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs<'a> {
    snapshot: Snapshot<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Snapshot<'a> {
    name: &'a str,
}

/// One of `Mounts` (API `MountPoint`).
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Mounted<'a> {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    source: &'a str,
    destination: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    driver: &'a str,
    mode: &'a str,
    #[serde(rename = "RW")]
    writable: bool,
    propagation: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config<'a> {
    hostname: String,
    domainname: &'a str,
    user: &'a str,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: BTreeMap<String, Empty>,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: &'a [String],
    cmd: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Health>,
    image: &'a str,
    volumes: Option<BTreeMap<&'a str, Empty>>,
    working_dir: &'a str,
    entrypoint: Option<&'a [String]>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    network_disabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac_address: Option<&'a str>,
    on_build: Option<&'a [String]>,
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    shell: &'a [String],
}

/// Lines that are in no log file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Lost {
    /// Did not fit in the buffer of non-blocking mode.
    dropped: u64,
    /// Could not be written.
    unwritten: u64,
}

/// What inspect needs beyond the record.
pub(crate) struct Around<'a> {
    pub(crate) version: ApiVersion,
    pub(crate) node: &'a Node,
    /// Where its hostname, hosts and resolv.conf are.
    pub(crate) etc: &'a Path,
    /// Empty where there is none.
    pub(crate) log_path: &'a str,
    pub(crate) log_lost: LogLost,
    /// As `HostConfig.Links` tells of them.
    pub(crate) links: &'a [String],
    /// Bytes of the writable layer and of the whole root file system, if asked for.
    pub(crate) sizes: Option<(u64, u64)>,
    pub(crate) network_id: &'a dyn Fn(&str) -> String,
    /// The manifest of its image, with its digest, where the image came by one and is still there.
    pub(crate) manifest: Option<(&'a Digest, &'a [u8])>,
}

/// The whole reply.
pub(crate) fn inspect(record: &ContainerRecord, around: &Around<'_>) -> Value {
    let spec = &record.spec;
    let mut arguments = spec.process.arguments().into_iter();
    let beside = |name: &str| around.etc.join(name).to_string_lossy().into_owned();
    let node = around.node;
    let container = Container {
        id: record.id.as_str(),
        created: record.created_at.to_string(),
        path: arguments.next().unwrap_or_default(),
        args: arguments.collect(),
        state: state(record),
        image: spec
            .image_id
            .as_ref()
            .map(|id| id.as_str().to_owned())
            .unwrap_or_default(),
        resolv_conf_path: beside("resolv.conf"),
        hostname_path: beside("hostname"),
        hosts_path: beside("hosts"),
        log_path: around.log_path,
        log_lost: (around.log_lost != LogLost::default()).then_some(Lost {
            dropped: around.log_lost.dropped,
            unwritten: around.log_lost.unwritten,
        }),
        name: format!("/{}", record.name),
        restart_count: record.restart_count,
        driver: &node.storage_driver,
        platform: &record.platform.os,
        mount_label: "",
        process_label: "",
        app_armor_profile: node.apparmor_profile(&spec.security),
        exec_ids: (!record.exec_ids.is_empty())
            .then(|| record.exec_ids.iter().map(|id| id.as_str()).collect()),
        host_config: host_config(spec, around.links, node.private_cgroup_namespace()),
        graph_driver: GraphDriver {
            data: None,
            name: &node.storage_driver,
        },
        storage: Storage {
            rootfs: RootFs {
                snapshot: Snapshot {
                    name: &node.storage_driver,
                },
            },
        },
        size_rw: around.sizes.map(|(writable, _)| writable),
        size_root_fs: around.sizes.map(|(_, whole)| whole),
        mounts: mounts(record),
        config: config(record, node),
        network_settings: network_settings(record, around.network_id),
        image_manifest_descriptor: around
            .manifest
            .map(|(digest, bytes)| ManifestDescriptor::of(digest, bytes, &record.platform)),
    };
    let mut value = serde_json::to_value(container).expect("a struct of plain members is JSON");
    shape(&mut value, around.version, MEMBERS);
    value
}

/// `Mounts`, by destination.
pub(crate) fn mounts(record: &ContainerRecord) -> Vec<Mounted<'_>> {
    // What `Tmpfs` asks for is no mount point of Docker's; a tmpfs among `Mounts` is.
    let hidden = |point: &MountPoint| {
        record.spec.mounts.iter().any(|mount| {
            mount.from_bind
                && mount.target == point.destination
                && matches!(mount.source, MountSource::Tmpfs { .. })
        })
    };
    let shown = record.mounts.iter().filter(|point| !hidden(point));
    shown.map(mounted).collect()
}

fn mounted(mount: &MountPoint) -> Mounted<'_> {
    Mounted {
        kind: mount.kind.as_str(),
        name: &mount.name,
        source: &mount.source,
        destination: &mount.destination,
        driver: &mount.driver,
        mode: &mount.mode,
        writable: mount.writable,
        propagation: &mount.propagation,
    }
}

fn state(record: &ContainerRecord) -> State<'_> {
    let zero = || ZERO_TIME.to_owned();
    let mut state = State {
        status: record.state.status(),
        running: false,
        paused: false,
        restarting: false,
        oom_killed: false,
        dead: false,
        pid: 0,
        exit_code: 0,
        error: "",
        started_at: zero(),
        finished_at: zero(),
        health: record.health.as_ref().map(|health| HealthShown {
            status: health.status.as_str(),
            failing_streak: health.failing_streak,
            log: health.log.iter().map(probe).collect(),
        }),
    };
    match &record.state {
        ContainerState::Created { failure } => {
            if let Some(failure) = failure {
                state.exit_code = failure.exit_code;
                state.error = &failure.message;
            }
        }
        ContainerState::Starting | ContainerState::Removing => {}
        ContainerState::Running(running) => {
            state.running = true;
            state.paused = running.paused;
            state.oom_killed = running.oom_killed;
            state.pid = running.pid;
            state.started_at = running.started_at.to_string();
        }
        ContainerState::Restarting(exited) | ContainerState::Exited(exited) => {
            state.restarting = matches!(record.state, ContainerState::Restarting(_));
            // Docker counts what will run again as running.
            state.running = state.restarting;
            state.oom_killed = exited.oom_killed;
            state.exit_code = exited.exit_code;
            state.error = &exited.error;
            state.started_at = exited.started_at.to_string();
            state.finished_at = exited.finished_at.to_string();
        }
    }
    state
}

fn probe(result: &ProbeResult) -> ProbeShown<'_> {
    ProbeShown {
        start: result.started_at.to_string(),
        end: result.ended_at.to_string(),
        exit_code: result.exit_code,
        output: &result.output,
    }
}

fn config<'a>(record: &'a ContainerRecord, node: &'a Node) -> Config<'a> {
    let spec = &record.spec;
    let process = &spec.process;
    let hostname = match (&spec.network.mode, spec.hostname.as_str()) {
        (NetworkMode::Host, "") => node.name.clone(),
        (NetworkMode::Container(_), "") => String::new(),
        (_, "") => record.id.short().to_owned(),
        (_, name) => name.to_owned(),
    };
    Config {
        hostname,
        domainname: &spec.domainname,
        user: &process.user,
        attach_stdin: spec.attach.stdin,
        attach_stdout: spec.attach.stdout,
        attach_stderr: spec.attach.stderr,
        exposed_ports: spec
            .exposed_ports
            .iter()
            .map(|port| (port.to_string(), Empty {}))
            .collect(),
        tty: process.terminal,
        open_stdin: process.open_stdin,
        stdin_once: process.stdin_once,
        env: &process.environment,
        cmd: process.command.as_deref(),
        healthcheck: spec.healthcheck.as_ref().map(Health::from),
        image: &spec.image,
        volumes: (!spec.anonymous_volumes.is_empty()).then(|| {
            spec.anonymous_volumes
                .iter()
                .map(|target| (target.as_str(), Empty {}))
                .collect()
        }),
        working_dir: &process.working_directory,
        entrypoint: process.entrypoint.as_deref(),
        network_disabled: spec.network.disabled,
        mac_address: spec.network.mac_address.as_deref(),
        on_build: (!spec.on_build.is_empty()).then_some(&spec.on_build),
        labels: &spec.labels,
        stop_signal: match spec.stop_signal_text.as_str() {
            "" => spec.stop_signal.map(|signal| signal.to_string()),
            text => Some(text.to_owned()),
        },
        stop_timeout: spec.stop_timeout,
        shell: &spec.shell,
    }
}

#[cfg(test)]
mod tests;
