//! The networks a container is on: what it asks of them, and how that changes while it rests or runs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hoist_model::ContainerId;
use hoist_model::container::{EndpointSpec, NetworkMode, NetworkSpec};
use hoist_model::network::{InterfaceSysctl, PlaceRequest, is_link_local, parse_mac};
use hoist_store::Class;

use super::Containers;
use super::actor::Actor;
use super::etc_files::own_lines;
use super::events::network_event;
use super::message::Message;
use crate::error::{ContainerError, NetworkError};
use crate::records::{ContainerRecord, NetworkAttachment, NetworkRecord};

/// Of which a place cannot be taken or left (moby `daemon/container_operations.go`).
const SHARES: &str = "container sharing network namespace with another container or host cannot be connected to any other network";
const PRIVATE: &str = "container cannot be connected to multiple networks with one of the networks in private (none) mode";

impl Containers {
    /// Names networks by their names where they were named by id, and refuses what cannot be. One that is not there is told
    /// at the start, as Docker does: the stock client takes a 404 of create for a missing image and pulls it.
    pub(super) fn settle_networks(&self, spec: &mut NetworkSpec) -> Result<(), ContainerError> {
        let networks = &self.inner.parts.networks;
        if let NetworkMode::Network(name) = &spec.mode
            && let Ok(network) = networks.resolve(name)
        {
            spec.mode = match network.name.as_str() {
                "bridge" => NetworkMode::Bridge,
                "host" => NetworkMode::Host,
                "none" => NetworkMode::None,
                name => NetworkMode::Network(name.to_owned()),
            };
        }
        let mut endpoints = BTreeMap::new();
        for (name, endpoint) in std::mem::take(&mut spec.endpoints) {
            let network = networks.resolve(&name).ok();
            let name = network
                .as_ref()
                .map_or(name, |network| network.name.clone());
            check_endpoint(network.as_deref(), &name, &endpoint)?;
            endpoints.insert(name, endpoint);
        }
        spec.endpoints = endpoints;
        let members = spec.members();
        let others = |own: &str| members.iter().any(|name| *name != own);
        match &spec.mode {
            NetworkMode::Host if others("host") => Err(ContainerError::Invalid(SHARES.to_owned())),
            NetworkMode::Container(_) if !spec.endpoints.is_empty() => {
                Err(ContainerError::Invalid(SHARES.to_owned()))
            }
            NetworkMode::None if others("none") => Err(ContainerError::Invalid(PRIVATE.to_owned())),
            NetworkMode::Bridge | NetworkMode::Network(_) if members.contains(&"none") => {
                Err(ContainerError::Invalid(PRIVATE.to_owned()))
            }
            NetworkMode::Bridge | NetworkMode::Network(_) if members.contains(&"host") => {
                Err(ContainerError::Invalid(SHARES.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// What a container asks of each network it is on: nothing of a default bridge that is not there.
    pub(super) fn places(
        &self,
        record: &ContainerRecord,
    ) -> Result<Vec<PlaceRequest>, ContainerError> {
        let place = |name: &str| match self.inner.parts.networks.resolve(name) {
            Err(_) if name == "bridge" => None,
            Err(error) => Some(Err(error.into())),
            Ok(network) => {
                let endpoint = record.spec.network.endpoints.get(name);
                Some(place(
                    record,
                    &network,
                    endpoint.cloned().unwrap_or_default(),
                ))
            }
        };
        let members = record.spec.network.members();
        members.into_iter().filter_map(place).collect()
    }

    /// Puts a container on one more network.
    pub async fn connect(
        &self,
        id: &ContainerId,
        network: Arc<NetworkRecord>,
        endpoint: EndpointSpec,
    ) -> Result<(), ContainerError> {
        check_endpoint(Some(&network), &network.name, &endpoint)?;
        let endpoint = Box::new(endpoint);
        self.ask(id, |reply| Message::Connect {
            network,
            endpoint,
            reply,
        })
        .await
    }

    /// Which way the packets of a container take, named by itself or by a port of the host that it has published.
    pub fn explain_network(&self, name: &str) -> Result<Vec<String>, ContainerError> {
        let port = name.parse::<u16>().ok();
        let publishes = |record: &Arc<ContainerRecord>| {
            let mut ports = record.published().iter();
            ports.any(|mapping| Some(mapping.host_port) == port)
        };
        let by_port = self.list().into_iter().find(publishes);
        let record = by_port.map_or_else(|| self.resolve(name), Ok);
        let record = record.map_err(|error| match (error, port) {
            (ContainerError::NotFound(name), Some(_)) => {
                ContainerError::NotFound(format!("{name} (and none publishes that port)"))
            }
            (error, _) => error,
        })?;
        let mut said = vec![format!("Container {} ({}).", record.name, record.id)];
        if record.state.running().is_none() {
            return Err(ContainerError::NotRunning(record.id.clone()));
        }
        match &record.spec.network.mode {
            NetworkMode::Host => said.push(
                "It is in the host's network: its ports are the host's, and the host's rules are its."
                    .to_owned(),
            ),
            NetworkMode::Container(other) => {
                said.push(format!("It shares the network of container {other}: ask for that."));
            }
            _ if record.attachments.is_empty() => said.push(
                "It is on no network: nothing reaches it, and it reaches nothing.".to_owned(),
            ),
            _ => said.extend(self.inner.parts.network.explain(&record.id)?),
        }
        Ok(said)
    }

    /// Takes a container from a network.
    pub async fn disconnect(
        &self,
        id: &ContainerId,
        network: Arc<NetworkRecord>,
    ) -> Result<(), ContainerError> {
        self.ask(id, |reply| Message::Disconnect { network, reply })
            .await
    }
}

/// The names a container has on users' networks, in Docker's order; the first is what PTR questions are answered with.
#[must_use]
pub fn names_on_network(record: &ContainerRecord, aliases: &[String]) -> Vec<String> {
    let mut names = vec![record.name.clone()];
    names.extend(aliases.iter().cloned());
    names.push(record.id.short().to_owned());
    if !record.spec.hostname.is_empty() {
        names.push(record.spec.hostname.clone());
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// What a container asks of a network.
fn place(
    record: &ContainerRecord,
    network: &NetworkRecord,
    endpoint: EndpointSpec,
) -> Result<PlaceRequest, ContainerError> {
    refuse_configuration(network)?;
    let spec = &record.spec.network;
    let is_own = spec.members().first() == Some(&network.name.as_str()) && !spec.left;
    let mac = endpoint.mac_address.as_deref().or_else(|| {
        let whole = spec.mac_address.as_deref();
        whole.filter(|_| is_own)
    });
    let mac = mac
        .filter(|text| !text.is_empty())
        .map(|text| {
            parse_mac(text)
                .ok_or_else(|| ContainerError::Invalid(format!("invalid MAC address {text}")))
        })
        .transpose()?;
    let own = network.segment.as_ref().map(|segment| segment.id.clone());
    let links = endpoint.links.iter().filter_map(|link| {
        let (name, alias) = link.split_once(':').unwrap_or((link, link));
        let alias = alias.rsplit('/').next()?;
        Some((alias.to_owned(), name.trim_start_matches('/').to_owned()))
    });
    let links = links.collect();
    Ok(PlaceRequest {
        names: if own.is_some() {
            names_on_network(record, &endpoint.aliases)
        } else {
            Vec::new()
        },
        network: own,
        ipv4: match endpoint.ipv4_address {
            Some(IpAddr::V4(ip)) => Some(ip),
            _ => None,
        },
        ipv6: match endpoint.ipv6_address {
            Some(IpAddr::V6(ip)) => Some(ip),
            _ => None,
        },
        link_local: endpoint.link_local_ips,
        mac,
        gateway_priority: endpoint.gateway_priority,
        links,
        interface: interface_name(&endpoint.driver_options)?,
        sysctls: interface_sysctls(&endpoint.driver_options)?,
    })
}

/// What an endpoint's driver options call the interface; a name that the kernel would refuse is refused here.
fn interface_name(options: &BTreeMap<String, String>) -> Result<Option<String>, ContainerError> {
    let Some(name) = options.get("com.docker.network.endpoint.ifname") else {
        return Ok(None);
    };
    let sound = (1..=15).contains(&name.len())
        && !matches!(name.as_str(), "." | ".." | "lo")
        && !name.contains(['/', ':', '%'])
        && !name.contains(char::is_whitespace);
    if sound {
        Ok(Some(name.clone()))
    } else {
        Err(ContainerError::Invalid(format!(
            "error renaming interface to {name:?}: expected 1 to 15 characters, without '/', ':', '%' and blanks, and not \"lo\""
        )))
    }
}

/// The settings of the interface among an endpoint's driver options.
fn interface_sysctls(
    options: &BTreeMap<String, String>,
) -> Result<Vec<InterfaceSysctl>, ContainerError> {
    let Some(text) = options.get("com.docker.network.endpoint.sysctls") else {
        return Ok(Vec::new());
    };
    let all = text.split(',').map(InterfaceSysctl::parse);
    all.collect::<Result<_, _>>()
        .map_err(ContainerError::Invalid)
}

/// Nothing is on a network that is only a configuration.
fn refuse_configuration(network: &NetworkRecord) -> Result<(), ContainerError> {
    if network.configuration.is_none() {
        return Ok(());
    }
    Err(ContainerError::Network(NetworkError::Refused {
        message: "cannot create endpoint on configuration-only network".to_owned(),
        class: hoist_model::ErrorClass::Forbidden,
    }))
}

/// What moby's `validateEndpointSettings` refuses, in its words.
fn check_endpoint(
    network: Option<&NetworkRecord>,
    name: &str,
    endpoint: &EndpointSpec,
) -> Result<(), ContainerError> {
    let mut wrong = Vec::new();
    let addresses = [endpoint.ipv4_address, endpoint.ipv6_address];
    if matches!(name, "bridge" | "host" | "none" | "default") {
        if addresses.iter().any(Option::is_some) {
            wrong.push(
                "user specified IP address is supported on user defined networks only".to_owned(),
            );
        }
        if !endpoint.aliases.is_empty() {
            wrong.push(
                "network-scoped alias is supported only for containers in user defined networks"
                    .to_owned(),
            );
        }
    }
    for (family, address) in ["IPv4", "IPv6"].into_iter().zip(addresses) {
        if let Some(address) = address
            && (address.is_ipv4() != (family == "IPv4") || address.is_unspecified())
        {
            wrong.push(format!("invalid {family} address: {address}"));
        }
    }
    for address in &endpoint.link_local_ips {
        if address.is_unspecified() {
            wrong.push(format!("invalid link-local IP address: {address}"));
        }
        if !is_link_local(*address) && wrong.is_empty() {
            // Docker finds that out at the start (moby: daemon/libnetwork/network.go).
            return Err(ContainerError::Invalid(format!(
                "invalid link local IP address: {address}"
            )));
        }
    }
    if let Some(network) = network.filter(|_| wrong.is_empty()) {
        for address in addresses.into_iter().flatten() {
            let mut configured = network
                .subnets
                .iter()
                .filter(|one| one.configured && one.subnet.addr().is_ipv4() == address.is_ipv4());
            let any = configured.clone().next().is_some();
            if !any {
                wrong.push("user specified IP address is supported only when connecting to networks with user configured subnets".to_owned());
            } else if !configured.any(|one| one.subnet.contains(&address)) {
                wrong.push(format!(
                    "no configured subnet or ip-range contain the IP address {address}"
                ));
            }
        }
    }
    match wrong.as_slice() {
        [] => Ok(()),
        [one] => Err(ContainerError::Invalid(format!(
            "invalid endpoint settings:\n{one}"
        ))),
        many => Err(ContainerError::Invalid(format!(
            "invalid endpoint settings:\n* {}",
            many.join("\n* ")
        ))),
    }
}

impl Actor {
    pub(super) async fn connect(
        &mut self,
        network: &NetworkRecord,
        endpoint: EndpointSpec,
    ) -> Result<(), ContainerError> {
        let spec = &self.record.spec.network;
        let runs = self.life.state.running().is_some();
        refuse_configuration(network)?;
        let name = network.name.clone();
        let refuse = |text: &str| Err(ContainerError::Invalid(text.to_owned()));
        let members = spec.members();
        match &spec.mode {
            NetworkMode::Container(_) => return refuse(SHARES),
            NetworkMode::Host if name != "host" || runs => return refuse(SHARES),
            _ if name == "host" => {
                return refuse(
                    "cannot connect container to host network - container must be created in host network mode",
                );
            }
            _ if members.contains(&"none") || (name == "none" && !members.is_empty()) => {
                return refuse(PRIVATE);
            }
            _ => {}
        }
        let member = members.contains(&name.as_str());
        if member && runs {
            return Err(ContainerError::Network(NetworkError::Refused {
                message: format!(
                    "endpoint with name {} already exists in network {name}",
                    self.record.name
                ),
                class: hoist_model::ErrorClass::Forbidden,
            }));
        }
        if runs {
            let place = place(&self.record, network, endpoint.clone())?;
            let port = self.containers.inner.parts.network.clone();
            let places = port.connect(&self.record, place).await?;
            if let Some(new) = places.iter().find(|place| place.network_name == name) {
                self.tell(network_event("connect", &self.record, new));
                self.change_hosts(|text| text.push_str(&own_lines(&self.record, new)));
            }
            let before = port.resolv_conf(&self.record);
            self.change(|record| record.attachments = places);
            self.change_resolver(&before);
        }
        self.change(|record| {
            let spec = &mut record.spec.network;
            if is_mode(&spec.mode, &name) {
                spec.left = false;
            }
            spec.endpoints.insert(name, endpoint);
        });
        self.persist = true;
        self.write_all(Class::Disk).await
    }

    pub(super) async fn disconnect(
        &mut self,
        network: &NetworkRecord,
    ) -> Result<(), ContainerError> {
        let spec = &self.record.spec.network;
        let name = network.name.clone();
        match &spec.mode {
            NetworkMode::Container(_) => {
                return Err(ContainerError::Invalid(SHARES.to_owned()));
            }
            NetworkMode::Host => {
                return Err(ContainerError::Invalid("container cannot be disconnected from host network - container was created in host network mode".to_owned()));
            }
            _ => {}
        }
        if !spec.members().contains(&name.as_str()) {
            return Err(ContainerError::Internal(format!(
                "container {} is not connected to network {name}",
                self.record.id.as_str()
            )));
        }
        let left: Option<NetworkAttachment> = self.record.place_on(&name).cloned();
        if let Some(left) = left {
            let port = self.containers.inner.parts.network.clone();
            let places = port.disconnect(&self.record, &network.id).await?;
            self.tell(network_event("disconnect", &self.record, &left));
            let own = own_lines(&self.record, &left);
            self.change_hosts(|text| *text = text.replacen(&own, "", 1));
            self.change(|record| record.attachments = places);
        }
        self.change(|record| {
            let spec = &mut record.spec.network;
            spec.endpoints.remove(&name);
            if is_mode(&spec.mode, &name) {
                spec.left = true;
            }
        });
        self.persist = true;
        self.write_all(Class::Disk).await
    }

    /// Changes /etc/hosts of the running container; best effort.
    fn change_hosts(&self, change: impl FnOnce(&mut String)) {
        self.change_etc_file("hosts", change);
    }

    /// Tells the running container of the name server that it has from its first user's network on, unless it changed the
    /// file that says so since that was written as `before`.
    fn change_resolver(&self, before: &str) {
        let now = self
            .containers
            .inner
            .parts
            .network
            .resolv_conf(&self.record);
        if now != before {
            self.change_etc_file("resolv.conf", |text| {
                if text == before {
                    *text = now;
                }
            });
        }
    }

    fn change_etc_file(&self, file: &str, change: impl FnOnce(&mut String)) {
        let path = self.containers.etc_directory(&self.record.id).join(file);
        // Written in place: the file is mounted.
        let written = std::fs::read_to_string(&path).and_then(|mut text| {
            change(&mut text);
            std::fs::write(&path, text)
        });
        if let Err(error) = written {
            tracing::warn!(container = %self.record.id, file, %error, "a file of its /etc is out of date");
        }
    }
}

/// Whether a network is that of the mode.
fn is_mode(mode: &NetworkMode, name: &str) -> bool {
    match mode {
        NetworkMode::Bridge => name == "bridge",
        NetworkMode::None => name == "none",
        NetworkMode::Host => name == "host",
        NetworkMode::Network(own) => own == name,
        NetworkMode::Container(_) => false,
    }
}
