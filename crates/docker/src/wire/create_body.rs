//! The body of `POST /containers/create` as clients send it (API 1.55, `ContainerConfig`, `HostConfig`,
//! `NetworkingConfig`).
//!
//! Every member may be absent or null, as Go reads it; unknown members are ignored, wrong types refused.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// A list of words, or one word alone (Go's `strslice.StrSlice`).
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Words {
    One(String),
    Many(Vec<String>),
}

impl Words {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(word) => vec![word],
            Self::Many(words) => words,
        }
    }
}

pub(crate) type Keys = BTreeMap<String, IgnoredAny>;
pub(crate) type Texts = BTreeMap<String, String>;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CreateBody {
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) attach_stdin: Option<bool>,
    pub(crate) attach_stdout: Option<bool>,
    pub(crate) attach_stderr: Option<bool>,
    pub(crate) exposed_ports: Option<Keys>,
    pub(crate) tty: Option<bool>,
    pub(crate) open_stdin: Option<bool>,
    pub(crate) stdin_once: Option<bool>,
    pub(crate) env: Option<Vec<String>>,
    pub(crate) cmd: Option<Words>,
    pub(crate) healthcheck: Option<HealthcheckBody>,
    pub(crate) image: Option<String>,
    pub(crate) volumes: Option<Keys>,
    pub(crate) working_dir: Option<String>,
    pub(crate) entrypoint: Option<Words>,
    pub(crate) network_disabled: Option<bool>,
    /// Before API 1.44 the only place for it.
    pub(crate) mac_address: Option<String>,
    pub(crate) on_build: Option<Vec<String>>,
    pub(crate) labels: Option<Texts>,
    pub(crate) stop_signal: Option<String>,
    pub(crate) stop_timeout: Option<i64>,
    pub(crate) shell: Option<Words>,
    pub(crate) host_config: Option<HostConfigBody>,
    pub(crate) networking_config: Option<NetworkingBody>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HealthcheckBody {
    pub(crate) test: Option<Words>,
    pub(crate) interval: Option<i64>,
    pub(crate) timeout: Option<i64>,
    pub(crate) retries: Option<i64>,
    pub(crate) start_period: Option<i64>,
    pub(crate) start_interval: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HostConfigBody {
    pub(crate) binds: Option<Vec<String>>,
    #[serde(rename = "ContainerIDFile")]
    pub(crate) container_id_file: Option<String>,
    pub(crate) log_config: Option<LogConfigBody>,
    pub(crate) network_mode: Option<String>,
    pub(crate) port_bindings: Option<BTreeMap<String, Option<Vec<PortBindingBody>>>>,
    pub(crate) restart_policy: Option<RestartPolicyBody>,
    pub(crate) auto_remove: Option<bool>,
    pub(crate) volume_driver: Option<String>,
    pub(crate) volumes_from: Option<Vec<String>>,
    pub(crate) mounts: Option<Vec<MountBody>>,
    pub(crate) console_size: Option<[u16; 2]>,
    pub(crate) annotations: Option<Texts>,
    pub(crate) cap_add: Option<Words>,
    pub(crate) cap_drop: Option<Words>,
    pub(crate) cgroupns_mode: Option<String>,
    pub(crate) dns: Option<Vec<String>>,
    pub(crate) dns_options: Option<Vec<String>>,
    pub(crate) dns_search: Option<Vec<String>>,
    pub(crate) extra_hosts: Option<Vec<String>>,
    pub(crate) group_add: Option<Vec<String>>,
    pub(crate) ipc_mode: Option<String>,
    pub(crate) links: Option<Vec<String>>,
    pub(crate) oom_score_adj: Option<i64>,
    pub(crate) pid_mode: Option<String>,
    pub(crate) privileged: Option<bool>,
    pub(crate) publish_all_ports: Option<bool>,
    pub(crate) readonly_rootfs: Option<bool>,
    pub(crate) security_opt: Option<Vec<String>>,
    pub(crate) storage_opt: Option<Texts>,
    pub(crate) tmpfs: Option<Texts>,
    #[serde(rename = "UTSMode")]
    pub(crate) uts_mode: Option<String>,
    pub(crate) userns_mode: Option<String>,
    pub(crate) shm_size: Option<i64>,
    pub(crate) sysctls: Option<Texts>,
    pub(crate) runtime: Option<String>,
    pub(crate) isolation: Option<String>,
    pub(crate) masked_paths: Option<Vec<String>>,
    pub(crate) readonly_paths: Option<Vec<String>>,
    #[serde(flatten)]
    pub(crate) resources: ResourcesBody,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ResourcesBody {
    pub(crate) cpu_shares: Option<i64>,
    pub(crate) cpu_count: Option<i64>,
    pub(crate) cpu_percent: Option<i64>,
    #[serde(rename = "IOMaximumIOps")]
    pub(crate) io_maximum_iops: Option<i64>,
    #[serde(rename = "IOMaximumBandwidth")]
    pub(crate) io_maximum_bandwidth: Option<i64>,
    /// Until API 1.41.
    pub(crate) kernel_memory: Option<i64>,
    #[serde(rename = "KernelMemoryTCP")]
    pub(crate) kernel_memory_tcp: Option<i64>,
    pub(crate) memory: Option<i64>,
    pub(crate) cgroup_parent: Option<String>,
    pub(crate) blkio_weight: Option<u16>,
    pub(crate) blkio_weight_device: Option<Vec<WeightDeviceBody>>,
    pub(crate) blkio_device_read_bps: Option<Vec<ThrottleBody>>,
    pub(crate) blkio_device_write_bps: Option<Vec<ThrottleBody>>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub(crate) blkio_device_read_iops: Option<Vec<ThrottleBody>>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub(crate) blkio_device_write_iops: Option<Vec<ThrottleBody>>,
    pub(crate) cpu_period: Option<i64>,
    pub(crate) cpu_quota: Option<i64>,
    pub(crate) cpu_realtime_period: Option<i64>,
    pub(crate) cpu_realtime_runtime: Option<i64>,
    pub(crate) cpuset_cpus: Option<String>,
    pub(crate) cpuset_mems: Option<String>,
    pub(crate) devices: Option<Vec<DeviceBody>>,
    pub(crate) device_cgroup_rules: Option<Vec<String>>,
    pub(crate) device_requests: Option<Vec<DeviceRequestBody>>,
    pub(crate) memory_reservation: Option<i64>,
    pub(crate) memory_swap: Option<i64>,
    pub(crate) memory_swappiness: Option<i64>,
    pub(crate) nano_cpus: Option<i64>,
    pub(crate) oom_kill_disable: Option<bool>,
    pub(crate) init: Option<bool>,
    pub(crate) pids_limit: Option<i64>,
    pub(crate) ulimits: Option<Vec<UlimitBody>>,
}

/// The body of `POST /containers/{id}/update` (API 1.55, `UpdateConfig`).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UpdateBody {
    pub(crate) restart_policy: Option<RestartPolicyBody>,
    #[serde(flatten)]
    pub(crate) resources: ResourcesBody,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LogConfigBody {
    #[serde(rename = "Type")]
    pub(crate) kind: Option<String>,
    pub(crate) config: Option<Texts>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PortBindingBody {
    pub(crate) host_ip: Option<String>,
    pub(crate) host_port: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RestartPolicyBody {
    pub(crate) name: Option<String>,
    pub(crate) maximum_retry_count: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct MountBody {
    #[serde(rename = "Type")]
    pub(crate) kind: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) read_only: Option<bool>,
    pub(crate) bind_options: Option<BindOptionsBody>,
    pub(crate) volume_options: Option<VolumeOptionsBody>,
    pub(crate) image_options: Option<ImageOptionsBody>,
    pub(crate) tmpfs_options: Option<TmpfsOptionsBody>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct BindOptionsBody {
    pub(crate) propagation: Option<String>,
    pub(crate) non_recursive: Option<bool>,
    pub(crate) create_mountpoint: Option<bool>,
    pub(crate) read_only_non_recursive: Option<bool>,
    pub(crate) read_only_force_recursive: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumeOptionsBody {
    pub(crate) no_copy: Option<bool>,
    pub(crate) labels: Option<Texts>,
    pub(crate) driver_config: Option<DriverConfigBody>,
    pub(crate) subpath: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DriverConfigBody {
    pub(crate) name: Option<String>,
    pub(crate) options: Option<Texts>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImageOptionsBody {
    pub(crate) subpath: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TmpfsOptionsBody {
    pub(crate) size_bytes: Option<i64>,
    pub(crate) mode: Option<u32>,
    pub(crate) options: Option<Vec<Vec<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct WeightDeviceBody {
    pub(crate) path: Option<String>,
    pub(crate) weight: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ThrottleBody {
    pub(crate) path: Option<String>,
    pub(crate) rate: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeviceBody {
    pub(crate) path_on_host: Option<String>,
    pub(crate) path_in_container: Option<String>,
    pub(crate) cgroup_permissions: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeviceRequestBody {
    pub(crate) driver: Option<String>,
    pub(crate) count: Option<i64>,
    #[serde(rename = "DeviceIDs")]
    pub(crate) device_ids: Option<Vec<String>>,
    pub(crate) capabilities: Option<Vec<Vec<String>>>,
    pub(crate) options: Option<Texts>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UlimitBody {
    pub(crate) name: Option<String>,
    pub(crate) soft: Option<i64>,
    pub(crate) hard: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NetworkingBody {
    pub(crate) endpoints_config: Option<BTreeMap<String, Option<EndpointBody>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct EndpointBody {
    #[serde(rename = "IPAMConfig")]
    pub(crate) ipam_config: Option<EndpointIpamBody>,
    pub(crate) links: Option<Vec<String>>,
    pub(crate) aliases: Option<Vec<String>>,
    pub(crate) mac_address: Option<String>,
    pub(crate) driver_opts: Option<Texts>,
    pub(crate) gw_priority: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct EndpointIpamBody {
    #[serde(rename = "IPv4Address")]
    pub(crate) ipv4_address: Option<String>,
    #[serde(rename = "IPv6Address")]
    pub(crate) ipv6_address: Option<String>,
    #[serde(rename = "LinkLocalIPs")]
    pub(crate) link_local_ips: Option<Vec<String>>,
}
