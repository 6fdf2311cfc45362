//! Rules as lists of expressions, in the order the kernel evaluates them.

use std::net::Ipv4Addr;

use hoist_sys::netlink::{Attributes, attribute_bytes};
use ipnet::IpNet;

use super::sets::Set;
use super::{DATA_VALUE, LIST_ELEMENT};

/// First 32-bit register; four of them make the first 128-bit one.
pub(super) const REGISTER: u32 = 8;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
pub(super) const DROP: u32 = 0;
const ACCEPT: u32 = 1;
pub(super) const JUMP: u32 = (-3i32).cast_unsigned();
const RETURN: u32 = (-5i32).cast_unsigned();
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// By which interface a packet came, or leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interface {
    Input,
    Output,
}

impl Interface {
    /// The name's key among what `meta` tells.
    fn key(self) -> u32 {
        match self {
            Self::Input => 6,
            Self::Output => 7,
        }
    }
}

/// A rule under construction.
#[derive(Default)]
pub(crate) struct Rule {
    expressions: Vec<u8>,
}

impl Rule {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(super) fn expressions(&self) -> &[u8] {
        &self.expressions
    }

    fn expression(mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) -> Self {
        let bytes = attribute_bytes(|a| {
            a.nest(LIST_ELEMENT, |a| {
                a.put_text(1, name).nest(2, fill);
            });
        });
        self.expressions.extend(bytes);
        self
    }

    fn meta(self, key: u32, register: u32) -> Self {
        self.expression("meta", |a| {
            a.put_be32(2, key).put_be32(1, register);
        })
    }

    fn compare(self, operation: u32, value: &[u8]) -> Self {
        self.expression("cmp", |a| {
            a.put_be32(1, REGISTER).put_be32(2, operation).nest(3, |a| {
                a.put(DATA_VALUE, value);
            });
        })
    }

    fn mask(self, mask: &[u8]) -> Self {
        let length = mask.len() as u32;
        self.expression("bitwise", |a| {
            a.put_be32(1, REGISTER)
                .put_be32(2, REGISTER)
                .put_be32(3, length)
                .nest(4, |a| {
                    a.put(DATA_VALUE, mask);
                })
                .nest(5, |a| {
                    a.put(DATA_VALUE, &vec![0; mask.len()]);
                });
        })
    }

    fn payload(self, base: u32, offset: u32, length: u32, register: u32) -> Self {
        self.expression("payload", |a| {
            a.put_be32(1, register)
                .put_be32(2, base)
                .put_be32(3, offset)
                .put_be32(4, length);
        })
    }

    /// The packet came in by this interface; a final `*` matches every name that starts so.
    pub(crate) fn input(self, name: &str) -> Self {
        self.meta(6, REGISTER).compare(EQUAL, &interface(name))
    }

    /// The packet came in by another interface.
    pub(crate) fn input_not(self, name: &str) -> Self {
        self.meta(6, REGISTER).compare(NOT_EQUAL, &interface(name))
    }

    /// The packet leaves by this interface.
    pub(crate) fn output(self, name: &str) -> Self {
        self.meta(7, REGISTER).compare(EQUAL, &interface(name))
    }

    /// The interface is in a set of names.
    pub(super) fn among(self, which: Interface, set: &Set) -> Self {
        self.meta(which.key(), REGISTER).lookup(set.name)
    }

    /// The packet stays on its bridge, whose ports may reach each other.
    pub(super) fn neighbours(self, set: &Set) -> Self {
        self.meta(Interface::Input.key(), REGISTER)
            .meta(Interface::Output.key(), REGISTER + 4)
            .lookup(set.name)
    }

    /// The source address is of the subnet that is on the bridge the packet leaves by.
    pub(super) fn at_home(self, set: &Set, v6: bool) -> Self {
        let (offset, length) = if v6 { (8, 16) } else { (12, 4) };
        self.family(v6)
            .payload(1, offset, length, REGISTER)
            .meta(Interface::Output.key(), REGISTER + length / 4)
            .lookup(set.name)
    }

