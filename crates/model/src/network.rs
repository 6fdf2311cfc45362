//! Networks of users, as data: what one is made of, and what a container asks of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::NetworkId;

/// One subnet of a network (API `IPAMConfig`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The subnet.
    pub subnet: IpNet,
    /// The host's address in it, or what is the way out; `None` until the network is made, and where there is none.
    pub gateway: Option<IpAddr>,
    /// Where addresses are taken from that nobody asked for (`--ip-range`); `None` is all of the subnet.
    pub range: Option<IpNet>,
    /// Addresses that nobody gets, by what they are for.
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// Whether a person chose it: only then may containers ask for addresses of their own.
    pub configured: bool,
}

/// How much of a subnet is in use (API `SubnetStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubnetUsage {
    /// The subnet.
    pub subnet: IpNet,
    /// Addresses that nobody else can get: those of containers, the gateway's, auxiliary ones, and those that no interface has
    /// (the network's own and the broadcast address).
    pub in_use: u128,
    /// Addresses that a container can get that asks for none in particular.
    pub available: u128,
}

/// Whether an address is one of a single link.
#[must_use]
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// How packets get into and out of a network's bridge (`com.docker.network.bridge.gateway_mode_ipv4`, `…_ipv6`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayMode {
    /// Ports are published by translation, nothing else gets in.
    #[default]
    Nat,
    /// As `Nat`, but every port can be reached directly as well.
    NatUnprotected,
    /// Published ports can be reached at the container's own address; nothing is translated.
    Routed,
    /// The bridge has no address: internal networks that not even the host is on.
    Isolated,
}

/// How containers on a macvlan reach each other (option `macvlan_mode`; linux/if_link.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MacvlanMode {
    /// Not at all.
    Private,
    /// By the switch behind the parent.
    Vepa,
    /// Directly.
    #[default]
    Bridge,
    /// The one container has the parent for itself.
    Passthru,
}

/// What interfaces on an ipvlan carry (option `ipvlan_mode`; linux/if_link.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpvlanMode {
    /// Frames: as on the parent's own network.
    #[default]
    L2,
    /// Packets that the parent routes; neither broadcast nor multicast.
    L3,
    /// The same, by way of the host's own rules for packets.
    L3s,
}

/// How containers on an ipvlan reach each other (option `ipvlan_flag`; linux/if_link.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpvlanFlag {
    /// Directly.
    #[default]
    Bridge,
    /// Not at all.
    Private,
    /// By the switch behind the parent.
    Vepa,
}

/// What a network is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SegmentKind {
    /// A bridge on the host.
    Bridge,
    /// Interfaces on an interface of the host, or on one that goes nowhere where `parent` is empty.
    Macvlan {
        /// The host's interface; `name.7` is VLAN 7 of `name`, made if it is not there.
        parent: String,
        /// Who reaches whom.
        mode: MacvlanMode,
    },
    /// The same with the parent's hardware address: what comes in is told apart by the address it is for.
    Ipvlan {
        /// As of a macvlan.
        parent: String,
        /// What they carry.
        mode: IpvlanMode,
        /// Who reaches whom.
        flag: IpvlanFlag,
    },
}

impl SegmentKind {
    /// The driver's name (API `Driver`).
    #[must_use]
    pub fn driver(&self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
        }
    }

    /// The host's interface that it is on, as it was named; `None` of a bridge.
    #[must_use]
    pub fn parent(&self) -> Option<&str> {
        match self {
            Self::Bridge => None,
            Self::Macvlan { parent, .. } | Self::Ipvlan { parent, .. } => Some(parent),
        }
    }

    /// Whether packets leave without a gateway: the parent routes them.
    #[must_use]
    pub fn routes_by_itself(&self) -> bool {
        matches!(
            self,
            Self::Ipvlan {
                mode: IpvlanMode::L3 | IpvlanMode::L3s,
                ..
            }
        )
    }
}

/// A network as the host makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Which.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// Of what.
    pub kind: SegmentKind,
    /// The interface on the host: the bridge. Empty until the network is made, unless a person named it.
    pub interface: String,
    /// Whether the interface was there before, and so outlives the network.
    pub adopted: bool,
    /// Whether containers get IPv4 addresses.
    pub ipv4: bool,
    /// Whether they get IPv6 addresses.
    pub ipv6: bool,
    /// At most one per family; one that is missing is chosen when the network is made.
    pub subnets: Vec<Subnet>,
    /// Whether nothing leaves or enters it.
    pub internal: bool,
    /// Whether its containers reach each other (`enable_icc`).
    pub inter_container: bool,
    /// Whether what leaves takes the host's address (`enable_ip_masquerade`).
    pub masquerade: bool,
    /// Whether the bridge has no IPv4 address of its own (`inhibit_ipv4`).
    pub inhibit_ipv4: bool,
    /// Link MTU in bytes; `None` is the default bridge's.
    pub mtu: Option<u32>,
    /// Host address of ports published without one.
    pub host_binding: Option<IpAddr>,
    /// For IPv4.
    pub gateway_mode_v4: GatewayMode,
    /// For IPv6.
    pub gateway_mode_v6: GatewayMode,
    /// What the names of containers' interfaces begin with; empty is `eth`.
    pub interface_prefix: String,
}

