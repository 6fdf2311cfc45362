//! Links, addresses and routes: rtnetlink messages (man 7 rtnetlink, linux/if_link.h, linux/rtnetlink.h).
//!
//! The encoders write into a `Batch`, so that what belongs together goes out in one system call; `Links` sends
//! and reads. They ask for no acknowledgement: the kernel answers a refusal without, and reading the others takes longer
//! than many a message. A socket speaks for the namespace it was opened in.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use hoist_sys::netlink::{
    self, Attributes, Batch, CREATE, EXCLUSIVE, Family, REPLACE, Reply, Socket,
};
use ipnet::IpNet;

use crate::attachment::MacAddress;
use crate::error::NetError;

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;

const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_PARENT: u16 = 5;
const LINK_MASTER: u16 = 10;
const LINK_INFO: u16 = 18;
const LINK_AF_SPEC: u16 = 26;
const LINK_GROUP: u16 = 27;
const LINK_NETNS_FD: u16 = 28;
const LINK_SEND_QUEUES: u16 = 31;
const LINK_RECEIVE_QUEUES: u16 = 32;
const INET6_ADDRESS_MODE: u16 = 8;
const ADDRESS_MODE_NONE: u8 = 1;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const VETH_PEER: u16 = 1;
const PORT_HAIRPIN: u16 = 4;
const PORT_ISOLATED: u16 = 33;

const IFF_UP: u32 = 1;
/// The type of routes that lead somewhere.
const UNICAST: u8 = 1;
const NO_DUPLICATE_DETECTION: u32 = 2;

/// Kind of the notification that a link is gone.
pub(crate) const LINK_DELETED: u16 = DELETE_LINK;
/// Group of notifications about links.
pub(crate) const GROUP_LINK: i32 = 1;
/// `lo`, in every namespace.
pub(crate) const LOOPBACK: u32 = 1;

fn link_header(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(crate) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// Makes a bridge, up, in a group of links.
pub(crate) fn create_bridge(batch: &mut Batch, name: &str, mac: MacAddress, mtu: u32, group: u32) {
    batch.message(
        format!("create bridge {name}"),
        NEW_LINK,
        CREATE | EXCLUSIVE,
        &link_header(0, IFF_UP),
        |a| {
            a.put_text(LINK_NAME, name)
                .put(LINK_ADDRESS, &mac.0)
                .put_u32(LINK_MTU, mtu)
                .put_u32(LINK_GROUP, group)
                .nest(LINK_INFO, |a| {
                    a.put_text(INFO_KIND, "bridge");
                });
        },
    );
}

/// One end on a bridge, up; the other in a namespace, down.
pub(crate) struct VethPair<'a> {
    pub(crate) name: &'a str,
    /// Name of the end in the namespace.
    pub(crate) peer: &'a str,
    /// The bridge that it is put on.
    pub(crate) bridge: Option<u32>,
    pub(crate) netns: BorrowedFd<'a>,
    pub(crate) mac: MacAddress,
    pub(crate) mtu: u32,
    /// Lets the bridge send a frame back where it came from.
    pub(crate) hairpin: bool,
    /// The kernel would give the bridge's end an IPv6 address; a port of a bridge needs none.
    pub(crate) addressless: bool,
    /// Keeps it from others of the bridge that are isolated as well.
    pub(crate) isolated: bool,
}

