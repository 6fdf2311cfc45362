//! Making links of every kind: bridges, veth pairs, and what is on an interface of the host.

use std::os::fd::{AsRawFd, BorrowedFd};

use hoist_sys::netlink::{Attributes, Batch, CREATE, EXCLUSIVE};

use super::{
    IFF_UP, INFO_KIND, LINK_ADDRESS, LINK_GROUP, LINK_INFO, LINK_MASTER, LINK_MTU, LINK_NAME,
    NEW_LINK, link_header, set_port_options,
};
use crate::attachment::MacAddress;

const LINK_PARENT: u16 = 5;
const LINK_AF_SPEC: u16 = 26;
const LINK_NETNS_FD: u16 = 28;
const LINK_SEND_QUEUES: u16 = 31;
const LINK_RECEIVE_QUEUES: u16 = 32;
const INET6_ADDRESS_MODE: u16 = 8;
const ADDRESS_MODE_NONE: u8 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;

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

/// An interface on one of the host's, in a namespace.
pub(crate) struct Upper<'a> {
    pub(crate) name: &'a str,
    pub(crate) parent: u32,
    pub(crate) netns: BorrowedFd<'a>,
    pub(crate) mac: MacAddress,
    pub(crate) mtu: Option<u32>,
    pub(crate) kind: UpperKind,
}

/// What kind it is, in the kernel's numbers (linux/if_link.h, `MACVLAN_MODE_*`, `IPVLAN_MODE_*`, `IPVLAN_F_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpperKind {
    Macvlan {
        mode: u32,
    },
    /// It has its parent's hardware address, and so has everything on that parent one mode.
    Ipvlan {
        mode: u16,
        flags: u16,
    },
}

/// Makes an interface on one of the host's.
pub(crate) fn create_upper(batch: &mut Batch, upper: &Upper<'_>) {
    const MACVLAN_MODE: u16 = 1;
    const IPVLAN_MODE: u16 = 1;
    const IPVLAN_FLAGS: u16 = 2;
    let (kind, has_mac) = match upper.kind {
        UpperKind::Macvlan { .. } => ("macvlan", true),
        UpperKind::Ipvlan { .. } => ("ipvlan", false),
    };
    create_link(
        batch,
        (kind, upper.name),
        |a| {
            a.put_u32(LINK_PARENT, upper.parent)
                .put_u32(LINK_NETNS_FD, upper.netns.as_raw_fd().cast_unsigned());
            if has_mac {
                a.put(LINK_ADDRESS, &upper.mac.0);
            }
            if let Some(mtu) = upper.mtu {
                a.put_u32(LINK_MTU, mtu);
            }
        },
        |a| {
            match upper.kind {
                UpperKind::Macvlan { mode } => a.put_u32(MACVLAN_MODE, mode),
                UpperKind::Ipvlan { mode, flags } => a
                    .put(IPVLAN_MODE, &mode.to_ne_bytes())
                    .put(IPVLAN_FLAGS, &flags.to_ne_bytes()),
            };
        },
    );
}

/// Asks for a link of a kind that the kernel always refuses, because it says nothing of what it is to be on: with EOPNOTSUPP
/// where it does not know the kind (net/core/rtnetlink.c, after it looked for the module).
pub(crate) fn probe(batch: &mut Batch, kind: &str, name: &str) {
    create_link(batch, (kind, name), |_| {}, |_| {});
}