impl Segment {
    /// Whether packets may leave by it. On an interface that goes nowhere they cannot.
    #[must_use]
    pub fn leads_out(&self) -> bool {
        !self.internal && self.kind.parent() != Some("")
    }

    /// Its subnet of a family.
    #[must_use]
    pub fn subnet(&self, v6: bool) -> Option<&Subnet> {
        self.subnets
            .iter()
            .find(|one| matches!(one.subnet, IpNet::V6(_)) == v6)
    }
}

/// A container's wish for a place on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaceRequest {
    /// Which network; `None` is the default bridge.
    pub network: Option<NetworkId>,
    /// An address of its own.
    pub ipv4: Option<Ipv4Addr>,
    /// An address of its own.
    pub ipv6: Option<Ipv6Addr>,
    /// Link-local addresses besides (`--link-local-ip`).
    pub link_local: Vec<IpAddr>,
    /// A hardware address of its own.
    pub mac: Option<[u8; 6]>,
    /// Of the networks that lead out, the one with the highest is the way out (`--gw-priority`).
    pub gateway_priority: i64,
    /// Its names there; the first is what PTR questions are answered with. None on the default bridge.
    pub names: Vec<String>,
    /// Names that it alone sees there: alias, and the other's name.
    pub links: Vec<(String, String)>,
    /// What its interface is called there (`com.docker.network.endpoint.ifname`); `None` is the next of `eth0`, `eth1`, ….
    pub interface: Option<String>,
    /// Settings of its interface (`com.docker.network.endpoint.sysctls`).
    pub sysctls: Vec<InterfaceSysctl>,
}

/// A kernel setting of one interface: `net.ipv4.conf.IFNAME.log_martians=1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSysctl {
    /// `ipv4`, `ipv6` or `mpls`.
    pub family: String,
    /// `conf` or `neigh`.
    pub group: String,
    /// Its name.
    pub name: String,
    /// What it is set to.
    pub value: String,
}

impl InterfaceSysctl {
    /// Reads one. The name of the interface does not matter, as in Docker (and its client writes all of it small); what else
    /// could lead out of the interface's directory is refused. The text is Docker's (moby: daemon/libnetwork/osl).
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| format!("expected sysctl '{text}' to have format name=value"))?;
        let parts: Vec<&str> = key.split('.').collect();
        let [net, family, group, _, name] = parts.as_slice() else {
            return Err(format!(
                "expected sysctl '{text}' to have format net.X.Y.IFNAME.Z"
            ));
        };
        let plain = |part: &str| {
            let mut bytes = part.bytes();
            !part.is_empty() && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        };
        if *net != "net"
            || !matches!(*family, "ipv4" | "ipv6" | "mpls")
            || !plain(group)
            || !plain(name)
        {
            return Err(format!(
                "sysctl '{text}' is not of one interface: expected net.ipv4.Y.IFNAME.Z, net.ipv6.Y.IFNAME.Z or net.mpls.Y.IFNAME.Z"
            ));
        }
        Ok(Self {
            family: (*family).to_owned(),
            group: (*group).to_owned(),
            name: (*name).to_owned(),
            value: value.to_owned(),
        })
    }
}

/// Reads a hardware address, six bytes of two hexadecimal digits between colons or hyphens.
#[must_use]
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut bytes {
        let part = parts.next()?;
        let whole = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| whole)?;
    }
    parts.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_of_an_interface_stays_in_its_directory() {
        let read = InterfaceSysctl::parse("net.ipv4.conf.IFNAME.log_martians=1").unwrap();
        assert_eq!(
            (
                read.family.as_str(),
                read.group.as_str(),
                read.name.as_str()
            ),
            ("ipv4", "conf", "log_martians")
        );
        for (text, expected) in [
            (
                "net.ipv4.conf.IFNAME.x",
                "expected sysctl 'net.ipv4.conf.IFNAME.x' to have format name=value",
            ),
            (
                "net.ipv4.ip_forward=1",
                "expected sysctl 'net.ipv4.ip_forward=1' to have format net.X.Y.IFNAME.Z",
            ),
        ] {
            assert_eq!(InterfaceSysctl::parse(text).unwrap_err(), expected);
        }
        for bad in [
            "kernel.ipv4.conf.IFNAME.x=1",
            "net.core.conf.IFNAME.x=1",
            "net.ipv4.conf/../...IFNAME.x=1",
            "net.ipv4.conf.IFNAME./../../all/forwarding=1",
            "net.ipv4.conf.IFNAME.=1",
        ] {
            assert!(InterfaceSysctl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hardware_address_is_six_whole_bytes() {
        assert_eq!(
            parse_mac("02:42:ac:11:00:0F"),
            Some([2, 0x42, 0xac, 0x11, 0, 15])
        );
        assert_eq!(
            parse_mac("02-42-ac-11-00-02"),
            Some([2, 0x42, 0xac, 0x11, 0, 2])
        );
        for bad in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "2:42:ac:11:00:02",
            "+2:42:ac:11:00:02",
            "0g:42:ac:11:00:02",
        ] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }
}
