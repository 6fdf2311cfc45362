//! Namespaces that are ready for any user's network.
//!
//! Making a namespace, a veth pair and a name server's sockets takes milliseconds; which network they are for does not matter
//! until the end. A spare has all of it: `eth0` up without an address, its other end up on no bridge. To join a network is one
//! batch in the namespace, by a socket that was opened there, and one on the host: nobody moves between namespaces. Some are put
//! on the bridge of the network that was joined last, where the next is likely to go.
//!
//! ```text
//! host                       namespace
//! vhoist0-n4k2… ── veth ──── eth0        lo, 127.0.0.11 with its rules, sysctls
//!   │ join: master, neighbours │ join: hardware address, addresses, routes
//! ```

use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use hoist_model::network::is_link_local;
use hoist_sys::netlink::Batch;
use hoist_sys::netns;
use ipnet::IpNet;

use crate::attach::random_ids;
use crate::attachment::MacAddress;
use crate::build::{Builder, Plug, PlugLink, container_sysctls, index_of};
use crate::dns::Sockets;
use crate::error::NetError;
use crate::plug::disables_ipv6;
use crate::rtnl::{self, Links, VethPair};
use crate::settings::Instance;
use crate::{neighbours, sysctl};

/// The interface's name until a network wants another.
const INTERFACE: &str = "eth0";
/// Its MTU in bytes until then.
const MTU: u32 = 1500;

/// A namespace that is on no network yet.
pub(crate) struct Spare {
    pub(crate) netns: OwnedFd,
    /// The host's end.
    pub(crate) host_interface: String,
    host_index: u32,
    index: u32,
    /// Speaks for the namespace, from wherever.
    links: Links,
    /// Its name server, which nobody serves yet.
    pub(crate) names: Sockets,
    /// The number of the bridge that it is on already, of the network that was joined last.
    home: Option<u32>,
    /// `disable_ipv6` of its interface; `None` where the kernel has no IPv6.
    ipv6: Option<File>,
}

impl Builder {
    /// Makes a spare. Milliseconds.
    pub(crate) fn spare(&self, instance: &Instance) -> Result<Spare, NetError> {
        let random = random_ids()?;
        let host_interface = instance.veth(&random);
        let [.., a, b, c, d] = random;
        let (netns, inside) = self.inside(|links| {
            container_sysctls()?;
            // `lo` keeps ::1; a network with IPv6 switches it on for its own interface.
            let _ = sysctl::write("ipv6/conf/default/disable_ipv6", "1");
            let here = netns::current()
                .map_err(|source| NetError::kernel("open a network namespace", source))?;
            self.create_veth(&VethPair {
                name: &host_interface,
                peer: INTERFACE,
                bridge: None,
                netns: here.as_fd(),
                mac: MacAddress([0x02, 0x42, a, b, c, d]),
                mtu: MTU,
                hairpin: false,
                addressless: self.has_ipv6,
                isolated: false,
            })?;
            let index = index_of(links, INTERFACE)?;
            let mut batch = Batch::new();
            rtnl::set_up(&mut batch, rtnl::LOOPBACK);
            // Now, so that its carrier is settled by the time that a bridge takes the other end: the first packet passes.
            rtnl::set_up(&mut batch, index);
            links.apply(&mut batch)?;
            let ipv6 = sysctl::open(&format!("ipv6/conf/{INTERFACE}/disable_ipv6"));
            Ok((index, Links::open()?, Sockets::open_here()?, ipv6))
        })?;
        let (index, links, names, ipv6) = inside;
        Ok(Spare {
            netns,
            host_index: index_of(&self.links, &host_interface)?,
            host_interface,
            index,
            links,
            names,
            home: None,
            ipv6,
        })
    }
}

impl Spare {
    /// Makes it what `plug` says, with default routes by these gateways. About 0.1 ms.
    pub(crate) fn join(&mut self, plug: &Plug, routes: &[IpAddr]) -> Result<(), NetError> {
        let mtu = plug.mtu.filter(|mtu| *mtu != MTU);
        if plug.ipv6
            && let Some(file) = &mut self.ipv6
        {
            file.write_all(b"0")
                .map_err(|source| NetError::kernel("switch on IPv6 of an interface", source))?;
        }
        let mut batch = Batch::new();
        if plug.interface != INTERFACE {
            // Before Linux 6.2 one that is up keeps its name.
            rtnl::set_down(&mut batch, INTERFACE);
        }
        let name = (plug.interface != INTERFACE).then_some(plug.interface.as_str());
        rtnl::settle(&mut batch, self.index, name, plug.mac, mtu);
        plug.address(&mut batch, self.index);
        plug.know_gateways(&mut batch, self.index);
        for gateway in routes {
            rtnl::set_default_route(&mut batch, self.index, *gateway);
        }
        self.links.apply(&mut batch)
    }

    /// The number of the bridge that it is on already.
    pub(crate) fn home(&self) -> Option<u32> {
        self.home
    }

    /// Puts its other end on a bridge, before anybody asks for it: of all that joining a network takes, this takes longest.
    pub(crate) fn settle(&mut self, host: &Links, bridge: u32) -> Result<(), NetError> {
        let mut batch = Batch::new();
        rtnl::enslave(&mut batch, self.host_index, bridge, None);
        apply_on(host, bridge, &mut batch)?;
        self.home = Some(bridge);
        Ok(())
    }

    /// Puts its other end on the bridge that `plug` says, `host` speaking for the host. About 0.15 ms.
    pub(crate) fn take_port(&self, host: &Links, plug: &Plug) -> Result<(), NetError> {
        let PlugLink::Veth {
            bridge, isolated, ..
        } = &plug.link
        else {
            return Ok(());
        };
        let mtu = plug.mtu.filter(|mtu| *mtu != MTU);
        let mut batch = Batch::new();
        if self.home != Some(*bridge) || mtu.is_some() {
            rtnl::enslave(&mut batch, self.host_index, *bridge, mtu);
        }
        rtnl::set_port_options(&mut batch, &self.host_interface, plug.hairpin, *isolated);
        plug.announce(&mut batch, *bridge, self.host_index);
        apply_on(host, *bridge, &mut batch)
    }
}

/// Sends what takes a port of a bridge.
fn apply_on(host: &Links, bridge: u32, batch: &mut Batch) -> Result<(), NetError> {
    match host.apply(batch) {
        Err(error) if rtnl::is_errno(&error, libc::EXFULL) => {
            Err(NetError::BridgeFull(host.name(bridge)?))
        }
        other => other,
    }
}

impl Plug {
    /// In its namespace: its addresses.
    pub(crate) fn address(&self, batch: &mut Batch, index: u32) {
        for address in &self.addresses {
            rtnl::add_address(batch, index, *address);
        }
    }

    /// In its namespace: how its gateways are reached.
    pub(crate) fn know_gateways(&self, batch: &mut Batch, index: u32) {
        let v4_alone = self.sysctls.iter().any(disables_ipv6);
        for (gateway, mac) in &self.gateways {
            if gateway.is_ipv4() || !v4_alone {
                neighbours::add(batch, index, *gateway, *mac);
            }
        }
    }

    /// On the host: how it is reached. Link-local addresses are asked for, for no record says when they go.
    pub(crate) fn announce(&self, batch: &mut Batch, bridge: u32, port: u32) {
        let addresses = self.addresses.iter().map(IpNet::addr);
        for address in addresses.filter(|address| !is_link_local(*address)) {
            neighbours::add(batch, bridge, address, self.mac);
        }
        neighbours::add_to_bridge(batch, port, self.mac);
    }
}
