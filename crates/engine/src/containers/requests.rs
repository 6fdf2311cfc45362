//! What can be asked of containers, and the answers.

use hoist_model::container::{ContainerSpec, Resources, RestartPolicy};
use hoist_model::{ContainerId, Platform, Signal, Timestamp};
use tokio::net::UnixStream;

use super::outputs::Undelivered;

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
    /// It did, and a stop did not wait: the process had no way to hear its stop signal.
    CutShort,
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

/// A change of a container that exists.
#[derive(Clone, Debug, Default)]
pub struct UpdateRequest {
    /// Limits; what is empty here stays as it is.
    pub limits: Resources,
    /// In place of its restart policy.
    pub restart_policy: Option<RestartPolicy>,
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
    /// Of a container's output: to be dropped when the client has all of it.
    pub undelivered: Option<Undelivered>,
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
