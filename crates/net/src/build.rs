//! Making one network namespace ready: on the worker's thread, which alone moves between namespaces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hoist_model::EndpointId;
use hoist_model::network::InterfaceSysctl;
use hoist_sys::netlink::Batch;
use hoist_sys::netns;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::attachment::{Address, MacAddress, PlaceRecord};
use crate::error::NetError;
use crate::ipam::Addresses;
use crate::rtnl::{self, Links, UpperKind, VethPair, is_errno};
use crate::settings::{BridgeChoice, MakeNamespace, Settings};
use crate::{neighbours, sysctl};

/// Name of the default bridge's network.
const DEFAULT: &str = "bridge";

/// What every namespace on a bridge has in common.
#[derive(Clone, Debug)]
pub(crate) struct BridgePlan {
    pub(crate) name: String,
    /// See `index`; it is another after somebody removed the bridge.
    pub(crate) link: Arc<AtomicU32>,
    pub(crate) mac: MacAddress,
    /// The bridge's own address.
    pub(crate) address: Ipv4Net,
    /// Of which addresses are given to containers.
    pub(crate) range: Ipv4Net,
    /// The containers' way out.
    pub(crate) gateway: Ipv4Addr,
    /// The bridge's own IPv6 address.
    pub(crate) address_v6: Option<Ipv6Net>,
    /// What containers' IPv6 addresses begin with; at least as wide as the IPv4 subnet.
    pub(crate) range_v6: Option<Ipv6Net>,
    /// The containers' way out by IPv6.
    pub(crate) gateway_v6: Option<Ipv6Addr>,
    pub(crate) mtu: u32,
    /// Whether containers reach each other.
    pub(crate) inter_container: bool,
    /// Whether it is ours to remove.
    pub(crate) own: bool,
    pub(crate) veth_prefix: String,
}

impl BridgePlan {
    /// The number of the bridge's link.
    pub(crate) fn index(&self) -> u32 {
        self.link.load(Ordering::Relaxed)
    }

    /// The bridge was made again.
    pub(crate) fn renumber(&self, index: u32) {
        self.link.store(index, Ordering::Relaxed);
    }

    /// The settings that make it again as it is, which need not be as others say.
    pub(crate) fn settings(&self, others: &Settings) -> Settings {
        Settings {
            bridge: if self.own {
                BridgeChoice::Own
            } else {
                BridgeChoice::Named(self.name.clone())
            },
            occupied: None,
            bridge_address: Some(self.address),
            bridge_address_v6: self.address_v6,
            range: Some(self.range),
            gateway: Some(self.gateway),
            ipv6: self.address_v6.is_some(),
            range_v6: self.range_v6,
            gateway_v6: self.gateway_v6,
            mtu: self.mtu,
            inter_container: self.inter_container,
            ..others.clone()
        }
    }

    /// Gateways that are the bridge itself, with its hardware address. That of a person's bridge may change with its ports.
    pub(crate) fn own_gateways(&self) -> Vec<(IpAddr, MacAddress)> {
        if !self.own {
            return Vec::new();
        }
        let v6 = self.address_v6.map(|net| IpAddr::V6(net.addr()));
        let gateways = [Some(IpAddr::V4(self.address.addr())), v6].into_iter();
        gateways
            .flatten()
            .map(|gateway| (gateway, self.mac))
            .collect()
    }

    /// The name of the veth of the container at an address: unique, because the address is released only after
    /// the veth is gone.
    pub(crate) fn veth_name(&self, ip: Ipv4Addr) -> String {
        format!("{}{:x}", self.veth_prefix, self.offset(ip))
    }

    /// A place on the bridge that is nobody's yet.
    pub(crate) fn place(&self, ip: Ipv4Addr, mac: MacAddress) -> PlaceRecord {
        PlaceRecord {
            network: None,
            name: DEFAULT.to_owned(),
            endpoint: EndpointId::from_bytes(&[0; 32]),
            interface: String::new(),
            host_interface: String::new(),
            mac,
            ipv4: Some(Address {
                address: ip,
                prefix_length: self.address.prefix_len(),
                gateway: Some(self.gateway),
            }),
            ipv6: self.ipv6(ip),
            gateway_priority: 0,
            leads_out: true,
            routed_v4: false,
            routed_v6: false,
        }
    }

