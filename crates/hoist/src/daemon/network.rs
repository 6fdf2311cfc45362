//! The engine's Network port over hoist-net.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, RwLock};

use hoist_engine::error::NetworkError;
use hoist_engine::ports::{BoxFuture, BridgeFacts, Network, NetworkLease};
use hoist_engine::records::{ContainerRecord, HostPlace, NetworkAttachment};
use hoist_model::container::{NetworkMode, PortRequest};
use hoist_model::network::{PlaceRequest, Segment, Subnet, SubnetUsage, parse_mac};
use hoist_model::{ContainerId, ErrorClass, NetworkId};
use hoist_net::{
    Address, AttachRequest, AttachmentRecord, Instance, MacAddress, NetError, Networks,
    PlaceRecord, RESOLVED_FILE, ResolverOptions, has_ndots, needs_resolved_file,
    render_inner_resolv_conf, render_resolv_conf,
};

use hoist_model::chain;

use super::settings::{Dns, Settings};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// hoist-net, and the identity of the default network as the store has it.
#[derive(Clone)]
pub(crate) struct HostNetwork {
    networks: Networks,
    instance: Instance,
    /// Read once per start of a container, replaced by a reload.
    names: Arc<RwLock<Names>>,
    /// `None` where there is no default bridge; a reload may make one.
    bridge_id: Arc<RwLock<Option<NetworkId>>>,
}

/// What the engine was told about names in containers.
#[derive(Clone, Debug, Default)]
struct Names {
    dns: Dns,
    gateways: Vec<IpAddr>,
}

impl HostNetwork {
    pub(crate) fn new(networks: Networks, instance: Instance, settings: &Settings) -> Self {
        let network = Self {
            networks,
            instance,
            names: Arc::default(),
            bridge_id: Arc::default(),
        };
        network.name(settings);
        network
    }

    /// Says under which id the store knows the default bridge, if there is one: before the first attach, and after a reload.
    pub(crate) fn name_bridge(&self, id: Option<NetworkId>) {
        let mut known = self
            .bridge_id
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *known = id;
    }

    /// The host's networks change as far as they differ, and from the next start on, containers that do not say have these in
    /// resolv.conf, and `host-gateway` means these. Blocking, milliseconds; of an error nothing has changed.
    pub(crate) fn renew(&self, settings: &Settings) -> Result<(), NetError> {
        self.networks
            .change(settings.of_networks(self.instance.clone()))?;
        self.name(settings);
        Ok(())
    }