    /// What the registers hold is in a set.
    fn lookup(self, set: &str) -> Self {
        self.expression("lookup", |a| {
            a.put_text(1, set).put_be32(2, REGISTER);
        })
    }

    /// The packet is IPv4, or IPv6.
    pub(super) fn family(self, v6: bool) -> Self {
        self.meta(15, REGISTER)
            .compare(EQUAL, &[if v6 { IPV6 } else { IPV4 }])
    }

    /// The source address is of this subnet.
    pub(super) fn source(self, net: IpNet) -> Self {
        self.address(net, [12, 8])
    }

    /// The destination address is of this subnet.
    pub(super) fn destination(self, net: IpNet) -> Self {
        self.address(net, [16, 24])
    }

    fn address(self, net: IpNet, offsets: [u32; 2]) -> Self {
        let net = net.trunc();
        let (v6, offset, address, mask) = match net {
            IpNet::V4(net) => (
                false,
                offsets[0],
                net.network().octets().to_vec(),
                net.netmask().octets().to_vec(),
            ),
            IpNet::V6(net) => (
                true,
                offsets[1],
                net.network().octets().to_vec(),
                net.netmask().octets().to_vec(),
            ),
        };
        self.family(v6)
            .payload(1, offset, address.len() as u32, REGISTER)
            .mask(&mask)
            .compare(EQUAL, &address)
    }

    /// The packet is of this transport protocol, and of a header that says so: not a later fragment.
    pub(super) fn protocol(self, number: u8) -> Self {
        self.meta(16, REGISTER).compare(EQUAL, &[number])
    }

    /// The source address, in a table of IPv4.
    pub(super) fn ipv4_source(self, address: Ipv4Addr) -> Self {
        self.payload(1, 12, 4, REGISTER)
            .compare(EQUAL, &address.octets())
    }

    /// The destination address, in a table of IPv4.
    pub(super) fn ipv4_destination(self, address: Ipv4Addr) -> Self {
        self.payload(1, 16, 4, REGISTER)
            .compare(EQUAL, &address.octets())
    }

    /// The source port.
    pub(super) fn source_port(self, port: u16) -> Self {
        self.payload(2, 0, 2, REGISTER)
            .compare(EQUAL, &port.to_be_bytes())
    }

    /// The destination port.
    pub(super) fn destination_port(self, port: u16) -> Self {
        self.payload(2, 2, 2, REGISTER)
            .compare(EQUAL, &port.to_be_bytes())
    }

    /// The packet goes on with another source port.
    pub(super) fn rewrite_source_port(self, protocol: u8, port: u16) -> Self {
        self.rewrite(0, protocol, port)
    }

    /// The packet goes on with another destination port.
    pub(super) fn rewrite_destination_port(self, protocol: u8, port: u16) -> Self {
        self.rewrite(2, protocol, port)
    }

    /// Writes a port into the transport header and mends its checksum (NFT_PAYLOAD_CSUM_INET).
    fn rewrite(self, offset: u32, protocol: u8, port: u16) -> Self {
        const TRANSPORT: u32 = 2;
        const INTERNET_CHECKSUM: u32 = 1;
        let checksum = if protocol == 17 { 6 } else { 16 };
        self.expression("immediate", |a| {
            a.put_be32(1, REGISTER).nest(2, |a| {
                a.put(DATA_VALUE, &port.to_be_bytes());
            });
        })
        .expression("payload", |a| {
            a.put_be32(5, REGISTER)
                .put_be32(2, TRANSPORT)
                .put_be32(3, offset)
                .put_be32(4, 2)
                .put_be32(6, INTERNET_CHECKSUM)
                .put_be32(7, checksum);
        })
    }

    /// The destination is an address of the host.
    pub(super) fn destination_is_local(self) -> Self {
        const ADDRESS_TYPE: u32 = 3;
        const OF_DESTINATION: u32 = 2;
        const LOCAL: u32 = 2;
        self.expression("fib", |a| {
            a.put_be32(1, REGISTER)
                .put_be32(2, ADDRESS_TYPE)
                .put_be32(3, OF_DESTINATION);
        })
        .compare(EQUAL, &LOCAL.to_ne_bytes())
    }