    /// Its subnets.
    pub(crate) fn subnets(&self) -> impl Iterator<Item = IpNet> {
        let v6 = self.address_v6.map(|net| net.trunc().into());
        std::iter::once(self.address.trunc().into()).chain(v6)
    }

    /// Whether an address is one of the bridge's subnets.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(ip) => self.address.contains(&ip),
            IpAddr::V6(ip) => self.address_v6.is_some_and(|net| net.contains(&ip)),
        }
    }

    fn offset(&self, ip: Ipv4Addr) -> u32 {
        u32::from(ip) - u32::from(self.address.network())
    }

    /// The IPv6 address that goes with an IPv4 address: the range's, ending in the same offset.
    pub(crate) fn ipv6(&self, ip: Ipv4Addr) -> Option<Address<Ipv6Addr>> {
        let (net, range) = (self.address_v6?, self.range_v6?);
        Some(Address {
            address: (u128::from(range.network()) + u128::from(self.offset(ip))).into(),
            prefix_length: net.prefix_len(),
            gateway: Some(self.gateway_v6.unwrap_or(net.addr())),
        })
    }

    /// The addresses of containers: none that is the bridge's or the gateway's, nor one whose IPv6 address would be.
    pub(crate) fn addresses(&self) -> Addresses {
        let mut addresses = Addresses::within(self.address, self.address.addr(), self.range);
        addresses.take(self.gateway);
        let base = self.range_v6.map(|net| u128::from(net.network()));
        let own_v6 = self.address_v6.map(|net| net.addr());
        for theirs in own_v6.into_iter().chain(self.gateway_v6) {
            let offset = base.and_then(|base| u128::from(theirs).checked_sub(base));
            let first = u32::from(self.address.network());
            let with = offset.and_then(|offset| first.checked_add(u32::try_from(offset).ok()?));
            if let Some(ip) = with {
                // Outside the subnet is nobody's.
                addresses.take(ip.into());
            }
        }
        addresses
    }
}

/// The hardware address that goes with an IPv4 address, locally administered: neighbours' caches stay right.
pub(crate) fn mac_of(ip: Ipv4Addr) -> MacAddress {
    let [a, b, c, d] = ip.octets();
    MacAddress([0x02, 0x42, a, b, c, d])
}

/// A namespace ready for a container.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) netns: OwnedFd,
    pub(crate) ip: Ipv4Addr,
    pub(crate) mac: MacAddress,
    pub(crate) host_interface: String,
}

impl Prepared {
    /// Its place on the bridge, which is nobody's yet.
    pub(crate) fn place(&self, bridge: &BridgePlan) -> PlaceRecord {
        PlaceRecord {
            interface: "eth0".to_owned(),
            host_interface: self.host_interface.clone(),
            ..bridge.place(self.ip, self.mac)
        }
    }
}

/// One more interface of a namespace.
pub(crate) struct Plug {
    pub(crate) link: PlugLink,
    /// Its name in the namespace.
    pub(crate) interface: String,
    pub(crate) mac: MacAddress,
    /// `None` is what the kind of link has by itself.
    pub(crate) mtu: Option<u32>,
    pub(crate) addresses: Vec<IpNet>,
    /// Gateways whose hardware address is known.
    pub(crate) gateways: Vec<(IpAddr, MacAddress)>,
    pub(crate) ipv6: bool,
    pub(crate) hairpin: bool,
    pub(crate) sysctls: Vec<InterfaceSysctl>,
}

impl Plug {
    /// The number of the bridge that it is on.
    pub(crate) fn bridge(&self) -> Option<u32> {
        match self.link {
            PlugLink::Veth { bridge, .. } => Some(bridge),
            PlugLink::Upper { .. } => None,
        }
    }
}

