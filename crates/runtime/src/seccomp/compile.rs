//! Decisions as classic BPF: a search tree per architecture.
//!
//! The program is written from its end to its beginning, so that the place of everything a jump goes to is known and
//! equal leaves are shared. Conditional jumps reach 255 instructions; what is farther gets an unconditional one close
//! by, and a return is simply written again. A run of numbers with one decision and a few exceptions in it is one leaf
//! of the tree, because an exception costs one comparison there and two in the tree.
//!
//! Only the instructions that the kernel's own evaluation of constant answers knows are used outside of argument
//! checks (`seccomp_is_const_allow`), so allowed calls cost nothing at run time.

use std::collections::HashMap;

use super::SeccompError;
use super::architecture::X32_BIT;
use super::decisions::{Decision, Decisions, Ranges};
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
    let mut writer = Writer::default();
    let mut next = writer.answer(Action::KILL_PROCESS);
    for architecture in decisions.architectures.iter().rev() {
        let mut tree = writer.tree(&segments(&leaves(&architecture.ranges)));
        if let Some(x32) = &architecture.x32 {
            // x32 shares nearly all numbers with x86_64: only where it differs does it get code of its own.
            let differences = differences(x32, &architecture.ranges, tree);
            let x32 = writer.tree(&segments(&differences));
            let x32 = writer.before(x32, plain(AND, !X32_BIT));
            tree = writer.branch(JUMP_GREATER_OR_EQUAL, X32_BIT, x32, tree);
        }
        let block = writer.before(tree, plain(LOAD, NUMBER));
        next = writer.branch(JUMP_EQUAL, architecture.audit, block, next);
    }
    writer.before(next, plain(LOAD, ARCHITECTURE));
    writer.reversed.reverse();
    writer.reversed
}

/// How many exceptions one leaf of the tree holds: more would lengthen paths more than they save.
const EXCEPTIONS: usize = 3;

/// What the tree leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaf<'a> {
    Decide(&'a Decision),
    /// Code that is written already.
    GoTo(Label),
}

fn leaves(ranges: &Ranges) -> Vec<(u32, Leaf<'_>)> {
    ranges
        .iter()
        .map(|(from, decision)| (*from, Leaf::Decide(decision)))
        .collect()
}

fn decision_at(ranges: &Ranges, number: u32) -> &Decision {
    let after = ranges.partition_point(|(from, _)| *from <= number);
    &ranges[after - 1].1
}

/// `mine`, but `same` wherever it decides as `other` does.
fn differences<'a>(mine: &'a Ranges, other: &Ranges, same: Label) -> Vec<(u32, Leaf<'a>)> {
    let mut starts: Vec<u32> = mine.iter().chain(other).map(|(from, _)| *from).collect();
    starts.sort_unstable();
    starts.dedup();
    let leaf = |from| match decision_at(mine, from) {
        decision if decision == decision_at(other, from) => Leaf::GoTo(same),
        decision => Leaf::Decide(decision),
    };
    let mut out: Vec<_> = starts.into_iter().map(|from| (from, leaf(from))).collect();
    out.dedup_by(|later, earlier| later.1 == earlier.1);
    out
}

/// Numbers from `from` on with one leaf, but for a few single numbers.
struct Segment<'a> {
    from: u32,
    leaf: Leaf<'a>,
    exceptions: Vec<(u32, Leaf<'a>)>,
}

fn segments<'a>(ranges: &[(u32, Leaf<'a>)]) -> Vec<Segment<'a>> {
    let mut segments: Vec<Segment<'a>> = Vec::new();
    let mut at = 0;
    while at < ranges.len() {
        let (from, leaf) = ranges[at];
        let mut exceptions = Vec::new();
        while exceptions.len() < EXCEPTIONS
            && let Some([(number, exception), (after, same)]) = ranges.get(at + 1..at + 3)
            && number + 1 == *after
            && *same == leaf
        {
            exceptions.push((*number, *exception));
            at += 2;
        }
        segments.push(Segment {
            from,
            leaf,
            exceptions,
        });
        at += 1;
    }
    segments
}