    /// The packet belongs to an established connection or one related to it.
    pub(super) fn established(self) -> Self {
        self.connection(0, 2 | 4)
    }

    /// The packet belongs to a connection that was made before, or to none that is tracked (neighbour discovery).
    pub(super) fn known_or_untracked(self) -> Self {
        self.connection(0, 2 | 4 | 64)
    }

    /// The packet is an echo request.
    pub(super) fn echo(self, v6: bool) -> Self {
        let (protocol, kind) = if v6 { (58, 128) } else { (1, 8) };
        self.meta(16, REGISTER)
            .compare(EQUAL, &[protocol])
            .payload(2, 0, 1, REGISTER)
            .compare(EQUAL, &[kind])
    }

    /// The connection's destination was translated.
    pub(super) fn translated(self) -> Self {
        self.connection(2, 32)
    }

    fn connection(self, key: u32, bits: u32) -> Self {
        self.expression("ct", |a| {
            a.put_be32(2, key).put_be32(1, REGISTER);
        })
        .mask(&bits.to_ne_bytes())
        .compare(NOT_EQUAL, &[0; 4])
    }

    /// The destination is not `::1`.
    pub(super) fn destination_not_loopback(self) -> Self {
        self.payload(1, 24, 16, REGISTER)
            .compare(NOT_EQUAL, &std::net::Ipv6Addr::LOCALHOST.octets())
    }

    /// Looks (destination address unless `any`, protocol, destination port) up in a map and translates the
    /// destination to what it finds.
    pub(super) fn translate_by(self, map: &str, v6: bool, any: bool) -> Self {
        // Registers that an address takes.
        let words: u32 = if v6 { 4 } else { 1 };
        self.service(v6, any)
            .expression("lookup", |a| {
                a.put_text(1, map)
                    .put_be32(2, REGISTER)
                    .put_be32(3, REGISTER);
            })
            .expression("nat", |a| {
                a.put_be32(1, 1)
                    .put_be32(2, u32::from(if v6 { IPV6 } else { IPV4 }))
                    .put_be32(3, REGISTER)
                    .put_be32(5, REGISTER + words);
            })
    }

    /// Destination address, protocol and port are in a set.
    pub(super) fn opened_by(self, set: &str, v6: bool) -> Self {
        self.service(v6, false).lookup(set)
    }

    /// Loads destination address unless `any`, protocol and destination port.
    fn service(self, v6: bool, any: bool) -> Self {
        let (rule, next) = if any {
            (self, REGISTER)
        } else {
            let (offset, length) = if v6 { (24, 16) } else { (16, 4) };
            (
                self.payload(1, offset, length, REGISTER),
                REGISTER + length / 4,
            )
        };
        rule.meta(16, next).payload(2, 2, 2, next + 1)
    }

    /// The source becomes the address of the interface the packet leaves by.
    pub(super) fn masquerade(self) -> Self {
        self.expression("masq", |_| {})
    }

    pub(crate) fn accept(self) -> Self {
        self.verdict(ACCEPT, None)
    }

    pub(crate) fn drop(self) -> Self {
        self.verdict(DROP, None)
    }

    pub(super) fn jump(self, chain: &str) -> Self {
        self.verdict(JUMP, Some(chain))
    }

    /// The packet goes on in the chain that jumped here.
    pub(super) fn go_back(self) -> Self {
        self.verdict(RETURN, None)
    }

    fn verdict(self, code: u32, chain: Option<&str>) -> Self {
        self.expression("immediate", |a| {
            a.put_be32(1, 0).nest(2, |a| {
                a.nest(2, |a| {
                    a.put_be32(1, code);
                    if let Some(chain) = chain {
                        a.put_text(2, chain);
                    }
                });
            });
        })
    }
}

/// An interface name as the kernel compares it: 16 bytes, or the part before `*`.
fn interface(name: &str) -> Vec<u8> {
    match name.strip_suffix('*') {
        Some(prefix) => prefix.as_bytes().to_vec(),
        None => {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(16, 0);
            bytes
        }
    }
}