/// What kind of interface it is.
pub(crate) enum PlugLink {
    /// One end of a veth pair, the other on a bridge.
    Veth {
        /// The other end's name.
        name: String,
        bridge: u32,
        /// Whether it is kept from its neighbours.
        isolated: bool,
    },
    /// On an interface of the host.
    Upper { parent: u32, kind: UpperKind },
}

/// The worker's means of building: sockets of the host's namespace, and the way back to it.
pub(crate) struct Builder {
    home: OwnedFd,
    /// Makes namespaces where this process does not.
    make: Option<MakeNamespace>,
    pub(crate) links: Links,
    pub(crate) has_ipv6: bool,
}

impl Builder {
    /// Builds for the calling thread's namespace.
    pub(crate) fn new(make: Option<MakeNamespace>) -> Result<Self, NetError> {
        Ok(Self {
            make,
            home: netns::current()
                .map_err(|source| NetError::kernel("open the host's network namespace", source))?,
            links: Links::open()?,
            has_ipv6: sysctl::read("ipv6/conf/default/addr_gen_mode").is_ok(),
        })
    }

    /// A namespace with `lo` alone, up.
    pub(crate) fn isolated(&self) -> Result<OwnedFd, NetError> {
        self.inside(|links| {
            let mut batch = Batch::new();
            rtnl::set_up(&mut batch, rtnl::LOOPBACK);
            links.apply(&mut batch)?;
            container_sysctls()
        })
        .map(|(netns, ())| netns)
    }

    /// A namespace with `lo`, and `eth0` on the bridge with its addresses and default routes.
    pub(crate) fn bridged(
        &self,
        bridge: &BridgePlan,
        ip: Ipv4Addr,
        mac: Option<MacAddress>,
    ) -> Result<Prepared, NetError> {
        let mac = mac.unwrap_or_else(|| mac_of(ip));
        let host_interface = bridge.veth_name(ip);
        let hairpin = sysctl::is_on("bridge/bridge-nf-call-iptables");
        let (netns, ()) = self.inside(|links| {
            container_sysctls()?;
            // Before eth0 comes, so that it never has a link-local address. `lo` keeps ::1.
            if bridge.address_v6.is_none() {
                // A kernel without IPv6 has no such file, and needs none.
                let _ = sysctl::write("ipv6/conf/default/disable_ipv6", "1");
            }
            let here = netns::current()
                .map_err(|source| NetError::kernel("open a network namespace", source))?;
            let pair = VethPair {
                name: &host_interface,
                peer: "eth0",
                bridge: Some(bridge.index()),
                netns: here.as_fd(),
                mac,
                mtu: bridge.mtu,
                hairpin,
                addressless: self.has_ipv6,
                isolated: !bridge.inter_container,
            };
            self.create_veth(&pair)?;
            let eth0 = index_of(links, "eth0")?;
            configure(links, bridge, eth0, ip)
        })?;
        let mut batch = Batch::new();
        neighbours::add(&mut batch, bridge.index(), ip.into(), mac);
        if let Some(v6) = bridge.ipv6(ip) {
            neighbours::add(&mut batch, bridge.index(), v6.address.into(), mac);
        }
        neighbours::add_to_bridge(&mut batch, index_of(&self.links, &host_interface)?, mac);
        self.links.apply(&mut batch)?;
        Ok(Prepared {
            netns,
            ip,
            mac,
            host_interface,
        })
    }

    pub(crate) fn create_veth(&self, pair: &VethPair<'_>) -> Result<(), NetError> {
        let create = || {
            let mut batch = Batch::new();
            rtnl::create_veth(&mut batch, pair);
            self.links.apply(&mut batch)
        };
        match create() {
            Err(error) if is_errno(&error, libc::EXFULL) => Err(NetError::BridgeFull(
                self.links.name(pair.bridge.unwrap_or_default())?,
            )),
            // The name is ours by derivation: what bears it is a leftover.
            Err(error) if is_errno(&error, libc::EEXIST) => {
                let mut batch = Batch::new();
                rtnl::delete_link(&mut batch, pair.name);
                self.links.apply_except(&mut batch, &[libc::ENODEV])?;
                create()
            }
            other => other,
        }
    }

