//! A container's places on networks, as asked for, as given, and as remembered.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use hoist_model::container::{PortKey, PortMapping, PortRequest};
use hoist_model::network::PlaceRequest;
use hoist_model::{ContainerId, EndpointId, NetworkId, SandboxId};
use serde::{Deserialize, Serialize};

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Of an interface that has none of its own.
    pub const NONE: Self = Self([0; 6]);
}

impl std::fmt::Display for MacAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What a container asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachRequest {
    /// Who asks.
    pub container: ContainerId,
    /// Ports to publish; all or none are.
    pub ports: Vec<PortRequest>,
    /// The networks to be on, in the order of the interfaces. The first is taken from a pool, unless it is a macvlan or the
    /// default bridge with wishes; those, and all others, are made to order.
    pub places: Vec<PlaceRequest>,
    /// Name servers for what its networks do not know; empty takes the host's.
    pub servers: Vec<IpAddr>,
    /// Whether its resolv.conf has an `ndots` that somebody set.
    pub ndots_set: bool,
}

/// A network namespace ready for a container, and what it is known by.
#[derive(Debug)]
pub struct Attachment {
    /// The namespace, with `lo` and the container's interfaces up; close it once the container is in it (`Networks` keeps
    /// its own).
    pub netns: OwnedFd,
    /// Everything to remember over a restart of the daemon.
    pub record: AttachmentRecord,
    /// Duplicates of the sockets that reserve its published ports, for a process that outlives the daemon. They hold the
    /// ports: close them when the container ends.
    pub reserving: Vec<OwnedFd>,
}

/// What is remembered of an attachment; the engine stores it and hands it to `Networks::restore`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentRecord {
    /// Whose it is.
    pub container: ContainerId,
    /// The namespace.
    pub sandbox: SandboxId,
    /// Its places, in the order of their interfaces.
    pub places: Vec<PlaceRecord>,
    /// Published ports, in the order they were asked for, IPv4 before IPv6.
    pub ports: Vec<PortMapping>,
    /// Ports that are published without translation, where the network that leads out is a routed one.
    pub open: Vec<PortKey>,
}

/// One place on one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRecord {
    /// Which network; `None` is the default bridge.
    pub network: Option<NetworkId>,
    /// The network's name.
    pub name: String,
    /// This membership.
    pub endpoint: EndpointId,
    /// The interface in the container: `eth0`.
    pub interface: String,
    /// The host's end of the veth pair; empty where there is none (macvlan, ipvlan).
    pub host_interface: String,
    /// Hardware address of the interface; [`MacAddress::NONE`] where it is another's (ipvlan).
    pub mac: MacAddress,
    /// The IPv4 address, where the network has IPv4.
    pub ipv4: Option<Address<Ipv4Addr>>,
    /// The IPv6 address, where the network has IPv6.
    pub ipv6: Option<Address<Ipv6Addr>>,
    /// See [`PlaceRequest::gateway_priority`].
    pub gateway_priority: i64,
    /// Whether the network leads out at all.
    pub leads_out: bool,
    /// Whether IPv4 ports are published without translation.
    pub routed_v4: bool,
    /// Whether IPv6 ports are.
    pub routed_v6: bool,
}

/// An address of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address<A> {
    /// The address.
    pub address: A,
    /// Prefix length of the subnet.
    pub prefix_length: u8,
    /// The way out; unspecified where what the interface is on routes (ipvlan l3).
    pub gateway: Option<A>,
}

impl PlaceRecord {
    /// Its addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let v4 = self.ipv4.map(|own| own.address.into());
        let v6 = self.ipv6.map(|own| own.address.into());
        v4.into_iter().chain(v6).collect()
    }

    /// Its address and gateway of a family, if it has both: then it can be the way out.
    pub(crate) fn way(&self, v6: bool) -> Option<(IpAddr, IpAddr)> {
        if !self.leads_out {
            return None;
        }
        if v6 {
            let own = self.ipv6?;
            Some((own.address.into(), own.gateway?.into()))
        } else {
            let own = self.ipv4?;
            Some((own.address.into(), own.gateway?.into()))
        }
    }

    pub(crate) fn is_routed(&self, v6: bool) -> bool {
        if v6 { self.routed_v6 } else { self.routed_v4 }
    }
}

