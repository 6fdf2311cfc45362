//! A plain specification and record for tests.

use std::collections::BTreeMap;

use hoist_model::container::{
    AttachFlags, ContainerSpec, ContainerState, LogConfig, NetworkSpec, ProcessSpec, Resources,
    RestartPolicy, SecuritySpec,
};
use hoist_model::{ContainerId, Platform, Timestamp};

use crate::records::ContainerRecord;

pub(crate) fn spec() -> ContainerSpec {
    ContainerSpec {
        image: "busybox".to_owned(),
        image_id: None,
        process: ProcessSpec {
            command: Some(vec!["true".to_owned()]),
            ..ProcessSpec::default()
        },
        hostname: String::new(),
        domainname: String::new(),
        labels: BTreeMap::new(),
        exposed_ports: Vec::new(),
        anonymous_volumes: Vec::new(),
        stop_signal: None,
        stop_signal_text: String::new(),
        stop_timeout: None,
        mounts: Vec::new(),
        binds: Vec::new(),
        tmpfs: BTreeMap::new(),
        volumes_from: Vec::new(),
        resources: Resources::default(),
        network: NetworkSpec::default(),
        security: SecuritySpec::default(),
        restart_policy: RestartPolicy::No,
        auto_remove: false,
        init: None,
        shm_size: 0,
        log: LogConfig::default(),
        attach: AttachFlags::default(),
        console_size: None,
        cgroup_parent: String::new(),
        healthcheck: None,
        annotations: BTreeMap::new(),
        on_build: Vec::new(),
        shell: Vec::new(),
        container_id_file: String::new(),
        named: hoist_model::container::NamedAlternatives::default(),
        platform: None,
    }
}

pub(crate) fn record() -> ContainerRecord {
    ContainerRecord {
        id: ContainerId::from_bytes(&[7; 32]),
        name: "test".to_owned(),
        created_at: Timestamp::default(),
        spec: spec(),
        layers: Vec::new(),
        platform: Platform::host(),
        state: ContainerState::Created { failure: None },
        restart_count: 0,
        manually_stopped: false,
        suspended: false,
        mounts: Vec::new(),
        links: Vec::new(),
        attachments: Vec::new(),
        started_with: None,
        health: None,
        exec_ids: Vec::new(),
    }
}
