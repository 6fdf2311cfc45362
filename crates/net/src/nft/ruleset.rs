//! Our table: what it holds, and how it is written in one transaction.
//!
//! ```text
//! table inet hoist
//!   sets and maps                      see `sets`: networks and published ports are elements
//!   chain localnet    raw prerouting   loopback addresses from outside are dropped
//!   chain prerouting  dstnat           who is kept apart gets to the relay; jump publish
//!   chain output      dstnat           jump publish
//!   chain publish                      look up the maps, translate the destination
//!   chain postrouting srcnat           out of a bridge: masquerade; back into it by a published port: too
//!   chain input       filter           from an internal network the host only gets answers
//!   chain forward     filter           neighbours; nothing over an internal network's border; `into` for our bridges
//!   chain into                         only answers, published and opened ports
//!   chain guard                        where we turned forwarding on: nothing that is not a bridge's
//! ```

use hoist_sys::netlink::{self, APPEND, CREATE, Reply};
use ipnet::{IpNet, Ipv4Net};

use super::expression::{Interface, Rule};
use super::sets::{self, Element};
use super::{DELETE_TABLE, INET, NEW_CHAIN, NEW_RULE, NEW_TABLE, Tables, Transaction};
use crate::error::NetError;

/// Interfaces of engines that look after their own forwarding: our guard leaves them alone.
const GUARD_SPARES: &[&str] = &["hoist*", "hst-*", "docker*", "br-*"];

/// How one family's packets get into a bridge from elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// By published ports alone.
    #[default]
    Translated,
    /// By published ports, without translation.
    Routed,
    /// Anyhow.
    Open,
}

/// What is done with one family's traffic of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FamilyRules {
    pub(crate) subnet: IpNet,
    pub(crate) masquerade: bool,
    pub(crate) entrance: Entrance,
}

/// A bridge and what is done with its traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BridgeRules {
    pub(crate) name: String,
    /// At most one of each family.
    pub(crate) families: Vec<FamilyRules>,
    pub(crate) inter_container: bool,
    pub(crate) internal: bool,
}

impl BridgeRules {
    /// The elements that stand for it.
    pub(crate) fn elements(&self) -> Vec<Element> {
        let name = self.name.as_str();
        let mut elements = vec![Element::interface(&sets::BRIDGES, name)];
        elements.push(if self.inter_container {
            Element::neighbours(name)
        } else {
            Element::interface(&sets::APART, name)
        });
        if self.internal {
            elements.push(Element::interface(&sets::INTERNAL, name));
        }
        for family in &self.families {
            elements.push(Element::home(family.subnet, name));
            let [masqueraded, routed, unprotected] = match family.subnet {
                IpNet::V4(_) => [&sets::MASQUERADED4, &sets::ROUTED4, &sets::UNPROTECTED4],
                IpNet::V6(_) => [&sets::MASQUERADED6, &sets::ROUTED6, &sets::UNPROTECTED6],
            };
            if family.masquerade && !self.internal {
                elements.push(Element::interface(masqueraded, name));
            }
            match family.entrance {
                Entrance::Translated => {}
                Entrance::Routed => elements.push(Element::interface(routed, name)),
                Entrance::Open => elements.push(Element::interface(unprotected, name)),
            }
        }
        elements
    }
}

/// The wanted contents of our table, without published ports.
#[derive(Clone, Debug)]
pub(crate) struct Ruleset {
    pub(crate) table: String,
    pub(crate) bridges: Vec<BridgeRules>,
    /// Whether we turned forwarding on, and so keep everybody else's packets from being forwarded.
    pub(crate) guard: bool,
    /// Whether it has rules for IPv4, and for IPv6.
    pub(crate) families: [bool; 2],
}

/// The chains that packets come to.
const BASE_CHAINS: &[&str] = &[
    "localnet",
    "prerouting",
    "output",
    "postrouting",
    "input",
    "forward",
];

impl Ruleset {
    /// Whether it has no rules at all, and so there is no table.
    pub(crate) fn is_off(&self) -> bool {
        self.families == [false; 2]
    }

