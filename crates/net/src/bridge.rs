//! The default bridge: found as an earlier life left it, or made on a subnet nothing else uses.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use hoist_sys::netlink::Batch;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::build::{BridgePlan, mac_of};
use crate::error::NetError;
use crate::rtnl::{self, Link, Links};
use crate::settings::Settings;
use crate::{subnets, sysctl};

/// Finds or makes the bridge.
pub(crate) fn ensure(links: &Links, settings: &Settings) -> Result<BridgePlan, NetError> {
    subnets::check_pools(&settings.pools)?;
    let name = settings.instance.bridge();
    let existing = links.link(&name)?;
    let kept = match &existing {
        Some(link) => usable_address(links, link, settings)?,
        None => None,
    };
    let (link, address) = match (existing, kept) {
        (Some(link), Some(address)) => (link, address),
        (existing, _) => {
            if existing.is_some() {
                let mut batch = Batch::new();
                rtnl::delete_link(&mut batch, &name);
                links.apply_except(&mut batch, &[libc::ENODEV])?;
            }
            create(links, &name, settings)?
        }
    };
    let address_v6 = settings.ipv6.then(|| address_v6(settings));
    if let Some(net) = address_v6 {
        // A bridge of its own needs no router's advertisements, and nobody else has its addresses: while its
        // link-local one was being checked, nothing would be forwarded.
        for setting in ["accept_ra", "accept_dad"] {
            let _ = sysctl::write(&format!("ipv6/conf/{name}/{setting}"), "0");
        }
        let mut batch = Batch::new();
        rtnl::add_address(&mut batch, link.index, net.into());
        links.apply_except(&mut batch, &[libc::EEXIST])?;
    }
    // 127.0.0.1 on the host reaches published ports through the kernel; our table drops what comes from outside.
    sysctl::write(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
    if !settings.inter_container {
        // Packets between ports of a bridge meet the firewall only with this.
        let _ = sysctl::write("bridge/bridge-nf-call-iptables", "1");
    }
    Ok(BridgePlan {
        link: Arc::new(AtomicU32::new(link.index)),
        mac: link.mac.unwrap_or_else(|| mac_of(address.addr())),
        address,
        address_v6,
        mtu: settings.mtu,
        veth_prefix: settings.instance.veth_prefix(),
        name,
    })
}

/// The address of an existing bridge, if it is one the settings would allow.
fn usable_address(
    links: &Links,
    link: &Link,
    settings: &Settings,
) -> Result<Option<Ipv4Net>, NetError> {
    let found = links
        .addresses()?
        .into_iter()
        .find_map(|(index, net)| match net {
            IpNet::V4(net) if index == link.index => Some(net),
            _ => None,
        });
    Ok(found.filter(|net| match settings.bridge_address {
        Some(wanted) => wanted == *net,
        None => {
            let net = IpNet::V4(*net);
            settings.pools.is_empty() || settings.pools.iter().any(|pool| pool.base.contains(&net))
        }
    }))
}

fn create(links: &Links, name: &str, settings: &Settings) -> Result<(Link, Ipv4Net), NetError> {
    // Another engine may choose at the same moment: who sees that both took one subnet and came later yields.
    for _ in 0..16 {
        let address = match settings.bridge_address {
            Some(address) => address,
            None => choose(links, settings, name)?,
        };
        let mut batch = Batch::new();
        rtnl::create_bridge(&mut batch, name, mac_of(address.addr()), settings.mtu);
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

fn address_v6(settings: &Settings) -> Ipv6Net {
    let subnet = settings
        .ipv6_subnet
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
