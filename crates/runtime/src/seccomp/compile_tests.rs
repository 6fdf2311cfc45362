//! The program against a naive reading of the profile, in a small interpreter.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::architecture::{Architecture, X32_BIT};
use super::super::decisions::{self, Environment, alternatives, applies, covered};
use super::super::profile::{Architectures, Condition, Profile, Rule};
use super::*;
use crate::capabilities::CapabilitySet;

/// Runs a program on `struct seccomp_data`; returns the action and how many instructions that took.
fn run(
    program: &[Instruction],
    architecture: u32,
    number: u32,
    arguments: [u64; 6],
) -> (u32, usize) {
    let load = |offset: u32| match offset {
        NUMBER => number,
        ARCHITECTURE => architecture,
        8 | 12 => panic!("the program looks at the instruction pointer"),
        _ => {
            let argument = arguments[usize::try_from((offset - ARGUMENTS) / 8).unwrap()];
            let half = if offset.is_multiple_of(8) {
                argument
            } else {
                argument >> 32
            };
            u32::try_from(half & 0xffff_ffff).unwrap()
        }
    };
    let (mut accumulator, mut at, mut steps) = (0u32, 0usize, 0usize);
    loop {
        let i = program[at];
        at += 1;
        steps += 1;
        let holds = match i.code {
            LOAD => {
                accumulator = load(i.k);
                continue;
            }
            AND => {
                accumulator &= i.k;
                continue;
            }
            JUMP => {
                at += usize::try_from(i.k).unwrap();
                continue;
            }
            RETURN => return (i.k, steps),
            JUMP_EQUAL => accumulator == i.k,
            JUMP_GREATER => accumulator > i.k,
            JUMP_GREATER_OR_EQUAL => accumulator >= i.k,
            other => panic!("code {other:#x}"),
        };
        at += usize::from(if holds { i.if_true } else { i.if_false });
    }
}

fn check_holds(check: &Check, arguments: [u64; 6]) -> bool {
    let argument = arguments[usize::from(check.index)];
    match check.comparison {
        Comparison::NotEqual => argument != check.value,
        Comparison::Less => argument < check.value,
        Comparison::LessOrEqual => argument <= check.value,
        Comparison::Equal => argument == check.value,
        Comparison::GreaterOrEqual => argument >= check.value,
        Comparison::Greater => argument > check.value,
        Comparison::Masked(mask) => argument & mask == check.value,
    }
}

/// One rule for one number: when, and what then.
type Clause = (u32, Vec<Check>, Action);

/// The profile read rule by rule, by names and not by ranges.
struct Naive {
    default: Action,
    clauses: Vec<(Architecture, Vec<Clause>)>,
}

impl Naive {
    fn new(profile: &Profile, environment: &Environment) -> Self {
        let clauses_of = |architecture: Architecture| {
            let mut clauses = Vec::new();
            for rule in profile
                .rules
                .iter()
                .filter(|rule| applies(rule, environment))
            {
                for name in &rule.names {
                    for checks in alternatives(rule) {
                        clauses.extend(architecture.number(name).map(|n| (n, checks, rule.action)));
                    }
                    let Some((by, value)) = architecture.multiplexed(name) else {
                        continue;
                    };
                    if rule.checks.is_empty() {
                        let check = Check {
                            index: 0,
                            comparison: Comparison::Equal,
                            value,
                        };
                        let number = architecture.number(by).unwrap();
                        clauses.push((number, vec![check], rule.action));
                    }
                }
            }
            (architecture, clauses)
        };
        let clauses = covered(profile, environment.native)
            .into_iter()
            .map(clauses_of)
            .collect();
        Self {
            default: profile.default_action,
            clauses,
        }
    }

    fn evaluate(&self, audit: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mine = self.clauses.iter().find(|(architecture, _)| {
            let x32 = *architecture == Architecture::X32;
            let is_x86 = matches!(architecture, Architecture::X86_64 | Architecture::X32);
            architecture.audit() == audit && (!is_x86 || x32 == (number >= X32_BIT))
        });
        let Some((_, clauses)) = mine else {
            return Action::KILL_PROCESS.0;
        };
        let for_number = || clauses.iter().filter(|(n, ..)| *n == number);
        if let Some((.., action)) = for_number().find(|(_, checks, _)| checks.is_empty()) {
            return action.0;
        }
        for (_, checks, action) in for_number() {
            if checks.iter().all(|check| check_holds(check, arguments)) {
                return action.0;
            }
        }
        match clauses.iter().map(|(n, ..)| *n).max() {
            Some(newest) if number > newest && !self.default.permits() => Action::errno(38).0,
            _ => self.default.0,
        }
    }
}

