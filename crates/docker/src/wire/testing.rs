//! Plain objects for tests.

use std::collections::BTreeMap;

use hoist_engine::records::{ContainerRecord, MountKind, MountPoint, NetworkAttachment};
use hoist_model::container::{ContainerState, PortMapping, RunningState};
use hoist_model::{ContainerId, Digest, EndpointId, NetworkId, Platform, SandboxId, Timestamp};

use super::create_body::CreateBody;
use super::resources::Capacity;
use super::to_spec::{Context, spec_from_wire};
use crate::{ApiVersion, LimitSupport, Node};

/// 2024-11-23T22:13:20Z.
pub(crate) const NOW: i64 = 1_732_400_000;

/// A running container of a body.
pub(crate) fn record(body: &str) -> ContainerRecord {
    let body: CreateBody = serde_json::from_str(body).unwrap();
    let node = node();
    let context = Context {
        version: ApiVersion::NEWEST,
        capacity: Capacity::of(&node),
        platform: None,
        log: hoist_model::container::LogConfig::default(),
        defaults: crate::ContainerDefaults::default(),
        private_cgroups: true,
    };
    let (mut spec, _) = spec_from_wire(body, &context).unwrap();
    spec.image_id = Some(Digest::from_sha256(&[0xcd; 32]));
    let ports = spec
        .network
        .ports
        .iter()
        .map(|request| PortMapping {
            container: request.container,
            host_ip: [0, 0, 0, 0].into(),
            host_port: request.host_ports.0,
        })
        .collect();
    ContainerRecord {
        id: ContainerId::from_bytes(&[0xab; 32]),
        name: "web".to_owned(),
        created_at: Timestamp::from_seconds(NOW - 60),
        spec,
        layers: vec![Digest::from_sha256(&[1; 32])],
        platform: Platform::host(),
        state: ContainerState::Running(RunningState {
            pid: 4242,
            started_at: Timestamp::from_seconds(NOW - 3),
            paused: false,
            oom_killed: false,
        }),
        restart_count: 0,
        manually_stopped: false,
        suspended: false,
        mounts: vec![MountPoint {
            kind: MountKind::Volume,
            name: "data".to_owned(),
            source: "/volumes/data/_data".to_owned(),
            destination: "/data".to_owned(),
            driver: "local".to_owned(),
            mode: "z".to_owned(),
            writable: true,
            propagation: String::new(),
            options: String::new(),
            subpath: String::new(),
            recursive: true,
            writable_below: false,
            anonymous: false,
            copy_up: true,
            image: None,
        }],
        links: Vec::new(),
        attachments: vec![NetworkAttachment {
            network_id: NetworkId::from_bytes(&[2; 32]),
            network_name: "bridge".to_owned(),
            endpoint_id: EndpointId::from_bytes(&[3; 32]),
            sandbox_id: SandboxId::from_bytes(&[4; 32]),
            ipv4: Some([172, 18, 0, 2].into()),
            prefix_length: 16,
            gateway: Some([172, 18, 0, 1].into()),
            mac_address: "02:42:ac:12:00:02".to_owned(),
            ports,
            ipv6: None,
            prefix_length_v6: 0,
            gateway_v6: None,
            driver: "bridge".to_owned(),
            host: None,
        }],
        started_with: None,
        health: None,
        exec_ids: Vec::new(),
    }
}

/// A node.
pub(crate) fn node() -> Node {
    Node {
        name: "host".to_owned(),
        id: "11111111-2222-3333-4444-555555555555".to_owned(),
        version: "0.1.0".to_owned(),
        git_commit: "abcdef0".to_owned(),
        build_time: "2024-11-23T00:00:00Z".to_owned(),
        started_at: Timestamp::from_seconds(NOW - 3600),
        data_root: "/var/lib/hoist".to_owned(),
        storage_driver: "erofs".to_owned(),
        storage_status: vec![("Backing Filesystem".to_owned(), "ext4".to_owned())],
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: "2".to_owned(),
        kernel_version: "6.18.0".to_owned(),
        operating_system: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        operating_system_version: "12".to_owned(),
        architecture: "x86_64".to_owned(),
        cpus: 2,
        online_cpus: "0-1".to_owned(),
        memory_nodes: "0".to_owned(),
        memory: 8 << 30,
        limits: LimitSupport::ALL,
        security_options: vec!["name=seccomp,profile=builtin".to_owned()],
        labels: vec!["a=b".to_owned()],
        debug: false,
        ipv4_forwarding: true,
        insecure_registries: vec!["r.example:5000".to_owned(), "10.0.0.0/8".to_owned()],
        registry_mirrors: Vec::new(),
        log: hoist_model::container::LogConfig::default(),
        defaults: crate::ContainerDefaults::default(),
        experimental: false,
        min_api_version: ApiVersion::OLDEST,
        address_pools: vec![("172.18.0.0/16".to_owned(), 16)],
        proxies: BTreeMap::new(),
        warnings: vec!["something to know".to_owned()],
    }
}
