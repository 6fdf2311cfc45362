//! Other firewalls: chains that may drop what we forward, and our tagged accepts in them.
//!
//! An accept in our table cannot override a drop elsewhere. Where Docker's DOCKER-USER chain is, our accepts go
//! there; else at the head of the chain that drops. Only the netfilter interface is seen: rules of the legacy
//! iptables interface are invisible to nf_tables, and are reported, not changed.
//!
//! Our rules are of the form that `iptables-nft` can show (one interface in, one out, a verdict): a rule that it cannot
//! makes it refuse the whole table, and with it those who call it.

use hoist_sys::netlink::{self, Reply};

use super::expression::{DROP, JUMP};
use super::ruleset::text_attribute;
use super::{DELETE_RULE, Rule, Tables, Transaction};
use crate::error::NetError;

const HOOK_INPUT: u32 = 1;
const HOOK_FORWARD: u32 = 2;
const POLICY_DROP: u32 = 0;
/// Docker's chain for rules of others (moby: libnetwork, `DOCKER-USER`).
const DOCKER_USER: &str = "DOCKER-USER";
/// Docker's chain of published ports: what leaves by a bridge of Docker's jumps there.
const DOCKER: &str = "DOCKER";

/// A chain of somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignChain {
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) chain: String,
}

impl ForeignChain {
    /// As `nft` and people write it: `ip filter`.
    pub(crate) fn table(&self) -> String {
        let family = match self.family {
            1 => "inet",
            2 => "ip",
            _ => "ip6",
        };
        format!("{family} {}", self.table)
    }
}

/// A chain to put our accepts in, and what is in it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) chain: ForeignChain,
    /// Bridges of a Docker that keeps its rules beside this chain.
    dockers: Vec<String>,
    /// Those of our rules that are there, from its head: comment and handle.
    ours: Vec<(String, Vec<u8>)>,
}

/// What others have on this machine that concerns us.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Where our accepts belong.
    pub(crate) places: Vec<Place>,
    /// Chains with rules of ours that no longer belong there.
    stale: Vec<Place>,
    /// Chains that drop what comes for the host itself.
    pub(crate) inputs: Vec<ForeignChain>,
}

/// A chain as it is listed.
struct Listed {
    chain: ForeignChain,
    hook: Option<u32>,
    drops: bool,
}

/// One of our rules: what it says of itself, from which bridge or to which, and from there to whose.
struct Wanted {
    comment: String,
    rule: Rule,
}

impl Tables {
    /// Looks at the chains of others: base chains on the forward hook that drop what none of their rules accepts (by their
    /// policy, or a last rule that says so) or Docker's chain in the same table, and DOCKER-USER wherever it is. `own` is
    /// what our tables' names begin with, `tag` what the comments of our rules do.
    pub(crate) fn survey(&self, own: &str, tag: &str) -> Result<Survey, NetError> {
        let chains = self.chains(0)?;
        let mut listed: Vec<Listed> = chains
            .iter()
            .filter_map(parse_chain)
            .filter(|one| !one.chain.table.starts_with(own))
            .collect();
        let concerns = |one: &Listed| one.hook.is_some() || one.chain.chain == DOCKER_USER;
        let mut tables: Vec<(u8, String)> = listed
            .iter()
            .filter(|one| concerns(one))
            .map(|one| (one.chain.family, one.chain.table.clone()))
            .collect();
        tables.sort_unstable();
        tables.dedup();
        let mut survey = Survey::default();
        for (family, table) in tables {
            let rules = self.rules(family, &table)?;
            let rules: Vec<_> = rules.iter().filter_map(ListedRule::parse).collect();
            listed
                .iter_mut()
                .filter(|one| one.chain.family == family && one.chain.table == table)
                .for_each(|one| {
                    let last = rules.iter().rfind(|rule| rule.chain == one.chain.chain);
                    one.drops |= one.hook.is_some() && last.is_some_and(ListedRule::drops_all);
                });
            survey.add_table(&listed, (family, &table), &rules, tag);
        }
        Ok(survey)
    }