/// Makes a veth pair: one message (measured 0.5 to 0.7 ms), more for hairpin and against IPv6 addresses: those cost timers,
/// and reports to multicast listeners, while its container starts.
///
/// With one queue each way: asked for none, the kernel makes one per processor and takes all but the first out of use again
/// (drivers/net/veth.c, `veth_init_queues`), which waits for a grace period and makes and removes objects in sysfs.
pub(crate) fn create_veth(batch: &mut Batch, pair: &VethPair<'_>) {
    let name = pair.name;
    batch.message(
        format!("create veth {name}"),
        NEW_LINK,
        CREATE | EXCLUSIVE,
        &link_header(0, if pair.addressless { 0 } else { IFF_UP }),
        |a| {
            a.put_text(LINK_NAME, name)
                .put_u32(LINK_MTU, pair.mtu)
                .put_u32(LINK_SEND_QUEUES, 1)
                .put_u32(LINK_RECEIVE_QUEUES, 1);
            if let Some(bridge) = pair.bridge {
                a.put_u32(LINK_MASTER, bridge);
            }
            a.nest(LINK_INFO, |a| {
                a.put_text(INFO_KIND, "veth").nest(INFO_DATA, |a| {
                    // Not up: the peer is configured before it is paired, and could not open (ENOTCONN).
                    a.nest_after(VETH_PEER, &link_header(0, 0), |a| {
                        a.put_text(LINK_NAME, pair.peer)
                            .put_u32(LINK_MTU, pair.mtu)
                            .put(LINK_ADDRESS, &pair.mac.0)
                            .put_u32(LINK_SEND_QUEUES, 1)
                            .put_u32(LINK_RECEIVE_QUEUES, 1)
                            .put_u32(LINK_NETNS_FD, pair.netns.as_raw_fd().cast_unsigned());
                    });
                });
            });
        },
    );
    if pair.addressless {
        batch.message(
            format!("set veth {name} up without an IPv6 address"),
            NEW_LINK,
            0,
            &link_header(0, IFF_UP),
            |a| {
                a.put_text(LINK_NAME, name).nest(LINK_AF_SPEC, |a| {
                    a.nest(libc::AF_INET6 as u16, |a| {
                        a.put_u8(INET6_ADDRESS_MODE, ADDRESS_MODE_NONE);
                    });
                });
            },
        );
    }
    set_port_options(batch, name, pair.hairpin, pair.isolated);
}

/// Sets what is asked for of a bridge's port; what is not asked for stays as it is.
pub(crate) fn set_port_options(batch: &mut Batch, name: &str, hairpin: bool, isolated: bool) {
    if hairpin {
        set_port(batch, name, ("hairpin", PORT_HAIRPIN), true);
    }
    if isolated {
        set_isolated(batch, name, true);
    }
}

/// Keeps a link from others of its bridge that are kept so as well, or no longer.
pub(crate) fn set_isolated(batch: &mut Batch, name: &str, isolated: bool) {
    set_port(batch, name, ("isolation", PORT_ISOLATED), isolated);
}

/// Sets one option of a bridge's port.
fn set_port(batch: &mut Batch, name: &str, (what, attribute): (&str, u16), on: bool) {
    batch.message(
        format!("set {what} on link {name}"),
        NEW_LINK,
        0,
        &link_header(0, 0),
        |a| {
            a.put_text(LINK_NAME, name).nest(LINK_INFO, |a| {
                a.put_text(INFO_SLAVE_KIND, "bridge")
                    .nest(INFO_SLAVE_DATA, |a| {
                        a.put_u8(attribute, u8::from(on));
                    });
            });
        },
    );
}

/// Makes a link of a kind, up: attributes beside its name and kind, and those of the kind.
fn create_link(
    batch: &mut Batch,
    (kind, name): (&str, &str),
    fill: impl FnOnce(&mut Attributes<'_>),
    data: impl FnOnce(&mut Attributes<'_>),
) {
    batch.message(
        format!("create {kind} {name}"),
        NEW_LINK,
        CREATE | EXCLUSIVE,
        &link_header(0, IFF_UP),
        |a| {
            a.put_text(LINK_NAME, name);
            fill(a);
            a.nest(LINK_INFO, |a| {
                a.put_text(INFO_KIND, kind).nest(INFO_DATA, data);
            });
        },
    );
}

/// Makes an interface that goes nowhere, in a group of links.
pub(crate) fn create_dummy(batch: &mut Batch, name: &str, group: u32) {
    let grouped = |a: &mut Attributes<'_>| {
        a.put_u32(LINK_GROUP, group);
    };
    create_link(batch, ("dummy", name), grouped, |_| {});
}

/// Makes a VLAN on an interface, in a group of links.
pub(crate) fn create_vlan(batch: &mut Batch, name: &str, parent: u32, number: u16, group: u32) {
    const VLAN_ID: u16 = 1;
    create_link(
        batch,
        ("vlan", name),
        |a| {
            a.put_u32(LINK_PARENT, parent).put_u32(LINK_GROUP, group);
        },
        |a| {
            a.put(VLAN_ID, &number.to_ne_bytes());
        },
    );
}

/// A macvlan on an interface of the host, in a namespace.
pub(crate) struct Macvlan<'a> {
    pub(crate) name: &'a str,
    pub(crate) parent: u32,
    pub(crate) netns: BorrowedFd<'a>,
    pub(crate) mac: MacAddress,
    pub(crate) mtu: Option<u32>,
    pub(crate) mode: u32,
}

