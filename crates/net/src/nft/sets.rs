//! The sets and maps of our table, and what can stand in them. Every network and every published port is an element here,
//! so that a packet passes the same few rules however many there are.

use std::net::{IpAddr, SocketAddr};

use hoist_model::container::Protocol;
use hoist_sys::netlink::{self, Attributes, CREATE, Reply};
use ipnet::IpNet;

use super::{
    DATA_VALUE, DELETE_ELEMENT, INET, LIST_ELEMENT, NEW_ELEMENT, NEW_SET, Tables, Transaction,
};
use crate::error::NetError;

/// nft's numbers of types, six bits per part of a key.
const IPV4: u32 = 7;
const IPV6: u32 = 8;
const PROTOCOL: u32 = 12;
const SERVICE: u32 = 13;
const INTERFACE: u32 = 41;

/// Bytes of an interface's name in a key: `IFNAMSIZ`.
const NAME: usize = 16;

/// A set, or a map if it has data.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    /// Type and length in bytes.
    key: (u32, u32),
    data: Option<(u32, u32)>,
    /// Lengths of the parts of a key, where keys are ranges.
    ranges: &'static [u32],
}

impl PartialEq for Set {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Set {}

const ANY: (u32, u32) = ((PROTOCOL << 6) | SERVICE, 8);
const DATA4: (u32, u32) = ((IPV4 << 6) | SERVICE, 8);
const DATA6: (u32, u32) = ((IPV6 << 6) | SERVICE, 20);
const PORT4: (u32, u32) = ((IPV4 << 12) | ANY.0, 12);
const PORT6: (u32, u32) = ((IPV6 << 12) | ANY.0, 24);
const NAMED: (u32, u32) = (INTERFACE, 16);

const fn map(name: &'static str, key: (u32, u32), data: (u32, u32)) -> Set {
    Set {
        name,
        key,
        data: Some(data),
        ranges: &[],
    }
}

const fn set(name: &'static str, key: (u32, u32)) -> Set {
    Set {
        name,
        key,
        data: None,
        ranges: &[],
    }
}

/// host address . protocol . port → container address . port
pub(crate) static PUBLISHED4: Set = map("published4", PORT4, DATA4);
/// protocol . port → the same, at any address of the host
pub(crate) static PUBLISHED4_ANY: Set = map("published4_any", ANY, DATA4);
pub(crate) static PUBLISHED6: Set = map("published6", PORT6, DATA6);
pub(crate) static PUBLISHED6_ANY: Set = map("published6_any", ANY, DATA6);
/// container address . protocol . port, reachable without translation (gateway mode routed)
pub(crate) static OPEN4: Set = set("open4", PORT4);
pub(crate) static OPEN6: Set = set("open6", PORT6);
/// Our bridges.
pub(crate) static BRIDGES: Set = set("bridges", NAMED);
/// Bridges of which the ports may reach each other: bridge . the same bridge.
pub(crate) static NEIGHBOURS: Set = set("neighbours", ((INTERFACE << 6) | INTERFACE, 32));
/// Bridges of which the ports are kept from each other.
pub(crate) static APART: Set = set("apart", NAMED);
/// Bridges that nothing leaves or enters.
pub(crate) static INTERNAL: Set = set("internal", NAMED);
/// Bridges whose containers leave with the host's address.
pub(crate) static MASQUERADED4: Set = set("masqueraded4", NAMED);
pub(crate) static MASQUERADED6: Set = set("masqueraded6", NAMED);
/// Bridges that answer pings and let their open ports be reached directly.
pub(crate) static ROUTED4: Set = set("routed4", NAMED);
pub(crate) static ROUTED6: Set = set("routed6", NAMED);
/// Bridges of which every port may be reached directly.
pub(crate) static UNPROTECTED4: Set = set("unprotected4", NAMED);
pub(crate) static UNPROTECTED6: Set = set("unprotected6", NAMED);
/// subnet . its bridge
pub(crate) static HOMES4: Set = Set {
    name: "homes4",
    key: ((IPV4 << 6) | INTERFACE, 20),
    data: None,
    ranges: &[4, 16],
};
pub(crate) static HOMES6: Set = Set {
    name: "homes6",
    key: ((IPV6 << 6) | INTERFACE, 32),
    data: None,
    ranges: &[16, 16],
};

/// All of them.
pub(super) static SETS: [&Set; 18] = [
    &PUBLISHED4,
    &PUBLISHED4_ANY,
    &PUBLISHED6,
    &PUBLISHED6_ANY,
    &OPEN4,
    &OPEN6,
    &BRIDGES,
    &NEIGHBOURS,
    &APART,
    &INTERNAL,
    &MASQUERADED4,
    &MASQUERADED6,
    &ROUTED4,
    &ROUTED6,
    &UNPROTECTED4,
    &UNPROTECTED6,
    &HOMES4,
    &HOMES6,
];

/// One element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    /// The name of the set.
    pub(crate) set: &'static str,
    pub(crate) key: Vec<u8>,
    /// The last key of a range.
    pub(crate) last: Option<Vec<u8>>,
    /// What a map's key leads to.
    pub(crate) target: Option<Vec<u8>>,
}

