//! Networks (API 1.55, `Network`, `NetworkInspect`).

use std::collections::BTreeMap;

use hoist_engine::networks::{NetworkRequest, PoolRequest};
use hoist_engine::records::{ContainerRecord, NetworkRecord};
use hoist_model::network::{Subnet, SubnetUsage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::create_body::EndpointBody;
use super::shape::{Member, shape, since};
use crate::ApiVersion;

const MEMBERS: &[Member] = &[since(48, "EnableIPv4"), since(52, "Status")];

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
    ipam: Ipam<'a>,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigFrom<'a>,
    config_only: bool,
    options: &'a BTreeMap<String, String>,
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<BTreeMap<&'a str, NetworkMember>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

/// What a network is like now (API `NetworkStatus`).
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    #[serde(rename = "IPAM")]
    ipam: IpamStatus,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct IpamStatus {
    subnets: BTreeMap<String, SubnetStatus>,
}

/// Both saturate at 2^64 - 1, as in Docker.
#[derive(Debug, Serialize)]
struct SubnetStatus {
    #[serde(rename = "IPsInUse")]
    in_use: u64,
    #[serde(rename = "DynamicIPsAvailable")]
    available: u64,
}

impl Status {
    fn new(usage: &[SubnetUsage]) -> Self {
        let saturated = |count: u128| u64::try_from(count).unwrap_or(u64::MAX);
        let subnets = usage.iter().map(|one| {
            let status = SubnetStatus {
                in_use: saturated(one.in_use),
                available: saturated(one.available),
            };
            (one.subnet.to_string(), status)
        });
        Self {
            ipam: IpamStatus {
                subnets: subnets.collect(),
            },
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom<'a> {
    network: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam<'a> {
    driver: &'static str,
    options: Option<&'a BTreeMap<String, String>>,
    config: Vec<IpamConfig>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct IpamConfig {
    subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    ip_range: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    gateway: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    auxiliary_addresses: BTreeMap<String, String>,
}

impl From<&Subnet> for IpamConfig {
    fn from(subnet: &Subnet) -> Self {
        let auxiliary = subnet.auxiliary.iter();
        Self {
            subnet: subnet.subnet.to_string(),
            ip_range: subnet.range.map(|net| net.to_string()).unwrap_or_default(),
            gateway: subnet.gateway.map(|ip| ip.to_string()).unwrap_or_default(),
            auxiliary_addresses: auxiliary
                .map(|(name, ip)| (name.clone(), ip.to_string()))
                .collect(),
        }
    }
}

/// The body of `POST /networks/create` (API 1.55, `NetworkCreateRequest`).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NetworkCreateBody {
    name: Option<String>,
    driver: Option<String>,
    scope: Option<String>,
    internal: Option<bool>,
    attachable: Option<bool>,
    ingress: Option<bool>,
    config_only: Option<bool>,
    config_from: Option<ConfigFromBody>,
    #[serde(rename = "IPAM")]
    ipam: Option<IpamBody>,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: Option<bool>,
    options: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFromBody {
    network: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct IpamBody {
    driver: Option<String>,
    options: Option<BTreeMap<String, String>>,
    config: Option<Vec<IpamConfigBody>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct IpamConfigBody {
    subnet: Option<String>,
    #[serde(rename = "IPRange")]
    ip_range: Option<String>,
    gateway: Option<String>,
    /// The CLI's name for it, and the document's.
    #[serde(alias = "AuxAddress")]
    auxiliary_addresses: Option<BTreeMap<String, String>>,
}

/// The body of `POST /networks/{id}/connect` and `…/disconnect`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ConnectBody {
    pub(crate) container: Option<String>,
    pub(crate) endpoint_config: Option<EndpointBody>,
    pub(crate) force: Option<bool>,
}

/// Converts a wish for a network.
pub(crate) fn request_from_wire(body: NetworkCreateBody) -> NetworkRequest {
    let ipam = body.ipam.unwrap_or_default();
    let pools = ipam.config.unwrap_or_default().into_iter();
    let text = |text: Option<String>| text.unwrap_or_default();
    let driver = text(body.driver);
    NetworkRequest {
        name: text(body.name),
        driver: match driver.as_str() {
            "" | "default" => "bridge".to_owned(),
            _ => driver,
        },
        options: body.options.unwrap_or_default(),
        labels: body.labels.unwrap_or_default(),
        ipv4: body.enable_ipv4,
        ipv6: body.enable_ipv6,
        internal: body.internal.unwrap_or_default(),
        attachable: body.attachable.unwrap_or_default(),
        ipam_driver: text(ipam.driver),
        ipam_options: ipam.options,
        pools: pools
            .map(|pool| PoolRequest {
                subnet: text(pool.subnet),
                range: text(pool.ip_range),
                gateway: text(pool.gateway),
                auxiliary: pool.auxiliary_addresses.unwrap_or_default(),
            })
            .collect(),
        scope: text(body.scope),
        ingress: body.ingress.unwrap_or_default(),
        config_only: body.config_only.unwrap_or_default(),
        config_from: text(body.config_from.and_then(|from| from.network)),
    }
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

/// One network; with `containers`, those on it are told too (inspect, and lists before API 1.28), and with `usage`, how much
/// of it is in use (inspect).
pub(crate) fn network(
    record: &NetworkRecord,
    containers: Option<&[std::sync::Arc<ContainerRecord>]>,
    usage: Option<&[SubnetUsage]>,
    version: ApiVersion,
) -> Value {
    let network = Network {
        name: &record.name,
        id: record.id.as_str(),
        created: record.created_at.to_string(),
        scope: "local",
        driver: &record.driver,
        enable_ipv4: record.has_family(false),
        enable_ipv6: record.has_family(true),
        ipam: Ipam {
            driver: "default",
            options: record.ipam_options.as_ref(),
            config: record.subnets.iter().map(IpamConfig::from).collect(),
        },
        internal: record.is_internal(),
        attachable: record.attachable,
        ingress: false,
        config_from: ConfigFrom {
            network: &record.config_from,
        },
        config_only: record.configuration.is_some(),
        options: &record.options,
        labels: &record.labels,
        containers: containers.map(|all| {
            all.iter()
                .filter_map(|container| Some((container.id.as_str(), member(container, record)?)))
                .collect()
        }),
        status: usage.map(Status::new),
    };
    let mut value = serde_json::to_value(network).expect("a struct of plain members is JSON");
    shape(&mut value, version, MEMBERS);
    value
}

fn member(container: &ContainerRecord, network: &NetworkRecord) -> Option<NetworkMember> {
    container.state.running()?;
    let mut places = container.attachments.iter();
    let place = places.find(|place| place.network_id == network.id)?;
    let address = |ip: Option<String>, length| ip.map(|ip| format!("{ip}/{length}"));
    let v4 = place.ipv4.map(|ip| ip.to_string());
    let v6 = place.ipv6.map(|ip| ip.to_string());
    Some(NetworkMember {
        name: container.name.clone(),
        endpoint_id: place.endpoint_id.as_str().to_owned(),
        mac_address: place.mac_address.clone(),
        ipv4_address: address(v4, place.prefix_length).unwrap_or_default(),
        ipv6_address: address(v6, place.prefix_length_v6).unwrap_or_default(),
    })
}
