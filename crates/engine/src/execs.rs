//! Execs: further processes in running containers. They live in memory only.

use hoist_model::container::{AttachFlags, ProcessSpec};
use hoist_model::{ContainerId, ExecId};

use crate::containers::Attached;
use crate::error::ExecError;

/// The execs of this node.
#[derive(Clone)]
pub struct Execs;

/// A wish for a process.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// What runs; environment and user beyond the container's own. `command` holds all words.
    pub process: ProcessSpec,
    /// Streams asked for.
    pub attach: AttachFlags,
    /// All capabilities.
    pub privileged: bool,
    /// Keys that detach, as the client wrote them.
    pub detach_keys: Option<String>,
    /// Rows and columns of the terminal.
    pub console_size: Option<(u16, u16)>,
}

/// What is known of an exec.
#[derive(Clone, Debug)]
pub struct ExecSnapshot {
    /// Its identity.
    pub id: ExecId,
    /// The container it is in.
    pub container: ContainerId,
    /// What was asked for.
    pub request: ExecRequest,
    /// Whether it runs.
    pub running: bool,
    /// How it ended; `None` until it has.
    pub exit_code: Option<i32>,
    /// Its process id on the host; 0 before and after.
    pub pid: i32,
}

impl Execs {
    /// Registers a process to be started in a running container.
    pub async fn create(
        &self,
        _container: &ContainerId,
        _request: ExecRequest,
    ) -> Result<ExecId, ExecError> {
        unimplemented!()
    }

    /// Starts it. Attached, it answers the stream to carry (input closes when the write side is shut down);
    /// detached, nothing.
    pub async fn start(
        &self,
        _id: &str,
        _detach: bool,
        _console_size: Option<(u16, u16)>,
    ) -> Result<Option<Attached>, ExecError> {
        unimplemented!()
    }

    /// What is known of it.
    pub fn get(&self, _id: &str) -> Result<ExecSnapshot, ExecError> {
        unimplemented!()
    }

    /// Sets its terminal's size.
    pub async fn resize(&self, _id: &str, _rows: u16, _columns: u16) -> Result<(), ExecError> {
        unimplemented!()
    }
}