/// Values around everything a check may compare with.
fn boundary_values(profile: &Profile) -> Vec<u64> {
    let mut values = BTreeSet::from([0, 1, u64::MAX, 0xffff_ffff, 0x1_0000_0000]);
    for check in profile.rules.iter().flat_map(|rule| &rule.checks) {
        let mask = match check.comparison {
            Comparison::Masked(mask) => mask,
            _ => 0,
        };
        for value in [
            check.value,
            mask,
            check.value | mask,
            mask & mask.wrapping_neg(),
        ] {
            values.extend([value.wrapping_sub(1), value, value.wrapping_add(1)]);
            values.insert(value ^ 0x1_0000_0000);
        }
    }
    values.into_iter().collect()
}

fn numbers() -> impl Iterator<Item = u32> {
    (0..600)
        .chain(X32_BIT - 2..X32_BIT + 600)
        .chain(0xf_0000..0xf_0008)
        .chain([1_000, 0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, u32::MAX])
}

fn assert_equal(profile: &Profile, environment: Environment) -> usize {
    let decisions = decisions::decide(profile, &environment);
    let program = instructions(&decisions);
    let naive = Naive::new(profile, &environment);
    let values = boundary_values(profile);
    let mut longest = 0;
    // The four that profiles may cover, none at all, and s390x.
    let audits = [
        0xc000_003e,
        0x4000_0003,
        0xc000_00b7,
        0x4000_0028,
        0,
        0x8000_0016,
    ];
    for audit in audits {
        for number in numbers() {
            let mut seen = BTreeSet::new();
            // A number that answers alike for every boundary in the first argument is not asked about the others.
            for (at, value) in values.iter().enumerate() {
                for index in 0..2 {
                    let mut arguments = [0; 6];
                    arguments[index] = *value;
                    arguments[5] = values[(at * 7 + 3) % values.len()];
                    let (action, steps) = run(&program, audit, number, arguments);
                    longest = longest.max(steps);
                    let expected = naive.evaluate(audit, number, arguments);
                    assert_eq!(
                        action, expected,
                        "arch {audit:#x} nr {number} args {arguments:x?}"
                    );
                    seen.insert(action);
                }
                if at > 3 && seen.len() == 1 && decision_is_plain(&decisions, audit, number) {
                    break;
                }
            }
        }
    }
    longest
}

fn decision_is_plain(decisions: &Decisions, audit: u32, number: u32) -> bool {
    let architecture = decisions
        .architectures
        .iter()
        .find(|known| known.audit == audit);
    architecture.is_none_or(|architecture| {
        let decision = match &architecture.x32 {
            Some(x32) if number >= X32_BIT => decision_at(x32, number & !X32_BIT),
            _ => decision_at(&architecture.ranges, number),
        };
        decision.clauses.is_empty()
    })
}

fn environment(native: Architecture, capabilities: CapabilitySet) -> Environment {
    Environment {
        native,
        kernel: (6, 1),
        capabilities,
    }
}

#[test]
fn dockers_default_profile_is_compiled_exactly() {
    let profile = Profile::docker_default();
    let admin = CapabilitySet::from_name("SYS_ADMIN").unwrap();
    for native in [Architecture::X86_64, Architecture::Aarch64] {
        for capabilities in [
            CapabilitySet::EMPTY,
            CapabilitySet::DOCKER_DEFAULT,
            admin,
            CapabilitySet::NAMED,
        ] {
            let longest = assert_equal(profile, environment(native, capabilities));
            assert!(longest < 40, "{longest} instructions on one path");
        }
    }
}

#[test]
fn the_default_profile_says_what_people_rely_on() {
    let profile = Profile::docker_default();
    let ask = |capabilities, name: &str, first: u64| {
        let environment = environment(Architecture::X86_64, capabilities);
        let program = instructions(&decisions::decide(profile, &environment));
        let number = Architecture::X86_64.number(name).unwrap();
        run(
            &program,
            Architecture::X86_64.audit(),
            number,
            [first, 0, 0, 0, 0, 0],
        )
        .0
    };
    let default = CapabilitySet::DOCKER_DEFAULT;
    let admin = default.union(CapabilitySet::from_name("SYS_ADMIN").unwrap());
    let (allow, eperm, enosys) = (Action::ALLOW.0, Action::errno(1).0, Action::errno(38).0);
    assert_eq!(ask(default, "read", 0), allow);
    assert_eq!(ask(default, "mount", 0), eperm);
    assert_eq!(ask(admin, "mount", 0), allow);
    assert_eq!(ask(default, "clone3", 0), enosys);
    assert_eq!(ask(admin, "clone3", 0), allow);
    assert_eq!(ask(default, "clone", 0x1200_0011 & !0x7e02_0000), allow);
    assert_eq!(ask(default, "clone", 0x1000_0000), eperm, "CLONE_NEWUSER");
    assert_eq!(ask(default, "socket", 1), allow);
    assert_eq!(ask(default, "socket", 38), eperm, "AF_ALG");
    assert_eq!(ask(default, "socket", 40), eperm, "AF_VSOCK");
    assert_eq!(ask(default, "personality", 0xffff_ffff), allow);
    assert_eq!(
        ask(default, "personality", 0x4_0000),
        eperm,
        "ADDR_NO_RANDOMIZE"
    );
    assert_eq!(ask(default, "ptrace", 0), allow);
    assert_eq!(ask(default, "io_uring_setup", 0), eperm);
    assert_eq!(ask(default, "keyctl", 0), eperm);
    assert_eq!(ask(default, "chroot", 0), allow);
    assert_eq!(ask(CapabilitySet::EMPTY, "chroot", 0), eperm);
}

