//! The engine's Network port over hoist-net.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::{PoisonError, RwLock};

use hoist_engine::error::NetworkError;
use hoist_engine::ports::{BoxFuture, BridgeFacts, Network, NetworkLease};
use hoist_engine::records::{ContainerRecord, NetworkAttachment};
use hoist_model::container::{NetworkMode, PortRequest};
use hoist_model::{ContainerId, ErrorClass, NetworkId};
use hoist_net::{
    AttachRequest, AttachmentRecord, MacAddress, NetError, Networks, RESOLVED_FILE,
    ResolverOptions, needs_resolved_file, render_resolv_conf,
};

use hoist_model::chain;

use super::settings::{Dns, Settings};

/// hoist-net, and the identity of the default network as the store has it.
pub(crate) struct HostNetwork {
    networks: Networks,
    /// Read once per start of a container, replaced by a reload.
    names: RwLock<Names>,
    bridge_id: std::sync::OnceLock<NetworkId>,
}

/// What the engine was told about names in containers.
#[derive(Clone, Debug, Default)]
struct Names {
    dns: Dns,
    gateways: Vec<IpAddr>,
}

impl HostNetwork {
    pub(crate) fn new(networks: Networks) -> Self {
        Self {
            networks,
            names: RwLock::default(),
            bridge_id: std::sync::OnceLock::new(),
        }
    }

    /// Says under which id the store knows the default bridge. Called once, before the first attach.
    pub(crate) fn name_bridge(&self, id: NetworkId) {
        let _ = self.bridge_id.set(id);
    }

    /// From the next start on, containers that do not say have these in resolv.conf, and `host-gateway` means these.
    pub(crate) fn renew(&self, settings: &Settings) {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        *names = Names {
            dns: settings.dns.clone(),
            gateways: settings.host_gateways.clone(),
        };
    }

    fn names(&self) -> Names {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.clone()
    }

    fn attachment(&self, record: AttachmentRecord) -> NetworkAttachment {
        let id = self
            .bridge_id
            .get()
            .expect("the bridge is named before containers start");
        NetworkAttachment {
            network_id: id.clone(),
            network_name: "bridge".to_owned(),
            endpoint_id: record.endpoint,
            sandbox_id: record.sandbox,
            ipv4: Some(record.ipv4),
            prefix_length: record.prefix_length,
            gateway: Some(record.gateway),
            mac_address: record.mac.to_string(),
            ports: record.ports,
        }
    }
}

fn refused(error: &NetError) -> NetworkError {
    NetworkError::Refused {
        message: chain(error),
        class: error.class(),
    }
}

