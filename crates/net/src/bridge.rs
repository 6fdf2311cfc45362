//! The default bridge: found as an earlier life left it, one that a person made, or made on a subnet nothing else uses.
//!
//! As in moby (`daemon/daemon_unix.go`, `getDefaultBridgeIPAMConf`): `bip`, else an address that the bridge has, else
//! `fixed-cidr`, else the pools say its subnet; `fixed-cidr` says which part of it containers get.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use hoist_model::network::is_link_local;
use hoist_sys::netlink::Batch;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::build::{BridgePlan, mac_of};
use crate::error::NetError;
use crate::rtnl::{self, Link, Links};
use crate::settings::{BridgeChoice, OccupiedBridge, Settings};
use crate::{subnets, sysctl};

/// Finds or makes the default bridge, if there is to be one.
pub(crate) fn ensure(links: &Links, settings: &Settings) -> Result<Option<BridgePlan>, NetError> {
    subnets::check_pools(&settings.pools)?;
    let own = settings.instance.bridge();
    if let Some(occupied) = &settings.occupied
        && let Some(link) = links.link(&occupied.name)?
    {
        let found = Found {
            is_own: occupied.name == own,
            link,
            name: occupied.name.clone(),
            address: occupied.address,
            address_v6: occupied.address_v6,
        };
        return found.finish(links, &fitting(occupied, settings)).map(Some);
    }
    let found = match &settings.bridge {
        BridgeChoice::Absent => None,
        BridgeChoice::Named(name) => Some(named(links, name, settings)?),
        BridgeChoice::Own => Some(find_or_make(links, &own, settings)?),
    };
    if found.as_ref().is_none_or(|found| found.name != own) {
        // What an engine that had one left.
        remove(links, &own)?;
    }
    found.map(|found| found.finish(links, settings)).transpose()
}

/// The settings less those of addresses that do not fit a bridge that has to stay as it is.
fn fitting(occupied: &OccupiedBridge, settings: &Settings) -> Settings {
    let (net, net_v6) = (occupied.address.trunc(), occupied.address_v6);
    let mut fitting = settings.clone();
    fitting.range = settings.range.filter(|range| net.contains(range));
    fitting.gateway = settings.gateway.filter(|ip| net.contains(ip));
    let in_v6 = |range: &Ipv6Net| net_v6.is_some_and(|net| net.contains(range));
    fitting.range_v6 = settings.range_v6.filter(in_v6);
    let is_in_v6 = |ip: &Ipv6Addr| net_v6.is_some_and(|net| net.contains(ip));
    fitting.gateway_v6 = settings.gateway_v6.filter(is_in_v6);
    let is_own = occupied.name == settings.instance.bridge();
    let is_other_bridge = match &settings.bridge {
        BridgeChoice::Own => !is_own,
        BridgeChoice::Named(name) => *name != occupied.name,
        BridgeChoice::Absent => true,
    };
    let other_v6 = |own: &Ipv6Net| net_v6.is_some_and(|net| net != *own);
    let waiting: Vec<&str> = [
        ("bridge", is_other_bridge),
        (
            "bip",
            settings
                .bridge_address
                .is_some_and(|own| own != occupied.address),
        ),
        ("ipv6", settings.ipv6 != net_v6.is_some()),
        (
            "bip6",
            settings.bridge_address_v6.as_ref().is_some_and(other_v6),
        ),
        ("fixed-cidr", fitting.range != settings.range),
        ("fixed-cidr-v6", fitting.range_v6 != settings.range_v6),
        ("default-gateway", fitting.gateway != settings.gateway),
        (
            "default-gateway-v6",
            fitting.gateway_v6 != settings.gateway_v6,
        ),
    ]
    .into_iter()
    .filter_map(|(setting, waits)| waits.then_some(setting))
    .collect();
    if !waiting.is_empty() {
        tracing::warn!(
            bridge = occupied.name,
            address = %occupied.address,
            settings = waiting.join(", "),
            "there are running containers on the default bridge: it stays as it is until the engine starts, or is reloaded, without them"
        );
    }
    fitting
}

/// A default bridge that is there.
struct Found {
    link: Link,
    name: String,
    is_own: bool,
    address: Ipv4Net,
    address_v6: Option<Ipv6Net>,
}

