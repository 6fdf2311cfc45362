//! A profile's conditions decided for one kernel, architecture and capability set: what happens to each number.
//!
//! Rules of one call are read so (as runc does through libseccomp): one without argument checks decides alone; else
//! the first whose checks all hold; else the default action. A rule that checks one argument twice counts as one rule
//! per check. Calls newer than any the profile names for an architecture fail with ENOSYS where the default is to
//! refuse, so that programs fall back instead of giving up (runc's stub; without it glibc meets EPERM it cannot read).

use std::collections::BTreeMap;

use super::architecture::{Architecture, X32_BIT};
use super::profile::{Action, Architectures, Check, Condition, Profile, Rule};
use crate::capabilities::CapabilitySet;

const ENOSYS: u32 = 38;

/// Where the profile is to be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Environment {
    pub(super) native: Architecture,
    pub(super) kernel: (u32, u32),
    pub(super) capabilities: CapabilitySet,
}

/// What happens to one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// Tried in order; all checks of one must hold.
    pub(super) clauses: Vec<(Vec<Check>, Action)>,
    /// When none held.
    pub(super) otherwise: Action,
}

impl Decision {
    fn plain(action: Action) -> Self {
        Self {
            clauses: Vec::new(),
            otherwise: action,
        }
    }
}

/// Decisions over all numbers: each from its number to the next one's, sorted, the first at 0.
pub(super) type Ranges = Vec<(u32, Decision)>;

/// The numbers of one `AUDIT_ARCH_*` value.
#[derive(Clone, Debug)]
pub(super) struct ArchitectureDecisions {
    pub(super) audit: u32,
    pub(super) ranges: Ranges,
    /// For x86_64: numbers from [`X32_BIT`] on, without that bit.
    pub(super) x32: Option<Ranges>,
}

/// Everything the compiler needs. An architecture that is not listed is killed.
#[derive(Clone, Debug)]
pub(super) struct Decisions {
    pub(super) architectures: Vec<ArchitectureDecisions>,
}

fn holds(condition: &Condition, environment: &Environment) -> [Option<bool>; 3] {
    let has = |name: &String| {
        CapabilitySet::from_name(name).is_some_and(|one| environment.capabilities.contains(one))
    };
    let native = environment.native.condition_name();
    [
        (!condition.architectures.is_empty())
            .then(|| condition.architectures.iter().any(|name| name == native)),
        (!condition.capabilities.is_empty()).then(|| condition.capabilities.iter().all(has)),
        condition
            .minimum_kernel
            .map(|minimum| environment.kernel >= minimum),
    ]
}

/// Whether a rule is part of the profile here.
pub(super) fn applies(rule: &Rule, environment: &Environment) -> bool {
    let any_excluded_capability = rule.excludes.capabilities.iter().any(|name| {
        CapabilitySet::from_name(name).is_some_and(|one| environment.capabilities.contains(one))
    });
    let [excluded_architecture, _, excluded_kernel] = holds(&rule.excludes, environment);
    let included = holds(&rule.includes, environment)
        .iter()
        .all(|part| part.unwrap_or(true));
    included
        && !any_excluded_capability
        && excluded_architecture != Some(true)
        && excluded_kernel != Some(true)
}

/// The architectures a profile covers on this one.
pub(super) fn covered(profile: &Profile, native: Architecture) -> Vec<Architecture> {
    let mut list = vec![native];
    let others = match &profile.architectures {
        Architectures::Map(map) => map
            .iter()
            .find(|(main, _)| *main == native)
            .map(|(_, others)| others.as_slice()),
        Architectures::List(list) => Some(list.as_slice()),
    };
    for other in others.unwrap_or_default() {
        if !list.contains(other) {
            list.push(*other);
        }
    }
    list
}

/// The check lists a rule stands for: normally one; one each where an argument is checked twice.
pub(super) fn alternatives(rule: &Rule) -> Vec<Vec<Check>> {
    let twice = rule.checks.iter().enumerate().any(|(n, check)| {
        rule.checks[..n]
            .iter()
            .any(|earlier| earlier.index == check.index)
    });
    if twice {
        rule.checks.iter().map(|check| vec![*check]).collect()
    } else {
        vec![rule.checks.clone()]
    }
}

pub(super) fn decide(profile: &Profile, environment: &Environment) -> Decisions {
    let architectures = covered(profile, environment.native);
    let rules: Vec<&Rule> = profile
        .rules
        .iter()
        .filter(|rule| applies(rule, environment))
        .collect();
    let mut decided: Vec<ArchitectureDecisions> = Vec::new();
    for audit in [
        Architecture::X86_64,
        Architecture::X86,
        Architecture::Aarch64,
        Architecture::Arm,
    ] {
        if !architectures
            .iter()
            .any(|architecture| architecture.audit() == audit.audit())
        {
            continue;
        }
        let covers = |architecture| {
            architectures
                .contains(&architecture)
                .then_some(architecture)
        };
        let ranges = part(profile, &rules, covers(audit));
        let x32 = (audit == Architecture::X86_64)
            .then(|| part(profile, &rules, covers(Architecture::X32)));
        decided.push(ArchitectureDecisions {
            audit: audit.audit(),
            ranges,
            x32,
        });
    }
    Decisions {
        architectures: decided,
    }
}

/// The ranges of one architecture, x32's without its bit; one that is not covered is killed whole.
fn part(profile: &Profile, rules: &[&Rule], architecture: Option<Architecture>) -> Ranges {
    let Some(architecture) = architecture else {
        return vec![(0, Decision::plain(Action::KILL_PROCESS))];
    };
    let default = profile.default_action;
    let mut calls: BTreeMap<u32, Vec<(Vec<Check>, Action)>> = BTreeMap::new();
    for rule in rules {
        for name in &rule.names {
            if let Some(number) = architecture.number(name) {
                let clauses = calls.entry(number).or_default();
                clauses.extend(
                    alternatives(rule)
                        .into_iter()
                        .map(|checks| (checks, rule.action)),
                );
            }
            // i386 programs may reach the same call through a multiplexer, whose other arguments are in memory: only
            // rules that look at no argument can be carried over.
            if let Some((by, value)) = architecture.multiplexed(name)
                && rule.checks.is_empty()
                && let Some(number) = architecture.number(by)
            {
                let comparison = super::profile::Comparison::Equal;
                let check = Check {
                    index: 0,
                    comparison,
                    value,
                };
                calls
                    .entry(number)
                    .or_default()
                    .push((vec![check], rule.action));
            }
        }
    }
    let newest = calls.keys().next_back().copied();
    let mut ranges = vec![(0, Decision::plain(default))];
    for (number, clauses) in calls {
        let number = number & !X32_BIT;
        let decision = match clauses.iter().find(|(checks, _)| checks.is_empty()) {
            Some((_, action)) => Decision::plain(*action),
            None => Decision {
                clauses,
                otherwise: default,
            },
        };
        // Replaces the default that the call before put here for what follows it.
        if ranges.last().is_some_and(|(from, _)| *from == number) {
            ranges.pop();
        }
        ranges.push((number, decision));
        ranges.push((number + 1, Decision::plain(default)));
    }
    let missing = Action::errno(ENOSYS);
    if !default.permits()
        && default != missing
        && newest.is_some()
        && let Some(last) = ranges.last_mut()
    {
        last.1 = Decision::plain(missing);
    }
    ranges.dedup_by(|later, earlier| later.1 == earlier.1);
    ranges
}
