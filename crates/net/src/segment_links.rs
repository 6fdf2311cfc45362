//! The host's interface of a user's network: its bridge, or what its macvlans or ipvlans are on.

use std::net::IpAddr;

use hoist_model::network::{IpvlanFlag, IpvlanMode, MacvlanMode, Segment, SegmentKind};
use hoist_sys::netlink::Batch;
use ipnet::IpNet;

use crate::attachment::MacAddress;
use crate::build::mac_of;
use crate::error::NetError;
use crate::rtnl::{self, Link, Links, UpperKind};
use crate::settings::Settings;
use crate::sysctl;

/// The hardware address of a bridge: stays the same, so that neighbours' caches stay right.
fn bridge_mac(segment: &Segment) -> MacAddress {
    match segment.subnet(false).and_then(|subnet| subnet.gateway) {
        Some(IpAddr::V4(gateway)) => mac_of(gateway),
        _ => {
            let digits = segment.id.as_str();
            let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or_default();
            MacAddress([0x02, 0x42, byte(0), byte(2), byte(4), byte(6)])
        }
    }
}

/// Finds or makes the bridge of a network, with its addresses.
pub(crate) fn ensure_bridge(
    links: &Links,
    segment: &mut Segment,
    settings: &Settings,
) -> Result<Link, NetError> {
    let name = segment.interface.clone();
    let found = links.link(&name)?;
    let group = settings.instance.group();
    if let Some(link) = &found {
        // One of ours that an earlier life left is not somebody else's.
        segment.adopted = link.group != group && !settings.instance.is_segment(&name);
    }
    if found.is_none() {
        let mut batch = Batch::new();
        let mtu = segment.mtu.unwrap_or(settings.mtu);
        rtnl::create_bridge(&mut batch, &name, bridge_mac(segment), mtu, group);
        links.apply(&mut batch)?;
        segment.adopted = false;
    }
    let link = links.link(&name)?.ok_or_else(|| {
        let gone = std::io::Error::from_raw_os_error(libc::ENODEV);
        NetError::kernel(format!("find bridge {name}"), gone)
    })?;
    let configured = configure_bridge(links, &link, segment);
    if configured.is_err() && found.is_none() {
        let mut batch = Batch::new();
        rtnl::delete_link(&mut batch, &name);
        let _ = links.apply(&mut batch);
    }
    configured.map(|()| link)
}

fn configure_bridge(links: &Links, link: &Link, segment: &Segment) -> Result<(), NetError> {
    let name = &segment.interface;
    let set = |path: &str, value: &str| sysctl::write(&path.replace("{}", name), value);
    if segment.ipv6 {
        // As on the default bridge: no router's advertisements, and no waiting for duplicates.
        let _ = set("ipv6/conf/{}/accept_ra", "0");
        let _ = set("ipv6/conf/{}/accept_dad", "0");
    } else if !segment.adopted {
        let _ = set("ipv6/conf/{}/disable_ipv6", "1");
    }
    let mut batch = Batch::new();
    for subnet in &segment.subnets {
        let v6 = matches!(subnet.subnet, IpNet::V6(_));
        if let Some(gateway) = subnet.gateway.filter(|_| v6 || !segment.inhibit_ipv4) {
            let address = IpNet::new_assert(gateway, subnet.subnet.prefix_len());
            rtnl::add_address(&mut batch, link.index, address);
        }
    }
    rtnl::set_up(&mut batch, link.index);
    links.apply_except(&mut batch, &[libc::EEXIST])?;
    if !segment.internal {
        // 127.0.0.1 on the host reaches published ports through the kernel.
        set("ipv4/conf/{}/route_localnet", "1")?;
    }
    Ok(())
}

/// Finds the parent of a macvlan or ipvlan, or makes it: a VLAN (`eth0.7`), or where nobody named one an interface that goes nowhere.
pub(crate) fn ensure_parent(
    links: &Links,
    segment: &mut Segment,
    settings: &Settings,
) -> Result<Link, NetError> {
    let driver = segment.kind.driver();
    require(links, driver)?;
    let parent = segment.kind.parent().unwrap_or_default();
    let name = match (driver, parent) {
        // As Docker names them.
        ("ipvlan", "") => format!("di-{}", segment.id.short()),
        (_, "") => format!("dm-{}", segment.id.short()),
        _ => parent.to_owned(),
    };
    let group = settings.instance.group();
    if let Some(link) = links.link(&name)? {
        if link.group == group {
            // Made for this network in an earlier life, or for another: the last of them takes it along.
            segment.interface = name;
        }
        return Ok(link);
    }
    require(links, if parent.is_empty() { "dummy" } else { "vlan" })?;
    let mut batch = Batch::new();
    if parent.is_empty() {
        rtnl::create_dummy(&mut batch, &name, group);
    } else {
        let vlan = name
            .rsplit_once('.')
            .and_then(|(base, number)| Some((base, number.parse::<u16>().ok()?)));
        let base = match vlan {
            Some((base, _)) => links.link(base)?,
            None => None,
        };
        let (Some((_, number)), Some(base)) = (vlan, base) else {
            return Err(NetError::InvalidSetting(format!(
                "invalid subinterface vlan name {name}, example formatting is eth0.10"
            )));
        };
        rtnl::create_vlan(&mut batch, &name, base.index, number, group);
    }
    links.apply(&mut batch)?;
    // Ours to remove.
    segment.interface.clone_from(&name);
    links.link(&name)?.ok_or_else(|| {
        let gone = std::io::Error::from_raw_os_error(libc::ENODEV);
        NetError::kernel(format!("find parent {name}"), gone)
    })
}

/// Refuses a kind of interface that the kernel does not have.
fn require(links: &Links, kind: &str) -> Result<(), NetError> {
    let mut batch = Batch::new();
    rtnl::probe(&mut batch, kind, "hst-probe");
    match links.apply(&mut batch) {
        Err(error) if rtnl::is_errno(&error, libc::EOPNOTSUPP) => {
            Err(NetError::NoSuchKind(kind.to_owned()))
        }
        _ => Ok(()),
    }
}

/// What a container's interface on the parent is.
pub(crate) fn upper_kind(kind: &SegmentKind) -> UpperKind {
    match kind {
        SegmentKind::Ipvlan { mode, flag, .. } => UpperKind::Ipvlan {
            mode: match mode {
                IpvlanMode::L2 => 0,
                IpvlanMode::L3 => 1,
                IpvlanMode::L3s => 2,
            },
            flags: match flag {
                IpvlanFlag::Bridge => 0,
                IpvlanFlag::Private => 1,
                IpvlanFlag::Vepa => 2,
            },
        },
        SegmentKind::Macvlan { mode, .. } => UpperKind::Macvlan {
            mode: match mode {
                MacvlanMode::Private => 1,
                MacvlanMode::Vepa => 2,
                MacvlanMode::Bridge => 4,
                MacvlanMode::Passthru => 8,
            },
        },
        SegmentKind::Bridge => UpperKind::Macvlan { mode: 0 },
    }
}