impl Found {
    /// Gives it what it needs, and checks what containers on it would get.
    fn finish(self, links: &Links, settings: &Settings) -> Result<BridgePlan, NetError> {
        let Self { name, address, .. } = self;
        let net = address.trunc();
        let range = match settings.range {
            Some(range) if net.contains(&range) => range,
            Some(range) if !self.is_own => {
                // As Docker does: earlier versions of it took that.
                tracing::warn!(bridge = name, range = %range, subnet = %net, "fixed-cidr is outside any subnet implied by addresses on the user-managed default bridge");
                net
            }
            Some(range) => {
                return Err(NetError::InvalidSetting(format!(
                    "fixed-cidr={range} is outside the subnet {net} of the default bridge"
                )));
            }
            None => net,
        };
        let gateway = settings.gateway.unwrap_or(address.addr());
        if !net.contains(&gateway) {
            return Err(not_of_it("default-gateway", gateway.into(), net.into()));
        }
        let range_v6 = match (self.address_v6, settings.range_v6) {
            (Some(own), Some(range)) if own.contains(&range) => Some(range),
            (Some(own), Some(range)) => {
                return Err(NetError::InvalidSetting(format!(
                    "fixed-cidr-v6={range} is outside the subnet {} of the default bridge",
                    own.trunc()
                )));
            }
            (own, _) => own.map(|own| own.trunc()),
        };
        let gateway_v6 = settings.gateway_v6.filter(|_| self.address_v6.is_some());
        if let (Some(ip), Some(own)) = (gateway_v6, self.address_v6)
            && !own.contains(&ip)
        {
            let net = own.trunc().into();
            return Err(not_of_it("default-gateway-v6", ip.into(), net));
        }
        if let Some(range) = range_v6.filter(|v6| 128 - v6.prefix_len() < 32 - net.prefix_len()) {
            return Err(NetError::InvalidSetting(format!(
                "fixed-cidr-v6={range} has fewer addresses than the IPv4 subnet {net} of the default bridge"
            )));
        }
        let mut batch = Batch::new();
        if let Some(own) = self.address_v6 {
            // A bridge of its own needs no router's advertisements, and nobody else has its addresses: while its
            // link-local one was being checked, nothing would be forwarded.
            for setting in ["accept_ra", "accept_dad"].iter().filter(|_| self.is_own) {
                let _ = sysctl::write(&format!("ipv6/conf/{name}/{setting}"), "0");
            }
            rtnl::add_address(&mut batch, self.link.index, own.into());
        }
        rtnl::add_address(&mut batch, self.link.index, address.into());
        rtnl::set_up(&mut batch, self.link.index);
        if self.is_own && settings.occupied.is_none() {
            // What is sent to those that are on it already has to fit them.
            rtnl::set_mtu(&mut batch, self.link.index, settings.mtu);
        }
        links.apply_except(&mut batch, &[libc::EEXIST])?;
        // 127.0.0.1 on the host reaches published ports through the kernel; our table drops what comes from outside.
        sysctl::write(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
        Ok(BridgePlan {
            link: Arc::new(AtomicU32::new(self.link.index)),
            mac: self.link.mac.unwrap_or_else(|| mac_of(address.addr())),
            address,
            range,
            gateway,
            address_v6: self.address_v6,
            range_v6,
            gateway_v6,
            mtu: settings.mtu,
            veth_prefix: settings.instance.veth_prefix(),
            inter_container: settings.inter_container,
            own: self.is_own,
            name,
        })
    }
}

/// In the words of moby's bridge driver, with the setting's name before them.
fn not_of_it(setting: &str, gateway: IpAddr, net: IpNet) -> NetError {
    NetError::InvalidSetting(format!(
        "invalid {setting} {gateway}: default gateway ip must be part of the network {net}"
    ))
}

/// A bridge that a person made, with the addresses that it has; what it lacks is chosen as for one of ours.
fn named(links: &Links, name: &str, settings: &Settings) -> Result<Found, NetError> {
    let link = links.link(name)?.ok_or_else(|| {
        // moby: daemon/libnetwork/drivers/bridge, setupDevice
        NetError::InvalidSetting(format!(
            "bridge device with non default name {name} must be created manually"
        ))
    })?;
    if link.kind.as_deref() != Some("bridge") {
        return Err(NetError::InvalidSetting(format!(
            "existing interface {name} is not a bridge"
        )));
    }
    let all: Vec<IpNet> = links
        .addresses()?
        .into_iter()
        .filter_map(|(index, net)| (index == link.index).then_some(net))
        .collect();
    let v4 = all.iter().filter_map(|net| match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    });
    let v6 = all.iter().filter_map(|net| match net {
        IpNet::V6(net) if !is_link_local(net.addr().into()) => Some(*net),
        _ => None,
    });
    let address = match best(v4, settings.range, |net, range| net.contains(range)) {
        Some(address) => address,
        None => unclaimed(links, settings, name)?,
    };
    let address_v6 = settings.ipv6.then(|| {
        let own = best(v6, settings.range_v6, |net, range| net.contains(range));
        own.unwrap_or_else(|| wanted_v6(settings))
    });
    Ok(Found {
        link,
        name: name.to_owned(),
        is_own: false,
        address,
        address_v6,
    })
}

/// Of several addresses that whose subnet holds the range; else the first.
fn best<N: Copy>(
    all: impl Iterator<Item = N>,
    range: Option<N>,
    holds: impl Fn(&N, &N) -> bool,
) -> Option<N> {
    let all: Vec<N> = all.collect();
    let holding = range.and_then(|range| all.iter().find(|net| holds(net, &range)));
    holding.or(all.first()).copied()
}

