//! Decisions as classic BPF: a search tree per architecture.
//!
//! Every piece of code below ends in returns on all its paths, so pieces are simply put one behind the other: a branch
//! is taken over the whole left piece. Conditional jumps reach 255 instructions; a longer left piece is jumped over by
//! an unconditional one.

use super::SeccompError;
use super::decisions::{Decision, Decisions};
use super::profile::{Action, Check, Comparison};

/// The kernel's `BPF_MAXINSNS`.
const LONGEST: usize = 4096;

// Classic BPF (linux/bpf_common.h).
pub(super) const LOAD: u16 = 0x20;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
pub(super) const AND: u16 = 0x54;
pub(super) const RETURN: u16 = 0x06;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// One `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) if_true: u8,
    pub(super) if_false: u8,
    pub(super) k: u32,
}

fn plain(code: u16, k: u32) -> Instruction {
    Instruction {
        code,
        if_true: 0,
        if_false: 0,
        k,
    }
}

/// `struct sock_filter` records of the program.
pub(super) fn compile(decisions: &Decisions) -> Result<Vec<u8>, SeccompError> {
    let program = instructions(decisions);
    if program.len() > LONGEST {
        return Err(SeccompError::TooLong(program.len()));
    }
    Ok(program
        .iter()
        .flat_map(|i| {
            let [c0, c1] = i.code.to_ne_bytes();
            let [k0, k1, k2, k3] = i.k.to_ne_bytes();
            [c0, c1, i.if_true, i.if_false, k0, k1, k2, k3]
        })
        .collect())
}

pub(super) fn instructions(decisions: &Decisions) -> Vec<Instruction> {
    let mut program = vec![plain(LOAD, ARCHITECTURE)];
    for architecture in &decisions.architectures {
        let mut block = vec![plain(LOAD, NUMBER)];
        block.extend(tree(&architecture.ranges));
        program.extend(skip_unless(JUMP_EQUAL, architecture.audit, block.len()));
        program.extend(block);
    }
    program.push(plain(RETURN, Action::KILL_PROCESS.0));
    program
}

/// A test that falls through when it holds and else passes over the next `length` instructions.
fn skip_unless(code: u16, k: u32, length: usize) -> Vec<Instruction> {
    match u8::try_from(length) {
        Ok(if_false) => vec![Instruction {
            code,
            if_true: 0,
            if_false,
            k,
        }],
        Err(_) => vec![
            Instruction {
                code,
                if_true: 1,
                if_false: 0,
                k,
            },
            plain(JUMP, u32::try_from(length).unwrap_or(u32::MAX)),
        ],
    }
}

/// The search over `ranges` of the number, which is in the accumulator.
fn tree(ranges: &[(u32, Decision)]) -> Vec<Instruction> {
    match ranges {
        [] => vec![plain(RETURN, Action::KILL_PROCESS.0)],
        [(_, decision)] => leaf(decision),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let (low, high_code) = (tree(low), tree(high));
            let k = high[0].0;
            let code = JUMP_GREATER_OR_EQUAL;
            let mut out = match u8::try_from(low.len()) {
                Ok(if_true) => vec![Instruction {
                    code,
                    if_true,
                    if_false: 0,
                    k,
                }],
                Err(_) => vec![
                    Instruction {
                        code,
                        if_true: 0,
                        if_false: 1,
                        k,
                    },
                    plain(JUMP, u32::try_from(low.len()).unwrap_or(u32::MAX)),
                ],
            };
            out.extend(low);
            out.extend(high_code);
            out
        }
    }
}

fn leaf(decision: &Decision) -> Vec<Instruction> {
    let mut out = Vec::new();
    for (checks, action) in &decision.clauses {
        out.extend(clause(checks, *action));
    }
    out.push(plain(RETURN, decision.otherwise.0));
    out
}

/// Where a test inside a check goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The instruction after it.
    Next,
    /// Behind the check: it holds.
    Holds,
    /// Behind the clause: it does not.
    Fails,
}

struct Step {
    code: u16,
    k: u32,
    if_true: Target,
    if_false: Target,
}

fn step(code: u16, k: u32) -> Step {
    Step {
        code,
        k,
        if_true: Target::Next,
        if_false: Target::Next,
    }
}

fn test(code: u16, k: u32, if_true: Target, if_false: Target) -> Step {
    Step {
        code,
        k,
        if_true,
        if_false,
    }
}

/// The steps of one check on a 64-bit argument, high word first.
fn steps(check: &Check) -> Vec<Step> {
    use Target::{Fails, Holds, Next};
    let base = ARGUMENTS + 8 * u32::from(check.index);
    let (low_word, high_word) = if cfg!(target_endian = "little") {
        (base, base + 4)
    } else {
        (base + 4, base)
    };
    let halves = |value: u64| {
        let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
        (
            u32::from_be_bytes([a, b, c, d]),
            u32::from_be_bytes([e, f, g, h]),
        )
    };
    let (high, low) = halves(check.value);
    // Greater, or greater-or-equal, or the opposite of either.
    let ordered = |code: u16, above: Target, below: Target| {
        vec![
            step(LOAD, high_word),
            test(JUMP_GREATER, high, above, Next),
            test(JUMP_EQUAL, high, Next, below),
            step(LOAD, low_word),
            test(code, low, above, below),
        ]
    };
    match check.comparison {
        Comparison::Equal => vec![
            step(LOAD, high_word),
            test(JUMP_EQUAL, high, Next, Fails),
            step(LOAD, low_word),
            test(JUMP_EQUAL, low, Holds, Fails),
        ],
        Comparison::NotEqual => vec![
            step(LOAD, high_word),
            test(JUMP_EQUAL, high, Next, Holds),
            step(LOAD, low_word),
            test(JUMP_EQUAL, low, Fails, Holds),
        ],
        Comparison::Masked(mask) => {
            let (mask_high, mask_low) = halves(mask);
            vec![
                step(LOAD, high_word),
                step(AND, mask_high),
                test(JUMP_EQUAL, high, Next, Fails),
                step(LOAD, low_word),
                step(AND, mask_low),
                test(JUMP_EQUAL, low, Holds, Fails),
            ]
        }
        Comparison::Greater => ordered(JUMP_GREATER, Holds, Fails),
        Comparison::GreaterOrEqual => ordered(JUMP_GREATER_OR_EQUAL, Holds, Fails),
        Comparison::Less => ordered(JUMP_GREATER_OR_EQUAL, Fails, Holds),
        Comparison::LessOrEqual => ordered(JUMP_GREATER, Fails, Holds),
    }
}

/// Returns `action` when all checks hold and else falls out at its end.
fn clause(checks: &[Check], action: Action) -> Vec<Instruction> {
    let mut flat: Vec<(Step, usize)> = Vec::new();
    for check in checks {
        let steps = steps(check);
        let end = flat.len() + steps.len();
        flat.extend(steps.into_iter().map(|step| (step, end)));
    }
    let end = flat.len() + 1;
    let mut out = Vec::with_capacity(end);
    for (at, (step, holds)) in flat.iter().enumerate() {
        let distance = |target| {
            let to = match target {
                Target::Next => at + 1,
                Target::Holds => *holds,
                Target::Fails => end,
            };
            u8::try_from(to - at - 1).expect("six arguments at six instructions stay below 255")
        };
        out.push(Instruction {
            code: step.code,
            if_true: distance(step.if_true),
            if_false: distance(step.if_false),
            k: step.k,
        });
    }
    out.push(plain(RETURN, action.0));
    out
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
