//! Which way a container's packets take, and what would stop them, in words.

use hoist_model::ContainerId;
use hoist_model::container::PortMapping;
use hoist_model::network::GatewayMode;

use crate::attachment::{AttachmentRecord, PlaceRecord};
use crate::error::{HostAddress, NetError};
use crate::networks::Networks;
use crate::nft::Place;
use crate::shared::lock;
use crate::sysctl;

impl Networks {
    /// One sentence per thing that is known about an attached container's way in and out. Reads the kernel's tables:
    /// milliseconds.
    pub fn explain(&self, container: &ContainerId) -> Result<Vec<String>, NetError> {
        let record = self
            .attachment(container)
            .ok_or_else(|| NetError::NotAttached(container.clone()))?;
        let table = self.shared().settings.instance.table();
        let mut said = Vec::new();
        for place in &record.places {
            self.explain_place(place, &table, &mut said);
        }
        if record.places.is_empty() {
            said.push(
                "It is on no network: nothing reaches it, and it reaches nothing.".to_owned(),
            );
        }
        for v6 in [false, true] {
            if let Some((place, gateway)) = record.gateway(v6) {
                said.push(format!(
                    "To elsewhere over {}: by {} to {gateway}, the gateway of network {}.",
                    family(v6),
                    place.interface,
                    place.name
                ));
            }
        }
        let ports = record.ports.iter();
        said.extend(ports.map(|port| explain_port(&record, port, &table)));
        for v6 in [false, true] {
            let routed = record.way_out(v6).is_some_and(|place| place.is_routed(v6));
            for port in record.open.iter().filter(|_| routed) {
                said.push(format!(
                    "{port}: published without translation over {}: set open{} of table inet {table} lets it in at the container's own address.",
                    family(v6),
                    if v6 { 6 } else { 4 }
                ));
            }
        }
        self.explain_firewalls(&record, &table, &mut said);
        Ok(said)
    }

    fn explain_place(&self, place: &PlaceRecord, table: &str, said: &mut Vec<String>) {
        let addresses: Vec<String> = place.addresses().iter().map(ToString::to_string).collect();
        let addresses = addresses.join(" and ");
        let (interface, name) = (&place.interface, &place.name);
        let mut state = lock(&self.shared().state);
        let made = place.network.as_ref().and_then(|id| state.made(id).ok());
        let segment = made.map(|made| made.segment.clone());
        drop(state);
        let bridge = match &segment {
            Some(segment) => {
                if let Some(parent) = segment.kind.parent() {
                    let (driver, on) = (
                        segment.kind.driver(),
                        match parent {
                            "" => "an interface that goes nowhere".to_owned(),
                            parent => format!("the host's {parent}"),
                        },
                    );
                    said.push(format!(
                        "{interface} is {addresses} on network {name}, of driver {driver}, on {on}: its packets pass no rule of the host, and the host itself does not reach it."
                    ));
                    return;
                }
                segment.interface.clone()
            }
            None => {
                let bridge = self.shared().bridge();
                bridge.map_or_else(|_| String::new(), |bridge| bridge.name.clone())
            }
        };
        said.push(format!(
            "{interface} is {addresses} on network {name}: bridge {bridge}, by the host's {}.",
            place.host_interface
        ));
        let inter_container = segment.as_ref().map_or_else(
            || self.shared().default().settings.inter_container,
            |segment| segment.inter_container,
        );
        said.push(if inter_container {
            format!("Others on network {name} reach it directly, by the bridge.")
        } else {
            format!("Others on network {name} reach it by published ports alone, which the engine's relay carries: its bridge keeps its ports apart.")
        });
        if segment.as_ref().is_some_and(|segment| segment.internal) {
            said.push(format!(
                "Network {name} is internal: chain forward of table inet {table} drops what leaves or enters it (set internal), chain input what it asks of the host."
            ));
            return;
        }
        let masquerades = segment.as_ref().map_or_else(
            || self.shared().settings.masquerade && self.shared().settings.firewall_v4,
            |segment| segment.masquerade && segment.gateway_mode_v4 != GatewayMode::Routed,
        );
        let leaves = if masquerades {
            "takes the host's address in chain postrouting"
        } else {
            "keeps its address"
        };
        let open = segment
            .as_ref()
            .is_some_and(|segment| segment.gateway_mode_v4 == GatewayMode::NatUnprotected);
        let enters = if open {
            "lets in whatever comes to it"
        } else {
            "drops what comes to it from other networks and hosts, but for answers and published ports"
        };
        said.push(format!(
            "What leaves network {name} {leaves} of table inet {table}; chain into {enters}."
        ));
    }