impl AttachmentRecord {
    /// The address on the first network.
    #[must_use]
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        Some(self.places.first()?.ipv4?.address)
    }

    /// The IPv6 address on the first network.
    #[must_use]
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        Some(self.places.first()?.ipv6?.address)
    }

    /// The place by which a family's packets leave: the highest priority, then two families before one, then the network's
    /// name (moby: daemon/libnetwork/sandbox.go, `Endpoint.Less`).
    #[must_use]
    pub fn way_out(&self, v6: bool) -> Option<&PlaceRecord> {
        self.places
            .iter()
            .filter(|place| place.way(v6).is_some())
            .min_by_key(|place| {
                let both = place.ipv4.is_some() && place.ipv6.is_some();
                (Reverse(place.gateway_priority), !both, &place.name)
            })
    }

    /// The gateway of a family and the interface that it is behind.
    pub(crate) fn gateway(&self, v6: bool) -> Option<(&PlaceRecord, IpAddr)> {
        let place = self.way_out(v6)?;
        Some((place, place.way(v6)?.1))
    }

    /// The gateways of both families, with the interfaces that they are behind.
    pub(crate) fn gateways(&self) -> Vec<(String, IpAddr)> {
        [false, true]
            .into_iter()
            .filter_map(|v6| self.gateway(v6))
            .map(|(place, gateway)| (place.interface.clone(), gateway))
            .collect()
    }

    /// Where a family's published ports lead, if it has any.
    pub(crate) fn published_address(&self, v6: bool) -> Option<IpAddr> {
        let place = self.way_out(v6)?;
        (!place.is_routed(v6)).then(|| place.way(v6).map(|way| way.0))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, v4: Option<u8>, v6: bool, priority: i64, leads_out: bool) -> PlaceRecord {
        PlaceRecord {
            network: None,
            name: name.to_owned(),
            endpoint: EndpointId::from_bytes(&[1; 32]),
            interface: String::new(),
            host_interface: String::new(),
            mac: MacAddress([0; 6]),
            ipv4: v4.map(|last| Address {
                address: Ipv4Addr::new(10, 0, last, 2),
                prefix_length: 24,
                gateway: Some(Ipv4Addr::new(10, 0, last, 1)),
            }),
            ipv6: v6.then(|| Address {
                address: "fd00::2".parse().unwrap(),
                prefix_length: 64,
                gateway: Some("fd00::1".parse().unwrap()),
            }),
            gateway_priority: priority,
            leads_out,
            routed_v4: false,
            routed_v6: false,
        }
    }

    #[test]
    fn the_way_out_is_by_priority_families_and_name() {
        let check = |places: &[PlaceRecord], v4: Option<&str>, v6: Option<&str>| {
            let record = AttachmentRecord {
                container: ContainerId::from_bytes(&[1; 32]),
                sandbox: SandboxId::from_bytes(&[1; 32]),
                places: places.to_vec(),
                ports: Vec::new(),
                open: Vec::new(),
            };
            let out = |v6| record.way_out(v6).map(|place| place.name.as_str());
            assert_eq!((out(false), out(true)), (v4, v6));
        };
        let a = place("a", Some(1), false, 0, true);
        let b = place("b", Some(2), true, 0, true);
        let c = place("c", Some(3), false, 7, true);
        let internal = place("0", Some(4), true, 9, false);
        check(&[], None, None);
        check(std::slice::from_ref(&internal), None, None);
        check(&[a.clone(), b.clone()], Some("b"), Some("b"));
        check(&[internal, a.clone(), b, c], Some("c"), Some("b"));
        check(&[place("z", None, true, 5, true), a], Some("a"), Some("z"));
    }
}
