//! A container's own scope, made by systemd where the driver or the container's parent says so.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{CgroupError, Group};
use crate::systemd::{self, Scope, ScopeError};

/// How long the scope of the container's last run may take to go.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

impl Group {
    /// Has systemd make the scope, with this process in it. Blocking, some milliseconds; longer while the scope of an
    /// earlier run is being taken away.
    pub(super) fn begin_scope(&self, seed: Option<u32>) -> Result<(), CgroupError> {
        let (Some(slice), Some(seed)) = (&self.slice, seed) else {
            return Err(CgroupError::NotFound(self.name.clone()));
        };
        let scope = Scope {
            name: &self.name,
            slice,
            description: "Hoist container",
            process: seed,
        };
        let begun = Instant::now();
        loop {
            match systemd::start_scope(&scope) {
                Err(ScopeError::Exists(_)) if begun.elapsed() < PATIENCE => sleep(LOOK),
                result => return result.map_err(CgroupError::Scope),
            }
        }
    }
}