    /// Makes it so that these accepts are where they belong, and nowhere else: for each place the refusal, if one.
    pub(crate) fn pass(
        &self,
        survey: &Survey,
        bridges: &[String],
        tag: &str,
    ) -> Vec<(ForeignChain, NetError)> {
        let stale = survey.stale.iter().map(|place| (place, Vec::new()));
        let places = survey
            .places
            .iter()
            .map(|place| (place, place.wanted(bridges, tag)));
        places
            .chain(stale)
            .filter_map(|(place, wanted)| {
                let error = self.replace(place, &wanted).err()?;
                Some((place.chain.clone(), error))
            })
            .collect()
    }

    /// Puts other rules of ours into a chain, in the place of those that are there.
    fn replace(&self, place: &Place, wanted: &[Wanted]) -> Result<(), NetError> {
        let ForeignChain {
            family,
            table,
            chain,
        } = &place.chain;
        let is = place.ours.iter().map(|(comment, _)| comment);
        if is.eq(wanted.iter().map(|one| &one.comment)) {
            return Ok(());
        }
        let mut transaction = Transaction::new();
        for (_, handle) in &place.ours {
            transaction.message(
                format!("delete our rule from chain {table} {chain}"),
                DELETE_RULE,
                0,
                *family,
                |a| {
                    a.put_text(1, table).put_text(2, chain).put(3, handle);
                },
            );
        }
        // Each goes to the head: the last is the first.
        for one in wanted.iter().rev() {
            transaction.rule(*family, table, chain, &one.rule, Some(&one.comment), 0);
        }
        self.commit(transaction)
    }
}

impl Survey {
    fn add_table(
        &mut self,
        listed: &[Listed],
        (family, table): (u8, &str),
        rules: &[ListedRule],
        tag: &str,
    ) {
        let of_table: Vec<_> = listed
            .iter()
            .filter(|one| one.chain.family == family && one.chain.table == table)
            .collect();
        let on = |hook| {
            let chains = of_table.iter().copied();
            chains.filter(move |one| one.hook == Some(hook) && one.drops)
        };
        self.inputs
            .extend(on(HOOK_INPUT).map(|one| one.chain.clone()));
        let docker = of_table.iter().find(|one| one.chain.chain == DOCKER_USER);
        let belongs: Vec<&ForeignChain> = match docker {
            Some(docker) => vec![&docker.chain],
            None => on(HOOK_FORWARD).map(|one| &one.chain).collect(),
        };
        let dockers: Vec<String> = if docker.is_some() {
            let mut names: Vec<_> = rules.iter().filter_map(ListedRule::docker_bridge).collect();
            names.sort_unstable();
            names.dedup();
            names
        } else {
            Vec::new()
        };
        for one in &of_table {
            let own = rules.iter().filter(|rule| rule.chain == one.chain.chain);
            let ours = own.filter_map(|rule| {
                let comment = rule.comment.clone()?;
                comment
                    .strip_prefix(tag)?
                    .starts_with(": ")
                    .then(|| (comment, rule.handle.clone()))
            });
            let place = Place {
                chain: one.chain.clone(),
                dockers: dockers.clone(),
                ours: ours.collect(),
            };
            if belongs.contains(&&one.chain) {
                self.places.push(place);
            } else if !place.ours.is_empty() {
                self.stale.push(place);
            }
        }
    }

    /// The same, if nothing of ours belonged into chains of a family that has no rules of ours (IPv4, IPv6).
    pub(crate) fn only(mut self, families: [bool; 2]) -> Self {
        let belongs = |place: &Place| match place.chain.family {
            // ip, ip6, and what is of both.
            2 => families[0],
            10 => families[1],
            _ => families != [false; 2],
        };
        let (places, stale): (Vec<_>, Vec<_>) = self.places.into_iter().partition(belongs);
        self.places = places;
        self.stale
            .extend(stale.into_iter().filter(|place| !place.ours.is_empty()));
        self
    }

