//! Making one place on one network: its addresses, its interface, its record.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use hoist_model::network::{GatewayMode, InterfaceSysctl, PlaceRequest, SegmentKind};
use hoist_model::{EndpointId, NetworkId};
use ipnet::IpNet;

use crate::attach::{Placed, duplicate, random_ids};
use crate::attachment::{MacAddress, PlaceRecord};
use crate::build::{BridgePlan, Plug, PlugLink, mac_of};
use crate::error::NetError;
use crate::networks::Networks;
use crate::segment_links::upper_kind;
use crate::segments::Made;
use crate::shared::{Shared, lock};
use crate::sysctl;
use crate::worker::Job;

/// Packets between ports of a bridge meet the firewall with this.
const BRIDGE_CALLS: &str = "bridge/bridge-nf-call-iptables";

impl Networks {
    /// Gives a namespace one more place.
    pub(crate) fn plug(
        &self,
        netns: &OwnedFd,
        wish: &PlaceRequest,
        others: &[Placed],
    ) -> Result<PlaceRecord, NetError> {
        let shared = self.shared();
        let names = others.iter().map(|one| one.record.interface.as_str());
        let (mut record, mut plug) = match &wish.network {
            None => self.bridge_plug(wish)?,
            Some(id) => self.user_plug(id, wish)?,
        };
        let names: Vec<_> = names.collect();
        plug.interface = match &wish.interface {
            // Docker's words for the kernel's answer.
            Some(name) if names.contains(&name.as_str()) => {
                shared.release_places(std::slice::from_ref(&record));
                return Err(NetError::InvalidSetting(format!(
                    "error renaming interface to {name:?}: file exists"
                )));
            }
            Some(name) => name.clone(),
            None => free_name(&plug.interface, &names),
        };
        plug.sysctls.clone_from(&wish.sysctls);
        record.interface.clone_from(&plug.interface);
        if let PlugLink::Veth { name, .. } = &mut plug.link {
            if name.is_empty() {
                *name = shared.settings.instance.veth(&random_ids()?);
            }
            record.host_interface.clone_from(name);
        }
        let plug = Arc::new(plug);
        let build = || {
            let (copy, plug) = (duplicate(netns)?, Arc::clone(&plug));
            self.worker()
                .build(move |builder| builder.plug(&copy, &plug))
        };
        let plugged = self.on_bridge(&record, build);
        if let Err(error) = plugged {
            shared.release_places(std::slice::from_ref(&record));
            return Err(error);
        }
        if wish.sysctls.iter().any(disables_ipv6) {
            // The kernel took the address from the interface.
            let gone = PlaceRecord {
                ipv4: None,
                ipv6: record.ipv6.take(),
                ..record.clone()
            };
            shared.end(&lock(&shared.links), &[gone], &[]);
        }
        Ok(record)
    }

    /// Does what takes a port of a place's bridge; while it is full, in the place of who has a port and does not need it any
    /// more.
    pub(crate) fn on_bridge(
        &self,
        place: &PlaceRecord,
        mut build: impl FnMut() -> Result<(), NetError>,
    ) -> Result<(), NetError> {
        loop {
            let built = build();
            let network = place.network.clone();
            if !matches!(built, Err(NetError::BridgeFull(_))) {
                return built;
            }
            if !self.worker().call(|reply| Job::FreePort(network, reply))? {
                return Err(NetError::BridgeFull(place.name.clone()));
            }
        }
    }

    /// A place on a user's network, whose addresses are taken; its interface is named by its prefix alone.
    pub(crate) fn user_plug(
        &self,
        id: &NetworkId,
        wish: &PlaceRequest,
    ) -> Result<(PlaceRecord, Plug), NetError> {
        let taken = || {
            let mut state = lock(&self.shared().state);
            let made = state.made(id)?;
            let has_mac = !matches!(made.segment.kind, SegmentKind::Ipvlan { .. });
            if wish.mac.is_some() && !has_mac {
                return Err(NetError::InvalidSetting(
                    "ipvlan interfaces do not support custom mac address assignment".to_owned(),
                ));
            }
            let addresses = made.take(wish)?;
            segment_plug(made, wish, &addresses)
        };
        match taken() {
            // Who has left may still have an address.
            Err(NetError::AddressRefused(_) | NetError::AddressesExhausted(_)) => {
                self.shared().hurry(id);
                taken()
            }
            other => other,
        }
    }

    /// A further place on the default bridge.
    fn bridge_plug(&self, wish: &PlaceRequest) -> Result<(PlaceRecord, Plug), NetError> {
        let shared = self.shared();
        let ip = self.bridge_address(wish)?;
        let mac = wish.mac.map_or_else(|| mac_of(ip), MacAddress);
        let record = self.bridge_place(ip, mac, wish)?;
        let bridge = shared.bridge()?;
        let plug = Plug {
            interface: "eth".to_owned(),
            ..default_plug(&bridge, &record, wish, bridge.veth_name(ip))
        };
        Ok((record, plug))
    }
}

/// Whether a setting takes IPv6 from its interface.
pub(crate) fn disables_ipv6(setting: &InterfaceSysctl) -> bool {
    setting.family == "ipv6" && setting.name == "disable_ipv6" && setting.value != "0"
}

/// What a place on the default bridge is made of.
fn default_plug(
    bridge: &BridgePlan,
    place: &PlaceRecord,
    wish: &PlaceRequest,
    veth: String,
) -> Plug {
    Plug {
        link: PlugLink::Veth {
            name: veth,
            bridge: bridge.index(),
            isolated: !bridge.inter_container,
        },
        interface: place.interface.clone(),
        mac: place.mac,
        mtu: Some(bridge.mtu),
        addresses: nets(place, wish),
        gateways: bridge.own_gateways(),
        ipv6: bridge.address_v6.is_some() || has_link_local_v6(wish),
        hairpin: sysctl::is_on(BRIDGE_CALLS),
        sysctls: Vec::new(),
    }
}