impl Element {
    /// A port published at a host address.
    pub(crate) fn published(
        host: IpAddr,
        protocol: Protocol,
        port: u16,
        container: SocketAddr,
    ) -> Self {
        let set = match (host.is_ipv4(), host.is_unspecified()) {
            (true, false) => &PUBLISHED4,
            (true, true) => &PUBLISHED4_ANY,
            (false, false) => &PUBLISHED6,
            (false, true) => &PUBLISHED6_ANY,
        };
        let address = (!host.is_unspecified()).then_some(host);
        let mut target = octets(container.ip());
        target.extend(container.port().to_be_bytes());
        target.extend([0, 0]);
        Self {
            set: set.name,
            key: port_key(address, protocol, port),
            last: None,
            target: Some(target),
        }
    }

    /// A container's port that may be reached at its own address.
    pub(crate) fn open(container: IpAddr, protocol: Protocol, port: u16) -> Self {
        let set = if container.is_ipv4() { &OPEN4 } else { &OPEN6 };
        Self {
            set: set.name,
            key: port_key(Some(container), protocol, port),
            last: None,
            target: None,
        }
    }

    /// An interface in one of the sets of names.
    pub(crate) fn interface(set: &Set, name: &str) -> Self {
        Self {
            set: set.name,
            key: padded(name),
            last: None,
            target: None,
        }
    }

    /// A bridge whose ports may reach each other.
    pub(crate) fn neighbours(bridge: &str) -> Self {
        Self {
            set: NEIGHBOURS.name,
            key: padded(bridge).repeat(2),
            last: None,
            target: None,
        }
    }

    /// A subnet and the bridge that it is on.
    pub(crate) fn home(net: IpNet, bridge: &str) -> Self {
        let end = |address: IpAddr| [octets(address), padded(bridge)].concat();
        let set = match net {
            IpNet::V4(_) => &HOMES4,
            IpNet::V6(_) => &HOMES6,
        };
        Self {
            set: set.name,
            key: end(net.network()),
            last: Some(end(net.broadcast())),
            target: None,
        }
    }
}

fn padded(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(NAME, 0);
    bytes
}

/// Address, if it matters, protocol and port; each padded to a register.
fn port_key(address: Option<IpAddr>, protocol: Protocol, port: u16) -> Vec<u8> {
    let mut bytes = address.map(octets).unwrap_or_default();
    bytes.extend([protocol_number(protocol), 0, 0, 0]);
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0]);
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The protocol's number in an IP header.
fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

impl Tables {
    /// Whether the sets of our table hold these very elements.
    pub(super) fn hold(&self, table: &str, wanted: &[Element]) -> Result<bool, NetError> {
        let mut found = Vec::new();
        for set in SETS {
            match self.elements(table, set)? {
                Some(elements) => found.extend(elements),
                None => return Ok(false),
            }
        }
        found.sort_unstable();
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        Ok(found == wanted)
    }
}

impl Transaction {
    /// Makes all sets, empty.
    pub(super) fn sets(&mut self, table: &str) {
        const IS_INTERVAL: u32 = 4;
        const IS_MAP: u32 = 8;
        const IS_CONCATENATION: u32 = 0x80;
        for (set, id) in SETS.into_iter().zip(1..) {
            let Set {
                name, key, data, ..
            } = set;
            let mut flags = if data.is_some() { IS_MAP } else { 0 };
            if !set.ranges.is_empty() {
                flags |= IS_INTERVAL | IS_CONCATENATION;
            }
            let name = (*name).to_owned();
            self.message(
                format!("create set inet {table} {name}"),
                NEW_SET,
                CREATE,
                INET,
                |a| {
                    a.put_text(1, table)
                        .put_text(2, &name)
                        .put_be32(3, flags)
                        .put_be32(4, key.0)
                        .put_be32(5, key.1);
                    if let Some(data) = data {
                        a.put_be32(6, data.0).put_be32(7, data.1);
                    }
                    if !set.ranges.is_empty() {
                        a.nest(9, |a| {
                            a.nest(2, |a| {
                                for length in set.ranges {
                                    a.nest(LIST_ELEMENT, |a| {
                                        a.put_be32(1, *length);
                                    });
                                }
                            });
                        });
                    }
                    a.put_be32(10, id);
                    if *key == NAMED {
                        // For `nft list` (libnftnl's user data): type 0 (byte order of the key), length, the host's.
                        let [a1, b, c, d] = 1u32.to_ne_bytes();
                        a.put(13, &[0, 4, a1, b, c, d]);
                    }
                },
            );
        }
    }