    /// The latter of these.
    fn name(&self, settings: &Settings) {
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

    /// What everybody sees of a container's places, and what hoist-net is told again after a restart.
    fn attachments(&self, record: AttachmentRecord) -> Vec<NetworkAttachment> {
        let leads_out = [false, true].map(|v6| record.way_out(v6).is_some());
        let mut ports = record.ports;
        if leads_out == [false, false] {
            ports.clear();
        }
        let mut open = record.open;
        let of = |place: PlaceRecord| NetworkAttachment {
            driver: self.driver(place.network.as_ref()),
            network_id: place.network.unwrap_or_else(|| self.bridge_id()),
            network_name: place.name,
            endpoint_id: place.endpoint,
            sandbox_id: record.sandbox.clone(),
            ipv4: place.ipv4.map(|own| own.address),
            prefix_length: place.ipv4.map_or(0, |own| own.prefix_length),
            gateway: place
                .ipv4
                .and_then(|own| own.gateway)
                .filter(|own| !own.is_unspecified()),
            mac_address: match place.mac {
                MacAddress::NONE => String::new(),
                mac => mac.to_string(),
            },
            ports: std::mem::take(&mut ports),
            ipv6: place.ipv6.map(|own| own.address),
            prefix_length_v6: place.ipv6.map_or(0, |own| own.prefix_length),
            gateway_v6: place
                .ipv6
                .and_then(|own| own.gateway)
                .filter(|own| !own.is_unspecified()),
            host: Some(HostPlace {
                interface: place.interface,
                host_interface: place.host_interface,
                gateway_priority: place.gateway_priority,
                leads_out: place.leads_out,
                routed: (place.routed_v4, place.routed_v6),
                open: std::mem::take(&mut open),
            }),
        };
        record.places.into_iter().map(of).collect()
    }

    /// What a container asks.
    fn request(&self, record: &ContainerRecord, places: Vec<PlaceRequest>) -> AttachRequest {
        let network = &record.spec.network;
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
        // Only on users' networks does it matter: the way onto the default bridge reads no file.
        let on_users = places.iter().any(|place| place.network.is_some());
        let options = ResolverOptions {
            options: own_or(&network.dns_options, self.names().dns.options),
            ..ResolverOptions::default()
        };
        let host = if on_users && options.options.is_empty() {
            hosts_resolv_conf().1
        } else {
            String::new()
        };
        let ndots_set = has_ndots(&host, &options);
        AttachRequest {
            container: record.id.clone(),
            ports,
            places,
            servers: own_or(&network.dns, self.names().dns.servers),
            ndots_set,
        }
    }

    /// The default bridge's id; where there is none, one that is nobody's.
    fn bridge_id(&self) -> NetworkId {
        let known = self
            .bridge_id
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let id = known.clone();
        id.unwrap_or_else(|| NetworkId::from_bytes(&[0; 32]))
    }

    fn driver(&self, network: Option<&NetworkId>) -> String {
        let driver = network.map(|id| self.networks.driver(id));
        driver.unwrap_or("bridge").to_owned()
    }

    /// What hoist-net remembers of a container's places, from the record of an earlier engine.
    fn remembered(&self, record: &ContainerRecord) -> Result<AttachmentRecord, NetworkError> {
        let bridge = self.bridge_id();
        let mut places = Vec::new();
        for place in &record.attachments {
            let host = place.host.clone().unwrap_or_else(first_place);
            places.push(PlaceRecord {
                network: (place.network_id != bridge).then(|| place.network_id.clone()),
                name: place.network_name.clone(),
                endpoint: place.endpoint_id.clone(),
                interface: host.interface,
                host_interface: host.host_interface,
                mac: remembered_mac(&place.mac_address)?,
                ipv4: place.ipv4.map(|address| Address {
                    address,
                    prefix_length: place.prefix_length,
                    gateway: place.gateway,
                }),
                ipv6: place.ipv6.map(|address| Address {
                    address,
                    prefix_length: place.prefix_length_v6,
                    gateway: place.gateway_v6,
                }),
                gateway_priority: host.gateway_priority,
                leads_out: host.leads_out,
                routed_v4: host.routed.0,
                routed_v6: host.routed.1,
            });
        }
        let first = record.attachments.first();
        let sandbox = first.map(|place| place.sandbox_id.clone());
        let open = first.and_then(|place| place.host.as_ref());
        Ok(AttachmentRecord {
            container: record.id.clone(),
            sandbox: sandbox
                .ok_or_else(|| NetworkError::NotFound(record.id.as_str().to_owned()))?,
            places,
            ports: record.published().to_vec(),
            open: open.map(|host| host.open.clone()).unwrap_or_default(),
        })
    }
}

/// What earlier versions, which knew the default bridge alone, did not write down.
fn first_place() -> HostPlace {
    HostPlace {
        interface: "eth0".to_owned(),
        host_interface: String::new(),
        gateway_priority: 0,
        leads_out: true,
        routed: (false, false),
        open: Vec::new(),
    }
}

/// Runs something that takes a millisecond or more on a thread that may block.
fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetError> + Send + 'static,
) -> BoxFuture<'static, Result<T, NetworkError>> {
    Box::pin(async move {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done.map_err(|error| refused(&error)),
            Err(error) => Err(NetworkError::Refused {
                message: error.to_string(),
                class: ErrorClass::Internal,
            }),
        }
    })
}

