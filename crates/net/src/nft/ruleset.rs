//! Our table: what it holds, how it is written in one transaction, and how one port is added to it.
//!
//! ```text
//! table inet hoist
//!   map published4, published6            host address . protocol . port → container address . port
//!   map published4_any, published6_any    protocol . port → the same, at any address of the host
//!   chain localnet    raw prerouting   loopback addresses from outside are dropped
//!   chain prerouting  dstnat           jump publish
//!   chain output      dstnat           jump publish
//!   chain publish                      look up the maps, translate the destination
//!   chain postrouting srcnat           out of a bridge: masquerade; back into it by a published port: too
//!   chain forward     filter           into a bridge only answers, published ports and neighbours
//!   chain guard                        where we turned forwarding on: nothing that is not a bridge's
//! ```

use std::net::IpAddr;

use hoist_sys::netlink::{self, APPEND, CREATE, Reply};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::expression::Rule;
use super::{
    DATA_VALUE, DELETE_ELEMENT, DELETE_TABLE, INET, LIST_ELEMENT, NEW_CHAIN, NEW_ELEMENT, NEW_RULE,
    NEW_SET, NEW_TABLE, Tables, Transaction,
};
use crate::error::NetError;

/// A map of published ports.
struct Map {
    name: &'static str,
    v6: bool,
    /// Whether the port is published at every address of the host, which the key then lacks.
    any: bool,
    /// Type (nft's number, six bits per part: 7 ipv4_addr, 8 ipv6_addr, 12 inet_proto, 13 inet_service) and length.
    key: (u32, u32),
    data: (u32, u32),
}

const ANY: (u32, u32) = ((12 << 6) | 13, 8);
const DATA4: (u32, u32) = ((7 << 6) | 13, 8);
const DATA6: (u32, u32) = ((8 << 6) | 13, 20);

const fn map(name: &'static str, v6: bool, any: bool, key: (u32, u32), data: (u32, u32)) -> Map {
    Map {
        name,
        v6,
        any,
        key,
        data,
    }
}

const MAPS: [Map; 4] = [
    map("published4", false, false, ((7 << 12) | ANY.0, 12), DATA4),
    map("published4_any", false, true, ANY, DATA4),
    map("published6", true, false, ((8 << 12) | ANY.0, 24), DATA6),
    map("published6_any", true, true, ANY, DATA6),
];

/// Interfaces of engines that look after their own forwarding: our guard leaves them alone.
const GUARD_SPARES: &[&str] = &["hoist*", "hst-*", "docker*", "br-*"];

/// One published port as an element of a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    /// See `key`.
    pub(crate) key: Vec<u8>,
    /// See `target`.
    pub(crate) target: Vec<u8>,
}

impl Element {
    fn is_of(&self, map: &Map) -> bool {
        (self.key.len(), self.target.len()) == (map.key.1 as usize, map.data.1 as usize)
    }
}

/// A bridge and what is done with its traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BridgeRules {
    pub(crate) name: String,
    pub(crate) subnet: Ipv4Net,
    pub(crate) subnet_v6: Option<Ipv6Net>,
    pub(crate) masquerade: bool,
    pub(crate) inter_container: bool,
}

/// The wanted contents of our table, without the elements.
#[derive(Clone, Debug)]
pub(crate) struct Ruleset {
    pub(crate) table: String,
    pub(crate) bridge: BridgeRules,
    /// Whether we turned forwarding on, and so keep everybody else's packets from being forwarded.
    pub(crate) guard: bool,
}