    /// Gives a namespace one more interface. Up to a millisecond.
    pub(crate) fn plug(&self, netns: impl AsFd, plug: &Plug) -> Result<(), NetError> {
        let netns = netns.as_fd();
        self.within(netns, |links| {
            // Before the interface comes, so that it never has a link-local address that it should not have.
            let _ = sysctl::write(
                "ipv6/conf/default/disable_ipv6",
                if plug.ipv6 { "0" } else { "1" },
            );
            match &plug.link {
                PlugLink::Veth {
                    name,
                    bridge,
                    isolated,
                } => self.create_veth(&VethPair {
                    name,
                    peer: &plug.interface,
                    bridge: Some(*bridge),
                    netns,
                    mac: plug.mac,
                    mtu: plug.mtu.unwrap_or(1500),
                    hairpin: plug.hairpin,
                    addressless: self.has_ipv6,
                    isolated: *isolated,
                })?,
                PlugLink::Upper { parent, kind } => {
                    let mut batch = Batch::new();
                    let upper = rtnl::Upper {
                        name: &plug.interface,
                        parent: *parent,
                        netns,
                        mac: plug.mac,
                        mtu: plug.mtu,
                        kind: *kind,
                    };
                    rtnl::create_upper(&mut batch, &upper);
                    self.links.apply(&mut batch)?;
                }
            }
            let index = index_of(links, &plug.interface)?;
            let mut batch = Batch::new();
            plug.address(&mut batch, index);
            let configured = links.apply(&mut batch).and_then(|()| {
                let mut all = plug.sysctls.iter();
                all.try_for_each(|one| set_sysctl(&plug.interface, one))?;
                let mut batch = Batch::new();
                rtnl::set_up(&mut batch, index);
                plug.know_gateways(&mut batch, index);
                links.apply(&mut batch)
            });
            if configured.is_err() {
                // Who is asked for the namespace again may ask for the same name.
                let mut batch = Batch::new();
                rtnl::delete_link(&mut batch, &plug.interface);
                let _ = links.apply_except(&mut batch, &[libc::ENODEV]);
            }
            configured
        })?;
        let PlugLink::Veth { name, bridge, .. } = &plug.link else {
            return Ok(());
        };
        let mut batch = Batch::new();
        plug.announce(&mut batch, *bridge, index_of(&self.links, name)?);
        self.links.apply(&mut batch)
    }

    /// Gives an interface of a namespace more addresses.
    pub(crate) fn add_addresses(
        &self,
        netns: impl AsFd,
        interface: &str,
        addresses: &[IpNet],
    ) -> Result<(), NetError> {
        self.within(netns, |links| {
            if addresses.iter().any(|net| net.addr().is_ipv6()) {
                let _ = sysctl::write(&format!("ipv6/conf/{interface}/disable_ipv6"), "0");
            }
            let index = index_of(links, interface)?;
            let mut batch = Batch::new();
            for address in addresses {
                rtnl::add_address(&mut batch, index, *address);
            }
            links.apply_except(&mut batch, &[libc::EEXIST])
        })
    }

    /// Takes an interface from a namespace; one that is gone is no error.
    pub(crate) fn unplug(&self, netns: impl AsFd, interface: &str) -> Result<(), NetError> {
        self.within(netns, |links| {
            let mut batch = Batch::new();
            rtnl::delete_link(&mut batch, interface);
            links.apply_except(&mut batch, &[libc::ENODEV])
        })
    }

    /// Sets default routes of a namespace: interfaces and the gateways behind them.
    pub(crate) fn route(
        &self,
        netns: impl AsFd,
        gateways: &[(String, IpAddr)],
    ) -> Result<(), NetError> {
        if gateways.is_empty() {
            return Ok(());
        }
        self.within(netns, |links| {
            let mut batch = Batch::new();
            for (interface, gateway) in gateways {
                let index = index_of(links, interface)?;
                rtnl::set_default_route(&mut batch, index, *gateway);
            }
            links.apply(&mut batch)
        })
    }

