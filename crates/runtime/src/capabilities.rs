//! Linux capabilities: names, Docker's default set, and the algebra of `--cap-add`, `--cap-drop` and `--privileged`.

use hoist_model::ErrorClass;

/// A set of capabilities, bit n for capability number n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: Self = Self(0);

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

/// A capability's name is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {option}: unknown capability: \"{name}\"")]
pub struct CapabilityError {
    /// `CapAdd` or `CapDrop`.
    pub option: &'static str,
    /// What was given, normalised.
    pub name: String,
}

impl CapabilityError {
    /// The class a façade maps to its protocol's status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

/// The set a container gets from `CapAdd`, `CapDrop` and `Privileged`.
pub fn resolve(
    _add: &[String],
    _drop: &[String],
    _privileged: bool,
) -> Result<CapabilitySet, CapabilityError> {
    unimplemented!()
}

/// The five sets of a process with this container set and user id: root has all of it, others only the bounding set.
#[must_use]
pub fn for_process(_set: CapabilitySet, _uid: u32) -> ProcessCapabilities {
    unimplemented!()
}
