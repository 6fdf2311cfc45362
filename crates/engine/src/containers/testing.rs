//! A plain specification and record for tests.

use hoist_model::container::{ContainerSpec, ContainerState, ProcessSpec};
use hoist_model::{ContainerId, Platform, Timestamp};

use crate::records::ContainerRecord;

pub(crate) fn spec() -> ContainerSpec {
    ContainerSpec {
        image: "busybox".to_owned(),
        process: ProcessSpec {
            command: Some(vec!["true".to_owned()]),
            ..ProcessSpec::default()
        },
        ..ContainerSpec::default()
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
