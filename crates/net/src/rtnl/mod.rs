//! Links, addresses and routes: rtnetlink messages (man 7 rtnetlink, linux/if_link.h, linux/rtnetlink.h).
//!
//! The encoders write into a `Batch`, so that what belongs together goes out in one system call; `Links` sends
//! and reads. They ask for no acknowledgement: the kernel answers a refusal without, and reading the others takes longer
//! than many a message. A socket speaks for the namespace it was opened in.

mod kinds;

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use hoist_sys::netlink::{self, Batch, CREATE, EXCLUSIVE, Family, REPLACE, Reply, Socket};
use ipnet::IpNet;

use crate::attachment::MacAddress;
use crate::error::NetError;

pub(crate) use kinds::{
    Upper, UpperKind, VethPair, create_bridge, create_dummy, create_upper, create_veth,
    create_vlan, probe,
};

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
const LINK_MASTER: u16 = 10;
const LINK_INFO: u16 = 18;
const LINK_GROUP: u16 = 27;
const INFO_KIND: u16 = 1;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
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

/// Sets the MTU of a link that is up.
pub(crate) fn set_mtu(batch: &mut Batch, index: u32, mtu: u32) {
    batch.message(
        format!("set the MTU of link {index} to {mtu}"),
        NEW_LINK,
        0,
        &link_header(index, IFF_UP),
        |a| {
            a.put_u32(LINK_MTU, mtu);
        },
    );
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

/// Sets the default route of a gateway's family, in the place of one that is there. An unspecified gateway is none: what
/// the link is on routes.
pub(crate) fn set_default_route(batch: &mut Batch, index: u32, gateway: IpAddr) {
    const UNIVERSE: u8 = 0;
    const LINK: u8 = 253;
    let on_link = gateway.is_unspecified();
    let scope = if on_link && gateway.is_ipv4() {
        LINK
    } else {
        UNIVERSE
    };
    // family, dst, src, tos, table main, protocol boot, scope, type unicast, flags
    let header = [family(gateway), 0, 0, 0, 254, 3, scope, UNICAST, 0, 0, 0, 0];
    batch.message(
        format!("set default route via {gateway}"),
        NEW_ROUTE,
        CREATE | REPLACE,
        &header,
        |a| {
            if !on_link {
                a.put(5, &octets(gateway));
            }
            a.put_u32(4, index);
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