    /// The same, if nothing of ours belonged anywhere.
    pub(crate) fn left(mut self) -> Self {
        self.stale.append(&mut self.places);
        self
    }
}

impl Place {
    /// Whether all of what belongs there is there.
    pub(crate) fn has(&self, bridges: &[String], tag: &str) -> bool {
        let wanted = self.wanted(bridges, tag);
        let is = self.ours.iter().map(|(comment, _)| comment);
        is.eq(wanted.iter().map(|one| &one.comment))
    }

    /// Whether it is Docker's for rules of others.
    pub(crate) fn is_dockers(&self) -> bool {
        self.chain.chain == DOCKER_USER
    }

    /// Our rules: what goes from our bridges to Docker's is Docker's to judge, as before; all else from or to them passes.
    fn wanted(&self, bridges: &[String], tag: &str) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for bridge in bridges {
            for other in &self.dockers {
                wanted.push(Wanted {
                    comment: format!("{tag}: from {bridge} to {other}"),
                    rule: Rule::new().input(bridge).output(other).go_back(),
                });
            }
            wanted.push(Wanted {
                comment: format!("{tag}: from {bridge}"),
                rule: Rule::new().input(bridge).accept(),
            });
            wanted.push(Wanted {
                comment: format!("{tag}: to {bridge}"),
                rule: Rule::new().output(bridge).accept(),
            });
        }
        wanted
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

fn parse_chain(reply: &Reply) -> Option<Listed> {
    let family = *reply.payload.first()?;
    // ip, inet, ip6
    if ![2, 1, 10].contains(&family) {
        return None;
    }
    let hook = reply
        .find(4, 4)
        .and_then(|hook| netlink::find(hook, 1))
        .and_then(number)
        .filter(|hook| [HOOK_INPUT, HOOK_FORWARD].contains(hook));
    let is_filter = reply.find(4, 7).map(netlink::text).as_deref() == Some("filter");
    let hook = hook.filter(|_| is_filter);
    Some(Listed {
        drops: hook.is_some() && reply.find(4, 5).and_then(number) == Some(POLICY_DROP),
        hook,
        chain: ForeignChain {
            family,
            table: text_attribute(reply, 1)?,
            chain: text_attribute(reply, 3)?,
        },
    })
}

/// Reads a message as a chain and as a rule.
#[cfg(any(test, feature = "testing"))]
pub(super) fn examine(reply: &Reply) {
    let _ = parse_chain(reply);
    let _ = ListedRule::parse(reply).is_some_and(|rule| rule.drops_all());
}

/// A rule as it is listed.
struct ListedRule {
    chain: String,
    handle: Vec<u8>,
    comment: Option<String>,
    /// Name and attributes of each expression.
    expressions: Vec<(String, Vec<u8>)>,
}

impl ListedRule {
    fn parse(reply: &Reply) -> Option<Self> {
        let expressions = netlink::attributes(reply.find(4, 4).unwrap_or_default());
        let expressions = expressions.filter_map(|(_, one)| {
            let data = netlink::find(one, 2).unwrap_or_default();
            Some((netlink::text(netlink::find(one, 1)?), data.to_vec()))
        });
        // libnftnl's user data: type, length, value; type 0 is a comment.
        let data = reply.find(4, 7).filter(|data| data.first() == Some(&0));
        Some(Self {
            chain: text_attribute(reply, 2)?,
            handle: reply.find(4, 3)?.to_vec(),
            comment: data
                .and_then(|data| data.get(2..2 + usize::from(*data.get(1)?)))
                .map(netlink::text),
            expressions: expressions.collect(),
        })
    }

