//! seccomp profiles and their compiler: from Docker's profile language to a classic BPF program.
//!
//! ```text
//! JSON / built-in table ─► Profile ─ rules for this kernel, architecture, ─► Decisions ─► Program
//!                          (profile)  capabilities (decisions)                (compile)
//! ```
//!
//! The program is a binary search over ranges of system call numbers per architecture, with argument checks as
//! leaves, because the kernel's cost of loading follows the length of a path and not of the program.
//!
//! Absent: `SCMP_ACT_NOTIFY`, and architectures other than those of x86 and arm.

mod architecture;
mod compile;
mod decisions;
mod default_profile;
mod generated;
mod profile;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hoist_model::ErrorClass;

use crate::capabilities::CapabilitySet;
use architecture::Architecture;
use decisions::Environment;

pub use profile::Profile;

/// How many programs are remembered: each is about 2 KiB, and an engine sees few combinations.
const CACHE_LIMIT: usize = 64;

/// Why a profile could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The profile is not JSON of the known shape.
    #[error("decoding seccomp profile failed: {0}")]
    Invalid(String),
    /// An action Hoist does not do.
    #[error("seccomp action {0} is not supported")]
    Action(String),
    /// More instructions than the kernel takes.
    #[error("the seccomp profile needs {0} instructions, more than the kernel's 4096")]
    TooLong(usize),
}

impl SeccompError {
    /// The class a façade maps to its protocol's status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Invalid(_) | Self::TooLong(_) => ErrorClass::InvalidArgument,
            Self::Action(_) => ErrorClass::NotImplemented,
        }
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

/// Programs by profile and capabilities.
type Remembered = HashMap<([u8; 32], CapabilitySet), Arc<Program>>;

/// Compiles profiles and remembers the programs.
#[derive(Debug)]
pub struct Seccomp {
    architecture: Architecture,
    kernel: (u32, u32),
    /// Short sections only: looked up, or filled after compiling outside of it.
    cache: Mutex<Remembered>,
}

impl Default for Seccomp {
    fn default() -> Self {
        Self::new()
    }
}

impl Seccomp {
    /// A compiler for the kernel and architecture it runs on.
    #[must_use]
    pub fn new() -> Self {
        let release = rustix::system::uname();
        let kernel = release
            .release()
            .to_str()
            .ok()
            .and_then(profile::kernel_version);
        Self {
            architecture: Architecture::NATIVE,
            // A release that does not parse is no reason to refuse what every supported kernel has.
            kernel: kernel.unwrap_or((5, 15)),
            cache: Mutex::new(HashMap::new()),
        }
    }

    /// The program of `profile` for a process whose bounding set is `capabilities`. A second call with equal input
    /// answers from memory.
    pub fn program(
        &self,
        profile: &Profile,
        capabilities: CapabilitySet,
    ) -> Result<Arc<Program>, SeccompError> {
        let key = (profile.fingerprint, capabilities);
        if let Some(program) = self.remembered(&key) {
            return Ok(program);
        }
        let environment = Environment {
            native: self.architecture,
            kernel: self.kernel,
            capabilities,
        };
        let decisions = decisions::decide(profile, &environment);
        let bytes = compile::compile(&decisions)?;
        let program = Arc::new(Program {
            bytes,
            flags: profile.flags(),
        });
        let mut cache = self.lock();
        if cache.len() >= CACHE_LIMIT {
            cache.clear();
        }
        cache.insert(key, Arc::clone(&program));
        Ok(program)
    }

    /// The same of a profile's text, which is read only where its program is not remembered: every start and every exec of a
    /// container comes here.
    pub fn program_of(
        &self,
        text: &str,
        capabilities: CapabilitySet,
    ) -> Result<Arc<Program>, SeccompError> {
        let key = (profile::fingerprint(text.as_bytes())?, capabilities);
        if let Some(program) = self.remembered(&key) {
            return Ok(program);
        }
        self.program(&Profile::parse(text.as_bytes())?, capabilities)
    }

    fn remembered(&self, key: &([u8; 32], CapabilitySet)) -> Option<Arc<Program>> {
        self.lock().get(key).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_compiled_once_for_each_set_of_capabilities() {
        let seccomp = Seccomp::new();
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#;
        let (some, none) = (CapabilitySet::DOCKER_DEFAULT, CapabilitySet::EMPTY);
        let first = seccomp.program_of(text, some).unwrap();
        assert!(Arc::ptr_eq(
            &first,
            &seccomp.program_of(text, some).unwrap()
        ));
        let read = Profile::parse(text.as_bytes()).unwrap();
        assert!(Arc::ptr_eq(&first, &seccomp.program(&read, some).unwrap()));
        assert!(!Arc::ptr_eq(
            &first,
            &seccomp.program_of(text, none).unwrap()
        ));
        let other = text.replace("ALLOW", "ERRNO");
        assert_ne!(first, seccomp.program_of(&other, some).unwrap());
        assert!(seccomp.program_of("nonsense", some).is_err());
    }
}
