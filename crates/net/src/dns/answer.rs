//! What a question is answered with, from the tables of a moment. Pure.
//!
//! Rules as Docker's (moby: daemon/libnetwork/resolver.go, sandbox.go): a name is looked up in every network of the
//! container, `name.network` in that network; a name of ours has no address of the other family rather than one
//! elsewhere; where somebody set `ndots`, addresses of unknown names of one label are asked of nobody; MX of a name of
//! ours is empty, so that mail goes to its address; other types, and all other names, are forwarded. Different, on
//! purpose: answers live for no time, since a container may move while somebody remembers them; and inside internal
//! networks what is not known does not exist, where Docker says that it failed.

use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hoist_model::ContainerId;
use ipnet::IpNet;

use super::wire::{self, Asked, Transport, Unusable};
use crate::names::{Names, NetworkNames, ResolverView};

/// How long an answer of ours may be remembered, in seconds.
const LIFETIME: u32 = 0;

/// What becomes of a question.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing.
    Silence,
    /// This is sent back.
    Reply(Vec<u8>),
    /// Somebody else is asked.
    Forward(Asked, Servers),
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Servers {
    /// Those of the host, from the host.
    Host,
    /// The container's own, from inside the container.
    Own(Vec<IpAddr>),
}

/// Answers one message of a container.
pub(super) fn answer(
    bytes: &[u8],
    transport: Transport,
    names: &Names,
    container: &ContainerId,
    chance: &mut Chance,
) -> Answer {
    let asked = match wire::read(bytes) {
        Ok(asked) => asked,
        Err(Unusable::Ignored) => return Answer::Silence,
        Err(Unusable::Refused(reply)) => return Answer::Reply(reply),
    };
    let Some(view) = names.containers.get(container) else {
        return Answer::Reply(asked.failure());
    };
    if let Some(records) = records(&asked, names, view, chance) {
        return Answer::Reply(asked.reply(records, transport));
    }
    let is_address = matches!(asked.query.query_type(), RecordType::A | RecordType::AAAA);
    if view.ndots_set && is_address && asked.query.name().iter().count() == 1 {
        return Answer::Reply(asked.reply(Vec::new(), transport));
    }
    if !view.servers.is_empty() {
        return Answer::Forward(asked, Servers::Own(view.servers.clone()));
    }
    if view.internal {
        return Answer::Reply(asked.no_such_name());
    }
    Answer::Forward(asked, Servers::Host)
}

/// The records that answer a question about one of our names, if it is about one.
fn records(
    asked: &Asked,
    names: &Names,
    view: &ResolverView,
    chance: &mut Chance,
) -> Option<Vec<Record>> {
    let query = &asked.query;
    if query.query_class() != DNSClass::IN {
        return None;
    }
    let found = |wanted: fn(&IpAddr) -> bool| -> Option<Vec<IpAddr>> {
        let mut addresses = addresses(&text(query.name())?, names, view)?;
        addresses.retain(wanted);
        Some(addresses)
    };
    let addresses = match query.query_type() {
        RecordType::A => found(IpAddr::is_ipv4)?,
        RecordType::AAAA => found(IpAddr::is_ipv6)?,
        RecordType::MX => found(|_| false)?,
        RecordType::PTR => {
            let owner = owner(query.name(), names, view)?;
            let owner = Name::from_labels(owner.split('.').map(str::as_bytes)).ok()?;
            let record = Record::from_rdata(query.name().clone(), LIFETIME, RData::PTR(PTR(owner)));
            return Some(vec![record]);
        }
        _ => return None,
    };
    let mut records: Vec<Record> = addresses
        .into_iter()
        .map(|address| {
            let data = match address {
                IpAddr::V4(address) => RData::A(A(address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(address)),
            };
            Record::from_rdata(query.name().clone(), LIFETIME, data)
        })
        .collect();
    chance.shuffle(&mut records);
    Some(records)
}

/// The addresses of a name in lower case; `None` where it is not one of ours.
fn addresses(name: &str, names: &Names, view: &ResolverView) -> Option<Vec<IpAddr>> {
    // Both names of containers and names of networks may have dots: `a.b.c` is that everywhere, `a.b` in `c`, or `a`
    // in `b.c`.
    let everywhere = std::iter::once((name, None));
    let inside = name
        .rmatch_indices('.')
        .map(|(at, _)| (&name[..at], Some(&name[at + 1..])));
    everywhere.chain(inside).find_map(|(name, network)| {
        let tables = || {
            tables(names, view).filter(|table| {
                network.is_none_or(|network| table.network.eq_ignore_ascii_case(network))
            })
        };
        let of = |name: &str| {
            tables()
                .map(|table| table.addresses(name))
                .find(|addresses| !addresses.is_empty())
                .map(<[IpAddr]>::to_vec)
        };
        view.links
            .get(name)
            .and_then(|other| of(&other.to_ascii_lowercase()))
            .or_else(|| of(name))
    })
}

/// `name.network` of the container that a reverse name means.
fn owner(reverse: &Name, names: &Names, view: &ResolverView) -> Option<String> {
    let net: IpNet = reverse.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then_some(())?;
    tables(names, view).find_map(|table| {
        let name = table.owner(net.addr())?;
        Some(format!("{name}.{}", table.network))
    })
}

/// The tables of a container's networks.
fn tables<'a>(names: &'a Names, view: &'a ResolverView) -> impl Iterator<Item = &'a NetworkNames> {
    view.networks
        .iter()
        .filter_map(|id| names.networks.get(id).map(AsRef::as_ref))
}

/// A name as the tables write it; `None` where no table could hold it.
fn text(name: &Name) -> Option<String> {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        let label = std::str::from_utf8(label).ok()?;
        if label.contains('.') {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(label);
    }
    text.make_ascii_lowercase();
    Some(text)
}

/// A source of chance that nobody needs to be unable to guess: the order of addresses.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, (self.next() % (at as u64 + 1)) as usize);
        }
    }
}

#[cfg(test)]
mod tests;
