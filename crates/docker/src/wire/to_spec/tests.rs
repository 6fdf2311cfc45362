//! Bodies as real clients send them, and what is refused in which words.

use expect_test::{Expect, expect};

use super::*;
use crate::call::parse_json;

fn convert(body: &str, minor: u16) -> Result<(ContainerSpec, Vec<String>), ApiError> {
    convert_with(body, minor, ContainerDefaults::default(), true)
}

fn convert_with(
    body: &str,
    minor: u16,
    defaults: ContainerDefaults,
    private_cgroups: bool,
) -> Result<(ContainerSpec, Vec<String>), ApiError> {
    let body: CreateBody = parse_json(body.as_bytes())?;
    let node = crate::wire::testing::node();
    let context = Context {
        version: ApiVersion::minor(minor),
        capacity: Capacity::of(&node),
        platform: None,
        log: hoist_model::container::LogConfig::default(),
        defaults,
        private_cgroups,
    };
    spec_from_wire(body, &context)
}

#[test]
fn what_the_caller_leaves_open_is_the_engines_default() {
    let defaults = ContainerDefaults {
        shm_size: 5 << 20,
        ipc: NamespaceMode::Shareable,
        cgroup: Some(NamespaceMode::Private),
        cgroup_parent: "/theirs".to_owned(),
        no_new_privileges: true,
    };
    let made = |body: &str, minor: u16, private_cgroups: bool| {
        let defaults = defaults.clone();
        convert_with(body, minor, defaults, private_cgroups)
            .unwrap()
            .0
    };
    let open = made("{}", 55, false);
    assert_eq!(
        (open.shm_size, open.cgroup_parent.as_str()),
        (5 << 20, "/theirs")
    );
    assert_eq!(open.security.ipc, NamespaceMode::Shareable);
    assert_eq!(open.security.cgroup, Some(NamespaceMode::Private));
    assert!(open.security.no_new_privileges && open.security.options.is_empty());
    let said = made(
        r#"{"HostConfig":{"ShmSize":7,"IpcMode":"private","CgroupnsMode":"host","CgroupParent":"/own",
            "SecurityOpt":["no-new-privileges=false"]}}"#,
        55,
        false,
    );
    assert_eq!((said.shm_size, said.cgroup_parent.as_str()), (7, "/own"));
    assert_eq!(said.security.ipc, NamespaceMode::Private);
    assert_eq!(said.security.cgroup, Some(NamespaceMode::Host));
    assert!(!said.security.no_new_privileges);

    // Beside cgroup v1, the privileged and those of older clients share the host's view.
    let privileged = r#"{"HostConfig":{"Privileged":true}}"#;
    assert_eq!(
        made(privileged, 55, false).security.cgroup,
        Some(NamespaceMode::Host)
    );
    assert_eq!(
        made(privileged, 55, true).security.cgroup,
        Some(NamespaceMode::Private)
    );
    assert_eq!(
        made("{}", 40, false).security.cgroup,
        Some(NamespaceMode::Host)
    );
    // What older clients take for granted.
    let old = convert("{}", 39).unwrap().0;
    assert_eq!(old.security.ipc, NamespaceMode::Shareable);
}

#[test]
fn devices_of_drivers_and_no_network_are_noted() {
    let body = r#"{"NetworkDisabled":true,"HostConfig":{"DeviceRequests":[
        {"Driver":"","Count":-1,"Capabilities":[["gpu","compute"]],"Options":{"a":"b"}}]}}"#;
    let (spec, _) = convert(body, 55).unwrap();
    assert!(spec.network.disabled);
    assert_eq!(spec.network.mode, NetworkMode::None);
    let request = &spec.resources.device_requests[0];
    assert_eq!((request.count, request.options["a"].as_str()), (-1, "b"));
    assert_eq!(
        request.to_string(),
        r#"could not select device driver "" with capabilities: [[gpu compute]]"#
    );
}

/// Shows where a specification differs from that of an empty body.
fn differences(spec: &ContainerSpec) -> String {
    let plain = serde_json::to_value(convert("{}", 55).unwrap().0).unwrap();
    let spec = serde_json::to_value(spec).unwrap();
    let mut lines = Vec::new();
    collect(&plain, &spec, String::new(), &mut lines);
    lines.join("\n")
}

