//! `HostConfig` as inspect shows it (API 1.55). Which empty lists are `null` and which `[]` is Docker's.

use std::collections::BTreeMap;

use hoist_model::container::{
    ContainerSpec, DeviceMapping, DeviceRequest, IoThrottle, IoThrottleKind, NamespaceMode,
    RestartPolicy, Ulimit,
};
use serde::Serialize;

use super::mounts::{Mount, mount_to_wire};
use super::ports::{PortBinding, bindings_to_wire};
use super::security::{namespace_text, network_mode_text};

/// /dev/shm where nobody asked for another size, bytes.
const DEFAULT_SHM: i64 = 64 << 20;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HostConfig<'a> {
    binds: Option<&'a [String]>,
    #[serde(rename = "ContainerIDFile")]
    container_id_file: &'a str,
    log_config: LogConfig<'a>,
    network_mode: String,
    port_bindings: BTreeMap<String, Vec<PortBinding>>,
    restart_policy: RestartPolicyShown,
    auto_remove: bool,
    volume_driver: &'a str,
    volumes_from: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<Mount>,
    console_size: [u16; 2],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    cap_add: Option<&'a [String]>,
    cap_drop: Option<&'a [String]>,
    cgroupns_mode: String,
    dns: Vec<String>,
    dns_options: &'a [String],
    dns_search: &'a [String],
    extra_hosts: Option<&'a [String]>,
    group_add: Option<&'a [String]>,
    ipc_mode: String,
    cgroup: &'static str,
    links: Option<&'a [String]>,
    oom_score_adj: i64,
    pid_mode: String,
    privileged: bool,
    publish_all_ports: bool,
    readonly_rootfs: bool,
    security_opt: Option<&'a [String]>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tmpfs: &'a BTreeMap<String, String>,
    #[serde(rename = "UTSMode")]
    uts_mode: String,
    userns_mode: &'a str,
    shm_size: i64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sysctls: &'a BTreeMap<String, String>,
    runtime: &'a str,
    isolation: &'a str,
    cpu_shares: i64,
    memory: i64,
    nano_cpus: i64,
    cgroup_parent: &'a str,
    blkio_weight: u16,
    blkio_weight_device: Vec<WeightDevice<'a>>,
    blkio_device_read_bps: Vec<Throttle<'a>>,
    blkio_device_write_bps: Vec<Throttle<'a>>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    blkio_device_read_iops: Vec<Throttle<'a>>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    blkio_device_write_iops: Vec<Throttle<'a>>,
    cpu_period: i64,
    cpu_quota: i64,
    cpu_realtime_period: i64,
    cpu_realtime_runtime: i64,
    cpuset_cpus: &'a str,
    cpuset_mems: &'a str,
    devices: Vec<Device<'a>>,
    device_cgroup_rules: Option<&'a [String]>,
    device_requests: Option<Vec<DeviceRequestShown<'a>>>,
    memory_reservation: i64,
    memory_swap: i64,
    memory_swappiness: Option<i64>,
    oom_kill_disable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<bool>,
    pids_limit: Option<i64>,
    ulimits: Vec<UlimitShown<'a>>,
    cpu_count: u8,
    cpu_percent: u8,
    #[serde(rename = "IOMaximumIOps")]
    io_maximum_iops: u8,
    #[serde(rename = "IOMaximumBandwidth")]
    io_maximum_bandwidth: u8,
    masked_paths: Option<Vec<&'a str>>,
    readonly_paths: Option<Vec<&'a str>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LogConfig<'a> {
    #[serde(rename = "Type")]
    kind: &'a str,
    config: &'a BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RestartPolicyShown {
    name: &'static str,
    maximum_retry_count: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct WeightDevice<'a> {
    path: &'a str,
    weight: u16,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Throttle<'a> {
    path: &'a str,
    rate: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Device<'a> {
    path_on_host: &'a str,
    path_in_container: &'a str,
    cgroup_permissions: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeviceRequestShown<'a> {
    driver: &'a str,
    count: i64,
    #[serde(rename = "DeviceIDs")]
    device_ids: Option<&'a [String]>,
    capabilities: &'a [Vec<String>],
    options: &'a BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UlimitShown<'a> {
    name: &'a str,
    hard: i64,
    soft: i64,
}

/// What Docker masks by default (moby `daemon/pkg/oci/defaults.go`); shown where the caller left it open.
const MASKED: [&str; 12] = [
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

/// What Docker makes read-only by default.
const READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

fn some<T>(list: &[T]) -> Option<&[T]> {
    (!list.is_empty()).then_some(list)
}

/// Tells of what a container was asked to be; `private_cgroup` is whether cgroup namespaces are private by default.
pub(crate) fn host_config<'a>(
    spec: &'a ContainerSpec,
    links: &'a [String],
    private_cgroup: bool,
) -> HostConfig<'a> {
    let security = &spec.security;
    let resources = &spec.resources;
    let network = &spec.network;
    let throttles = |kind: IoThrottleKind| {
        resources
            .io_throttles
            .iter()
            .filter(|throttle| throttle.kind == kind)
            .map(|IoThrottle { path, rate, .. }| Throttle { path, rate: *rate })
            .collect()
    };
    HostConfig {
        binds: some(&spec.binds),
        container_id_file: &spec.container_id_file,
        log_config: LogConfig {
            kind: &spec.log.driver,
            config: &spec.log.options,
        },
        network_mode: network_mode_text(&network.mode),
        port_bindings: bindings_to_wire(&network.ports),
        restart_policy: RestartPolicyShown {
            name: spec.restart_policy.name(),
            maximum_retry_count: match spec.restart_policy {
                RestartPolicy::OnFailure { maximum_retries } => maximum_retries,
                _ => 0,
            },
        },
        auto_remove: spec.auto_remove,
        volume_driver: &spec.named.volume_driver,
        volumes_from: some(&spec.volumes_from),
        mounts: spec
            .mounts
            .iter()
            .filter(|mount| !mount.from_bind)
            .map(mount_to_wire)
            .collect(),
        console_size: spec
            .console_size
            .map_or([0, 0], |(rows, columns)| [rows, columns]),
        annotations: &spec.annotations,
        cap_add: some(&security.cap_add),
        cap_drop: some(&security.cap_drop),
        cgroupns_mode: match &security.cgroup {
            Some(mode) => namespace_text(mode, "private"),
            None if private_cgroup => "private".to_owned(),
            None => "host".to_owned(),
        },
        dns: network.dns.iter().map(ToString::to_string).collect(),
        dns_options: &network.dns_options,
        dns_search: &network.dns_search,
        extra_hosts: some(&network.extra_hosts),
        group_add: some(&spec.process.additional_groups),
        ipc_mode: namespace_text(&security.ipc, "private"),
        cgroup: "",
        links: some(links),
        oom_score_adj: security.oom_score_adj,
        pid_mode: namespace_text(&security.pid, ""),
        privileged: security.privileged,
        publish_all_ports: network.publish_all,
        readonly_rootfs: security.readonly_rootfs,
        security_opt: some(&security.options),
        tmpfs: &spec.tmpfs,
        uts_mode: namespace_text(&security.uts, ""),
        userns_mode: &security.userns,
        shm_size: match (spec.shm_size, &security.ipc) {
            (0, NamespaceMode::Private | NamespaceMode::Shareable) => DEFAULT_SHM,
            (size, _) => size,
        },
        sysctls: &security.sysctls,
        runtime: match spec.named.runtime.as_str() {
            "" => "hoist",
            given => given,
        },
        isolation: &spec.named.isolation,
        cpu_shares: resources.cpu_shares,
        memory: resources.memory,
        nano_cpus: resources.nano_cpus,
        cgroup_parent: &spec.cgroup_parent,
        blkio_weight: resources.blkio_weight,
        blkio_weight_device: resources
            .io_weights
            .iter()
            .map(|device| WeightDevice {
                path: &device.path,
                weight: device.weight,
            })
            .collect(),
        blkio_device_read_bps: throttles(IoThrottleKind::ReadBytes),
        blkio_device_write_bps: throttles(IoThrottleKind::WriteBytes),
        blkio_device_read_iops: throttles(IoThrottleKind::ReadOperations),
        blkio_device_write_iops: throttles(IoThrottleKind::WriteOperations),
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_realtime_period: 0,
        cpu_realtime_runtime: 0,
        cpuset_cpus: &resources.cpuset_cpus,
        cpuset_mems: &resources.cpuset_mems,
        devices: resources.devices.iter().map(device).collect(),
        device_cgroup_rules: some(&resources.device_cgroup_rules),
        device_requests: some(&resources.device_requests)
            .map(|requests| requests.iter().map(device_request).collect()),
        memory_reservation: resources.memory_reservation,
        memory_swap: resources.memory_swap,
        memory_swappiness: resources.memory_swappiness,
        oom_kill_disable: resources.oom_kill_disable,
        init: spec.init,
        pids_limit: resources.pids_limit,
        ulimits: resources.ulimits.iter().map(ulimit).collect(),
        cpu_count: 0,
        cpu_percent: 0,
        io_maximum_iops: 0,
        io_maximum_bandwidth: 0,
        masked_paths: paths(&security.masked_paths, &MASKED, security.privileged),
        readonly_paths: paths(&security.readonly_paths, &READONLY, security.privileged),
    }
}

fn paths<'a>(
    asked: &'a Option<Vec<String>>,
    default: &[&'a str],
    privileged: bool,
) -> Option<Vec<&'a str>> {
    match asked {
        Some(paths) => Some(paths.iter().map(String::as_str).collect()),
        None if privileged => None,
        None => Some(default.to_vec()),
    }
}

fn device(device: &DeviceMapping) -> Device<'_> {
    Device {
        path_on_host: &device.path_on_host,
        path_in_container: &device.path_in_container,
        cgroup_permissions: &device.permissions,
    }
}

fn device_request(request: &DeviceRequest) -> DeviceRequestShown<'_> {
    DeviceRequestShown {
        driver: &request.driver,
        count: request.count,
        device_ids: some(&request.device_ids),
        capabilities: &request.capabilities,
        options: &request.options,
    }
}

fn ulimit(limit: &Ulimit) -> UlimitShown<'_> {
    UlimitShown {
        name: &limit.name,
        hard: limit.hard,
        soft: limit.soft,
    }
}