    /// What stands in the way, of the host's own.
    fn explain_firewalls(&self, record: &AttachmentRecord, table: &str, said: &mut Vec<String>) {
        for (setting, what) in [
            ("ipv4/ip_forward", "net.ipv4.ip_forward"),
            ("ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"),
        ] {
            if sysctl::read(setting).is_ok_and(|value| value == "0") {
                said.push(format!(
                    "{what} is 0: the host forwards nothing of that family."
                ));
            }
        }
        let firewall = lock(&self.shared().tables);
        let wanted = self.shared().wanted();
        let intact = firewall.ruleset.is_intact(&firewall.tables, &wanted);
        said.push(match intact {
            Ok(true) => format!("Table inet {table} is as it should be."),
            Ok(false) => {
                format!(
                    "Table inet {table} is not as it should be: it is about to be written again."
                )
            }
            Err(error) => format!("Table inet {table} cannot be read: {error}"),
        });
        let survey = firewall.survey().unwrap_or_default();
        for place in &survey.places {
            let passes = firewall.passes(place, &self.shared().settings.instance.bridge());
            said.push(explain_place_of_others(place, passes));
        }
        if record.ports.iter().any(|port| is_relayed(record, port)) {
            said.extend(survey.inputs.iter().map(|chain| {
                format!(
                    "Chain {} of table {} is somebody else's and drops what comes for the host itself: what the relay is to carry has to be allowed there.",
                    chain.chain,
                    chain.table()
                )
            }));
        }
        said.extend(firewall.warnings.iter().cloned());
    }
}

fn explain_place_of_others(place: &Place, passes: bool) -> String {
    let (chain, table) = (&place.chain.chain, place.chain.table());
    if !passes {
        return format!(
            "Chain {chain} of table {table} is somebody else's and drops forwarded packets, and our accepts are not in it: this container's traffic may end there."
        );
    }
    if place.is_dockers() {
        return format!(
            "Chain {chain} of table {table}, Docker's for rules of others, has our accepts; what goes to Docker's own bridges is left to Docker's rules."
        );
    }
    format!(
        "Chain {chain} of table {table} is somebody else's and drops forwarded packets; our accepts are at its head."
    )
}

/// Whether the engine carries a port's traffic, and not the kernel.
fn is_relayed(record: &AttachmentRecord, port: &PortMapping) -> bool {
    let v6 = port.host_ip.is_ipv6();
    (v6 && port.host_ip.is_loopback())
        || (record.published_address(v6).is_none() && record.published_address(!v6).is_some())
}

fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

fn explain_port(record: &AttachmentRecord, port: &PortMapping, table: &str) -> String {
    let v6 = port.host_ip.is_ipv6();
    let host = format!(
        "{}:{}/{}",
        HostAddress(port.host_ip),
        port.host_port,
        port.container.protocol.as_str()
    );
    let relayed = v6 && port.host_ip.is_loopback();
    match record.published_address(v6).filter(|_| !relayed) {
        Some(ip) => format!(
            "{host}: map published{}{} of table inet {table} translates it to {}:{}; the client's address is kept.",
            if v6 { 6 } else { 4 },
            if port.host_ip.is_unspecified() {
                "_any"
            } else {
                ""
            },
            HostAddress(ip),
            port.container.port
        ),
        None => match record
            .published_address(false)
            .or(record.published_address(true))
        {
            Some(ip) => format!(
                "{host}: the engine's relay carries it to {}:{}; the container sees the gateway's address.",
                HostAddress(ip),
                port.container.port
            ),
            None => format!("{host}: reserved, and leads nowhere while no network leads out."),
        },
    }
}
