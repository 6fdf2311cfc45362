//! The table inside a container's namespace that leads port 53 of its name server to the ports it has.
//!
//! ```text
//! table ip hoist_dns
//!   chain output      raw output       to 127.0.0.11, port 53: the server's port instead
//!   chain prerouting  raw prerouting   from 127.0.0.11, the server's port: port 53 instead
//! ```
//!
//! Both come before connection tracking, should the container use it, and questions and answers look to it as what
//! they are: between the asker and the server's own port.

use std::net::Ipv4Addr;

use hoist_sys::netlink::{APPEND, CREATE};

use super::{DELETE_TABLE, NEW_TABLE, Rule, Transaction};

const IPV4: u8 = 2;
const TABLE: &str = "hoist_dns";
const RAW: i32 = -300;
const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const UDP: u8 = 17;
const TCP: u8 = 6;
const DNS: u16 = 53;

/// Writes the table anew, for the ports of a server at an address.
pub(crate) fn name_server(address: Ipv4Addr, udp: u16, tcp: u16) -> Transaction {
    let mut transaction = Transaction::new();
    for (verb, kind, flags) in [
        ("create", NEW_TABLE, CREATE),
        ("delete", DELETE_TABLE, 0),
        ("create", NEW_TABLE, CREATE),
    ] {
        let name = format!("{verb} table ip {TABLE}");
        transaction.message(name, kind, flags, IPV4, |a| {
            a.put_text(1, TABLE);
        });
    }
    for (chain, hook) in [("output", OUTPUT), ("prerouting", PREROUTING)] {
        transaction.chain(IPV4, TABLE, chain, Some((hook, RAW, "filter")));
    }
    for (protocol, port) in [(UDP, udp), (TCP, tcp)] {
        let question = Rule::new()
            .protocol(protocol)
            .ipv4_destination(address)
            .destination_port(DNS)
            .rewrite_destination_port(protocol, port);
        let answer = Rule::new()
            .protocol(protocol)
            .ipv4_source(address)
            .source_port(port)
            .rewrite_source_port(protocol, DNS);
        for (chain, rule) in [("output", question), ("prerouting", answer)] {
            transaction.rule(IPV4, TABLE, chain, &rule, None, APPEND);
        }
    }
    transaction
}