    /// Runs something in a namespace that is there and comes back, whatever happened.
    fn within<T>(
        &self,
        netns: impl AsFd,
        work: impl FnOnce(&Links) -> Result<T, NetError>,
    ) -> Result<T, NetError> {
        let fail = |what: &'static str| move |source| NetError::kernel(what, source);
        netns::enter(netns).map_err(fail("enter a container's network namespace"))?;
        let done = Links::open().and_then(|links| work(&links));
        netns::enter(&self.home).map_err(fail("return to the host's network namespace"))?;
        done
    }

    /// Runs something in a new namespace and comes back, whatever happened.
    pub(crate) fn inside<T>(
        &self,
        work: impl FnOnce(&Links) -> Result<T, NetError>,
    ) -> Result<(OwnedFd, T), NetError> {
        let fail = |what: &'static str| move |source| NetError::kernel(what, source);
        let create = fail("create a network namespace");
        let made = match &self.make {
            None => netns::enter_new().map(|()| None).map_err(create)?,
            Some(make) => {
                let made = make.0().map_err(create)?;
                netns::enter(&made).map_err(fail("enter a network namespace"))?;
                Some(made)
            }
        };
        let done = made
            .map_or_else(netns::current, Ok)
            .map_err(fail("open a network namespace"))
            .and_then(|netns| Ok((netns, work(&Links::open()?)?)));
        netns::enter(&self.home).map_err(fail("return to the host's network namespace"))?;
        done
    }
}

/// Writes a setting of an interface, if it is not what it should be (moby: daemon/libnetwork/osl/interface_linux.go).
fn set_sysctl(interface: &str, setting: &InterfaceSysctl) -> Result<(), NetError> {
    let InterfaceSysctl {
        family,
        group,
        name,
        value,
    } = setting;
    let path = format!("{family}/{group}/{interface}/{name}");
    let now = sysctl::read(&path).map_err(|_| {
        NetError::InvalidSetting(format!("/proc/sys/net/{path} is not a sysctl file"))
    })?;
    if now == *value {
        return Ok(());
    }
    sysctl::write(&path, value)
}

/// The number of an interface.
pub(crate) fn index_of(links: &Links, interface: &str) -> Result<u32, NetError> {
    let found = links.link(interface)?;
    found.map(|link| link.index).ok_or_else(|| {
        let gone = std::io::Error::from_raw_os_error(libc::ENODEV);
        NetError::kernel(format!("find {interface}"), gone)
    })
}

/// What Docker sets in every container's namespace (moby: daemon/oci_linux.go, default sysctls).
pub(crate) fn container_sysctls() -> Result<(), NetError> {
    sysctl::write("ipv4/ip_unprivileged_port_start", "0")?;
    sysctl::write("ipv4/ping_group_range", "0 2147483647")
}

fn configure(links: &Links, bridge: &BridgePlan, eth0: u32, ip: Ipv4Addr) -> Result<(), NetError> {
    let mut batch = Batch::new();
    rtnl::set_up(&mut batch, rtnl::LOOPBACK);
    rtnl::set_up(&mut batch, eth0);
    let net = |address: IpAddr, length| IpNet::new_assert(address, length);
    rtnl::add_address(
        &mut batch,
        eth0,
        net(ip.into(), bridge.address.prefix_len()),
    );
    let own = bridge.own_gateways();
    let lead_by = |batch: &mut Batch, gateway: IpAddr| {
        rtnl::set_default_route(batch, eth0, gateway);
        for (gateway, mac) in own.iter().filter(|(own, _)| *own == gateway) {
            neighbours::add(batch, eth0, *gateway, *mac);
        }
    };
    lead_by(&mut batch, bridge.gateway.into());
    if let Some(v6) = bridge.ipv6(ip) {
        rtnl::add_address(&mut batch, eth0, net(v6.address.into(), v6.prefix_length));
        if let Some(gateway) = v6.gateway {
            lead_by(&mut batch, gateway.into());
        }
    }
    links.apply(&mut batch)
}