#[test]
fn sizes_stay_small() {
    let profile = Profile::docker_default();
    let environment = environment(Architecture::X86_64, CapabilitySet::DOCKER_DEFAULT);
    let program = instructions(&decisions::decide(profile, &environment));
    println!(
        "default profile: {} instructions for three ABIs",
        program.len()
    );
    assert!(program.len() < 300, "{}", program.len());
}

#[test]
fn one_argument_checked_twice_is_two_rules() {
    let json = br#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[
        {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]}]}"#;
    let profile = Profile::parse(json).unwrap();
    let environment = environment(Architecture::X86_64, CapabilitySet::EMPTY);
    assert_equal(&profile, environment);
    let program = instructions(&decisions::decide(&profile, &environment));
    let audit = Architecture::X86_64.audit();
    assert_eq!(
        run(&program, audit, 41, [2, 0, 0, 0, 0, 0]).0,
        Action::ALLOW.0
    );
    // A list of architectures that does not name i386 does not let it through.
    assert_eq!(
        run(&program, Architecture::X86.audit(), 1, [0; 6]).0,
        Action::KILL_PROCESS.0
    );
    assert_eq!(
        run(&program, audit, X32_BIT, [0; 6]).0,
        Action::KILL_PROCESS.0
    );
}

#[test]
fn i386_cannot_slip_past_a_denied_call_through_a_multiplexer() {
    let json =
        br#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],
        "syscalls":[{"names":["socket","shmget"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]}"#;
    let profile = Profile::parse(json).unwrap();
    let environment = environment(Architecture::X86_64, CapabilitySet::EMPTY);
    let program = instructions(&decisions::decide(&profile, &environment));
    let audit = Architecture::X86.audit();
    let socketcall = Architecture::X86.number("socketcall").unwrap();
    let ipc = Architecture::X86.number("ipc").unwrap();
    assert_eq!(
        run(&program, audit, socketcall, [1, 0, 0, 0, 0, 0]).0,
        Action::errno(13).0
    );
    assert_eq!(
        run(&program, audit, socketcall, [2, 0, 0, 0, 0, 0]).0,
        Action::ALLOW.0
    );
    assert_eq!(
        run(&program, audit, ipc, [23, 0, 0, 0, 0, 0]).0,
        Action::errno(13).0
    );
}

fn arbitrary_rule() -> impl Strategy<Value = Rule> {
    let name = prop::sample::select(vec![
        "read",
        "write",
        "open",
        "socket",
        "clone",
        "clone3",
        "mount",
        "personality",
        "execve",
        "mseal",
        "shmget",
        "socketcall",
        "no_such_call",
    ]);
    let action = prop::sample::select(vec![
        Action::ALLOW,
        Action::errno(1),
        Action::errno(13),
        Action::KILL_PROCESS,
    ]);
    let value = prop_oneof![
        0u64..4,
        Just(0xffff_ffff),
        Just(0x1_0000_0001),
        any::<u64>()
    ];
    let comparison = prop_oneof![
        Just(Comparison::NotEqual),
        Just(Comparison::Less),
        Just(Comparison::LessOrEqual),
        Just(Comparison::Equal),
        Just(Comparison::GreaterOrEqual),
        Just(Comparison::Greater),
        any::<u64>().prop_map(Comparison::Masked),
    ];
    let check = (0u8..6, comparison, value).prop_map(|(index, comparison, value)| Check {
        index,
        comparison,
        value,
    });
    (
        prop::collection::vec(name, 1..4),
        action,
        prop::collection::vec(check, 0..3),
    )
        .prop_map(|(names, action, checks)| Rule {
            names: names.into_iter().map(str::to_owned).collect(),
            action,
            checks,
            includes: Condition::default(),
            excludes: Condition::default(),
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_profile_is_compiled_exactly(
        rules in prop::collection::vec(arbitrary_rule(), 0..8),
        allow_by_default in any::<bool>(),
        with_others in any::<bool>(),
    ) {
        let profile = Profile {
            default_action: if allow_by_default { Action::ALLOW } else { Action::errno(1) },
            architectures: Architectures::List(if with_others {
                vec![Architecture::X86, Architecture::X32]
            } else {
                Vec::new()
            }),
            rules: rules.into(),
            flags: None,
            fingerprint: [0; 32],
        };
        assert_equal(&profile, environment(Architecture::X86_64, CapabilitySet::EMPTY));
    }
}
