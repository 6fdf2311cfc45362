//! Linux capabilities: names, Docker's default set, and the algebra of `--cap-add`, `--cap-drop` and `--privileged`.
//!
//! Pure except for [`available`], which asks the kernel once. Source of the rules: capabilities(7), and the behaviour
//! of Docker Engine observed with `docker run --cap-add/--cap-drop`.

use std::fmt;
use std::sync::OnceLock;

use hoist_model::ErrorClass;

/// Capability n has its name at index n, without `CAP_` (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities, bit n for capability number n.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// Every capability Hoist has a name for.
    pub const NAMED: Self = Self((1 << NAMES.len()) - 1);

    /// What Docker gives a container that asks for nothing: 14 capabilities.
    pub const DOCKER_DEFAULT: Self = Self(
        1 << 0      // CHOWN
            | 1 << 1  // DAC_OVERRIDE
            | 1 << 3  // FOWNER
            | 1 << 4  // FSETID
            | 1 << 5  // KILL
            | 1 << 6  // SETGID
            | 1 << 7  // SETUID
            | 1 << 8  // SETPCAP
            | 1 << 10 // NET_BIND_SERVICE
            | 1 << 13 // NET_RAW
            | 1 << 18 // SYS_CHROOT
            | 1 << 27 // MKNOD
            | 1 << 29 // AUDIT_WRITE
            | 1 << 31, // SETFCAP
    );

    /// The set of these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Bit n for capability number n, as capset(2) splits it in two words.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set of one capability by its name, `CAP_` and case being optional.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|known| *known == bare)?;
        Some(Self(1 << number))
    }

    /// Whether all of `other` is in here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in here and not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// `CAP_…` names in order of their numbers.
    pub fn names(self) -> impl Iterator<Item = String> {
        NAMES
            .iter()
            .enumerate()
            .filter(move |(number, _)| self.0 & (1 << number) != 0)
            .map(|(_, name)| format!("CAP_{name}"))
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// The five sets a process starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessCapabilities {
    /// What execve can ever give.
    pub bounding: CapabilitySet,
    /// In force.
    pub effective: CapabilitySet,
    /// Can be put in force.
    pub permitted: CapabilitySet,
    /// Always empty (CVE-2022-24769).
    pub inheritable: CapabilitySet,
    /// Always empty, as in Docker.
    pub ambient: CapabilitySet,
}

/// A capability that cannot be given or taken. The texts are Docker's: clients show them as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// No capability has this name.
    #[error("invalid {option}: unknown capability: \"{name}\"")]
    Unknown {
        /// `CapAdd` or `CapDrop`.
        option: &'static str,
        /// What was given, in upper case with `CAP_`.
        name: String,
    },
    /// The kernel, or the engine's own bounding set, does not have it.
    #[error(
        "invalid {option}: capability not supported by your kernel or not available in the current environment: \"{name}\""
    )]
    Unavailable {
        /// `CapAdd` or `CapDrop`.
        option: &'static str,
        /// What was given, in upper case with `CAP_`.
        name: String,
    },
}

impl CapabilityError {
    /// The class a façade maps to its protocol's status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

/// What this process may give to others: its bounding set. Asked of the kernel once.
#[must_use]
pub fn available() -> CapabilitySet {
    static AVAILABLE: OnceLock<CapabilitySet> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        std::fs::read_to_string("/proc/self/status")
            .ok()
            .as_deref()
            .and_then(bounding_in_status)
            .unwrap_or(CapabilitySet::NAMED)
    })
}

fn bounding_in_status(status: &str) -> Option<CapabilitySet> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))?;
    let bits = u64::from_str_radix(line.trim(), 16).ok()?;
    Some(CapabilitySet(bits).intersection(CapabilitySet::NAMED))
}

struct Named {
    all: bool,
    set: CapabilitySet,
}

fn parse(
    option: &'static str,
    names: &[String],
    available: CapabilitySet,
) -> Result<Named, CapabilityError> {
    let mut named = Named {
        all: false,
        set: CapabilitySet::EMPTY,
    };
    for given in names {
        let upper = given.to_ascii_uppercase();
        if upper == "ALL" {
            named.all = true;
            continue;
        }
        let name = if upper.starts_with("CAP_") {
            upper
        } else {
            format!("CAP_{upper}")
        };
        match CapabilitySet::from_name(&name) {
            None => return Err(CapabilityError::Unknown { option, name }),
            Some(one) if !available.contains(one) => {
                return Err(CapabilityError::Unavailable { option, name });
            }
            Some(one) => named.set = named.set.union(one),
        }
    }
    Ok(named)
}