impl Network for HostNetwork {
    fn attach(
        &self,
        record: &ContainerRecord,
    ) -> BoxFuture<'static, Result<NetworkLease, NetworkError>> {
        // From the pool this takes microseconds; a blocking thread would cost more than it saves.
        let lease = request(record).and_then(|request| {
            let attachment = self
                .networks
                .attach(&request)
                .map_err(|error| refused(&error))?;
            Ok(NetworkLease {
                namespace: attachment.netns,
                attachment: self.attachment(attachment.record),
                reserving: attachment.reserving,
            })
        });
        Box::pin(std::future::ready(lease))
    }

    fn isolated(&self) -> BoxFuture<'static, Result<OwnedFd, NetworkError>> {
        let namespace = self.networks.isolated().map_err(|error| refused(&error));
        Box::pin(std::future::ready(namespace))
    }

    fn detach(&self, id: &ContainerId) {
        match self.networks.detach(id) {
            Ok(()) | Err(NetError::NotAttached(_)) => {}
            Err(error) => {
                tracing::warn!(container = %id, error = chain(&error), "detaching from the network");
            }
        }
    }

    fn restore(
        &self,
        record: &ContainerRecord,
        pid: i32,
        kept: Vec<OwnedFd>,
    ) -> Result<(), NetworkError> {
        let Some(attachment) = &record.attachment else {
            return Ok(());
        };
        let (Some(ipv4), Some(gateway)) = (attachment.ipv4, attachment.gateway) else {
            return Ok(());
        };
        let path = format!("/proc/{pid}/ns/net");
        let netns = std::fs::File::open(&path).map_err(|error| NetworkError::Refused {
            message: format!("open {path}: {error}"),
            class: ErrorClass::Internal,
        })?;
        let remembered = AttachmentRecord {
            container: record.id.clone(),
            sandbox: attachment.sandbox_id.clone(),
            endpoint: attachment.endpoint_id.clone(),
            ipv4,
            prefix_length: attachment.prefix_length,
            gateway,
            ipv6: None,
            mac: parse_mac(&attachment.mac_address)?,
            host_interface: String::new(),
            ports: attachment.ports.clone(),
        };
        self.networks
            .restore(remembered, netns.into(), kept)
            .map_err(|error| refused(&error))
    }

    fn resolv_conf(&self, record: &ContainerRecord) -> String {
        let network = &record.spec.network;
        let engines = self.names().dns;
        let or = |own: &[String], engines: Vec<String>| {
            if own.is_empty() {
                engines
            } else {
                own.to_vec()
            }
        };
        let servers = if network.dns.is_empty() {
            engines.servers
        } else {
            network.dns.clone()
        };
        let mut host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        if network.mode == NetworkMode::Host && servers.is_empty() {
            return host;
        }
        if needs_resolved_file(&host)
            && let Ok(text) = std::fs::read_to_string(RESOLVED_FILE)
        {
            host = text;
        }
        let options = ResolverOptions {
            servers,
            search: or(&network.dns_search, engines.search),
            options: or(&network.dns_options, engines.options),
            ipv6: false,
        };
        render_resolv_conf(&host, &options)
    }

    fn host_gateway(&self) -> Option<IpAddr> {
        let told = self.names().gateways;
        // /etc/hosts has one line for it: the first IPv4 address, else what there is.
        let told = told
            .iter()
            .find(|address| address.is_ipv4())
            .or(told.first());
        let own = || IpAddr::V4(self.networks.bridge().gateway);
        Some(told.copied().unwrap_or_else(own))
    }

    fn bridge(&self) -> BridgeFacts {
        let facts = self.networks.bridge();
        BridgeFacts {
            name: facts.name,
            subnet: facts.subnet.trunc().to_string(),
            gateway: facts.gateway,
            mtu: facts.mtu,
        }
    }

    fn warnings(&self) -> Vec<String> {
        self.networks.warnings()
    }
}

/// What a container asks of the default bridge.
fn request(record: &ContainerRecord) -> Result<AttachRequest, NetworkError> {
    let network = &record.spec.network;
    let endpoint = network
        .endpoints
        .get("bridge")
        .or_else(|| network.endpoints.get("default"));
    let mac = network
        .mac_address
        .as_deref()
        .filter(|text| !text.is_empty());
    let mac = mac.or_else(|| endpoint.and_then(|endpoint| endpoint.mac_address.as_deref()));
    let mut ports = network.ports.clone();
    if network.publish_all {
        let published = |port| {
            ports
                .iter()
                .any(|request: &PortRequest| request.container == port)
        };
        let missing: Vec<_> = record
            .spec
            .exposed_ports
            .iter()
            .filter(|port| !published(**port))
            .copied()
            .collect();
        ports.extend(missing.into_iter().map(|container| PortRequest {
            container,
            host_ip: None,
            host_ports: (0, 0),
        }));
    }
    let ip: Option<Ipv4Addr> = match endpoint.and_then(|endpoint| endpoint.ipv4_address) {
        Some(IpAddr::V4(address)) => Some(address),
        _ => None,
    };
    Ok(AttachRequest {
        container: record.id.clone(),
        ports,
        mac: mac
            .filter(|text| !text.is_empty())
            .map(parse_mac)
            .transpose()?,
        ip,
    })
}

fn parse_mac(text: &str) -> Result<MacAddress, NetworkError> {
    let invalid = || NetworkError::Refused {
        message: format!("invalid MAC address {text:?}: expected six pairs of hexadecimal digits"),
        class: ErrorClass::InvalidArgument,
    };
    let mut bytes = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut bytes {
        let part = parts
            .next()
            .filter(|part| part.len() == 2)
            .ok_or_else(invalid)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
    }
    match parts.next() {
        None => Ok(MacAddress(bytes)),
        Some(_) => Err(invalid()),
    }
}