impl Ruleset {
    /// All rules, by chain.
    fn rules(&self) -> Vec<(&'static str, Rule)> {
        let bridge = self.bridge.name.as_str();
        let loopback: IpNet = Ipv4Net::new_assert([127, 0, 0, 0].into(), 8).into();
        let mut rules = vec![
            (
                "localnet",
                Rule::new().input_not("lo").destination(loopback).drop(),
            ),
            (
                "localnet",
                Rule::new().input(bridge).source(loopback).drop(),
            ),
            ("prerouting", Rule::new().jump("publish")),
            ("output", Rule::new().jump("publish")),
        ];
        for Map { name, v6, any, .. } in &MAPS {
            let mut rule = Rule::new().family(*v6);
            if *any {
                rule = rule.destination_is_local();
                if *v6 {
                    // The kernel sends nothing from ::1 out of the host: the relay does.
                    rule = rule.destination_not_loopback();
                }
            }
            rules.push(("publish", rule.translate_by(name, *v6, *any)));
        }
        let subnets = [
            Some(IpNet::from(self.bridge.subnet)),
            self.bridge.subnet_v6.map(IpNet::from),
        ];
        for net in subnets.into_iter().flatten() {
            if self.bridge.masquerade {
                rules.push((
                    "postrouting",
                    Rule::new().source(net).output_not(bridge).masquerade(),
                ));
            }
            // A neighbour that came by a published port would get its answer from an address it never called.
            rules.push((
                "postrouting",
                Rule::new()
                    .source(net)
                    .output(bridge)
                    .translated()
                    .masquerade(),
            ));
        }
        rules.push((
            "postrouting",
            Rule::new().source(loopback).output(bridge).masquerade(),
        ));
        rules.push(("forward", Rule::new().output(bridge).established().accept()));
        rules.push(("forward", Rule::new().output(bridge).translated().accept()));
        if self.bridge.inter_container {
            rules.push(("forward", Rule::new().input(bridge).output(bridge).accept()));
        }
        rules.push(("forward", Rule::new().output(bridge).drop()));
        rules.push(("forward", Rule::new().input(bridge).accept()));
        if self.guard {
            rules.push(("forward", Rule::new().jump("guard")));
            for name in GUARD_SPARES {
                rules.push(("guard", Rule::new().input(name).accept()));
                rules.push(("guard", Rule::new().output(name).accept()));
            }
            rules.push(("guard", Rule::new().drop()));
        }
        rules
    }

    /// Writes the whole table anew, in one transaction: at no moment is there none.
    pub(crate) fn write(&self, elements: &[Element]) -> Transaction {
        let mut transaction = Transaction::new();
        let table = self.table.as_str();
        for (verb, kind, flags) in [
            ("create", NEW_TABLE, CREATE),
            ("delete", DELETE_TABLE, 0),
            ("create", NEW_TABLE, CREATE),
        ] {
            transaction.message(
                format!("{verb} table inet {table}"),
                kind,
                flags,
                INET,
                |a| {
                    a.put_text(1, table);
                },
            );
        }
        let base = |chain, hook, priority, kind| (chain, Some((hook, priority, kind)));
        let chains = [
            base("localnet", 0, -300, "filter"),
            base("prerouting", 0, -100, "nat"),
            base("output", 3, -100, "nat"),
            base("postrouting", 4, 100, "nat"),
            base("forward", 2, 0, "filter"),
            ("publish", None),
        ];
        for (chain, base) in chains
            .into_iter()
            .chain(self.guard.then_some(("guard", None)))
        {
            transaction.chain(INET, table, chain, base);
        }
        for (map, id) in MAPS.iter().zip(1..) {
            transaction.map(table, map, id);
        }
        for (chain, rule) in self.rules() {
            transaction.rule(INET, table, chain, &rule, None, APPEND);
        }
        transaction.add(table, elements);
        transaction
    }