/// The set a container gets from `CapAdd`, `CapDrop` and `Privileged`; `available` is [`available()`] outside tests.
///
/// Names are checked even for a privileged container, as Docker does at create. `ALL` added wins over `ALL` dropped.
pub fn resolve(
    add: &[String],
    drop: &[String],
    privileged: bool,
    available: CapabilitySet,
) -> Result<CapabilitySet, CapabilityError> {
    let add = parse("CapAdd", add, available)?;
    let drop = parse("CapDrop", drop, available)?;
    Ok(if privileged {
        available
    } else if add.all {
        available.difference(drop.set)
    } else if drop.all {
        add.set
    } else {
        CapabilitySet::DOCKER_DEFAULT
            .intersection(available)
            .difference(drop.set)
            .union(add.set)
    })
}

/// The five sets of a process with this container set and user id: root has all of it, others only the bounding set,
/// which is what execve(2) would leave them.
#[must_use]
pub fn for_process(set: CapabilitySet, uid: u32) -> ProcessCapabilities {
    let held = if uid == 0 { set } else { CapabilitySet::EMPTY };
    ProcessCapabilities {
        bounding: set,
        effective: held,
        permitted: held,
        inheritable: CapabilitySet::EMPTY,
        ambient: CapabilitySet::EMPTY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn set(add: &str, drop: &str) -> Result<CapabilitySet, String> {
        resolve(&words(add), &words(drop), false, CapabilitySet::NAMED).map_err(|e| e.to_string())
    }

    fn named(names: &str) -> CapabilitySet {
        words(names).iter().fold(CapabilitySet::EMPTY, |set, name| {
            set.union(CapabilitySet::from_name(name).unwrap())
        })
    }

    #[test]
    fn the_default_set_is_dockers_fourteen() {
        let expected = named(
            "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE \
             SYS_CHROOT KILL AUDIT_WRITE",
        );
        assert_eq!(set("", "").unwrap(), expected);
        assert_eq!(expected.names().count(), 14);
        assert_eq!(
            expected.bits(),
            0xa804_25fb,
            "the mask every Docker user knows from /proc/1/status"
        );
    }

    #[test]
    fn add_and_drop_take_any_case_and_prefix() {
        let base = CapabilitySet::DOCKER_DEFAULT;
        assert_eq!(
            set("net_admin", "").unwrap(),
            base.union(named("NET_ADMIN"))
        );
        assert_eq!(
            set("CAP_SYS_PTRACE", "cap_chown").unwrap(),
            base.union(named("SYS_PTRACE")).difference(named("CHOWN"))
        );
        // What is both dropped and added stays, because adding comes second.
        assert_eq!(set("CHOWN", "CHOWN").unwrap(), base);
    }

    #[test]
    fn all_added_wins_over_all_dropped() {
        assert_eq!(set("ALL", "").unwrap(), CapabilitySet::NAMED);
        assert_eq!(
            set("all", "SYS_ADMIN").unwrap(),
            CapabilitySet::NAMED.difference(named("SYS_ADMIN"))
        );
        assert_eq!(set("", "ALL").unwrap(), CapabilitySet::EMPTY);
        assert_eq!(set("NET_RAW", "all").unwrap(), named("NET_RAW"));
        assert_eq!(set("ALL", "ALL").unwrap(), CapabilitySet::NAMED);
    }

    #[test]
    fn unknown_names_are_refused_in_dockers_words() {
        assert_eq!(
            set("x", "").unwrap_err(),
            "invalid CapAdd: unknown capability: \"CAP_X\""
        );
        assert_eq!(
            set("", "cap_y").unwrap_err(),
            "invalid CapDrop: unknown capability: \"CAP_Y\""
        );
        assert!(resolve(&words("x"), &[], true, CapabilitySet::NAMED).is_err());
        let old_kernel = CapabilitySet::NAMED.difference(named("BPF"));
        let error = resolve(&words("bpf"), &[], false, old_kernel).unwrap_err();
        assert!(
            error.to_string().contains("not supported by your kernel"),
            "{error}"
        );
    }

    #[test]
    fn privileged_is_everything_available() {
        let some = named("CHOWN BPF");
        assert_eq!(resolve(&[], &words("ALL"), true, some).unwrap(), some);
        // And an engine that lacks a default capability does not hand it out.
        assert_eq!(resolve(&[], &[], false, some).unwrap(), named("CHOWN"));
    }

    #[test]
    fn only_root_holds_what_it_may_have() {
        let set = CapabilitySet::DOCKER_DEFAULT;
        let root = for_process(set, 0);
        assert_eq!(
            (root.bounding, root.effective, root.permitted),
            (set, set, set)
        );
        let other = for_process(set, 1000);
        assert_eq!(
            (other.bounding, other.effective),
            (set, CapabilitySet::EMPTY)
        );
        assert_eq!(root.inheritable.union(root.ambient), CapabilitySet::EMPTY);
    }

    #[test]
    fn the_bounding_set_is_read_from_status() {
        let status = "Name:\tcat\nCapBnd:\t00000000a80425fb\nCapAmb:\t0\n";
        assert_eq!(
            bounding_in_status(status),
            Some(CapabilitySet::DOCKER_DEFAULT)
        );
        assert_eq!(bounding_in_status("Name:\tcat\n"), None);
    }
}
