//! Other firewalls: chains that may drop what we forward, and our one tagged accept per direction in them.
//!
//! An accept in our table cannot override a drop elsewhere. Where Docker's DOCKER-USER chain is, our accepts go
//! there; else at the head of the chain that drops. Only the netfilter interface is seen: rules of the legacy
//! iptables interface are invisible to nf_tables, and are reported, not changed.

use hoist_sys::netlink::{self, Reply};

use super::ruleset::text_attribute;
use super::{DELETE_RULE, Rule, Tables, Transaction};
use crate::error::NetError;

const HOOK_FORWARD: u32 = 2;
const POLICY_DROP: u32 = 0;

/// A chain of somebody else that may drop our forwarded packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignChain {
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) chain: String,
}

/// The chains to put our accepts in: base chains on the forward hook with policy drop (or Docker's chain in the
/// same table), and DOCKER-USER wherever it is.
pub(crate) fn forward_drops(
    tables: &Tables,
    own_prefix: &str,
) -> Result<Vec<ForeignChain>, NetError> {
    let chains = tables.chains(0)?;
    let parsed: Vec<_> = chains.iter().filter_map(parse_chain).collect();
    let mut found: Vec<ForeignChain> = Vec::new();
    for (chain, drops) in &parsed {
        let docker = parsed.iter().find(|(other, _)| {
            other.table == chain.table
                && other.family == chain.family
                && other.chain == "DOCKER-USER"
        });
        let place = docker.map_or(chain, |(chain, _)| chain);
        if (*drops || chain.chain == "DOCKER-USER")
            && !chain.table.starts_with(own_prefix)
            && !found.contains(place)
        {
            found.push(place.clone());
        }
    }
    Ok(found)
}

fn parse_chain(reply: &Reply) -> Option<(ForeignChain, bool)> {
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_be_bytes);
    let family = *reply.payload.first()?;
    // ip, inet, ip6
    if ![2, 1, 10].contains(&family) {
        return None;
    }
    let on_forward = reply
        .find(4, 4)
        .and_then(|hook| netlink::find(hook, 1))
        .and_then(number)
        == Some(HOOK_FORWARD);
    let drops = on_forward && reply.find(4, 5).and_then(number) == Some(POLICY_DROP);
    let chain = ForeignChain {
        family,
        table: text_attribute(reply, 1)?,
        chain: text_attribute(reply, 3)?,
    };
    Some((chain, drops))
}

impl Tables {
    /// Puts our accepts at the head of a foreign chain, unless they are there.
    pub(crate) fn accept_in(
        &self,
        place: &ForeignChain,
        bridge: &str,
        tag: &str,
    ) -> Result<(), NetError> {
        if self.tagged(place, tag)?.len() >= 2 {
            return Ok(());
        }
        let mut transaction = Transaction::new();
        for rule in [Rule::new().input(bridge), Rule::new().output(bridge)] {
            let rule = rule.accept();
            transaction.rule(
                place.family,
                &place.table,
                &place.chain,
                &rule,
                Some(tag),
                0,
            );
        }
        self.commit(transaction)
    }

    /// Takes our accepts out of every foreign chain they are in.
    pub(crate) fn remove_accepts(&self, place: &ForeignChain, tag: &str) -> Result<(), NetError> {
        let mut transaction = Transaction::new();
        let handles = self.tagged(place, tag)?;
        if handles.is_empty() {
            return Ok(());
        }
        for handle in handles {
            transaction.message(
                format!("delete our rule from chain {} {}", place.table, place.chain),
                DELETE_RULE,
                0,
                place.family,
                |a| {
                    a.put_text(1, &place.table)
                        .put_text(2, &place.chain)
                        .put(3, &handle);
                },
            );
        }
        self.commit(transaction)
    }

    /// Handles of the rules in a chain that carry our tag.
    fn tagged(&self, place: &ForeignChain, tag: &str) -> Result<Vec<Vec<u8>>, NetError> {
        Ok(self
            .rules(place.family, &place.table)?
            .iter()
            .filter(|reply| {
                text_attribute(reply, 2).as_deref() == Some(place.chain.as_str())
                    && reply.find(4, 7).is_some_and(|data| {
                        data.get(2..).map(netlink::text).as_deref() == Some(tag)
                    })
            })
            .filter_map(|reply| reply.find(4, 3).map(<[u8]>::to_vec))
            .collect())
    }
}