    /// Adds elements.
    pub(crate) fn add(&mut self, table: &str, elements: &[Element]) {
        self.elements("add", NEW_ELEMENT, CREATE, table, elements);
    }

    /// Removes elements.
    pub(crate) fn remove(&mut self, table: &str, elements: &[Element]) {
        self.elements("remove", DELETE_ELEMENT, 0, table, elements);
    }

    fn elements(&mut self, verb: &str, kind: u16, flags: u16, table: &str, elements: &[Element]) {
        for set in SETS {
            let of_set: Vec<_> = elements.iter().filter(|one| one.set == set.name).collect();
            // A nested attribute ends at 64 KiB.
            for some in of_set.chunks(500) {
                self.message(
                    format!("{verb} elements of set {table} {}", set.name),
                    kind,
                    flags,
                    INET,
                    |a| {
                        a.put_text(1, table).put_text(2, set.name).nest(3, |a| {
                            for element in some {
                                a.nest(LIST_ELEMENT, |a| put_element(a, element));
                            }
                        });
                    },
                );
            }
        }
    }
}

fn put_element(a: &mut Attributes<'_>, element: &Element) {
    for (kind, value) in [
        (1, Some(&element.key)),
        (2, element.target.as_ref()),
        (10, element.last.as_ref()),
    ] {
        if let Some(value) = value {
            a.nest(kind, |a| {
                a.put(DATA_VALUE, value);
            });
        }
    }
}

/// The elements in one message of a dump of a set.
pub(super) fn parse_elements(set: &'static Set, reply: &Reply) -> Vec<Element> {
    let list = reply.find(4, 3).unwrap_or_default();
    netlink::attributes(list)
        .filter_map(|(_, element)| {
            let value = |kind| {
                netlink::find(element, kind)
                    .and_then(|nested| netlink::find(nested, DATA_VALUE))
                    .map(<[u8]>::to_vec)
            };
            Some(Element {
                set: set.name,
                key: value(1)?,
                last: value(10),
                target: value(2),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishing_a_port_is_one_element_in_one_transaction() {
        let one = Element::published(
            [0, 0, 0, 0].into(),
            Protocol::Tcp,
            8080,
            ([172, 18, 0, 2], 80).into(),
        );
        let mut transaction = Transaction::new();
        transaction.add("hoist", std::slice::from_ref(&one));
        let expected: Vec<u8> = [
            // begin: 20 bytes, type 0x10, request; family 0, version 0, subsystem 10
            &[
                20u8, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10,
            ][..],
            // new element: type 0x0a0c, create; family inet
            &[
                92, 0, 0, 0, 0x0c, 0x0a, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
            ],
            &[10, 0, 1, 0],
            b"hoist\0\0\0",
            &[19, 0, 2, 0],
            b"published4_any\0\0",
            // elements, element, key, value: tcp, port 8080
            &[40, 0, 3, 0x80, 36, 0, 1, 0x80],
            &[16, 0, 1, 0x80, 12, 0, 1, 0, 6, 0, 0, 0, 0x1f, 0x90, 0, 0],
            // data, value: 172.18.0.2, port 80
            &[16, 0, 2, 0x80, 12, 0, 1, 0, 172, 18, 0, 2, 0, 80, 0, 0],
            &[
                20, 0, 0, 0, 0x11, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10,
            ],
        ]
        .concat();
        assert_eq!(transaction.end().as_bytes(), expected);
    }

    #[test]
    fn every_element_is_as_long_as_its_set_says() {
        let v4: IpNet = "10.1.0.0/16".parse().unwrap();
        let v6: IpNet = "fd00::/64".parse().unwrap();
        let target = |text: &str| text.parse::<SocketAddr>().unwrap();
        let published = |host: &str, to: &str| {
            Element::published(host.parse().unwrap(), Protocol::Tcp, 80, target(to))
        };
        for element in [
            published("10.0.0.1", "10.1.0.2:80"),
            published("0.0.0.0", "10.1.0.2:80"),
            published("fd00::1", "[fd00::2]:80"),
            published("::", "[fd00::2]:80"),
            Element::open([10, 1, 0, 2].into(), Protocol::Udp, 53),
            Element::open("fd00::2".parse().unwrap(), Protocol::Udp, 53),
            Element::interface(&INTERNAL, "hoist0"),
            Element::neighbours("hoist0"),
            Element::home(v4, "hoist0"),
            Element::home(v6, "hoist0"),
        ] {
            let set = SETS.iter().find(|set| set.name == element.set).unwrap();
            assert_eq!(element.key.len(), set.key.1 as usize, "{element:?}");
            assert_eq!(
                element.target.map(|target| target.len() as u32),
                set.data.map(|data| data.1)
            );
            assert_eq!(element.last.is_some(), !set.ranges.is_empty());
        }
    }
}