fn collect(
    plain: &serde_json::Value,
    value: &serde_json::Value,
    path: String,
    lines: &mut Vec<String>,
) {
    match (plain, value) {
        (serde_json::Value::Object(plain), serde_json::Value::Object(members)) => {
            for (name, member) in members {
                let before = plain.get(name).unwrap_or(&serde_json::Value::Null);
                collect(before, member, format!("{path}.{name}"), lines);
            }
        }
        _ if plain != value => lines.push(format!("{path} = {value}")),
        _ => {}
    }
}

fn check(body: &str, expected: Expect) {
    let (spec, warnings) = convert(body, 50).unwrap();
    let mut text = differences(&spec);
    for warning in warnings {
        text.push_str(&format!("\nwarning: {warning}"));
    }
    expected.assert_eq(&text);
}

#[test]
fn what_docker_run_sends() {
    // docker 28.2: run --rm -it --name x -e A=b -v /a:/b:ro -v data:/data -p 8080:80 --tmpfs /t:size=1m --init busybox sh
    check(
        r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":true,"AttachStdout":true,"AttachStderr":true,
        "ExposedPorts":{"80/tcp":{}},"Tty":true,"OpenStdin":true,"StdinOnce":true,"Env":["A=b"],"Cmd":["sh"],
        "Image":"busybox","Volumes":{},"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{},
        "HostConfig":{"Binds":["/a:/b:ro","data:/data"],"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},
        "NetworkMode":"default","PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},
        "RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":true,"VolumeDriver":"","VolumesFrom":null,
        "ConsoleSize":[50,120],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"","Dns":[],"DnsOptions":[],"DnsSearch":[],
        "ExtraHosts":null,"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"",
        "Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"Tmpfs":{"/t":"size=1m"},
        "UTSMode":"","UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"",
        "BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[],"BlkioDeviceReadIOps":[],
        "BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"",
        "CpusetMems":"","Devices":[],"DeviceCgroupRules":null,"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,
        "MemorySwappiness":-1,"OomKillDisable":false,"PidsLimit":0,"Ulimits":[],"CpuCount":0,"CpuPercent":0,
        "IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":null,"ReadonlyPaths":null,"Init":true},
        "NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"Links":null,"Aliases":null,"MacAddress":""}}}}"#,
        expect![[r#"
            .image = "busybox"
            .process.command = ["sh"]
            .process.environment = ["A=b"]
            .process.terminal = true
            .process.open_stdin = true
            .process.stdin_once = true
            .exposed_ports = ["80/tcp"]
            .mounts = [{"target":"/b","source":{"Bind":{"path":"/a","create_missing":true,"propagation":"rprivate","recursive":true,"writable_below":false}},"read_only":true,"from_bind":true,"mode":"ro"},{"target":"/data","source":{"Volume":{"name":"data","no_copy":false,"subpath":"","driver":"","options":[],"labels":[]}},"read_only":false,"from_bind":true,"mode":""},{"target":"/t","source":{"Tmpfs":{"size":0,"mode":0,"options":"size=1m"}},"read_only":false,"from_bind":true,"mode":""}]
            .binds = ["/a:/b:ro","data:/data"]
            .tmpfs./t = "size=1m"
            .resources.pids_limit = 0
            .network.endpoints.bridge = {"aliases":[],"ipv4_address":null,"ipv6_address":null,"link_local_ips":[],"mac_address":null,"links":[],"driver_options":{},"gateway_priority":0}
            .network.ports = [{"container":"80/tcp","host_ip":null,"host_ports":[8080,8080]}]
            .auto_remove = true
            .init = true
            .attach.stdin = true
            .attach.stdout = true
            .attach.stderr = true
            .console_size = [50,120]"#]],
    );
}

#[test]
fn limits_security_and_network() {
    check(
        r#"{"Image":"i","Cmd":"one word","Entrypoint":["/e"],"User":"1000:1000","WorkingDir":"/w/../x","StopSignal":"HUP",
        "StopTimeout":3,"Labels":{"a":"b"},"Volumes":{"/anon":{}},"MacAddress":"02-42-AC-11-00-09",
        "Healthcheck":{"Test":["CMD","x"],"Interval":1000000000},
        "HostConfig":{"Memory":67108864,"NanoCpus":500000000,"PidsLimit":50,"Ulimits":[{"Name":"nofile","Soft":1,"Hard":2}],
        "Devices":[{"PathOnHost":"/dev/fuse","PathInContainer":"/dev/fuse","CgroupPermissions":"rwm"}],
        "BlkioDeviceReadBps":[{"Path":"/dev/sda","Rate":5}],
        "CapAdd":["NET_ADMIN"],"CapDrop":["ALL"],"SecurityOpt":["no-new-privileges"],"ReadonlyRootfs":true,
        "Sysctls":{"net.core.somaxconn":"1"},"Dns":["1.1.1.1"],"ExtraHosts":["h:host-gateway"],"GroupAdd":["5"],
        "RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3},"NetworkMode":"none","PidMode":"container:abc",
        "LogConfig":{"Type":"json-file","Config":{"max-size":"1m"}},"ShmSize":1048576,
        "Mounts":[{"Type":"bind","Source":"/s","Target":"/t","BindOptions":{"NonRecursive":true}}]}}"#,
        expect![[r#"
            .image = "i"
            .process.entrypoint = ["/e"]
            .process.command = ["one word"]
            .process.working_directory = "/x"
            .process.user = "1000:1000"
            .process.additional_groups = ["5"]
            .labels.a = "b"
            .anonymous_volumes = ["/anon"]
            .stop_signal = 1
            .stop_signal_text = "HUP"
            .stop_timeout = 3
            .mounts = [{"target":"/t","source":{"Bind":{"path":"/s","create_missing":false,"propagation":"rprivate","recursive":false,"writable_below":false}},"read_only":false,"from_bind":false,"mode":""}]
            .resources.memory = 67108864
            .resources.memory_swap = 134217728
            .resources.nano_cpus = 500000000
            .resources.pids_limit = 50
            .resources.io_throttles = [{"path":"/dev/sda","kind":"ReadBytes","rate":5}]
            .resources.devices = [{"path_on_host":"/dev/fuse","path_in_container":"/dev/fuse","permissions":"rwm"}]
            .resources.ulimits = [{"name":"nofile","soft":1,"hard":2}]
            .network.mode = "None"
            .network.dns = ["1.1.1.1"]
            .network.extra_hosts = ["h:host-gateway"]
            .network.mac_address = "02:42:ac:11:00:09"
            .security.cap_add = ["NET_ADMIN"]
            .security.cap_drop = ["ALL"]
            .security.no_new_privileges = true
            .security.options = ["no-new-privileges"]
            .security.readonly_rootfs = true
            .security.sysctls.net.core.somaxconn = "1"
            .security.pid = {"Container":"abc"}
            .restart_policy = {"OnFailure":{"maximum_retries":3}}
            .shm_size = 1048576
            .log.options.max-size = "1m"
            .healthcheck = {"test":["CMD","x"],"interval":1000000000,"timeout":0,"retries":0,"start_period":0,"start_interval":0}"#]],
    );
}

#[test]
fn host_networking_publishes_nothing_and_says_so() {
    check(
        r#"{"Image":"i","HostConfig":{"NetworkMode":"host","PortBindings":{"80/tcp":[{}]}}}"#,
        expect![[r#"
            .image = "i"
            .exposed_ports = ["80/tcp"]
            .network.mode = "Host"
            .network.ports = [{"container":"80/tcp","host_ip":null,"host_ports":[0,0]}]
            warning: Published ports are discarded when using host network mode"#]],
    );
}

#[test]
fn what_cannot_be_is_refused() {
    for (body, expected) in [
        (
            r#"{"HostConfig":{"Memory":"x"}}"#,
            "invalid JSON: HostConfig.Memory: invalid type: string \"x\", expected i64",
        ),
        (r#"{"Env":["=x"]}"#, "invalid environment variable: =x"),
        (
            r#"{"WorkingDir":"x"}"#,
            "the working directory 'x' is invalid, it needs to be an absolute path",
        ),
        (r#"{"StopSignal":"NOPE"}"#, "invalid signal: NOPE"),
        (
            r#"{"HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}"#,
            "can't create 'AutoRemove' container with restart policy",
        ),
        (
            r#"{"HostConfig":{"Binds":["/a:/x","/b:/x"]}}"#,
            "Duplicate mount point: /x",
        ),
        (
            r#"{"Hostname":"h","HostConfig":{"NetworkMode":"container:c"}}"#,
            "conflicting options: hostname and the network mode",
        ),
        (
            r#"{"HostConfig":{"NetworkMode":"container:c","PublishAllPorts":true}}"#,
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            r#"{"HostConfig":{"NetworkMode":"container:"}}"#,
            "invalid network mode: invalid container format container:<name|id>",
        ),
        (
            r#"{"Hostname":"h","HostConfig":{"UTSMode":"host"}}"#,
            "conflicting options: hostname and the UTS mode",
        ),
        (
            r#"{"HostConfig":{"ExtraHosts":["x"]}}"#,
            "bad format for add-host: \"x\"",
        ),
        (
            r#"{"HostConfig":{"ExtraHosts":["x:y"]}}"#,
            "invalid IP address in add-host: \"y\"",
        ),
        (
            r#"{"HostConfig":{"Dns":["x"]}}"#,
            "bad nameserver address: x is not an IP address",
        ),
        (r#"{"MacAddress":"zz"}"#, "invalid MAC address: zz"),
        (
            r#"{"HostConfig":{"Isolation":"hyperv"}}"#,
            "invalid isolation 'hyperv' on linux",
        ),
        (
            r#"{"HostConfig":{"Runtime":"kata"}}"#,
            "unknown or invalid runtime name: kata",
        ),
        (
            r#"{"HostConfig":{"VolumeDriver":"nfs","Binds":["data:/data"]}}"#,
            "error looking up volume plugin nfs: plugin \"nfs\" not found",
        ),
        (
            r#"{"Volumes":{"/data":{}},"HostConfig":{"VolumeDriver":"nfs"}}"#,
            "error looking up volume plugin nfs: plugin \"nfs\" not found",
        ),
        (
            r#"{"NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":{"LinkLocalIPs":["169.254.8"]}}}}}"#,
            "invalid endpoint settings:\ninvalid link-local IP address: 169.254.8",
        ),
        (
            r#"{"HostConfig":{"ShmSize":-1}}"#,
            "SHM size can not be less than 0",
        ),
        (
            r#"{"Healthcheck":{"Interval":1}}"#,
            "Interval in Healthcheck cannot be less than 1ms",
        ),
    ] {
        assert_eq!(convert(body, 55).unwrap_err().message, expected, "{body}");
    }
}

#[test]
fn nulls_everywhere_are_nothing() {
    let body = r#"{"Hostname":null,"ExposedPorts":null,"Env":null,"Cmd":null,"Volumes":null,"Labels":null,
        "HostConfig":{"Binds":null,"Mounts":null,"PortBindings":null,"LogConfig":null,"RestartPolicy":null,"Ulimits":null},
        "NetworkingConfig":{"EndpointsConfig":null}}"#;
    assert_eq!(convert(body, 55).unwrap().0, convert("{}", 55).unwrap().0);
    assert_eq!(
        convert(r#"{"HostConfig":null,"NetworkingConfig":null}"#, 55)
            .unwrap()
            .0,
        convert("{}", 55).unwrap().0
    );
}

#[test]
fn the_engines_log_is_taken_where_none_is_named() {
    let log = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let default = LogConfig {
        driver: "local".into(),
        options: log(&[("max-size", "1m"), ("max-file", "3")]),
    };
    for (asked, driver, options) in [
        (
            "null",
            "local",
            &[("max-file", "3"), ("max-size", "1m")][..],
        ),
        (
            r#"{"Type":"","Config":{"max-size":"2m"}}"#,
            "local",
            &[("max-file", "3"), ("max-size", "2m")],
        ),
        (r#"{"Type":"json-file"}"#, "json-file", &[]),
    ] {
        let body: Option<LogConfigBody> = serde_json::from_str(asked).unwrap();
        let found = log_from_wire(body, &default);
        assert_eq!(
            (found.driver.as_str(), found.options),
            (driver, log(options))
        );
    }
}

#[test]
fn names_that_change_nothing_are_kept_as_given() {
    let named = |text| convert(text, 55).unwrap().0.named;
    let given = named(
        r#"{"HostConfig":{"Runtime":"runc","Isolation":"default","VolumeDriver":"nfs","Binds":["/a:/b"]}}"#,
    );
    assert_eq!(
        (
            given.runtime.as_str(),
            given.isolation.as_str(),
            given.volume_driver.as_str()
        ),
        ("runc", "default", "nfs")
    );
    assert_eq!(named("{}"), NamedAlternatives::default());
}