/// Makes a macvlan.
pub(crate) fn create_macvlan(batch: &mut Batch, macvlan: &Macvlan<'_>) {
    const MACVLAN_MODE: u16 = 1;
    create_link(
        batch,
        ("macvlan", macvlan.name),
        |a| {
            a.put_u32(LINK_PARENT, macvlan.parent)
                .put(LINK_ADDRESS, &macvlan.mac.0)
                .put_u32(LINK_NETNS_FD, macvlan.netns.as_raw_fd().cast_unsigned());
            if let Some(mtu) = macvlan.mtu {
                a.put_u32(LINK_MTU, mtu);
            }
        },
        |a| {
            a.put_u32(MACVLAN_MODE, macvlan.mode);
        },
    );
}

/// Sets a link up.
pub(crate) fn set_up(batch: &mut Batch, index: u32) {
    batch.message(
        format!("set link {index} up"),
        NEW_LINK,
        0,
        &link_header(index, IFF_UP),
        |_| {},
    );
}

/// Removes a link by name.
pub(crate) fn delete_link(batch: &mut Batch, name: &str) {
    batch.message(
        format!("delete link {name}"),
        DELETE_LINK,
        0,
        &link_header(0, 0),
        |a| {
            a.put_text(LINK_NAME, name);
        },
    );
}

/// Removes a link by number.
pub(crate) fn delete_index(batch: &mut Batch, index: u32) {
    let header = link_header(index, 0);
    batch.message(
        format!("delete link {index}"),
        DELETE_LINK,
        0,
        &header,
        |_| {},
    );
}

/// Puts a link into a group.
pub(crate) fn set_group(batch: &mut Batch, index: u32, group: u32) {
    batch.message(
        format!("put link {index} into group {group:#x}"),
        NEW_LINK,
        0,
        &link_header(index, 0),
        |a| {
            a.put_u32(LINK_GROUP, group);
        },
    );
}

/// Removes the links of a group; one that has none is refused with ENODEV.
pub(crate) fn delete_group(batch: &mut Batch, group: u32) {
    batch.message(
        format!("delete the links of group {group:#x}"),
        DELETE_LINK,
        0,
        &link_header(0, 0),
        |a| {
            a.put_u32(LINK_GROUP, group);
        },
    );
}

/// Takes an address from a link; one that it does not have is refused with EADDRNOTAVAIL.
pub(crate) fn remove_address(batch: &mut Batch, index: u32, address: IpNet) {
    let bytes = octets(address.addr());
    batch.message(
        format!("remove address {address} from link {index}"),
        DELETE_ADDRESS,
        0,
        &address_header(index, address),
        |a| {
            a.put(2, &bytes).put(1, &bytes);
        },
    );
}

/// Gives a link an address; IPv6 ones are usable at once.
pub(crate) fn add_address(batch: &mut Batch, index: u32, address: IpNet) {
    let bytes = octets(address.addr());
    batch.message(
        format!("add address {address} to link {index}"),
        NEW_ADDRESS,
        CREATE | EXCLUSIVE,
        &address_header(index, address),
        |a| {
            a.put(2, &bytes).put(1, &bytes);
            match address {
                IpNet::V4(net) => a.put(4, &net.broadcast().octets()),
                IpNet::V6(_) => a.put_u32(8, NO_DUPLICATE_DETECTION),
            };
        },
    );
}

/// `struct ifaddrmsg` of rtnetlink(7).
fn address_header(index: u32, address: IpNet) -> [u8; 8] {
    let mut header = [0; 8];
    header[0] = family(address.addr());
    header[1] = address.prefix_len();
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}

