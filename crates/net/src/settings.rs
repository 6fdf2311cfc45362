//! What an operator decides about the default bridge; plain data, read once at start.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use hoist_model::NetworkId;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The host's resolver file (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Settings of the networks of one engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which engine this is, so that every kernel name derives from it.
    pub instance: Instance,
    /// Which interface of the host is the default bridge (`bridge`).
    pub bridge: BridgeChoice,
    /// The default bridge as running containers of an earlier engine are on it: it stays so, whatever the other settings
    /// say of its addresses, until an engine starts without them.
    pub occupied: Option<OccupiedBridge>,
    /// Address and prefix of the default bridge (`bip`); `None` chooses from `pools`.
    pub bridge_address: Option<Ipv4Net>,
    /// IPv6 address and prefix of the default bridge (`bip6`).
    pub bridge_address_v6: Option<Ipv6Net>,
    /// The part of the subnet that containers get addresses from (`fixed-cidr`), and the subnet where nothing else says one.
    pub range: Option<Ipv4Net>,
    /// The way out of the containers (`default-gateway`); `None` is the bridge itself.
    pub gateway: Option<Ipv4Addr>,
    /// The same for IPv6 (`default-gateway-v6`).
    pub gateway_v6: Option<Ipv6Addr>,
    /// `default-address-pools`; without one of a family, that has Docker's own, minus 172.17.0.0/16, or a unique local range.
    pub pools: Vec<AddressPool>,
    /// Whether containers on the default bridge get an IPv6 address (`ipv6`).
    pub ipv6: bool,
    /// What `range` is for IPv6 (`fixed-cidr-v6`); `None` derives a unique local /64 from the instance.
    pub range_v6: Option<Ipv6Net>,
    /// Whether to turn IP forwarding on when it is off (`ip-forward`).
    pub ip_forward: bool,
    /// Whether then to keep other interfaces' packets from being forwarded (the opposite of `ip-forward-no-drop`).
    pub guard: bool,
    /// Whether our table has rules for IPv4 (`iptables`). Without, ports are published by the relay alone.
    pub firewall_v4: bool,
    /// Whether it has rules for IPv6 (`ip6tables`).
    pub firewall_v6: bool,
    /// Whether containers of the default bridge may reach each other (`icc`).
    pub inter_container: bool,
    /// Whether traffic leaving a bridge takes the host's address (`ip-masq`).
    pub masquerade: bool,
    /// Link MTU in bytes (`mtu`).
    pub mtu: u32,
    /// Host address of ports that containers on the default bridge publish without one (`ip`).
    pub default_host_ip: Option<IpAddr>,
    /// Namespaces kept ready when nothing happens; 0 keeps none.
    pub pool_size: usize,
    /// Where the host's name servers stand, which the containers' own ask for names that are not ours.
    pub resolv_conf: PathBuf,
    /// Makes a network namespace where not simply the engine makes them: one belongs for good to the user namespace it is made
    /// in, and only with privileges there is it administered. Blocking.
    pub make_namespace: Option<MakeNamespace>,
}

/// What of [`Settings`] concerns no bridge that is there; the names are theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changeable {
    /// For networks that are made from now on.
    pub pools: Vec<AddressPool>,
    /// For containers that are started from now on.
    pub default_host_ip: Option<IpAddr>,
    /// When forwarding next has to be on.
    pub ip_forward: bool,
    /// When forwarding is next turned on.
    pub guard: bool,
}

/// Makes an empty network namespace.
#[derive(Clone)]
pub struct MakeNamespace(pub Arc<dyn Fn() -> io::Result<OwnedFd> + Send + Sync>);

impl fmt::Debug for MakeNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MakeNamespace").finish_non_exhaustive()
    }
}

impl Settings {
    /// What of them may change.
    #[must_use]
    pub fn changeable(&self) -> Changeable {
        Changeable {
            pools: self.pools.clone(),
            default_host_ip: self.default_host_ip,
            ip_forward: self.ip_forward,
            guard: self.guard,
        }
    }

    /// Whether these want another default bridge, or have other rules for it, than those.
    pub(crate) fn differs_in_bridge(&self, other: &Self) -> bool {
        let of = |settings: &Self| {
            let Self {
                bridge,
                bridge_address,
                bridge_address_v6,
                range,
                gateway,
                gateway_v6,
                ipv6,
                range_v6,
                firewall_v4,
                firewall_v6,
                inter_container,
                masquerade,
                mtu,
                ..
            } = settings.clone();
            let addresses = (bridge_address, bridge_address_v6, range, range_v6);
            let gateways = (gateway, gateway_v6);
            let rules = [ipv6, firewall_v4, firewall_v6, inter_container, masquerade];
            (bridge, addresses, gateways, rules, mtu)
        };
        of(self) != of(other)
    }

    /// Docker's defaults for an engine.
    #[must_use]
    pub fn new(instance: Instance) -> Self {
        Self {
            instance,
            bridge: BridgeChoice::Own,
            occupied: None,
            bridge_address: None,
            bridge_address_v6: None,
            range: None,
            gateway: None,
            gateway_v6: None,
            pools: Vec::new(),
            ipv6: false,
            range_v6: None,
            ip_forward: true,
            guard: true,
            firewall_v4: true,
            firewall_v6: true,
            inter_container: true,
            masquerade: true,
            mtu: 1500,
            default_host_ip: None,
            pool_size: 8,
            resolv_conf: PathBuf::from(RESOLV_CONF),
            make_namespace: None,
        }
    }
}

