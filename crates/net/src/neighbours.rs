//! Neighbour entries of containers, both ways, and where a bridge finds them: nobody has to ask for a hardware address that
//! the engine chose itself.
//!
//! The kernel's tables of neighbours are shared by all namespaces and hold about `gc_thresh3` (1,024) learned entries: a
//! thousand containers that talk to their gateway have two thousand. Entries with `NTF_EXT_LEARNED` are not counted and
//! never collected (net/core/neighbour.c, `neigh_update_gc_list`), as permanent ones; but unlike those they follow a
//! container that takes another hardware address, which with Docker it may.
//!
//! | where | who | entry |
//! |---|---|---|
//! | host, bridge | the container's addresses | `extern_learn` |
//! | host, bridge's forwarding table | the container's hardware address | static, goes with its port |
//! | container, its interface | the gateway | `extern_learn` |

use std::net::IpAddr;

use hoist_sys::netlink::{Batch, CREATE, REPLACE, Reply};

use crate::attachment::MacAddress;
use crate::error::NetError;
use crate::rtnl::{self, Links};

const NEW_NEIGHBOUR: u16 = 28;
const DELETE_NEIGHBOUR: u16 = 29;
const GET_NEIGHBOUR: u16 = 30;

const DESTINATION: u16 = 1;
const LINK_ADDRESS: u16 = 2;

/// Bytes of `struct ndmsg`.
const HEADER: usize = 12;
const STATE_STALE: u16 = 0x04;
const STATE_NO_ARP: u16 = 0x40;
const OF_MASTER: u8 = 0x04;
const EXTERNALLY_LEARNED: u8 = 0x10;

/// `struct ndmsg`.
fn header(family: u8, index: u32, state: u16, flags: u8) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flags;
    header
}

/// Says which hardware address an address has behind a link; in the place of what was known.
pub(crate) fn add(batch: &mut Batch, index: u32, address: IpAddr, mac: MacAddress) {
    let family = rtnl::family(address);
    batch.message(
        format!("add neighbour {address} of link {index}"),
        NEW_NEIGHBOUR,
        CREATE | REPLACE,
        &header(family, index, STATE_STALE, EXTERNALLY_LEARNED),
        |a| {
            a.put(DESTINATION, &rtnl::octets(address))
                .put(LINK_ADDRESS, &mac.0);
        },
    );
}

/// Forgets an address behind a link. One that is not known is refused with ENOENT, one of a link that is gone with ENODEV.
pub(crate) fn remove(batch: &mut Batch, index: u32, address: IpAddr) {
    batch.message(
        format!("remove neighbour {address} of link {index}"),
        DELETE_NEIGHBOUR,
        0,
        &header(rtnl::family(address), index, 0, 0),
        |a| {
            a.put(DESTINATION, &rtnl::octets(address));
        },
    );
}

/// Says behind which of its ports a bridge finds a hardware address. The entry goes with the port.
pub(crate) fn add_to_bridge(batch: &mut Batch, port: u32, mac: MacAddress) {
    let family = libc::AF_BRIDGE as u8;
    batch.message(
        format!("add {mac} to the forwarding table of port {port}"),
        NEW_NEIGHBOUR,
        CREATE | REPLACE,
        &header(family, port, STATE_NO_ARP, OF_MASTER),
        |a| {
            a.put(LINK_ADDRESS, &mac.0);
        },
    );
}

/// An entry of ours: a link and an address behind it.
fn parse(reply: &Reply) -> Option<(u32, IpAddr)> {
    let index = u32::from_ne_bytes(reply.payload.get(4..8)?.try_into().ok()?);
    let flags = *reply.payload.get(10)?;
    let address = rtnl::address_of(reply.find(HEADER, DESTINATION)?)?;
    (flags & EXTERNALLY_LEARNED != 0).then_some((index, address))
}

impl Links {
    /// Forgets the neighbours, of those that were not learned by asking, of which this is said: a link and an address behind
    /// it.
    pub(crate) fn forget_neighbours(
        &self,
        mut is_stale: impl FnMut(u32, IpAddr) -> bool,
    ) -> Result<(), NetError> {
        let replies = self.dump("neighbours", GET_NEIGHBOUR, &header(0, 0, 0, 0))?;
        let mut batch = Batch::new();
        for (index, address) in replies.iter().filter_map(parse) {
            if is_stale(index, address) {
                remove(&mut batch, index, address);
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.apply_except(&mut batch, &[libc::ENOENT, libc::ENODEV])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_message() {
        let mut batch = Batch::new();
        let mac = MacAddress([2, 0x42, 10, 0, 0, 9]);
        add(&mut batch, 7, [10, 0, 0, 9].into(), mac);
        let expected: Vec<u8> = [
            // length, type, request + replace + create
            &[48u8, 0, 0, 0, 28, 0, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0][..],
            // family, padding, link, state, flags, type
            &[2, 0, 0, 0, 7, 0, 0, 0, 4, 0, 0x10, 0],
            &[8, 0, 1, 0, 10, 0, 0, 9],
            &[10, 0, 2, 0, 2, 0x42, 10, 0, 0, 9, 0, 0],
        ]
        .concat();
        assert_eq!(batch.as_bytes(), expected);
    }

    #[test]
    fn only_our_entries_are_read() {
        let mut payload = header(2, 7, STATE_STALE, EXTERNALLY_LEARNED).to_vec();
        payload.extend([8, 0, 1, 0, 10, 0, 0, 9]);
        let mut reply = Reply {
            kind: NEW_NEIGHBOUR,
            port: 0,
            payload,
        };
        assert_eq!(parse(&reply), Some((7, [10, 0, 0, 9].into())));
        reply.payload[10] = 0;
        assert_eq!(parse(&reply), None);
    }
}
