//! Device access on v2: the same rules as v1's `devices.allow`, as a BPF program of type `CGROUP_DEVICE`.
//!
//! Also the list that every container gets, and its v1 spelling. The program looks at the rules from last to first and
//! answers with the first that decides, so later rules win, as they do when written to v1's files one by one.

use crate::devices::{DeviceKind, DeviceRule};

const fn allow(kind: DeviceKind, major: Option<u32>, minor: Option<u32>) -> DeviceRule {
    DeviceRule {
        allow: true,
        kind,
        major,
        minor,
        read: true,
        write: true,
        mknod: true,
    }
}

const fn mknod_only(kind: DeviceKind) -> DeviceRule {
    DeviceRule {
        allow: true,
        kind,
        major: None,
        minor: None,
        read: false,
        write: false,
        mknod: true,
    }
}

/// What every container may use: making any node, and the harmless devices (observed in `devices.list` of Docker's
/// containers).
pub(super) const DEFAULT_RULES: [DeviceRule; 11] = [
    mknod_only(DeviceKind::Char),
    mknod_only(DeviceKind::Block),
    allow(DeviceKind::Char, Some(1), Some(3)), // null
    allow(DeviceKind::Char, Some(1), Some(5)), // zero
    allow(DeviceKind::Char, Some(1), Some(7)), // full
    allow(DeviceKind::Char, Some(1), Some(8)), // random
    allow(DeviceKind::Char, Some(1), Some(9)), // urandom
    allow(DeviceKind::Char, Some(5), Some(0)), // tty
    allow(DeviceKind::Char, Some(5), Some(1)), // console
    allow(DeviceKind::Char, Some(5), Some(2)), // ptmx
    allow(DeviceKind::Char, Some(136), None),  // pts
];

/// One rule as v1's `devices.allow` and `devices.deny` want it.
pub(super) fn v1_text(rule: &DeviceRule) -> String {
    let kind = match rule.kind {
        DeviceKind::Any => 'a',
        DeviceKind::Char => 'c',
        DeviceKind::Block => 'b',
    };
    let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
    let mut text = format!("{kind} {}:{} ", number(rule.major), number(rule.minor));
    for (set, letter) in [(rule.read, 'r'), (rule.write, 'w'), (rule.mknod, 'm')] {
        if set {
            text.push(letter);
        }
    }
    text
}

// Bits and offsets of `struct bpf_cgroup_dev_ctx` (linux/bpf.h): u32 access << 16 | type, u32 major, u32 minor.
const TYPE_BLOCK: i32 = 1;
const TYPE_CHAR: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;
const ACCESS_ALL: i32 = 7;

// Opcodes (Documentation/bpf/standardization/instruction-set.rst); everything is 32 bits wide.
const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbc;
const MOVE: u8 = 0xb4;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_UNLESS_EQUAL: u8 = 0x56;
const JUMP_IF_EQUAL: u8 = 0x16;
const EXIT: u8 = 0x95;

// Registers: the verifier lets all of these be used once loaded.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// One `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
) -> Instruction {
    Instruction {
        code,
        destination,
        source,
        offset,
        immediate,
    }
}

fn access_mask(rule: &DeviceRule) -> i32 {
    let bit = |set: bool, bit: i32| if set { bit } else { 0 };
    bit(rule.read, ACCESS_READ) | bit(rule.write, ACCESS_WRITE) | bit(rule.mknod, ACCESS_MKNOD)
}

