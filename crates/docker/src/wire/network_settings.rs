//! `NetworkSettings` of a container, and the endpoint objects in it (API 1.55, `EndpointSettings`).

use std::collections::BTreeMap;

use hoist_engine::containers::names_on_network;
use hoist_engine::records::{ContainerRecord, NetworkAttachment};
use hoist_model::container::EndpointSpec;
use serde::Serialize;

use super::ports::{PortBinding, published_to_wire};

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NetworkSettings {
    // Until API 1.51, empty and without meaning even then.
    bridge: &'static str,
    #[serde(rename = "SandboxID")]
    sandbox_id: String,
    sandbox_key: String,
    ports: BTreeMap<String, Option<Vec<PortBinding>>>,
    hairpin_mode: bool,
    #[serde(rename = "LinkLocalIPv6Address")]
    link_local_ipv6_address: &'static str,
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    link_local_ipv6_prefix_len: u8,
    #[serde(rename = "SecondaryIPAddresses")]
    secondary_ip_addresses: Option<()>,
    #[serde(rename = "SecondaryIPv6Addresses")]
    secondary_ipv6_addresses: Option<()>,
    // Until API 1.51: those of the default bridge.
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: String,
    mac_address: String,
    pub(crate) networks: BTreeMap<String, Endpoint>,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Endpoint {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<EndpointIpam>,
    links: Option<Vec<String>>,
    aliases: Option<Vec<String>>,
    driver_opts: Option<BTreeMap<String, String>>,
    gw_priority: i64,
    #[serde(rename = "NetworkID")]
    pub(crate) network_id: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    gateway: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    mac_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    #[serde(rename = "DNSNames")]
    dns_names: Option<Vec<String>>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct EndpointIpam {
    #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
    ipv6_address: String,
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Vec::is_empty")]
    link_local_ips: Vec<String>,
}

fn text<T: ToString>(value: Option<&T>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// The networks a container is on, running or not. `network_id` answers the id of a network by name.
pub(crate) fn endpoints(
    record: &ContainerRecord,
    network_id: &dyn Fn(&str) -> String,
) -> BTreeMap<String, Endpoint> {
    let network = &record.spec.network;
    let mut endpoints: BTreeMap<String, Endpoint> = BTreeMap::new();
    for name in network.members() {
        let asked = network.endpoints.get(name);
        let mut endpoint = endpoint(asked, record.place_on(name));
        if endpoint.network_id.is_empty() && record.state.running().is_some() {
            endpoint.network_id = network_id(name);
        }
        if !matches!(name, "bridge" | "host" | "none") {
            let aliases = asked.map(|asked| asked.aliases.as_slice());
            endpoint.dns_names = Some(names_on_network(record, aliases.unwrap_or_default()));
        }
        endpoints.insert(name.to_owned(), endpoint);
    }
    endpoints
}

fn endpoint(asked: Option<&EndpointSpec>, attachment: Option<&NetworkAttachment>) -> Endpoint {
    let mut endpoint = Endpoint::default();
    if let Some(asked) = asked {
        let link_local = &asked.link_local_ips;
        if asked.ipv4_address.is_some() || asked.ipv6_address.is_some() || !link_local.is_empty() {
            endpoint.ipam_config = Some(EndpointIpam {
                ipv4_address: text(asked.ipv4_address.as_ref()),
                ipv6_address: text(asked.ipv6_address.as_ref()),
                link_local_ips: link_local.iter().map(ToString::to_string).collect(),
            });
        }
        endpoint.links = some(&asked.links);
        endpoint.aliases = some(&asked.aliases);
        endpoint.driver_opts =
            (!asked.driver_options.is_empty()).then(|| asked.driver_options.clone());
        endpoint.mac_address = asked.mac_address.clone().unwrap_or_default();
        endpoint.gw_priority = asked.gateway_priority;
    }
    if let Some(attachment) = attachment {
        attachment
            .network_id
            .as_str()
            .clone_into(&mut endpoint.network_id);
        attachment
            .endpoint_id
            .as_str()
            .clone_into(&mut endpoint.endpoint_id);
        endpoint.gateway = text(attachment.gateway.as_ref());
        endpoint.ip_address = text(attachment.ipv4.as_ref());
        endpoint.mac_address.clone_from(&attachment.mac_address);
        endpoint.ip_prefix_len = attachment.prefix_length;
        endpoint.ipv6_gateway = text(attachment.gateway_v6.as_ref());
        endpoint.global_ipv6_address = text(attachment.ipv6.as_ref());
        endpoint.global_ipv6_prefix_len = attachment.prefix_length_v6;
    }
    endpoint
}

/// The whole object.
pub(crate) fn network_settings(
    record: &ContainerRecord,
    network_id: &dyn Fn(&str) -> String,
) -> NetworkSettings {
    let networks = endpoints(record, network_id);
    let bridge = networks.get("bridge").cloned().unwrap_or_default();
    let running = record.state.running();
    NetworkSettings {
        bridge: "",
        sandbox_id: record
            .attachments
            .first()
            .map(|place| place.sandbox_id.as_str().to_owned())
            .unwrap_or_default(),
        // Where Docker names a bind mount of the namespace; ours has no mount, and this path works alike.
        sandbox_key: running
            .map(|running| format!("/proc/{}/ns/net", running.pid))
            .unwrap_or_default(),
        ports: if running.is_some() && !record.attachments.is_empty() {
            published_to_wire(&record.spec.exposed_ports, record.published())
        } else {
            BTreeMap::new()
        },
        hairpin_mode: false,
        link_local_ipv6_address: "",
        link_local_ipv6_prefix_len: 0,
        secondary_ip_addresses: None,
        secondary_ipv6_addresses: None,
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        global_ipv6_address: bridge.global_ipv6_address,
        global_ipv6_prefix_len: bridge.global_ipv6_prefix_len,
        ip_address: bridge.ip_address,
        ip_prefix_len: bridge.ip_prefix_len,
        ipv6_gateway: bridge.ipv6_gateway,
        mac_address: bridge.mac_address,
        networks,
    }
}
