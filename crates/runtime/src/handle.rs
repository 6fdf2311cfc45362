//! The engine's handle on everything that runs.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use hoist_model::{ContainerId, ExecId, Signal, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::error::{LaunchError, ProcessError, RuntimeError};
use crate::spec::{ExecSpec, LaunchSpec, Streams, WindowSize};

/// What [`Runtime::start`] needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of this engine's own for what lives as long as the machine runs, best on a tmpfs; made with mode 0700.
    /// Each container has `c/<id>/` in it, with the monitor's socket and the exit record.
    pub exec_root: PathBuf,
    /// A program whose `main` calls [`crate::zygote_main`] when [`crate::is_zygote`] says so: Hoist itself.
    pub executable: PathBuf,
}

/// Whose process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProcessOwner {
    /// A container's first one.
    Container(ContainerId),
    /// An exec's.
    Exec(ExecId),
}

impl fmt::Display for ProcessOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(id) => write!(f, "container {id}"),
            Self::Exec(id) => write!(f, "exec {id}"),
        }
    }
}

/// A process that was started: its program was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launched {
    /// Its id in the engine's PID namespace.
    pub pid: i32,
    /// When its program was executed.
    pub started_at: Timestamp,
}

/// The end of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitNotice {
    /// Whose.
    pub of: ProcessOwner,
    /// How.
    pub record: ExitRecord,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitRecord {
    /// 0 to 255; 128 + n for signal n; `None` if nobody was there to see it.
    pub exit_code: Option<i32>,
    /// Whether the kernel's out-of-memory killer took a process of the container.
    pub oom_killed: bool,
    /// When.
    pub finished_at: Timestamp,
}

/// What became of a container while no engine watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// It runs, and its monitor reports to us from now on.
    Running(Launched),
    /// It ended, and this is how.
    Exited(ExitRecord),
    /// Nobody knows.
    Unknown,
}

/// Everything that runs. Cheap to clone.
///
/// Owns one thread and one child process, the zygote. Both end when the last clone is dropped; monitors and containers
/// do not.
#[derive(Clone, Debug)]
pub struct Runtime {}

impl Runtime {
    /// Starts the zygote and the thread. The channel then carries exactly one notice for every process that
    /// [`Runtime::launch`] or [`Runtime::exec`] started and every container that [`Runtime::adopt`] found running.
    ///
    /// Blocking, about 5 ms.
    pub fn start(
        _settings: Settings,
    ) -> Result<(Self, mpsc::UnboundedReceiver<ExitNotice>), RuntimeError> {
        unimplemented!()
    }

    /// Starts a container. The answer comes once its program was executed or could not be.
    ///
    /// A few system calls in the caller's thread, never a wait. Of a failed start nothing stays but what
    /// [`Runtime::release`] removes.
    pub fn launch(&self, _spec: LaunchSpec) -> oneshot::Receiver<Result<Launched, LaunchError>> {
        unimplemented!()
    }

    /// Starts a further process in a running container. As [`Runtime::launch`].
    pub fn exec(&self, _spec: ExecSpec) -> oneshot::Receiver<Result<Launched, LaunchError>> {
        unimplemented!()
    }

    /// Connects to the streams of a running process.
    ///
    /// Reading gives Docker's multiplexed frames, or raw bytes where the process has a terminal; its end is the end of
    /// the process. What is written becomes standard input. Shutting down the write side closes that input if the
    /// process was started with `stdin_once`.
    pub fn attach(
        &self,
        _owner: &ProcessOwner,
        _streams: Streams,
    ) -> Result<UnixStream, ProcessError> {
        unimplemented!()
    }

    /// Sends a signal. To a process that has ended it is `NotRunning`.
    pub fn signal(&self, _owner: &ProcessOwner, _signal: Signal) -> Result<(), ProcessError> {
        unimplemented!()
    }

    /// Sets the size of a terminal.
    pub fn resize(&self, _owner: &ProcessOwner, _size: WindowSize) -> Result<(), ProcessError> {
        unimplemented!()
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid(&self, _owner: &ProcessOwner) -> Option<i32> {
        unimplemented!()
    }

    /// The root directory of a running container, as the container sees it, for resolving users and copying files.
    pub fn root(&self, _id: &ContainerId) -> io::Result<OwnedFd> {
        unimplemented!()
    }

    /// Finds out what became of a container that an earlier engine started. Blocking, bounded by a second.
    pub fn adopt(&self, _id: &ContainerId) -> Adoption {
        unimplemented!()
    }

    /// Removes the directory of a container that does not run: its exit record and the monitor's socket.
    pub fn release(&self, _id: &ContainerId) {
        unimplemented!()
    }

    /// Containers that have a directory: what an earlier engine left.
    pub fn leftovers(&self) -> io::Result<Vec<ContainerId>> {
        unimplemented!()
    }
}