/// Puts a link on a bridge, up.
pub(crate) fn enslave(batch: &mut Batch, index: u32, bridge: u32, mtu: Option<u32>) {
    batch.message(
        format!("put link {index} on bridge {bridge}"),
        NEW_LINK,
        0,
        &link_header(index, IFF_UP),
        |a| {
            a.put_u32(LINK_MASTER, bridge);
            if let Some(mtu) = mtu {
                a.put_u32(LINK_MTU, mtu);
            }
        },
    );
}

/// Gives a link its hardware address and what else is to change, and sets it up.
pub(crate) fn settle(
    batch: &mut Batch,
    index: u32,
    name: Option<&str>,
    mac: MacAddress,
    mtu: Option<u32>,
) {
    batch.message(
        format!("set hardware address {mac} of link {index}"),
        NEW_LINK,
        0,
        &link_header(index, IFF_UP),
        |a| {
            a.put(LINK_ADDRESS, &mac.0);
            if let Some(mtu) = mtu {
                a.put_u32(LINK_MTU, mtu);
            }
            if let Some(name) = name {
                a.put_text(LINK_NAME, name);
            }
        },
    );
}

/// Sets a link down.
pub(crate) fn set_down(batch: &mut Batch, name: &str) {
    let mut header = link_header(0, 0);
    // Of the flags, only this one changes.
    header[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    batch.message(format!("set link {name} down"), NEW_LINK, 0, &header, |a| {
        a.put_text(LINK_NAME, name);
    });
}

/// Sets the default route of a gateway's family, in the place of one that is there.
pub(crate) fn set_default_route(batch: &mut Batch, index: u32, gateway: IpAddr) {
    // family, dst, src, tos, table main, protocol boot, scope universe, type unicast, flags
    let mut header = [0, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
    header[0] = family(gateway);
    batch.message(
        format!("set default route via {gateway}"),
        NEW_ROUTE,
        CREATE | REPLACE,
        &header,
        |a| {
            a.put(5, &octets(gateway)).put_u32(4, index);
        },
    );
}

/// A link as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<MacAddress>,
    /// `bridge`, `veth`; `None` for hardware.
    pub(crate) kind: Option<String>,
    /// 0 unless somebody put it into one.
    pub(crate) group: u32,
}

/// Reads a link message.
pub(crate) fn parse_link(reply: &Reply) -> Option<Link> {
    let index = u32::from_ne_bytes(reply.payload.get(4..8)?.try_into().ok()?);
    let name = netlink::text(reply.find(16, LINK_NAME)?);
    let mac = reply
        .find(16, LINK_ADDRESS)
        .and_then(|bytes| bytes.try_into().ok())
        .map(MacAddress);
    let kind = reply
        .find(16, LINK_INFO)
        .and_then(|info| netlink::find(info, INFO_KIND))
        .map(netlink::text);
    let group = reply
        .find(16, LINK_GROUP)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_ne_bytes);
    Some(Link {
        index,
        name,
        mac,
        kind,
        group,
    })
}

/// The name of a link that a notification says is gone.
pub(crate) fn deleted_link(reply: &Reply) -> Option<String> {
    (reply.kind == DELETE_LINK && reply.payload.first() == Some(&0))
        .then(|| parse_link(reply).map(|link| link.name))
        .flatten()
}

/// An rtnetlink socket and what is asked through it.
pub(crate) struct Links {
    socket: Socket,
}

impl Links {
    /// Speaks for the calling thread's namespace.
    pub(crate) fn open() -> Result<Self, NetError> {
        let socket = Socket::open(Family::Route)
            .map_err(|source| NetError::kernel("open an rtnetlink socket", source))?;
        Ok(Self { socket })
    }

    /// Sends a batch; the first refusal is the error.
    pub(crate) fn apply(&self, batch: &mut Batch) -> Result<(), NetError> {
        self.apply_except(batch, &[])
    }

    /// Sends a batch; refusals with one of these error numbers count as success.
    pub(crate) fn apply_except(&self, batch: &mut Batch, fine: &[i32]) -> Result<(), NetError> {
        let refused = self
            .socket
            .execute(batch)
            .map_err(|source| NetError::kernel("talk rtnetlink", source))?;
        match refused.into_iter().find(|one| {
            one.source
                .raw_os_error()
                .is_none_or(|code| !fine.contains(&code))
        }) {
            Some(one) => Err(NetError::kernel(one.to_string(), one.source)),
            None => Ok(()),
        }
    }

