//! Why something did not start, or could not be reached.

use std::io;
use std::path::PathBuf;

use hoist_model::ErrorClass;

/// The runtime itself cannot work here.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A directory or file of the runtime cannot be made.
    #[error("{what} {}", path.display())]
    Directory {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The zygote cannot be started.
    #[error("start the zygote from {}", executable.display())]
    Zygote {
        /// The program.
        executable: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a descriptor the runtime lives on.
    #[error("{what}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl RuntimeError {
    /// The class a façade maps to its protocol's status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Internal
    }
}

/// A process was not started. The texts about the program are those of Docker's runtime: clients match on them to find
/// their exit code (docker/cli, `command/container/run.go`, `toStatusError`).
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A program without a slash is in no directory of `PATH`.
    #[error("exec: {name:?}: executable file not found in $PATH")]
    NotInPath {
        /// The program.
        name: String,
    },
    /// The program's path leads nowhere.
    #[error("exec: {path:?}: stat {path}: no such file or directory")]
    NoSuchFile {
        /// The program.
        path: String,
    },
    /// The program may not be executed.
    #[error("exec: {path:?}: permission denied")]
    PermissionDenied {
        /// The program.
        path: String,
    },
    /// The program is a directory.
    #[error("exec: {path:?}: is a directory")]
    IsDirectory {
        /// The program.
        path: String,
    },
    /// The kernel does not execute the program: a foreign format, or an interpreter that is not there.
    #[error("exec {path}: {errno}")]
    Exec {
        /// The program.
        path: String,
        /// `exec format error`, `no such file or directory`.
        errno: String,
        /// Whether what is missing is a file.
        missing: bool,
    },
    /// A step of the plan failed in the new process.
    #[error("{operation}: {errno} (step {step} of {steps})")]
    Step {
        /// What was tried, with its operand.
        operation: String,
        /// The error's name, such as `EPERM`.
        errno: String,
        /// Number of the step, from 1.
        step: usize,
        /// How many the plan has.
        steps: usize,
    },
    /// The request cannot be turned into a plan.
    #[error("{0}")]
    Invalid(String),
    /// The container that an exec is for does not run.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// The identity is taken.
    #[error("{0} is already running")]
    Running(String),
    /// Something on the way to the new process failed.
    #[error("{what}")]
    System {
        /// What was tried.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The monitor ended before it said how the start went.
    #[error("the monitor of {0} ended before the start was done")]
    MonitorGone(String),
}

impl LaunchError {
    /// The class a façade maps to its protocol's status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotInPath { .. }
            | Self::NoSuchFile { .. }
            | Self::PermissionDenied { .. }
            | Self::IsDirectory { .. }
            | Self::Exec { .. }
            | Self::Invalid(_) => ErrorClass::InvalidArgument,
            Self::NotRunning(_) | Self::Running(_) => ErrorClass::Conflict,
            Self::Step { .. } | Self::System { .. } | Self::MonitorGone(_) => ErrorClass::Internal,
        }
    }

    /// The exit code that Docker records for it: 127 not found, 126 not executable, 128 anything else.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotInPath { .. } | Self::NoSuchFile { .. } => 127,
            Self::Exec { missing: true, .. } => 127,
            Self::PermissionDenied { .. } | Self::IsDirectory { .. } | Self::Exec { .. } => 126,
            _ => 128,
        }
    }
}

/// A running process cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// No such process runs here.
    #[error("{0} is not running")]
    NotRunning(String),
    /// It has no terminal.
    #[error("{0} has no terminal")]
    NoTerminal(String),
    /// The kernel or the monitor refused.
    #[error("{what} of {process}")]
    System {
        /// What was tried.
        what: &'static str,
        /// On which process.
        process: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl ProcessError {
    /// The class a façade maps to its protocol's status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotRunning(_) => ErrorClass::Conflict,
            Self::NoTerminal(_) => ErrorClass::InvalidArgument,
            Self::System { .. } => ErrorClass::Internal,
        }
    }
}
