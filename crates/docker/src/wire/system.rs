//! `/version` and `/info` (API 1.55, `SystemVersion`, `SystemInfo`).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::shape::{Member, shape, since, until};
use crate::node::DOCKER_RELEASE;
use crate::{ApiVersion, Node};

/// What of `/info` came and went.
const MEMBERS: &[Member] = &[
    since(41, "DefaultAddressPools"),
    since(42, "Warnings"),
    since(44, "CDISpecDirs"),
    since(46, "Containerd"),
    since(49, "FirewallBackend"),
    since(50, "DiscoveredDevices"),
    until(50, "BridgeNfIptables"),
    until(50, "BridgeNfIp6tables"),
    until(49, "RegistryConfig/AllowNondistributableArtifactsCIDRs"),
    until(49, "RegistryConfig/AllowNondistributableArtifactsHostnames"),
    until(42, "KernelMemory"),
    until(44, "ClusterStore"),
];

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Version<'a> {
    platform: Platform,
    version: &'static str,
    api_version: String,
    #[serde(rename = "MinAPIVersion")]
    min_api_version: String,
    os: &'static str,
    arch: String,
    components: [Component<'a>; 2],
    git_commit: &'a str,
    // Docker's clients print it; there is no Go in here.
    go_version: &'static str,
    kernel_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    build_time: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Platform {
    name: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Component<'a> {
    name: &'static str,
    version: &'a str,
    details: BTreeMap<&'static str, String>,
}

/// Go's name of an architecture, as `/version` and images write it; `/info` has uname(2)'s.
fn go_architecture(node: &Node) -> String {
    hoist_model::Platform {
        architecture: node.architecture.clone(),
        os: "linux".to_owned(),
        ..hoist_model::Platform::default()
    }
    .to_string()
    .parse::<hoist_model::Platform>()
    .map_or_else(
        |_| node.architecture.clone(),
        |platform| platform.architecture,
    )
}

/// `/version`.
pub(crate) fn version(node: &Node) -> Version<'_> {
    let architecture = go_architecture(node);
    let engine = BTreeMap::from([
        ("ApiVersion", ApiVersion::NEWEST.to_string()),
        ("MinAPIVersion", node.min_api_version.to_string()),
        ("Arch", architecture.clone()),
        ("BuildTime", node.build_time.clone()),
        ("Experimental", node.experimental.to_string()),
        ("GitCommit", node.git_commit.clone()),
        ("GoVersion", String::new()),
        ("KernelVersion", node.kernel_version.clone()),
        ("Os", "linux".to_owned()),
    ]);
    let own = BTreeMap::from([("GitCommit", node.git_commit.clone())]);
    Version {
        platform: Platform {
            name: format!("Hoist {}", node.version),
        },
        version: DOCKER_RELEASE,
        api_version: ApiVersion::NEWEST.to_string(),
        min_api_version: node.min_api_version.to_string(),
        os: "linux",
        arch: architecture,
        components: [
            Component {
                name: "Engine",
                version: DOCKER_RELEASE,
                details: engine,
            },
            Component {
                name: "hoist",
                version: &node.version,
                details: own,
            },
        ],
        git_commit: &node.git_commit,
        go_version: "",
        kernel_version: &node.kernel_version,
        build_time: &node.build_time,
    }
}

/// What of `/info` is counted when it is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) running: usize,
    pub(crate) paused: usize,
    pub(crate) stopped: usize,
    pub(crate) images: usize,
    pub(crate) files: usize,
    pub(crate) now: String,
    pub(crate) warnings: Vec<String>,
}

