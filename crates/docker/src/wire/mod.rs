//! What goes over the wire: our own structs in the newest shape, their shaping for older clients, and the conversion
//! by hand from and to the engine's words. Nothing here does IO.

pub(crate) mod binds;
pub(crate) mod build;
pub(crate) mod container;
pub(crate) mod container_list;
pub(crate) mod create_body;
pub(crate) mod credentials;
pub(crate) mod detach_keys;
pub(crate) mod duration;
pub(crate) mod event;
pub(crate) mod filters;
pub(crate) mod fsck;
pub(crate) mod host_config;
pub(crate) mod image;
pub(crate) mod image_manifests;
pub(crate) mod manifest_descriptor;
pub(crate) mod mounts;
pub(crate) mod network;
pub(crate) mod network_settings;
pub(crate) mod path_stat;
pub(crate) mod ports;
pub(crate) mod progress;
pub(crate) mod resources;
pub(crate) mod restart_policy;
pub(crate) mod security;
pub(crate) mod shape;
pub(crate) mod stats;
pub(crate) mod system;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tmpfs;
pub(crate) mod to_spec;
pub(crate) mod top;
pub(crate) mod unserved;
pub(crate) mod until;
pub(crate) mod volume;

use serde::Serialize;

/// Go's `struct{}`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Empty {}

/// A health probe (API `HealthConfig`).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Health {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl From<&hoist_model::container::Healthcheck> for Health {
    fn from(check: &hoist_model::container::Healthcheck) -> Self {
        Self {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }
    }
}
