//! Networks (API 1.55, `Network`, `NetworkInspect`).

use std::collections::BTreeMap;

use hoist_engine::records::{ContainerRecord, NetworkRecord};
use serde::Serialize;
use serde_json::Value;

use super::Empty;
use super::shape::{Member, shape, since};
use crate::ApiVersion;

const MEMBERS: &[Member] = &[since(48, "EnableIPv4")];

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Network<'a> {
    name: &'a str,
    id: &'a str,
    created: String,
    scope: &'static str,
    driver: &'a str,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigFrom,
    config_only: bool,
    options: &'a BTreeMap<String, String>,
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<BTreeMap<&'a str, NetworkMember>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom {
    network: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: &'static str,
    options: Option<Empty>,
    config: Vec<IpamConfig>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct IpamConfig {
    subnet: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    gateway: String,
}

/// A container on a network (API `EndpointResource`).
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkMember {
    name: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: String,
}

/// One network; with `containers`, those on it are told too (inspect, and lists before API 1.28).
pub(crate) fn network(
    record: &NetworkRecord,
    containers: Option<&[std::sync::Arc<ContainerRecord>]>,
    version: ApiVersion,
) -> Value {
    let network = Network {
        name: &record.name,
        id: record.id.as_str(),
        created: record.created_at.to_string(),
        scope: "local",
        driver: &record.driver,
        enable_ipv4: true,
        enable_ipv6: false,
        ipam: Ipam {
            driver: "default",
            options: None,
            config: record
                .subnet
                .iter()
                .map(|subnet| IpamConfig {
                    subnet: subnet.clone(),
                    gateway: record.gateway.map(|ip| ip.to_string()).unwrap_or_default(),
                })
                .collect(),
        },
        internal: false,
        attachable: false,
        ingress: false,
        config_from: ConfigFrom { network: "" },
        config_only: false,
        options: &record.options,
        labels: &record.labels,
        containers: containers.map(|all| {
            all.iter()
                .filter_map(|container| Some((container.id.as_str(), member(container, record)?)))
                .collect()
        }),
    };
    let mut value = serde_json::to_value(network).expect("a struct of plain members is JSON");
    shape(&mut value, version, MEMBERS);
    value
}

fn member(container: &ContainerRecord, network: &NetworkRecord) -> Option<NetworkMember> {
    container.state.running()?;
    let attachment = container.attachment.as_ref()?;
    (attachment.network_id == network.id).then(|| NetworkMember {
        name: container.name.clone(),
        endpoint_id: attachment.endpoint_id.as_str().to_owned(),
        mac_address: attachment.mac_address.clone(),
        ipv4_address: attachment
            .ipv4
            .map(|ip| format!("{ip}/{}", attachment.prefix_length))
            .unwrap_or_default(),
        ipv6_address: String::new(),
    })
}