/// `/info`.
pub(crate) fn info(node: &Node, counts: &Counts, version: ApiVersion) -> Value {
    let limits = node.limits;
    let proxy = |name: &str| node.proxies.get(name).cloned().unwrap_or_default();
    let pools: Vec<Value> = node
        .address_pools
        .iter()
        .map(|(base, size)| json!({ "Base": base, "Size": size }))
        .collect();
    let status: Vec<[&str; 2]> = node
        .storage_status
        .iter()
        .map(|(name, value)| [name.as_str(), value.as_str()])
        .collect();
    let identity = json!({
        "ID": node.id,
        "Containers": counts.running + counts.paused + counts.stopped,
        "ContainersRunning": counts.running,
        "ContainersPaused": counts.paused,
        "ContainersStopped": counts.stopped,
        "Images": counts.images,
        "Driver": node.storage_driver,
        "DriverStatus": status,
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": null,
            "Log": ["json-file", "local", "none"],
        },
    });
    let abilities = json!({
        "MemoryLimit": limits.memory,
        "SwapLimit": limits.swap,
        "KernelMemory": false,
        "CpuCfsPeriod": limits.cpu_period,
        "CpuCfsQuota": limits.cpu_quota,
        "CPUShares": limits.cpu_shares,
        "CPUSet": limits.cpuset,
        "PidsLimit": limits.pids,
        "IPv4Forwarding": node.ipv4_forwarding,
        "BridgeNfIptables": false,
        "BridgeNfIp6tables": false,
        "Debug": node.debug,
        "NFd": counts.files,
        "OomKillDisable": limits.oom_kill_disable,
        "NGoroutines": 0,
        "SystemTime": counts.now,
        "LoggingDriver": node.log.driver,
        "CgroupDriver": node.cgroup_driver,
        "CgroupVersion": node.cgroup_version,
        "NEventsListener": 0,
    });
    let machine = json!({
        "KernelVersion": node.kernel_version,
        "OperatingSystem": node.operating_system,
        "OSVersion": node.operating_system_version,
        "OSType": "linux",
        "Architecture": node.architecture,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": registries(node),
        "NCPU": node.cpus,
        "MemTotal": node.memory,
        "GenericResources": null,
        "DockerRootDir": node.data_root,
        "HttpProxy": proxy("HTTP_PROXY"),
        "HttpsProxy": proxy("HTTPS_PROXY"),
        "NoProxy": proxy("NO_PROXY"),
        "Name": node.name,
        "Labels": node.labels,
        "ExperimentalBuild": node.experimental,
        "ServerVersion": DOCKER_RELEASE,
        "ClusterStore": "",
    });
    let state = json!({
        "Runtimes": { "hoist": { "path": "" } },
        "DefaultRuntime": "hoist",
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": false,
            "Error": "",
            "RemoteManagers": null,
        },
        "LiveRestoreEnabled": true,
        "Isolation": "",
        // Docker's word for what it cannot tell; here there is no such program.
        "InitBinary": "N/A",
        "ContainerdCommit": { "ID": "N/A" },
        "RuncCommit": { "ID": "N/A" },
        "InitCommit": { "ID": "N/A" },
        "SecurityOptions": node.security_options,
        "DefaultAddressPools": pools,
        "FirewallBackend": { "Driver": "nftables" },
        "CDISpecDirs": [],
        "DiscoveredDevices": [],
        "Warnings": warnings(node, counts),
    });
    let mut whole = serde_json::Map::new();
    for part in [identity, abilities, machine, state] {
        if let Value::Object(part) = part {
            whole.extend(part);
        }
    }
    let mut value = Value::Object(whole);
    shape(&mut value, version, MEMBERS);
    value
}

fn registries(node: &Node) -> Value {
    let mut indexes = serde_json::Map::new();
    indexes.insert(
        "docker.io".to_owned(),
        json!({ "Name": "docker.io", "Mirrors": node.registry_mirrors, "Secure": true, "Official": true }),
    );
    let mut cidrs = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    for registry in &node.insecure_registries {
        if registry.contains('/') {
            cidrs.push(registry.clone());
        } else {
            indexes.insert(
                registry.clone(),
                json!({ "Name": registry, "Mirrors": [], "Secure": false, "Official": false }),
            );
        }
    }
    let mirrors = (!node.registry_mirrors.is_empty()).then_some(&node.registry_mirrors);
    json!({
        "AllowNondistributableArtifactsCIDRs": null,
        "AllowNondistributableArtifactsHostnames": null,
        "InsecureRegistryCIDRs": cidrs,
        "IndexConfigs": indexes,
        "Mirrors": mirrors,
    })
}

