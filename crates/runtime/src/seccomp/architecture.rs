//! Architectures: names in profiles, `AUDIT_ARCH_*` values, and system call numbers.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::generated::syscalls::TABLE;

/// The bit that tells x32's numbers from x86_64's.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// An architecture a program can meet. The order is that of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Architecture {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

impl Architecture {
    /// The one this program was built for.
    pub(super) const NATIVE: Self = if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else {
        Self::X86_64
    };

    /// `SCMP_ARCH_…`, as profiles say.
    pub(super) fn from_profile_name(name: &str) -> Option<Self> {
        Some(match name {
            "SCMP_ARCH_X86_64" => Self::X86_64,
            "SCMP_ARCH_X86" => Self::X86,
            "SCMP_ARCH_X32" => Self::X32,
            "SCMP_ARCH_AARCH64" => Self::Aarch64,
            "SCMP_ARCH_ARM" => Self::Arm,
            _ => return None,
        })
    }

    /// The name in `includes.arches` and `excludes.arches`.
    pub(super) fn condition_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        }
    }

    /// What `seccomp_data.arch` says (linux/audit.h); x32 shares x86_64's.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    fn column(self) -> usize {
        match self {
            Self::X86_64 => 0,
            Self::X86 => 1,
            Self::X32 => 2,
            Self::Aarch64 => 3,
            Self::Arm => 4,
        }
    }

    /// The number of a call here, with x32's bit; `None` where there is no such call.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        let number = table().get(name)?[self.column()]?;
        Some(if self == Self::X32 {
            number | X32_BIT
        } else {
            number
        })
    }

    /// For i386: which sub-call of `socketcall` or `ipc` does the same as a call of its own.
    pub(super) fn multiplexed(self, name: &str) -> Option<(&'static str, u64)> {
        if self != Self::X86 {
            return None;
        }
        let position = |names: &[&str]| names.iter().position(|known| *known == name);
        if let Some(index) = position(&SOCKETCALLS) {
            return Some(("socketcall", index as u64 + 1));
        }
        IPC_CALLS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, number)| ("ipc", *number))
    }
}

/// Sub-call 1 and on of socketcall(2), from linux/net.h.
const SOCKETCALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// Sub-calls of ipc(2), from linux/ipc.h.
const IPC_CALLS: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

type Numbers = [Option<u32>; 5];

fn table() -> &'static HashMap<&'static str, Numbers> {
    static NUMBERS: OnceLock<HashMap<&'static str, Numbers>> = OnceLock::new();
    NUMBERS.get_or_init(|| {
        TABLE
            .lines()
            .filter_map(|line| {
                let mut words = line.split(' ');
                let name = words.next()?;
                let mut numbers = [None; 5];
                for (slot, word) in numbers.iter_mut().zip(words) {
                    *slot = word.parse().ok();
                }
                Some((name, numbers))
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_with_libc() {
        let native = Architecture::NATIVE;
        for (name, number) in [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("openat2", libc::SYS_openat2),
            ("bpf", libc::SYS_bpf),
            ("faccessat2", libc::SYS_faccessat2),
            ("mseal", libc::SYS_mseal),
        ] {
            assert_eq!(native.number(name), u32::try_from(number).ok(), "{name}");
        }
        assert_eq!(Architecture::X32.number("execve"), Some(X32_BIT | 520));
        assert_eq!(Architecture::X86.number("execve"), Some(11));
        assert_eq!(Architecture::Aarch64.number("execve"), Some(221));
        assert_eq!(Architecture::Arm.number("set_tls"), Some(0xf_0005));
        assert_eq!(Architecture::Aarch64.number("fork"), None);
        assert_eq!(
            Architecture::X86.multiplexed("sendmmsg"),
            Some(("socketcall", 20))
        );
    }

    #[test]
    fn the_table_is_sorted_and_whole() {
        let names: Vec<&str> = TABLE
            .lines()
            .map(|l| l.split(' ').next().unwrap())
            .collect();
        assert!(names.is_sorted());
        assert!(TABLE.lines().all(|line| line.split(' ').count() == 6));
        assert_eq!(table().len(), names.len());
    }
}
