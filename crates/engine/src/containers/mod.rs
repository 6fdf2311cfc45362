//! Containers: made, started, stopped, watched and removed; one actor owns each one's state.

mod step;

use std::sync::Arc;

use hoist_model::container::ContainerSpec;
use hoist_model::{ContainerId, Platform, Signal, Timestamp};
use tokio::net::UnixStream;

use crate::error::ContainerError;
use crate::records::ContainerRecord;

/// The containers of this node.
#[derive(Clone)]
pub struct Containers;

/// A wish for a container.
#[derive(Debug)]
pub struct CreateRequest {
    /// Its name; `None` gets a made-up one.
    pub name: Option<String>,
    /// What it shall be; what it leaves open is filled from the image.
    pub spec: ContainerSpec,
    /// The platform its image must have.
    pub platform: Option<Platform>,
}

/// A container that was made.
#[derive(Debug)]
pub struct Created {
    /// Its identity.
    pub id: ContainerId,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

/// Whether a verb changed anything (Docker answers 204 or 304).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did.
    Changed,
    /// The container was in that state already.
    Unchanged,
}

/// How to stop.
#[derive(Clone, Copy, Debug, Default)]
pub struct StopRequest {
    /// In place of the container's own stop signal.
    pub signal: Option<Signal>,
    /// Seconds until SIGKILL in place of the container's own; negative waits for ever.
    pub timeout: Option<i64>,
}

/// How to remove.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveRequest {
    /// Kill it first if it runs.
    pub force: bool,
    /// Remove its anonymous volumes too.
    pub volumes: bool,
}

/// What `wait` waits for (API `ContainerWait`, `condition`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCondition {
    /// Not running now or as soon as that is so.
    NotRunning,
    /// The next end of the process.
    NextExit,
    /// Gone.
    Removed,
}

/// What a wait ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitOutcome {
    /// 0 to 255.
    pub exit_code: i32,
    /// Why the removal failed, if it did.
    pub error: Option<String>,
}

/// Which streams to attach to.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttachRequest {
    /// Give input.
    pub stdin: bool,
    /// Take standard output.
    pub stdout: bool,
    /// Take standard error.
    pub stderr: bool,
}

/// A live connection to a container's streams.
///
/// Reading gives Docker's multiplexed frames (8-byte header each), or raw bytes where the container has a terminal;
/// the end of the stream is the end of the process. What is written becomes its standard input; shutting the write side
/// down closes that input where the container was made with `StdinOnce`.
#[derive(Debug)]
pub struct Attached {
    /// The two-way stream.
    pub stream: UnixStream,
    /// Whether it is raw.
    pub terminal: bool,
}

/// Which part of the logs is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogRequest {
    /// Take standard output.
    pub stdout: bool,
    /// Take standard error.
    pub stderr: bool,
    /// Go on with what comes, until the process ends.
    pub follow: bool,
    /// Only lines at or after this instant.
    pub since: Option<Timestamp>,
    /// Only lines before or at this instant.
    pub until: Option<Timestamp>,
    /// Only so many last lines.
    pub tail: Option<u64>,
}

/// One line (or part of one) that a container wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// 1 standard output, 2 standard error.
    pub stream: u8,
    /// When.
    pub at: Timestamp,
    /// The bytes, with their newline.
    pub bytes: Vec<u8>,
}

impl Containers {
    /// Makes a container. The image must be here.
    pub async fn create(&self, _request: CreateRequest) -> Result<Created, ContainerError> {
        unimplemented!()
    }

    /// Finds a container by full id, name (with or without slash), or unique id prefix.
    pub fn resolve(&self, _name: &str) -> Result<Arc<ContainerRecord>, ContainerError> {
        unimplemented!()
    }

    /// All containers, newest first.
    pub fn list(&self) -> Vec<Arc<ContainerRecord>> {
        unimplemented!()
    }

    /// Starts it; `Unchanged` when it runs already.
    pub async fn start(&self, _id: &ContainerId) -> Result<Outcome, ContainerError> {
        unimplemented!()
    }

    /// Stops it; `Unchanged` when it does not run.
    pub async fn stop(
        &self,
        _id: &ContainerId,
        _request: StopRequest,
    ) -> Result<Outcome, ContainerError> {
        unimplemented!()
    }

    /// Stops and starts it.
    pub async fn restart(
        &self,
        _id: &ContainerId,
        _request: StopRequest,
    ) -> Result<(), ContainerError> {
        unimplemented!()
    }

    /// Sends a signal to its first process; SIGKILL waits for its end.
    pub async fn kill(&self, _id: &ContainerId, _signal: Signal) -> Result<(), ContainerError> {
        unimplemented!()
    }

    /// Freezes it.
    pub async fn pause(&self, _id: &ContainerId) -> Result<(), ContainerError> {
        unimplemented!()
    }

    /// Thaws it.
    pub async fn unpause(&self, _id: &ContainerId) -> Result<(), ContainerError> {
        unimplemented!()
    }

    /// Gives it another name.
    pub async fn rename(&self, _id: &ContainerId, _name: &str) -> Result<(), ContainerError> {
        unimplemented!()
    }

    /// Takes it apart.
    pub async fn remove(
        &self,
        _id: &ContainerId,
        _request: RemoveRequest,
    ) -> Result<(), ContainerError> {
        unimplemented!()
    }

    /// Registers a wait before it returns; the future it returns ends when the condition holds. Dropping it is safe.
    pub fn wait(
        &self,
        _id: &ContainerId,
        _condition: WaitCondition,
    ) -> Result<crate::ports::BoxFuture<'static, WaitOutcome>, ContainerError> {
        unimplemented!()
    }

    /// Connects to its streams; on a container that does not run, to those of its next start.
    pub async fn attach(
        &self,
        _id: &ContainerId,
        _request: AttachRequest,
    ) -> Result<Attached, ContainerError> {
        unimplemented!()
    }

    /// Sets its terminal's size, now or at its next start.
    pub async fn resize(
        &self,
        _id: &ContainerId,
        _rows: u16,
        _columns: u16,
    ) -> Result<(), ContainerError> {
        unimplemented!()
    }

    /// Reads its logs into a channel of bounded size; it ends when the logs do (or, following, the process).
    pub fn logs(
        &self,
        _id: &ContainerId,
        _request: LogRequest,
    ) -> Result<tokio::sync::mpsc::Receiver<Result<LogEntry, ContainerError>>, ContainerError> {
        unimplemented!()
    }

    /// Path of the json-file log; empty where there is none.
    pub fn log_path(&self, _id: &ContainerId) -> String {
        unimplemented!()
    }

    /// Bytes in its writable layer.
    pub async fn writable_size(&self, _id: &ContainerId) -> Result<u64, ContainerError> {
        unimplemented!()
    }
}