    /// Whether every packet that comes to it is dropped or refused.
    fn drops_all(&self) -> bool {
        let mut ends = false;
        self.expressions.iter().all(|(name, data)| {
            let target = || {
                netlink::find(data, 1)
                    .map(netlink::text)
                    .unwrap_or_default()
            };
            match name.as_str() {
                "counter" | "log" => true,
                "match" => target() == "comment",
                "target" if target() == "LOG" => true,
                "reject" => {
                    ends = true;
                    true
                }
                "target" if target() == "REJECT" => {
                    ends = true;
                    true
                }
                "immediate" if verdict(data).is_some_and(|(code, _)| code == DROP) => {
                    ends = true;
                    true
                }
                _ => false,
            }
        }) && ends
    }

    /// The bridge of Docker's that the rule is about: what leaves by it jumps to Docker's chain.
    fn docker_bridge(&self) -> Option<String> {
        let jumps = self.expressions.iter().any(|(name, data)| {
            let chain = verdict(data).filter(|(code, _)| name == "immediate" && *code == JUMP);
            chain.is_some_and(|(_, chain)| chain.as_deref() == Some(DOCKER))
        });
        let output = self.expressions.windows(2).find_map(|pair| {
            let [(meta, key), (compare, value)] = pair else {
                return None;
            };
            let is_output = meta == "meta" && netlink::find(key, 2).and_then(number) == Some(7);
            let equal = compare == "cmp" && netlink::find(value, 2).and_then(number) == Some(0);
            let name = netlink::find(netlink::find(value, 3)?, 1)?;
            // A name that does not end is what names begin with.
            (is_output && equal && name.ends_with(&[0])).then(|| netlink::text(name))
        });
        output.filter(|_| jumps)
    }
}

/// Code and chain of an immediate verdict.
fn verdict(data: &[u8]) -> Option<(u32, Option<String>)> {
    let verdict = netlink::find(netlink::find(data, 2)?, 2)?;
    let code = netlink::find(verdict, 1).and_then(number)?;
    Some((code, netlink::find(verdict, 2).map(netlink::text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_rules_say_what_they_are_and_leave_dockers_bridges_to_docker() {
        let place = Place {
            chain: ForeignChain {
                family: 2,
                table: "filter".to_owned(),
                chain: DOCKER_USER.to_owned(),
            },
            dockers: vec!["docker0".to_owned()],
            ours: Vec::new(),
        };
        let bridges = ["hoist0*".to_owned(), "mine".to_owned()];
        let wanted = place.wanted(&bridges, "hoist");
        let comments: Vec<_> = wanted.iter().map(|one| one.comment.as_str()).collect();
        assert_eq!(
            comments,
            [
                "hoist: from hoist0* to docker0",
                "hoist: from hoist0*",
                "hoist: to hoist0*",
                "hoist: from mine to docker0",
                "hoist: from mine",
                "hoist: to mine",
            ]
        );
        assert_eq!(place.chain.table(), "ip filter");
        assert!(!place.has(&bridges, "hoist"));
        assert!(place.has(&[], "hoist"));
    }

    #[test]
    fn a_last_rule_that_drops_all_is_a_policy() {
        let rule = |parts: Vec<Rule>| ListedRule {
            chain: "FORWARD".to_owned(),
            handle: Vec::new(),
            comment: None,
            expressions: parts
                .iter()
                .flat_map(|part| netlink::attributes(part.expressions()))
                .map(|(_, one)| {
                    let name = netlink::text(netlink::find(one, 1).unwrap());
                    (name, netlink::find(one, 2).unwrap_or_default().to_vec())
                })
                .collect(),
        };
        assert!(rule(vec![Rule::new().drop()]).drops_all());
        assert!(!rule(vec![Rule::new().accept()]).drops_all());
        assert!(!rule(vec![Rule::new().input("eth0").drop()]).drops_all());
        assert!(!rule(Vec::new()).drops_all());
        let docker = Rule::new().output("docker0").jump(DOCKER);
        assert_eq!(
            rule(vec![docker]).docker_bridge().as_deref(),
            Some("docker0")
        );
        let other = Rule::new().output("docker0").jump("OTHER");
        assert_eq!(rule(vec![other]).docker_bridge(), None);
    }
}
