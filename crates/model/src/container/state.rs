//! Where a container stands in its life.
//!
//! ```text
//!            start            launched              exited
//! Created ─────────► Starting ────────► Running ─────────────► Exited ──┐ start
//!    ▲                  │  launch failed   │  ▲                   ▲     │
//!    │                  └──────────────────┼──┼───────────────────┘◄────┘
//!    │                                pause▼  │unpause
//!    │                                 Running{paused}
//!    └── any but Starting ── remove ──► Removing ──► (gone)
//!
//! Running ── exited, and the policy wants it again ──► Restarting ── after the back-off ──► Starting
//! ```

use serde::{Deserialize, Serialize};

use super::{SeccompChoice, Ulimit};
use crate::timestamp::Timestamp;

/// The phases; each variant carries only what exists then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, never started.
    Created {
        /// Why the last start failed, if one did, with the exit code Docker shows for it.
        failure: Option<StartFailure>,
    },
    /// On its way from Created or Exited to Running.
    Starting,
    /// The process runs.
    Running(RunningState),
    /// The process ended, and its restart policy starts it again soon.
    Restarting(ExitedState),
    /// The process ended.
    Exited(ExitedState),
    /// Being taken apart; comes back from this only as gone.
    Removing,
}

/// A start that did not come to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// 127 not found, 126 not executable, 128 anything else.
    pub exit_code: i32,
    /// The whole sentence.
    pub message: String,
}

/// What exists while a process runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningState {
    /// Process id in the host's PID namespace.
    pub pid: i32,
    /// When it started.
    pub started_at: Timestamp,
    /// Whether it is frozen.
    pub paused: bool,
    /// Whether the memory limit took one of its processes.
    #[serde(default)]
    pub oom_killed: bool,
}

/// What the engine gave a container at its start of what that leaves open: processes started in it later get the same,
/// whatever the engine gives by then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedWith {
    /// Under its own.
    pub ulimits: Vec<Ulimit>,
    /// For its `Default`.
    pub seccomp: SeccompChoice,
}

/// What is known after a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitedState {
    /// 0 to 255; 128 + n for signal n. 255 with `error` set when nobody saw the end.
    pub exit_code: i32,
    /// Whether the memory limit ended it.
    pub oom_killed: bool,
    /// When it had started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// What went wrong around it; empty if nothing.
    pub error: String,
}

impl ContainerState {
    /// Docker's word for the phase (API `ContainerInspect`, `State.Status`).
    #[must_use]
    pub fn status(&self) -> &'static str {
        match self {
            Self::Created { .. } | Self::Starting => "created",
            Self::Running(running) if running.paused => "paused",
            Self::Running(_) => "running",
            Self::Restarting(_) => "restarting",
            Self::Exited(_) => "exited",
            Self::Removing => "removing",
        }
    }

    /// Whether Docker counts it as running: a process runs, or will again without being asked.
    #[must_use]
    pub fn counts_as_running(&self) -> bool {
        matches!(self, Self::Running(_) | Self::Restarting(_))
    }

    /// The running part, if the process runs.
    #[must_use]
    pub fn running(&self) -> Option<&RunningState> {
        match self {
            Self::Running(running) => Some(running),
            _ => None,
        }
    }
}

/// What happens after the process ended (API `HostConfig.RestartPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It starts again, always.
    Always,
    /// It starts again unless a person stopped it.
    UnlessStopped,
    /// It starts again when it failed.
    OnFailure {
        /// At most so often; 0 is without end.
        maximum_retries: u32,
    },
}

impl RestartPolicy {
    /// Docker's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
            Self::OnFailure { .. } => "on-failure",
        }
    }
}