/// A place in the program, counted from its end, so that what is written later does not move it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Label(usize);

/// The program so far, last instruction first.
#[derive(Default)]
struct Writer {
    reversed: Vec<Instruction>,
    /// Where each answer was written last.
    answers: HashMap<u32, Label>,
}

impl Writer {
    /// How far from an instruction written now to a label: what a jump's offset says.
    fn distance(&self, to: Label) -> usize {
        self.reversed.len() - to.0
    }

    fn push(&mut self, instruction: Instruction) -> Label {
        self.reversed.push(instruction);
        Label(self.reversed.len())
    }

    /// A return, shared with an earlier one within reach.
    fn answer(&mut self, action: Action) -> Label {
        match self.answers.get(&action.0) {
            // A margin, because the jump itself may still be some instructions ahead.
            Some(label) if self.distance(*label) < 200 => *label,
            _ => {
                let label = self.push(plain(RETURN, action.0));
                self.answers.insert(action.0, label);
                label
            }
        }
    }

    /// An instruction that goes on to `next`.
    fn before(&mut self, next: Label, instruction: Instruction) -> Label {
        if self.distance(next) > 0 {
            let jump = plain(JUMP, u32::try_from(self.distance(next)).unwrap_or(u32::MAX));
            self.push(jump);
        }
        self.push(instruction)
    }

    /// A label at most 255 instructions away that leads to `to`; `spare` more may be written before the jump.
    fn near(&mut self, to: Label, spare: usize) -> Label {
        if self.distance(to) + spare <= usize::from(u8::MAX) {
            return to;
        }
        let jump = plain(JUMP, u32::try_from(self.distance(to)).unwrap_or(u32::MAX));
        self.push(jump)
    }

    fn branch(&mut self, code: u16, k: u32, if_true: Label, if_false: Label) -> Label {
        let if_true = self.near(if_true, 1);
        let if_false = self.near(if_false, 0);
        let offset = |label| {
            u8::try_from(self.distance(label)).expect("near() put a jump within 255 instructions")
        };
        let instruction = Instruction {
            code,
            if_true: offset(if_true),
            if_false: offset(if_false),
            k,
        };
        self.push(instruction)
    }

    /// The search for the number, which is in the accumulator.
    fn tree(&mut self, segments: &[Segment<'_>]) -> Label {
        match segments {
            [] => self.answer(Action::KILL_PROCESS),
            [segment] => {
                let mut label = self.leaf(segment.leaf);
                for (number, leaf) in &segment.exceptions {
                    let exception = self.leaf(*leaf);
                    label = self.branch(JUMP_EQUAL, *number, exception, label);
                }
                label
            }
            _ => {
                let (low, high) = segments.split_at(segments.len() / 2);
                let from = high[0].from;
                let high = self.tree(high);
                let low = self.tree(low);
                self.branch(JUMP_GREATER_OR_EQUAL, from, high, low)
            }
        }
    }

    fn leaf(&mut self, leaf: Leaf<'_>) -> Label {
        let decision = match leaf {
            Leaf::GoTo(label) => return label,
            Leaf::Decide(decision) => decision,
        };
        let mut label = self.answer(decision.otherwise);
        for (checks, action) in decision.clauses.iter().rev() {
            label = self.clause(checks, *action, label);
        }
        label
    }

    /// Answers `action` when all checks hold and else goes on to `otherwise`.
    fn clause(&mut self, checks: &[Check], action: Action, otherwise: Label) -> Label {
        let mut holds = self.answer(action);
        for check in checks.iter().rev() {
            let mut next = holds;
            for step in steps(check).iter().rev() {
                let target = |target| match target {
                    Target::Next => next,
                    Target::Holds => holds,
                    Target::Fails => otherwise,
                };
                next = match step.code {
                    LOAD | AND => self.before(next, plain(step.code, step.k)),
                    code => self.branch(code, step.k, target(step.if_true), target(step.if_false)),
                };
            }
            holds = next;
        }
        holds
    }
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

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