    /// Whether the kernel's table is what it should be: as many rules, and the very elements.
    pub(crate) fn is_intact(&self, tables: &Tables, wanted: &[Element]) -> Result<bool, NetError> {
        if tables.rules(INET, &self.table)?.len() != self.rules().len() {
            return Ok(false);
        }
        let mut found = Vec::new();
        for map in &MAPS {
            match tables.elements(&self.table, map.name)? {
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

impl Tables {
    /// Whether a table of ours that an earlier life left says that it turned forwarding on.
    pub(crate) fn has_guard(&self, table: &str) -> Result<bool, NetError> {
        Ok(self.chains(INET)?.iter().any(|reply| {
            text_attribute(reply, 1).as_deref() == Some(table)
                && text_attribute(reply, 3).as_deref() == Some("guard")
        }))
    }
}

impl Transaction {
    /// Adds a chain; a base chain has a hook, a priority and a type.
    pub(super) fn chain(
        &mut self,
        family: u8,
        table: &str,
        chain: &str,
        base: Option<(u32, i32, &str)>,
    ) {
        self.message(
            format!("create chain {table} {chain}"),
            NEW_CHAIN,
            CREATE,
            family,
            |a| {
                a.put_text(1, table).put_text(3, chain);
                if let Some((hook, priority, kind)) = base {
                    a.nest(4, |a| {
                        a.put_be32(1, hook).put_be32(2, priority.cast_unsigned());
                    })
                    .put_be32(5, 1)
                    .put_text(7, kind);
                }
            },
        );
    }

    fn map(&mut self, table: &str, map: &Map, id: u32) {
        const IS_MAP: u32 = 8;
        let Map {
            name, key, data, ..
        } = map;
        self.message(
            format!("create map inet {table} {name}"),
            NEW_SET,
            CREATE,
            INET,
            |a| {
                a.put_text(1, table)
                    .put_text(2, name)
                    .put_be32(3, IS_MAP)
                    .put_be32(4, key.0)
                    .put_be32(5, key.1)
                    .put_be32(6, data.0)
                    .put_be32(7, data.1)
                    .put_be32(10, id);
            },
        );
    }

    /// Adds a rule: with `APPEND` at the chain's end, with 0 at its head. The comment is shown by `nft list`.
    pub(crate) fn rule(
        &mut self,
        family: u8,
        table: &str,
        chain: &str,
        rule: &Rule,
        comment: Option<&str>,
        place: u16,
    ) {
        self.message(
            format!("add rule to chain {table} {chain}"),
            NEW_RULE,
            CREATE | place,
            family,
            |a| {
                a.put_text(1, table)
                    .put_text(2, chain)
                    .put(4 | 0x8000, rule.expressions());
                if let Some(comment) = comment {
                    // libnftnl's user data: type 0 (comment), length, text with its zero.
                    let mut bytes = vec![0, comment.len() as u8 + 1];
                    bytes.extend(comment.as_bytes());
                    bytes.push(0);
                    a.put(7, &bytes);
                }
            },
        );
    }

    /// Adds published ports.
    pub(crate) fn add(&mut self, table: &str, elements: &[Element]) {
        self.elements("publish", NEW_ELEMENT, CREATE, table, elements);
    }

    /// Removes published ports.
    pub(crate) fn remove(&mut self, table: &str, elements: &[Element]) {
        self.elements("unpublish", DELETE_ELEMENT, 0, table, elements);
    }

    fn elements(&mut self, verb: &str, kind: u16, flags: u16, table: &str, elements: &[Element]) {
        for map in &MAPS {
            let of_map: Vec<_> = elements.iter().filter(|one| one.is_of(map)).collect();
            let map = map.name;
            // A nested attribute ends at 64 KiB.
            for some in of_map.chunks(500) {
                self.message(
                    format!("{verb} ports in map {table} {map}"),
                    kind,
                    flags,
                    INET,
                    |a| {
                        a.put_text(1, table).put_text(2, map).nest(3, |a| {
                            for element in some {
                                a.nest(LIST_ELEMENT, |a| {
                                    a.nest(1, |a| {
                                        a.put(DATA_VALUE, &element.key);
                                    })
                                    .nest(2, |a| {
                                        a.put(DATA_VALUE, &element.target);
                                    });
                                });
                            }
                        });
                    },
                );
            }
        }
    }
}

/// A text attribute of an nf_tables message.
pub(super) fn text_attribute(reply: &Reply, kind: u16) -> Option<String> {
    reply.find(4, kind).map(netlink::text)
}

/// The elements in one message of a dump.
pub(super) fn parse_elements(reply: &Reply) -> Vec<Element> {
    let list = reply.find(4, 3).unwrap_or_default();
    netlink::attributes(list)
        .filter_map(|(_, element)| {
            let value = |kind| {
                netlink::find(element, kind)
                    .and_then(|nested| netlink::find(nested, DATA_VALUE))
                    .map(<[u8]>::to_vec)
            };
            Some(Element {
                key: value(1)?,
                target: value(2)?,
            })
        })
        .collect()
}

/// The element of a port published at a host address.
pub(crate) fn element(
    host: IpAddr,
    protocol: hoist_model::container::Protocol,
    port: u16,
    container: std::net::SocketAddr,
) -> Element {
    Element {
        key: super::key(host, protocol, port),
        target: super::target(container),
    }
}

#[cfg(test)]
mod tests {
    use hoist_model::container::Protocol;

    use super::*;

    #[test]
    fn publishing_a_port_is_one_element_in_one_transaction() {
        let one = element(
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
        assert!(one.is_of(&MAPS[1]) && !one.is_of(&MAPS[0]));
    }
}