/// Which interface of the host is the default bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BridgeChoice {
    /// One of our own, made where it is missing.
    #[default]
    Own,
    /// One that a person made: it has to be there, and is left as it is.
    Named(String),
    /// There is no default bridge.
    Absent,
}

/// A default bridge that containers are on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OccupiedBridge {
    /// Its name.
    pub name: String,
    /// Its address and prefix.
    pub address: Ipv4Net,
    /// Its IPv6 address and prefix.
    pub address_v6: Option<Ipv6Net>,
}

/// A range of addresses that networks are cut from: one entry of `default-address-pools`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPool {
    /// The range, of either family.
    pub base: IpNet,
    /// Prefix length of each network cut from it; at least that of `base`, at most 30, of IPv6 126.
    pub size: u8,
}

/// Identifies one engine on this machine; kernel names derive from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance(Option<[u8; 3]>);

impl Instance {
    /// The engine of the default data root: table `hoist`, bridge `hoist0`.
    #[must_use]
    pub const fn default_engine() -> Self {
        Self(None)
    }

    /// Another engine; the bytes are the start of a digest of its data root.
    #[must_use]
    pub const fn of(bytes: [u8; 3]) -> Self {
        Self(Some(bytes))
    }

    fn tag(&self) -> String {
        match self.0 {
            None => "hoist0".to_owned(),
            Some([a, b, c]) => format!("{a:02x}{b:02x}{c:02x}"),
        }
    }

    /// Name of the default bridge: `hoist0` or `hst-a1b2c3`.
    #[must_use]
    pub fn bridge(&self) -> String {
        match self.0 {
            None => "hoist0".to_owned(),
            Some(_) => format!("hst-{}", self.tag()),
        }
    }

    /// Names for the bridge of a user's network, to be tried in order: `hoist0-1a2b3c4d` or `hst-a1b2c31a2b3`.
    pub fn segments(&self, id: &NetworkId) -> impl Iterator<Item = String> {
        let bridge = self.bridge();
        let bridge = if self.0.is_none() {
            bridge + "-"
        } else {
            bridge
        };
        let length = 15 - bridge.len();
        let digits = id.as_str().to_owned();
        (0..=digits.len() - length).map(move |at| format!("{bridge}{}", &digits[at..at + length]))
    }

    /// Whether a name is that of a bridge of a user's network of this engine.
    #[must_use]
    pub fn is_segment(&self, name: &str) -> bool {
        name.len() == 15 && name.starts_with(&self.bridge())
    }

    /// The group (`IFLA_GROUP`) of the links that this engine made for users' networks, whatever they are named: a number
    /// that nobody gives one by hand.
    pub(crate) fn group(&self) -> u32 {
        let [a, b, c] = self.bytes();
        u32::from_be_bytes([0x68, a, b, c])
    }

    /// The group of its links that are no network's any more.
    pub(crate) fn doomed_group(&self) -> u32 {
        self.group() | 1 << 24
    }

    /// Name of the nf_tables table of family inet: `hoist` or `hoist_a1b2c3`.
    #[must_use]
    pub fn table(&self) -> String {
        match self.0 {
            None => "hoist".to_owned(),
            Some(_) => format!("hoist_{}", self.tag()),
        }
    }

    /// What the host's end of every veth pair of this engine starts with; seven more characters follow.
    #[must_use]
    pub fn veth_prefix(&self) -> String {
        format!("v{}-", self.tag())
    }

    /// A name for the host's end of a veth pair on a user's network. One on the default bridge is named for its address, in
    /// hexadecimal digits alone.
    pub(crate) fn veth(&self, random: &[u8; 32]) -> String {
        const LETTERS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
        let letters = random[..6]
            .iter()
            .map(|byte| char::from(LETTERS[usize::from(byte % 32)]));
        format!("{}n{}", self.veth_prefix(), letters.collect::<String>())
    }

    /// The three bytes, zero for the default engine.
    #[must_use]
    pub fn bytes(&self) -> [u8; 3] {
        self.0.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_names_derive_from_the_instance_and_fit() {
        for (instance, bridge, table) in [
            (Instance::default_engine(), "hoist0", "hoist"),
            (
                Instance::of([0xa1, 0xb2, 0xc3]),
                "hst-a1b2c3",
                "hoist_a1b2c3",
            ),
        ] {
            assert_eq!(instance.bridge(), bridge);
            assert_eq!(instance.table(), table);
            assert!(instance.veth_prefix().len() + 7 <= 15);
            let id = NetworkId::from_bytes(&[0x5a; 32]);
            let segments: Vec<_> = instance.segments(&id).take(2).collect();
            assert!(segments.iter().all(|name| instance.is_segment(name)));
            assert_ne!(segments[0], segments[1]);
            assert!(!instance.is_segment(bridge) && !instance.is_segment("docker0"));
        }
    }
}
