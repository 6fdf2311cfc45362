//! seccomp profiles and their compiler: from Docker's profile language to a classic BPF program.
//!
//! The program is a binary search over ranges of system call numbers per architecture, with argument checks as
//! leaves, because the kernel's cost follows the length of a path and not of the program.

use std::sync::Arc;

use hoist_model::ErrorClass;

use crate::capabilities::CapabilitySet;

/// Why a profile could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The profile is not JSON of the known shape.
    #[error("invalid seccomp profile: {0}")]
    Invalid(String),
}

impl SeccompError {
    /// The class a façade maps to its protocol's status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

/// A profile in Docker's language: rules with conditions not yet decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {}

impl Profile {
    /// Docker's default profile.
    #[must_use]
    pub fn docker_default() -> Arc<Self> {
        unimplemented!()
    }

    /// Reads the content of `--security-opt seccomp=<file>`.
    pub fn parse(_json: &[u8]) -> Result<Self, SeccompError> {
        unimplemented!()
    }
}

/// A compiled program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    bytes: Vec<u8>,
    flags: u32,
}

impl Program {
    /// `struct sock_filter` records in native byte order, eight bytes each.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many instructions.
    #[must_use]
    pub fn instructions(&self) -> usize {
        self.bytes.len() / 8
    }

    /// `SECCOMP_FILTER_FLAG_*` for seccomp(2).
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags
    }
}

/// Compiles profiles and remembers the programs.
#[derive(Debug, Default)]
pub struct Seccomp {}

impl Seccomp {
    /// A compiler for the kernel and architecture it runs on.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }

    /// The program of `profile` for a process whose bounding set is `capabilities`. A second call with equal input answers from memory.
    pub fn program(
        &self,
        _profile: &Profile,
        _capabilities: CapabilitySet,
    ) -> Result<Arc<Program>, SeccompError> {
        unimplemented!()
    }
}