/// What a place is made of whose veth was taken away; `None` if it has none, or its network is gone.
pub(crate) fn plug_again(
    shared: &Shared,
    place: &PlaceRecord,
    wish: &PlaceRequest,
) -> Option<Plug> {
    let veth = place.host_interface.clone();
    let Some(id) = &place.network else {
        let bridge = shared.bridge().ok()?;
        return Some(default_plug(&bridge, place, wish, veth));
    };
    let state = lock(&shared.state);
    let made = state.segments.get(id)?;
    (made.segment.kind == SegmentKind::Bridge).then(|| Plug {
        link: PlugLink::Veth {
            name: veth,
            bridge: made.index,
            isolated: !made.segment.inter_container,
        },
        interface: place.interface.clone(),
        mac: place.mac,
        mtu: made.segment.mtu,
        addresses: nets(place, wish),
        gateways: made.own_gateways(),
        ipv6: place.ipv6.is_some() || has_link_local_v6(wish),
        hairpin: sysctl::is_on(BRIDGE_CALLS),
        sysctls: Vec::new(),
    })
}

/// The first of `eth0`, `eth1`, … that nothing has.
pub(crate) fn free_name(prefix: &str, taken: &[&str]) -> String {
    (0..)
        .map(|number| format!("{prefix}{number}"))
        .find(|name| !taken.contains(&name.as_str()))
        .unwrap_or_default()
}

/// Whether an IPv6 link-local address is asked for.
fn has_link_local_v6(wish: &PlaceRequest) -> bool {
    wish.link_local.iter().any(IpAddr::is_ipv6)
}

/// Link-local addresses with their prefixes (moby: daemon/libnetwork/endpoint.go).
pub(crate) fn link_local_nets(wish: &PlaceRequest) -> impl Iterator<Item = IpNet> {
    let nets = wish.link_local.iter().copied();
    nets.map(|ip| IpNet::new_assert(ip, if ip.is_ipv4() { 16 } else { 64 }))
}

fn nets(place: &PlaceRecord, wish: &PlaceRequest) -> Vec<IpNet> {
    let v4 = place
        .ipv4
        .map(|own| (own.address.into(), own.prefix_length));
    let v6 = place
        .ipv6
        .map(|own| (own.address.into(), own.prefix_length));
    v4.into_iter()
        .chain(v6)
        .map(|(address, length): (IpAddr, u8)| IpNet::new_assert(address, length))
        .chain(link_local_nets(wish))
        .collect()
}

/// What a place on a user's network is made of; the addresses are taken.
fn segment_plug(
    made: &Made,
    wish: &PlaceRequest,
    addresses: &[IpAddr],
) -> Result<(PlaceRecord, Plug), NetError> {
    let segment = &made.segment;
    let v4 = addresses.iter().copied().find(IpAddr::is_ipv4);
    let v6 = addresses.iter().copied().find(IpAddr::is_ipv6);
    let random = random_ids()?;
    let mac = match (wish.mac, v4) {
        // It is the parent's.
        _ if matches!(segment.kind, SegmentKind::Ipvlan { .. }) => MacAddress::NONE,
        (Some(mac), _) => MacAddress(mac),
        (None, Some(IpAddr::V4(ip))) => mac_of(ip),
        _ => {
            let [a, b, c, d, ..] = random;
            MacAddress([0x02, 0x42, a, b, c, d])
        }
    };
    let record = PlaceRecord {
        network: Some(segment.id.clone()),
        name: segment.name.clone(),
        endpoint: EndpointId::from_bytes(&random),
        interface: String::new(),
        host_interface: String::new(),
        mac,
        ipv4: v4.and_then(|ip| {
            made.placed(ip, |ip| match ip {
                IpAddr::V4(ip) => Some(ip),
                IpAddr::V6(_) => None,
            })
        }),
        ipv6: v6.and_then(|ip| {
            made.placed(ip, |ip| match ip {
                IpAddr::V6(ip) => Some(ip),
                IpAddr::V4(_) => None,
            })
        }),
        gateway_priority: wish.gateway_priority,
        leads_out: made.leads_out(),
        routed_v4: segment.gateway_mode_v4 == GatewayMode::Routed
            || segment.kind != SegmentKind::Bridge,
        routed_v6: segment.gateway_mode_v6 == GatewayMode::Routed
            || segment.kind != SegmentKind::Bridge,
    };
    let link = match &segment.kind {
        SegmentKind::Bridge => PlugLink::Veth {
            name: String::new(),
            bridge: made.index,
            isolated: !segment.inter_container,
        },
        SegmentKind::Macvlan { .. } | SegmentKind::Ipvlan { .. } => PlugLink::Upper {
            parent: made.index,
            kind: upper_kind(&segment.kind),
        },
    };
    let plug = Plug {
        addresses: nets(&record, wish),
        gateways: made.own_gateways(),
        link,
        interface: match segment.interface_prefix.as_str() {
            "" => "eth".to_owned(),
            prefix => prefix.to_owned(),
        },
        mac,
        mtu: segment.mtu,
        ipv6: v6.is_some() || has_link_local_v6(wish),
        hairpin: segment.kind == SegmentKind::Bridge && sysctl::is_on(BRIDGE_CALLS),
        sysctls: Vec::new(),
    };
    Ok((record, plug))
}