    /// A link by name.
    pub(crate) fn link(&self, name: &str) -> Result<Option<Link>, NetError> {
        let mut batch = Batch::new();
        batch.message(
            format!("get link {name}"),
            GET_LINK,
            0,
            &link_header(0, 0),
            |a| {
                a.put_text(LINK_NAME, name);
            },
        );
        match self.socket.request(&mut batch) {
            Ok(Ok(replies)) => Ok(replies.iter().find_map(parse_link)),
            Ok(Err(refused)) if refused.source.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Ok(Err(refused)) => Err(NetError::kernel(refused.to_string(), refused.source)),
            Err(source) => Err(NetError::kernel(format!("get link {name}"), source)),
        }
    }

    /// Every link.
    pub(crate) fn links(&self) -> Result<Vec<Link>, NetError> {
        let replies = self.dump("links", GET_LINK, &link_header(0, 0))?;
        Ok(replies.iter().filter_map(parse_link).collect())
    }

    /// Every IPv4 and IPv6 address, with the index of its link.
    pub(crate) fn addresses(&self) -> Result<Vec<(u32, IpNet)>, NetError> {
        let replies = self.dump("addresses", GET_ADDRESS, &[0; 8])?;
        Ok(replies.iter().filter_map(parse_address).collect())
    }

    /// The name of a link, or its number if it is gone.
    pub(crate) fn name(&self, index: u32) -> Result<String, NetError> {
        let all = self.links()?;
        let found = all.into_iter().find(|link| link.index == index);
        Ok(found.map_or_else(|| index.to_string(), |link| link.name))
    }

    /// The destinations of every route that is neither default, local nor broadcast, with the link's index.
    pub(crate) fn routes(&self) -> Result<Vec<(u32, IpNet)>, NetError> {
        let mut routes = self.routes_of(libc::AF_INET as u8)?;
        // A kernel without IPv6 has none of it.
        routes.extend(self.routes_of(libc::AF_INET6 as u8).unwrap_or_default());
        Ok(routes)
    }

    /// Those of IPv4.
    pub(crate) fn routes_v4(&self) -> Result<Vec<(u32, IpNet)>, NetError> {
        self.routes_of(libc::AF_INET as u8)
    }

    fn routes_of(&self, family: u8) -> Result<Vec<(u32, IpNet)>, NetError> {
        // Of every address of the host there are three more that are not of this type.
        self.socket.filter_dumps();
        let mut header = [0; 12];
        header[0] = family;
        header[7] = UNICAST;
        let replies = self.dump("routes", GET_ROUTE, &header)?;
        Ok(replies.iter().filter_map(parse_route).collect())
    }

    pub(crate) fn dump(
        &self,
        what: &str,
        kind: u16,
        header: &[u8],
    ) -> Result<Vec<Reply>, NetError> {
        self.socket
            .dump(kind, header, |_| {})
            .map_err(|source| NetError::kernel(format!("list {what}"), source))
    }
}

/// Reads an address message: the link's index, the address and its prefix.
pub(crate) fn parse_address(reply: &Reply) -> Option<(u32, IpNet)> {
    let length = *reply.payload.get(1)?;
    let index = u32::from_ne_bytes(reply.payload.get(4..8)?.try_into().ok()?);
    let address = reply.find(8, 2).or_else(|| reply.find(8, 1))?;
    Some((index, IpNet::new(address_of(address)?, length).ok()?))
}

/// Reads a route message, of unicast ones with a destination: the link's index and the destination.
pub(crate) fn parse_route(reply: &Reply) -> Option<(u32, IpNet)> {
    if reply.payload.get(7) != Some(&UNICAST) {
        return None;
    }
    let length = *reply.payload.get(1)?;
    let destination = address_of(reply.find(12, 1)?)?;
    let link = reply
        .find(12, 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_ne_bytes);
    Some((link, IpNet::new(destination, length).ok()?))
}

pub(crate) fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}

/// Whether an error is this error number.
pub(crate) fn is_errno(error: &NetError, code: i32) -> bool {
    matches!(error, NetError::Kernel { source, .. } if io::Error::raw_os_error(source) == Some(code))
}