    /// All rules, by chain. Their number does not depend on networks or ports.
    fn rules(&self) -> Vec<(&'static str, Rule)> {
        use Interface::{Input, Output};
        let loopback: IpNet = Ipv4Net::new_assert([127, 0, 0, 0].into(), 8).into();
        let rule = Rule::new;
        let mut rules = Vec::new();
        for (v6, has_rules) in [false, true].into_iter().zip(self.families) {
            if !has_rules {
                let passed = |chain: &&'static str| (*chain, rule().family(v6).accept());
                rules.extend(BASE_CHAINS.iter().map(passed));
            }
        }
        rules.extend([
            (
                "localnet",
                rule().input_not("lo").destination(loopback).drop(),
            ),
            (
                "localnet",
                rule().among(Input, &sets::BRIDGES).source(loopback).drop(),
            ),
            // Translated, it would go straight to its neighbour, from which the bridge keeps it: to the relay instead.
            ("prerouting", rule().among(Input, &sets::APART).accept()),
            ("prerouting", rule().jump("publish")),
            ("output", rule().jump("publish")),
        ]);
        for (map, v6, any) in [
            (&sets::PUBLISHED4, false, false),
            (&sets::PUBLISHED4_ANY, false, true),
            (&sets::PUBLISHED6, true, false),
            (&sets::PUBLISHED6_ANY, true, true),
        ] {
            let mut rule = rule().family(v6);
            if any {
                rule = rule.destination_is_local();
                if v6 {
                    // The kernel sends nothing from ::1 out of the host: the relay does.
                    rule = rule.destination_not_loopback();
                }
            }
            rules.push(("publish", rule.translate_by(map.name, v6, any)));
        }
        for (homes, v6) in [(&sets::HOMES4, false), (&sets::HOMES6, true)] {
            // A neighbour that came by a published port would get its answer from an address it never called.
            rules.push((
                "postrouting",
                rule().at_home(homes, v6).translated().masquerade(),
            ));
            rules.push(("postrouting", rule().at_home(homes, v6).accept()));
        }
        for (bridges, v6) in [(&sets::MASQUERADED4, false), (&sets::MASQUERADED6, true)] {
            rules.push((
                "postrouting",
                rule().family(v6).among(Input, bridges).masquerade(),
            ));
        }
        rules.push((
            "postrouting",
            rule()
                .source(loopback)
                .among(Output, &sets::BRIDGES)
                .masquerade(),
        ));
        let internal = &sets::INTERNAL;
        rules.push((
            "input",
            rule().among(Input, internal).known_or_untracked().accept(),
        ));
        rules.push(("input", rule().among(Input, internal).drop()));
        let forward = [
            rule().neighbours(&sets::NEIGHBOURS).accept(),
            rule().among(Input, internal).drop(),
            rule().among(Output, internal).drop(),
            rule().among(Output, &sets::BRIDGES).jump("into"),
            rule().among(Input, &sets::BRIDGES).accept(),
        ];
        rules.extend(forward.map(|rule| ("forward", rule)));
        rules.push(("into", rule().established().accept()));
        rules.push(("into", rule().translated().accept()));
        for (v6, open, routed, unprotected) in [
            (false, &sets::OPEN4, &sets::ROUTED4, &sets::UNPROTECTED4),
            (true, &sets::OPEN6, &sets::ROUTED6, &sets::UNPROTECTED6),
        ] {
            let into = [
                rule().family(v6).among(Output, unprotected).accept(),
                rule().family(v6).opened_by(open.name, v6).accept(),
                rule().family(v6).among(Output, routed).echo(v6).accept(),
            ];
            rules.extend(into.map(|rule| ("into", rule)));
        }
        rules.push(("into", rule().drop()));
        if self.guard {
            rules.push(("forward", rule().jump("guard")));
            for name in GUARD_SPARES {
                rules.push(("guard", rule().input(name).accept()));
                rules.push(("guard", rule().output(name).accept()));
            }
            rules.push(("guard", rule().drop()));
        }
        rules
    }

    /// All elements: the bridges', and these ports.
    fn elements(&self, ports: &[Element]) -> Vec<Element> {
        let bridges = self.bridges.iter().flat_map(BridgeRules::elements);
        bridges.chain(ports.iter().cloned()).collect()
    }

    /// Writes the whole table anew, in one transaction: at no moment is there none.
    pub(crate) fn write(&self, ports: &[Element]) -> Transaction {
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
            base("input", 1, 0, "filter"),
            base("forward", 2, 0, "filter"),
            ("publish", None),
            ("into", None),
        ];
        for (chain, base) in chains
            .into_iter()
            .chain(self.guard.then_some(("guard", None)))
        {
            transaction.chain(INET, table, chain, base);
        }
        transaction.sets(table);
        for (chain, rule) in self.rules() {
            transaction.rule(INET, table, chain, &rule, None, APPEND);
        }
        transaction.add(table, &self.elements(ports));
        transaction
    }

    /// Whether the kernel's table is what it should be: as many rules, and the very elements.
    pub(crate) fn is_intact(&self, tables: &Tables, ports: &[Element]) -> Result<bool, NetError> {
        if tables.rules(INET, &self.table)?.len() != self.rules().len() {
            return Ok(false);
        }
        tables.hold(&self.table, &self.elements(ports))
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
}

/// A text attribute of an nf_tables message.
pub(super) fn text_attribute(reply: &Reply, kind: u16) -> Option<String> {
    reply.find(4, kind).map(netlink::text)
}