/// Our own bridge: as an earlier engine left it, if that had the same settings, or made anew.
fn find_or_make(links: &Links, name: &str, settings: &Settings) -> Result<Found, NetError> {
    let existing = links.link(name)?;
    let kept = match &existing {
        Some(link) => usable_address(links, link, settings)?,
        None => None,
    };
    let (link, address) = match (existing, kept) {
        (Some(link), Some(address)) => (link, address),
        (existing, _) => {
            if existing.is_some() {
                remove(links, name)?;
            }
            create(links, name, settings)?
        }
    };
    Ok(Found {
        link,
        name: name.to_owned(),
        is_own: true,
        address,
        address_v6: settings.ipv6.then(|| wanted_v6(settings)),
    })
}

/// The address of an existing bridge of ours, if it is one the settings would allow.
fn usable_address(
    links: &Links,
    link: &Link,
    settings: &Settings,
) -> Result<Option<Ipv4Net>, NetError> {
    let addresses = links.addresses()?.into_iter();
    let own: Vec<IpNet> = addresses
        .filter_map(|(index, net)| (index == link.index).then_some(net))
        .collect();
    let wanted = settings.ipv6.then(|| wanted_v6(settings));
    let stale = own.iter().any(|net| match net {
        IpNet::V6(net) => !is_link_local(net.addr().into()) && wanted != Some(*net),
        IpNet::V4(_) => false,
    });
    let found = own.iter().find_map(|net| match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    });
    Ok(found.filter(|net| {
        !stale
            && match (settings.bridge_address, settings.range) {
                (Some(wanted), _) => wanted == *net,
                (None, Some(range)) => net.contains(&range),
                (None, None) => {
                    let mut pools = settings.pools.iter();
                    settings.pools.is_empty()
                        || pools.any(|pool| pool.base.contains(&IpNet::V4(*net)))
                }
            }
    }))
}

/// The address that the settings say, else one of a subnet that nothing uses.
fn unclaimed(links: &Links, settings: &Settings, name: &str) -> Result<Ipv4Net, NetError> {
    match (settings.bridge_address, settings.range) {
        (Some(address), _) => Ok(address),
        (None, Some(range)) => {
            let gateway = u32::from(range.network()) + 1;
            Ok(Ipv4Net::new_assert(gateway.into(), range.prefix_len()))
        }
        (None, None) => choose(links, settings, name),
    }
}

fn create(links: &Links, name: &str, settings: &Settings) -> Result<(Link, Ipv4Net), NetError> {
    // Another engine may choose at the same moment: who sees that both took one subnet and came later yields.
    for _ in 0..16 {
        let address = unclaimed(links, settings, name)?;
        let mut batch = Batch::new();
        rtnl::create_bridge(&mut batch, name, mac_of(address.addr()), settings.mtu, 0);
        links.apply(&mut batch)?;
        let link = links.link(name)?.ok_or_else(|| {
            NetError::kernel(
                format!("find bridge {name}"),
                std::io::Error::from_raw_os_error(libc::ENODEV),
            )
        })?;
        let mut batch = Batch::new();
        rtnl::add_address(&mut batch, link.index, address.into());
        links.apply(&mut batch)?;
        let contested = settings.bridge_address.is_none()
            && settings.range.is_none()
            && links.routes_v4()?.into_iter().any(|(index, net)| {
                index < link.index
                    && matches!(net, IpNet::V4(net) if subnets::overlaps(net, address))
            });
        if !contested {
            return Ok((link, address));
        }
        let mut batch = Batch::new();
        rtnl::delete_link(&mut batch, name);
        links.apply(&mut batch)?;
    }
    Err(NetError::PoolsExhausted(name.to_owned()))
}

fn choose(links: &Links, settings: &Settings, name: &str) -> Result<Ipv4Net, NetError> {
    let mut used: Vec<IpNet> = links.routes_v4()?.into_iter().map(|(_, net)| net).collect();
    used.extend(links.addresses()?.into_iter().map(|(_, net)| net));
    let subnet = subnets::choose(&settings.pools, &used)
        .ok_or_else(|| NetError::PoolsExhausted(name.to_owned()))?;
    let gateway = u32::from(subnet.network()) + 1;
    Ok(Ipv4Net::new_assert(gateway.into(), subnet.prefix_len()))
}

/// The bridge's own IPv6 address, where it has IPv6 and none yet.
fn wanted_v6(settings: &Settings) -> Ipv6Net {
    if let Some(address) = settings.bridge_address_v6 {
        return address;
    }
    let subnet = settings
        .range_v6
        .unwrap_or_else(|| subnets::unique_local(&settings.instance, [0, 1]))
        .trunc();
    let gateway = u128::from(subnet.network()) + 1;
    Ipv6Net::new_assert(gateway.into(), subnet.prefix_len())
}

/// Removes the bridge, if it is there.
pub(crate) fn remove(links: &Links, name: &str) -> Result<(), NetError> {
    let mut batch = Batch::new();
    rtnl::delete_link(&mut batch, name);
    links.apply_except(&mut batch, &[libc::ENODEV])
}