/// Docker's warnings about what the host cannot do (moby `daemon/info_unix.go`), then the node's own.
fn warnings(node: &Node, counts: &Counts) -> Option<Vec<String>> {
    let limits = node.limits;
    let mut warnings: Vec<String> = [
        (limits.memory, "No memory limit support"),
        (limits.swap, "No swap limit support"),
        (limits.cpu_quota, "No cpu cfs quota support"),
        (limits.cpu_period, "No cpu cfs period support"),
        (limits.cpu_shares, "No cpu shares support"),
        (limits.cpuset, "No cpuset support"),
        (limits.pids, "No pids limit support"),
        (node.ipv4_forwarding, "IPv4 forwarding is disabled"),
    ]
    .into_iter()
    .filter(|(can, _)| !can)
    .map(|(_, warning)| format!("WARNING: {warning}"))
    .collect();
    warnings.extend(node.warnings.iter().chain(&counts.warnings).cloned());
    (!warnings.is_empty()).then_some(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::node;
    use expect_test::expect;

    #[test]
    fn the_version_names_docker_and_hoist() {
        let text = serde_json::to_string_pretty(&version(&node())).unwrap();
        expect![[r#"
            {
              "Platform": {
                "Name": "Hoist 0.1.0"
              },
              "Version": "29.7.2",
              "ApiVersion": "1.55",
              "MinAPIVersion": "1.24",
              "Os": "linux",
              "Arch": "amd64",
              "Components": [
                {
                  "Name": "Engine",
                  "Version": "29.7.2",
                  "Details": {
                    "ApiVersion": "1.55",
                    "Arch": "amd64",
                    "BuildTime": "2024-11-23T00:00:00Z",
                    "Experimental": "false",
                    "GitCommit": "abcdef0",
                    "GoVersion": "",
                    "KernelVersion": "6.18.0",
                    "MinAPIVersion": "1.24",
                    "Os": "linux"
                  }
                },
                {
                  "Name": "hoist",
                  "Version": "0.1.0",
                  "Details": {
                    "GitCommit": "abcdef0"
                  }
                }
              ],
              "GitCommit": "abcdef0",
              "GoVersion": "",
              "KernelVersion": "6.18.0",
              "BuildTime": "2024-11-23T00:00:00Z"
            }"#]]
        .assert_eq(&text);
    }

    #[test]
    fn info_tells_what_the_cli_prints() {
        let counts = Counts {
            running: 1,
            stopped: 2,
            images: 3,
            ..Counts::default()
        };
        let value = info(&node(), &counts, ApiVersion::NEWEST);
        expect![[r#"
            {
              "ID": "11111111-2222-3333-4444-555555555555",
              "Containers": 3,
              "ContainersRunning": 1,
              "ContainersPaused": 0,
              "ContainersStopped": 2,
              "Images": 3,
              "Driver": "erofs",
              "DriverStatus": [
                [
                  "Backing Filesystem",
                  "ext4"
                ]
              ],
              "Plugins": {
                "Volume": [
                  "local"
                ],
                "Network": [
                  "bridge",
                  "host",
                  "null"
                ],
                "Authorization": null,
                "Log": [
                  "json-file",
                  "local",
                  "none"
                ]
              },
              "MemoryLimit": true,
              "SwapLimit": true,
              "CpuCfsPeriod": true,
              "CpuCfsQuota": true,
              "CPUShares": true,
              "CPUSet": true,
              "PidsLimit": true,
              "IPv4Forwarding": true,
              "Debug": false,
              "NFd": 0,
              "OomKillDisable": true,
              "NGoroutines": 0,
              "SystemTime": "",
              "LoggingDriver": "json-file",
              "CgroupDriver": "cgroupfs",
              "CgroupVersion": "2",
              "NEventsListener": 0,
              "KernelVersion": "6.18.0",
              "OperatingSystem": "Debian GNU/Linux 12 (bookworm)",
              "OSVersion": "12",
              "OSType": "linux",
              "Architecture": "x86_64",
              "IndexServerAddress": "https://index.docker.io/v1/",
              "RegistryConfig": {
                "InsecureRegistryCIDRs": [
                  "::1/128",
                  "127.0.0.0/8",
                  "10.0.0.0/8"
                ],
                "IndexConfigs": {
                  "docker.io": {
                    "Name": "docker.io",
                    "Mirrors": [],
                    "Secure": true,
                    "Official": true
                  },
                  "r.example:5000": {
                    "Name": "r.example:5000",
                    "Mirrors": [],
                    "Secure": false,
                    "Official": false
                  }
                },
                "Mirrors": null
              },
              "NCPU": 2,
              "MemTotal": 8589934592,
              "GenericResources": null,
              "DockerRootDir": "/var/lib/hoist",
              "HttpProxy": "",
              "HttpsProxy": "",
              "NoProxy": "",
              "Name": "host",
              "Labels": [
                "a=b"
              ],
              "ExperimentalBuild": false,
              "ServerVersion": "29.7.2",
              "Runtimes": {
                "hoist": {
                  "path": ""
                }
              },
              "DefaultRuntime": "hoist",
              "Swarm": {
                "NodeID": "",
                "NodeAddr": "",
                "LocalNodeState": "inactive",
                "ControlAvailable": false,
                "Error": "",
                "RemoteManagers": null
              },
              "LiveRestoreEnabled": true,
              "Isolation": "",
              "InitBinary": "N/A",
              "ContainerdCommit": {
                "ID": "N/A"
              },
              "RuncCommit": {
                "ID": "N/A"
              },
              "InitCommit": {
                "ID": "N/A"
              },
              "SecurityOptions": [
                "name=seccomp,profile=builtin"
              ],
              "DefaultAddressPools": [
                {
                  "Base": "172.18.0.0/16",
                  "Size": 16
                }
              ],
              "FirewallBackend": {
                "Driver": "nftables"
              },
              "CDISpecDirs": [],
              "DiscoveredDevices": [],
              "Warnings": [
                "something to know"
              ]
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&value).unwrap());
        let old = info(&node(), &counts, ApiVersion::minor(24));
        assert!(old.get("Warnings").is_none() && old.get("KernelMemory").is_some());
    }
}