fn refused(error: &NetError) -> NetworkError {
    NetworkError::Refused {
        message: chain(error),
        class: error.class(),
    }
}

/// The same for a container; of its ports in Docker's words, which clients look for.
fn refused_to(record: &ContainerRecord, error: &NetError) -> NetworkError {
    match error {
        NetError::Unpublished { endpoint, .. } => NetworkError::Refused {
            message: format!(
                "driver failed programming external connectivity on endpoint {} ({}): {}",
                record.name,
                endpoint.as_str(),
                chain(error)
            ),
            class: error.class(),
        },
        _ => refused(error),
    }
}

impl Network for HostNetwork {
    fn attach(
        &self,
        record: &ContainerRecord,
        places: Vec<PlaceRequest>,
    ) -> BoxFuture<'static, Result<NetworkLease, NetworkError>> {
        let request = self.request(record, places);
        let keeps_apart = |bridge: hoist_net::BridgeFacts| !bridge.inter_container;
        if !record.links.is_empty() && self.networks.bridge().is_some_and(keeps_apart) {
            tracing::warn!(container = %record.id, "icc is false: its links are names alone, and open no port");
        }
        let lease = |networks: &Networks| networks.attach(&request);
        // From the pools this takes microseconds; a blocking thread would cost more than it saves.
        let attachment = if matches!(request.places.as_slice(), [_]) {
            lease(&self.networks)
        } else {
            tokio::task::block_in_place(|| lease(&self.networks))
        };
        let lease = attachment.map_err(|error| refused_to(record, &error));
        let lease = lease.map(|attachment| NetworkLease {
            namespace: attachment.netns,
            attachments: self.attachments(attachment.record),
            reserving: attachment.reserving,
        });
        Box::pin(std::future::ready(lease))
    }

    fn connect(
        &self,
        record: &ContainerRecord,
        place: PlaceRequest,
    ) -> BoxFuture<'static, Result<Vec<NetworkAttachment>, NetworkError>> {
        let (networks, own) = (self.networks.clone(), self.clone());
        let request = self.request(record, vec![place]);
        let pid = record.state.running().map(|running| running.pid);
        let connected = blocking(move || {
            // One that was on no network is known by its process alone.
            if let Some(pid) = pid.filter(|_| networks.attachment(&request.container).is_none()) {
                networks.adopt(&request, hoist_net::netns_of(pid)?)?;
            }
            networks.connect(&request.container, &request.places[0], &request.ports)
        });
        Box::pin(async move { Ok(own.attachments(connected.await?)) })
    }

    fn disconnect(
        &self,
        record: &ContainerRecord,
        network: &NetworkId,
    ) -> BoxFuture<'static, Result<Vec<NetworkAttachment>, NetworkError>> {
        let (networks, own, id) = (self.networks.clone(), self.clone(), record.id.clone());
        let network = (*network != self.bridge_id()).then(|| network.clone());
        let left = blocking(move || networks.disconnect(&id, network.as_ref()));
        Box::pin(async move { Ok(own.attachments(left.await?)) })
    }

    fn renamed(&self, record: &ContainerRecord, places: Vec<PlaceRequest>) {
        self.networks.rename(&self.request(record, places));
    }

    fn make(&self, segment: Segment) -> BoxFuture<'static, Result<Segment, NetworkError>> {
        let networks = self.networks.clone();
        blocking(move || networks.make(segment))
    }

    fn unmake(&self, id: &NetworkId) -> BoxFuture<'static, Result<(), NetworkError>> {
        let (networks, id) = (self.networks.clone(), id.clone());
        blocking(move || networks.unmake(&id))
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
        places: Vec<PlaceRequest>,
        pid: i32,
        kept: Vec<OwnedFd>,
    ) -> Result<(), NetworkError> {
        if record.attachments.is_empty() {
            return Ok(());
        }
        let netns = hoist_net::netns_of(pid).map_err(|error| refused(&error))?;
        let remembered = self.remembered(record)?;
        self.networks
            .restore(remembered, &self.request(record, places), netns, kept)
            .map_err(|error| refused(&error))
    }

    fn explain(&self, id: &ContainerId) -> Result<Vec<String>, NetworkError> {
        self.networks.explain(id).map_err(|error| refused(&error))
    }

    fn resolv_conf(&self, record: &ContainerRecord) -> String {
        let network = &record.spec.network;
        let engines = self.names().dns;
        let servers = own_or(&network.dns, engines.servers);
        if network.mode == NetworkMode::Host && servers.is_empty() {
            return std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
        }
        let (path, host) = hosts_resolv_conf();
        let own_server = record.attachments.iter().any(|place| {
            // A name server of ours is in the container, which knows others' names.
            place.network_id != self.bridge_id()
        });
        let options = ResolverOptions {
            servers,
            search: own_or(&network.dns_search, engines.search),
            options: own_or(&network.dns_options, engines.options),
            ipv6: record.attachments.iter().any(|place| place.ipv6.is_some()),
        };
        if own_server {
            return render_inner_resolv_conf(path, &host, &options);
        }
        render_resolv_conf(&host, &options)
    }

    fn host_gateway(&self) -> Option<IpAddr> {
        let told = self.names().gateways;
        // /etc/hosts has one line for it: the first IPv4 address, else what there is.
        let told = told
            .iter()
            .find(|address| address.is_ipv4())
            .or(told.first());
        let own = || Some(IpAddr::V4(self.networks.bridge()?.gateway));
        told.copied().or_else(own)
    }

    fn bridge(&self) -> Option<BridgeFacts> {
        let facts = self.networks.bridge()?;
        let auxiliary = |name: &str, ip: Option<IpAddr>| {
            let named = ip.map(|ip| (name.to_owned(), ip));
            named.into_iter().collect()
        };
        let v4 = Subnet {
            subnet: facts.subnet.into(),
            gateway: Some(facts.gateway.into()),
            range: facts.range.map(Into::into),
            auxiliary: auxiliary("DefaultGatewayIPv4", facts.default_gateway.map(Into::into)),
            configured: false,
        };
        let v6 = facts.address_v6.map(|net| Subnet {
            subnet: net.trunc().into(),
            gateway: Some(net.addr().into()),
            range: facts.range_v6.map(Into::into),
            auxiliary: auxiliary(
                "DefaultGatewayIPv6",
                facts.default_gateway_v6.map(Into::into),
            ),
            configured: false,
        });
        Some(BridgeFacts {
            name: facts.name,
            subnets: std::iter::once(v4).chain(v6).collect(),
            mtu: facts.mtu,
            inter_container: facts.inter_container,
            masquerade: facts.masquerade,
            host_ip: facts.host_ip,
        })
    }

    fn usage(&self, id: &NetworkId) -> Vec<SubnetUsage> {
        self.networks.usage(id)
    }

    fn warnings(&self) -> Vec<String> {
        self.networks.warnings()
    }
}

/// Where the host's real name servers stand, and what it says.
fn hosts_resolv_conf() -> (&'static str, String) {
    let host = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    if needs_resolved_file(&host)
        && let Ok(text) = std::fs::read_to_string(RESOLVED_FILE)
    {
        return (RESOLVED_FILE, text);
    }
    (RESOLV_CONF, host)
}

fn remembered_mac(text: &str) -> Result<MacAddress, NetworkError> {
    if text.is_empty() {
        return Ok(MacAddress::NONE);
    }
    let mac = parse_mac(text).ok_or_else(|| NetworkError::Refused {
        message: format!("invalid MAC address {text:?}: expected six pairs of hexadecimal digits"),
        class: ErrorClass::InvalidArgument,
    });
    mac.map(MacAddress)
}

/// What the container says, else what the engine was told.
fn own_or<T: Clone>(own: &[T], engines: Vec<T>) -> Vec<T> {
    if own.is_empty() {
        engines
    } else {
        own.to_vec()
    }
}