fn assemble(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, ACCESS, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, KIND, ACCESS, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let mut checks = Vec::new();
        match rule.kind {
            DeviceKind::Any => {}
            DeviceKind::Block => {
                checks.push(instruction(JUMP_UNLESS_EQUAL, KIND, 0, 0, TYPE_BLOCK))
            }
            DeviceKind::Char => checks.push(instruction(JUMP_UNLESS_EQUAL, KIND, 0, 0, TYPE_CHAR)),
        }
        let mask = access_mask(rule);
        if mask != ACCESS_ALL {
            // Allowed when nothing beyond the rule is asked; denied when anything of the rule is asked.
            checks.push(instruction(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
            if rule.allow {
                checks.push(instruction(AND, SCRATCH, 0, 0, ACCESS_ALL & !mask));
                checks.push(instruction(JUMP_UNLESS_EQUAL, SCRATCH, 0, 0, 0));
            } else {
                checks.push(instruction(AND, SCRATCH, 0, 0, mask));
                checks.push(instruction(JUMP_IF_EQUAL, SCRATCH, 0, 0, 0));
            }
        }
        if let Some(major) = rule.major {
            checks.push(instruction(
                JUMP_UNLESS_EQUAL,
                MAJOR,
                0,
                0,
                major.cast_signed(),
            ));
        }
        if let Some(minor) = rule.minor {
            checks.push(instruction(
                JUMP_UNLESS_EQUAL,
                MINOR,
                0,
                0,
                minor.cast_signed(),
            ));
        }
        // A failed check jumps over the rest of the checks and the two instructions of the answer.
        let length = checks.len();
        let unconditional = length == 0;
        for (index, check) in checks.iter_mut().enumerate() {
            if matches!(check.code, JUMP_UNLESS_EQUAL | JUMP_IF_EQUAL) {
                check.offset =
                    i16::try_from(length - index - 1 + 2).expect("a rule has at most seven checks");
            }
        }
        program.extend(checks);
        program.push(instruction(MOVE, RESULT, 0, 0, i32::from(rule.allow)));
        program.push(instruction(EXIT, 0, 0, 0, 0));
        if unconditional {
            // The verifier refuses instructions that nothing reaches.
            return program;
        }
    }
    program.push(instruction(MOVE, RESULT, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

/// The program for `rules`, as bytes for `BPF_PROG_LOAD`.
pub(super) fn program(rules: &[DeviceRule]) -> Vec<u8> {
    assemble(rules)
        .iter()
        .flat_map(|i| {
            let [o0, o1] = i.offset.to_ne_bytes();
            let [i0, i1, i2, i3] = i.immediate.to_ne_bytes();
            let registers = if cfg!(target_endian = "little") {
                i.destination | i.source << 4
            } else {
                i.destination << 4 | i.source
            };
            [i.code, registers, o0, o1, i0, i1, i2, i3]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs a program on a context, refusing anything the assembler does not emit.
    fn run(program: &[Instruction], kind: i32, access: i32, major: u32, minor: u32) -> bool {
        let context = [(access << 16 | kind).cast_unsigned(), major, minor];
        let mut registers = [0u32; 11];
        let mut at = 0usize;
        loop {
            let i = program[at];
            let destination = usize::from(i.destination);
            let source = usize::from(i.source);
            let immediate = i.immediate.cast_unsigned();
            let jump = match i.code {
                LOAD_WORD => {
                    assert_eq!(i.source, CONTEXT);
                    registers[destination] = context[usize::try_from(i.offset).unwrap() / 4];
                    false
                }
                MOVE_REGISTER => {
                    registers[destination] = registers[source];
                    false
                }
                MOVE => {
                    registers[destination] = immediate;
                    false
                }
                AND => {
                    registers[destination] &= immediate;
                    false
                }
                SHIFT_RIGHT => {
                    registers[destination] >>= immediate;
                    false
                }
                JUMP_UNLESS_EQUAL => registers[destination] != immediate,
                JUMP_IF_EQUAL => registers[destination] == immediate,
                EXIT => return registers[0] == 1,
                other => panic!("opcode {other:#x}"),
            };
            at += 1;
            if jump {
                at += usize::try_from(i.offset).unwrap();
            }
        }
    }

    /// The rules read naively.
    fn allowed(rules: &[DeviceRule], kind: i32, access: i32, major: u32, minor: u32) -> bool {
        for rule in rules.iter().rev() {
            let same_kind = match rule.kind {
                DeviceKind::Any => true,
                DeviceKind::Block => kind == TYPE_BLOCK,
                DeviceKind::Char => kind == TYPE_CHAR,
            };
            let numbers =
                rule.major.is_none_or(|n| n == major) && rule.minor.is_none_or(|n| n == minor);
            let mask = access_mask(rule);
            let decides = if rule.allow {
                access & !mask == 0
            } else {
                access & mask != 0
            };
            // A rule that denies everything denies even an empty request.
            let decides = decides || mask == ACCESS_ALL;
            if same_kind && numbers && decides {
                return rule.allow;
            }
        }
        false
    }

    #[test]
    fn the_default_list_lets_null_through_and_disks_not() {
        let program = assemble(&DEFAULT_RULES);
        assert!(run(&program, TYPE_CHAR, ACCESS_READ | ACCESS_WRITE, 1, 3));
        assert!(run(&program, TYPE_CHAR, ACCESS_WRITE, 136, 12));
        assert!(run(&program, TYPE_BLOCK, ACCESS_MKNOD, 8, 0));
        assert!(!run(&program, TYPE_BLOCK, ACCESS_READ, 8, 0));
        assert!(!run(&program, TYPE_CHAR, ACCESS_READ, 1, 1), "/dev/mem");
        assert!(
            !run(&program, TYPE_CHAR, ACCESS_READ | ACCESS_MKNOD, 10, 229),
            "/dev/fuse"
        );
    }

    #[test]
    fn v1_spells_rules_as_the_kernel_lists_them() {
        let texts: Vec<String> = DEFAULT_RULES.iter().map(v1_text).collect();
        assert_eq!(texts[0], "c *:* m");
        assert_eq!(texts[2], "c 1:3 rwm");
        assert_eq!(texts[10], "c 136:* rwm");
    }

    fn rule() -> impl Strategy<Value = DeviceRule> {
        let kind = prop_oneof![
            Just(DeviceKind::Any),
            Just(DeviceKind::Char),
            Just(DeviceKind::Block)
        ];
        let number = || proptest::option::of(prop_oneof![0u32..3, Just(u32::MAX)]);
        (any::<bool>(), kind, number(), number(), any::<[bool; 3]>()).prop_map(
            |(allow, kind, major, minor, [read, write, mknod])| DeviceRule {
                allow,
                kind,
                major,
                minor,
                read,
                write,
                mknod,
            },
        )
    }

    proptest! {
        #[test]
        fn the_program_decides_as_the_rules_do(rules in proptest::collection::vec(rule(), 0..8)) {
            let program = assemble(&rules);
            for kind in [TYPE_BLOCK, TYPE_CHAR] {
                for access in 1..=ACCESS_ALL {
                    for major in [0, 1, 2, u32::MAX] {
                        for minor in [0, 2, u32::MAX] {
                            prop_assert_eq!(
                                run(&program, kind, access, major, minor),
                                allowed(&rules, kind, access, major, minor)
                            );
                        }
                    }
                }
            }
        }
    }
}
