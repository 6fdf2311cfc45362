//! The whole of inspect, and what older versions see of it.

use expect_test::{Expect, expect};
use hoist_engine::LogLost;

use super::*;
use crate::wire::testing::{NOW, node, record};
use hoist_model::Timestamp;
use hoist_model::container::{ExitedState, StartFailure};

fn inspected(record: &ContainerRecord, minor: u16) -> Value {
    inspect(
        record,
        &Around {
            links: &[],
            version: ApiVersion::minor(minor),
            node: &node(),
            etc: Path::new("/c/abab"),
            log_path: "/c/abab/abab-json.log",
            log_lost: LogLost::default(),
            sizes: None,
            network_id: &|name| format!("id of {name}"),
            manifest: None,
        },
    )
}

const WEB: &str = r#"{"Image":"busybox","Cmd":["sleep","1"],"Env":["A=b"],"Labels":{"l":"v"},
    "ExposedPorts":{"443/tcp":{}},
    "HostConfig":{"Binds":["data:/data:z"],"PortBindings":{"80/tcp":[{"HostPort":"8080"}]},"Memory":67108864,
    "Mounts":[{"Type":"tmpfs","Target":"/t"}],"Tmpfs":{"/u":"size=1m"}}}"#;

#[test]
fn the_newest_shape() {
    let text = serde_json::to_string_pretty(&inspected(&record(WEB), 55)).unwrap();
    let expected: Expect = expect![[r#"
        {
          "Id": "abababababababababababababababababababababababababababababababab",
          "Created": "2024-11-23T22:12:20Z",
          "Path": "sleep",
          "Args": [
            "1"
          ],
          "State": {
            "Status": "running",
            "Running": true,
            "Paused": false,
            "Restarting": false,
            "OOMKilled": false,
            "Dead": false,
            "Pid": 4242,
            "ExitCode": 0,
            "Error": "",
            "StartedAt": "2024-11-23T22:13:17Z",
            "FinishedAt": "0001-01-01T00:00:00Z"
          },
          "Image": "sha256:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
          "ResolvConfPath": "/c/abab/resolv.conf",
          "HostnamePath": "/c/abab/hostname",
          "HostsPath": "/c/abab/hosts",
          "LogPath": "/c/abab/abab-json.log",
          "Name": "/web",
          "RestartCount": 0,
          "Driver": "erofs",
          "Platform": "linux",
          "MountLabel": "",
          "ProcessLabel": "",
          "AppArmorProfile": "",
          "ExecIDs": null,
          "HostConfig": {
            "Binds": [
              "data:/data:z"
            ],
            "ContainerIDFile": "",
            "LogConfig": {
              "Type": "json-file",
              "Config": {}
            },
            "NetworkMode": "bridge",
            "PortBindings": {
              "80/tcp": [
                {
                  "HostIp": "",
                  "HostPort": "8080"
                }
              ]
            },
            "RestartPolicy": {
              "Name": "no",
              "MaximumRetryCount": 0
            },
            "AutoRemove": false,
            "VolumeDriver": "",
            "VolumesFrom": null,
            "Mounts": [
              {
                "Type": "tmpfs",
                "Target": "/t"
              }
            ],
            "ConsoleSize": [
              0,
              0
            ],
            "CapAdd": null,
            "CapDrop": null,
            "CgroupnsMode": "private",
            "Dns": [],
            "DnsOptions": [],
            "DnsSearch": [],
            "ExtraHosts": null,
            "GroupAdd": null,
            "IpcMode": "private",
            "Cgroup": "",
            "Links": null,
            "OomScoreAdj": 0,
            "PidMode": "",
            "Privileged": false,
            "PublishAllPorts": false,
            "ReadonlyRootfs": false,
            "SecurityOpt": null,
            "Tmpfs": {
              "/u": "size=1m"
            },
            "UTSMode": "",
            "UsernsMode": "",
            "ShmSize": 67108864,
            "Runtime": "hoist",
            "Isolation": "",
            "CpuShares": 0,
            "Memory": 67108864,
            "NanoCpus": 0,
            "CgroupParent": "",
            "BlkioWeight": 0,
            "BlkioWeightDevice": [],
            "BlkioDeviceReadBps": [],
            "BlkioDeviceWriteBps": [],
            "BlkioDeviceReadIOps": [],
            "BlkioDeviceWriteIOps": [],
            "CpuPeriod": 0,
            "CpuQuota": 0,
            "CpuRealtimePeriod": 0,
            "CpuRealtimeRuntime": 0,
            "CpusetCpus": "",
            "CpusetMems": "",
            "Devices": [],
            "DeviceCgroupRules": null,
            "DeviceRequests": null,
            "MemoryReservation": 0,
            "MemorySwap": 134217728,
            "MemorySwappiness": null,
            "OomKillDisable": false,
            "PidsLimit": null,
            "Ulimits": [],
            "CpuCount": 0,
            "CpuPercent": 0,
            "IOMaximumIOps": 0,
            "IOMaximumBandwidth": 0,
            "MaskedPaths": [
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
              "/sys/firmware"
            ],
            "ReadonlyPaths": [
              "/proc/bus",
              "/proc/fs",
              "/proc/irq",
              "/proc/sys",
              "/proc/sysrq-trigger"
            ]
          },
          "Storage": {
            "RootFS": {
              "Snapshot": {
                "Name": "erofs"
              }
            }
          },
          "Mounts": [
            {
              "Type": "volume",
              "Name": "data",
              "Source": "/volumes/data/_data",
              "Destination": "/data",
              "Driver": "local",
              "Mode": "z",
              "RW": true,
              "Propagation": ""
            }
          ],
          "Config": {
            "Hostname": "abababababab",
            "Domainname": "",
            "User": "",
            "AttachStdin": false,
            "AttachStdout": false,
            "AttachStderr": false,
            "ExposedPorts": {
              "443/tcp": {},
              "80/tcp": {}
            },
            "Tty": false,
            "OpenStdin": false,
            "StdinOnce": false,
            "Env": [
              "A=b"
            ],
            "Cmd": [
              "sleep",
              "1"
            ],
            "Image": "busybox",
            "Volumes": null,
            "WorkingDir": "",
            "Entrypoint": null,
            "OnBuild": null,
            "Labels": {
              "l": "v"
            }
          },
          "NetworkSettings": {
            "SandboxID": "0404040404040404040404040404040404040404040404040404040404040404",
            "SandboxKey": "/proc/4242/ns/net",
            "Ports": {
              "443/tcp": null,
              "80/tcp": [
                {
                  "HostIp": "0.0.0.0",
                  "HostPort": "8080"
                }
              ]
            },
            "Networks": {
              "bridge": {
                "IPAMConfig": null,
                "Links": null,
                "Aliases": null,
                "DriverOpts": null,
                "GwPriority": 0,
                "NetworkID": "0202020202020202020202020202020202020202020202020202020202020202",
                "EndpointID": "0303030303030303030303030303030303030303030303030303030303030303",
                "Gateway": "172.18.0.1",
                "IPAddress": "172.18.0.2",
                "MacAddress": "02:42:ac:12:00:02",
                "IPPrefixLen": 16,
                "IPv6Gateway": "",
                "GlobalIPv6Address": "",
                "GlobalIPv6PrefixLen": 0,
                "DNSNames": null
              }
            }
          }
        }"#]];
    expected.assert_eq(&text);
}

#[test]
fn what_versions_differ_in() {
    let newest = inspected(&record(WEB), 55);
    let mut text = String::new();
    for minor in [51, 47, 43, 40, 24] {
        let older = inspected(&record(WEB), minor);
        let mut lines = Vec::new();
        differences(&newest, &older, "", &mut lines);
        text.push_str(&format!("1.{minor}\n  {}\n", lines.join("\n  ")));
    }
    expect![[r#"
        1.51
          -/Storage
          +/NetworkSettings/Bridge
          +/NetworkSettings/HairpinMode
          +/NetworkSettings/LinkLocalIPv6Address
          +/NetworkSettings/LinkLocalIPv6PrefixLen
          +/NetworkSettings/SecondaryIPAddresses
          +/NetworkSettings/SecondaryIPv6Addresses
          +/NetworkSettings/EndpointID
          +/NetworkSettings/Gateway
          +/NetworkSettings/GlobalIPv6Address
          +/NetworkSettings/GlobalIPv6PrefixLen
          +/NetworkSettings/IPAddress
          +/NetworkSettings/IPPrefixLen
          +/NetworkSettings/IPv6Gateway
          +/NetworkSettings/MacAddress
          +/GraphDriver
        1.47
          -/Storage
          -/NetworkSettings/Networks/bridge/GwPriority
          +/NetworkSettings/Bridge
          +/NetworkSettings/HairpinMode
          +/NetworkSettings/LinkLocalIPv6Address
          +/NetworkSettings/LinkLocalIPv6PrefixLen
          +/NetworkSettings/SecondaryIPAddresses
          +/NetworkSettings/SecondaryIPv6Addresses
          +/NetworkSettings/EndpointID
          +/NetworkSettings/Gateway
          +/NetworkSettings/GlobalIPv6Address
          +/NetworkSettings/GlobalIPv6PrefixLen
          +/NetworkSettings/IPAddress
          +/NetworkSettings/IPPrefixLen
          +/NetworkSettings/IPv6Gateway
          +/NetworkSettings/MacAddress
          +/GraphDriver
        1.43
          -/Storage
          -/NetworkSettings/Networks/bridge/GwPriority
          -/NetworkSettings/Networks/bridge/DNSNames
          +/NetworkSettings/Bridge
          +/NetworkSettings/HairpinMode
          +/NetworkSettings/LinkLocalIPv6Address
          +/NetworkSettings/LinkLocalIPv6PrefixLen
          +/NetworkSettings/SecondaryIPAddresses
          +/NetworkSettings/SecondaryIPv6Addresses
          +/NetworkSettings/EndpointID
          +/NetworkSettings/Gateway
          +/NetworkSettings/GlobalIPv6Address
          +/NetworkSettings/GlobalIPv6PrefixLen
          +/NetworkSettings/IPAddress
          +/NetworkSettings/IPPrefixLen
          +/NetworkSettings/IPv6Gateway
          +/NetworkSettings/MacAddress
          +/GraphDriver
        1.40
          -/HostConfig/ConsoleSize
          -/HostConfig/CgroupnsMode
          -/Storage
          -/NetworkSettings/Networks/bridge/GwPriority
          -/NetworkSettings/Networks/bridge/DNSNames
          +/NetworkSettings/Bridge
          +/NetworkSettings/HairpinMode
          +/NetworkSettings/LinkLocalIPv6Address
          +/NetworkSettings/LinkLocalIPv6PrefixLen
          +/NetworkSettings/SecondaryIPAddresses
          +/NetworkSettings/SecondaryIPv6Addresses
          +/NetworkSettings/EndpointID
          +/NetworkSettings/Gateway
          +/NetworkSettings/GlobalIPv6Address
          +/NetworkSettings/GlobalIPv6PrefixLen
          +/NetworkSettings/IPAddress
          +/NetworkSettings/IPPrefixLen
          +/NetworkSettings/IPv6Gateway
          +/NetworkSettings/MacAddress
          +/GraphDriver
        1.24
          -/HostConfig/ConsoleSize
          -/HostConfig/CgroupnsMode
          -/Storage
          -/NetworkSettings/Networks/bridge/GwPriority
          -/NetworkSettings/Networks/bridge/DNSNames
          +/NetworkSettings/Bridge
          +/NetworkSettings/HairpinMode
          +/NetworkSettings/LinkLocalIPv6Address
          +/NetworkSettings/LinkLocalIPv6PrefixLen
          +/NetworkSettings/SecondaryIPAddresses
          +/NetworkSettings/SecondaryIPv6Addresses
          +/NetworkSettings/EndpointID
          +/NetworkSettings/Gateway
          +/NetworkSettings/GlobalIPv6Address
          +/NetworkSettings/GlobalIPv6PrefixLen
          +/NetworkSettings/IPAddress
          +/NetworkSettings/IPPrefixLen
          +/NetworkSettings/IPv6Gateway
          +/NetworkSettings/MacAddress
          +/GraphDriver
    "#]]
    .assert_eq(&text);
}

fn differences(newest: &Value, older: &Value, path: &str, lines: &mut Vec<String>) {
    let (Value::Object(newest), Value::Object(older)) = (newest, older) else {
        return;
    };
    for (name, value) in newest {
        match older.get(name) {
            None => lines.push(format!("-{path}/{name}")),
            Some(other) => differences(value, other, &format!("{path}/{name}"), lines),
        }
    }
    for name in older.keys().filter(|name| !newest.contains_key(*name)) {
        lines.push(format!("+{path}/{name}"));
    }
}

#[test]
fn states() {
    let state_of = |state: ContainerState| {
        let mut record = record(WEB);
        record.state = state;
        inspected(&record, 55)["State"].to_string()
    };
    let created = ContainerState::Created {
        failure: Some(StartFailure {
            exit_code: 127,
            message: "no such file".to_owned(),
        }),
    };
    let exited = ContainerState::Exited(ExitedState {
        exit_code: 137,
        oom_killed: true,
        started_at: Timestamp::from_seconds(NOW - 10),
        finished_at: Timestamp::from_nanos(NOW * 1_000_000_000 + 5),
        error: String::new(),
    });
    let text = [created, exited, ContainerState::Removing]
        .map(state_of)
        .join("\n");
    expect![[r#"
        {"Status":"created","Running":false,"Paused":false,"Restarting":false,"OOMKilled":false,"Dead":false,"Pid":0,"ExitCode":127,"Error":"no such file","StartedAt":"0001-01-01T00:00:00Z","FinishedAt":"0001-01-01T00:00:00Z"}
        {"Status":"exited","Running":false,"Paused":false,"Restarting":false,"OOMKilled":true,"Dead":false,"Pid":0,"ExitCode":137,"Error":"","StartedAt":"2024-11-23T22:13:10Z","FinishedAt":"2024-11-23T22:13:20.000000005Z"}
        {"Status":"removing","Running":false,"Paused":false,"Restarting":false,"OOMKilled":false,"Dead":false,"Pid":0,"ExitCode":0,"Error":"","StartedAt":"0001-01-01T00:00:00Z","FinishedAt":"0001-01-01T00:00:00Z"}"#]].assert_eq(&text);
}

#[test]
fn a_host_network_has_the_hosts_name_and_no_ports() {
    let mut record = record(r#"{"Image":"i","HostConfig":{"NetworkMode":"host"}}"#);
    record.attachments.clear();
    let value = inspected(&record, 55);
    assert_eq!(value["Config"]["Hostname"], "host");
    assert_eq!(value["HostConfig"]["NetworkMode"], "host");
    assert_eq!(
        value["NetworkSettings"]["Networks"]["host"]["NetworkID"],
        "id of host"
    );
    assert_eq!(value["NetworkSettings"]["Ports"], serde_json::json!({}));
}
