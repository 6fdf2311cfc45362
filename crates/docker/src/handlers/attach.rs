//! `POST /containers/{id}/attach`.

use std::sync::Arc;

use hoist_engine::containers::{AttachRequest, Containers, LogRequest};
use hoist_engine::records::ContainerRecord;
use hoist_model::container::ContainerState;

use super::bridge::{self, Streams};
use crate::call::Call;
use crate::clock::now;
use crate::error::{ApiError, Reply};
use crate::wire::detach_keys;

/// Attaches to a container that runs, or will: clients attach before they start it.
pub(crate) async fn attach(mut call: Call) -> Reply {
    let hijack = bridge::take(&mut call);
    let wanted = Wanted::of(&call, |name| call.query.boolean(name))?;
    let hijack = hijack?;
    let containers = call.engine().containers.clone();
    let streams = wanted.connect(containers).await?;
    bridge::answer(&call, hijack, streams)
}

/// What a client wants to be connected to.
pub(super) struct Wanted {
    container: Arc<ContainerRecord>,
    keys: Vec<u8>,
    stream: bool,
    logs: bool,
    request: AttachRequest,
}

impl Wanted {
    /// Reads it from a call; `stream_asked` answers for `stdin`, `stdout` and `stderr`.
    pub(super) fn of(call: &Call, stream_asked: impl Fn(&str) -> bool) -> Result<Self, ApiError> {
        let container = call.engine().containers.resolve(call.name())?;
        refuse_phase(&container, call.name())?;
        let keys = detach_keys::parse(call.query.get("detachKeys").unwrap_or_default())?;
        let stream = call.query.boolean("stream");
        Ok(Self {
            container,
            keys,
            stream,
            logs: call.query.boolean("logs"),
            request: AttachRequest {
                stdin: stream && stream_asked("stdin"),
                stdout: stream_asked("stdout"),
                stderr: stream_asked("stderr"),
            },
        })
    }

    /// Attaches. Live output is caught from then on; a replay of the logs ends where it begins.
    pub(super) async fn connect(self, containers: Containers) -> Result<Streams, ApiError> {
        let (id, request) = (self.container.id.clone(), self.request);
        let attached = containers.attach(&id, request).await?;
        let replay = if self.logs {
            Some(containers.logs(
                &id,
                LogRequest {
                    stdout: request.stdout,
                    stderr: request.stderr,
                    until: Some(now()),
                    ..LogRequest::default()
                },
            )?)
        } else {
            None
        };
        let detaching = containers;
        Ok(Streams {
            raw: attached.terminal,
            stdin: request.stdin,
            output: self.stream,
            keys: attached.terminal.then_some(self.keys),
            attached,
            on_detach: Some(Box::pin(async move { detaching.detached(&id).await })),
            afterwards: None,
            replay,
        })
    }
}

/// As it was `asked` for, by name or id.
fn refuse_phase(container: &ContainerRecord, asked: &str) -> Result<(), ApiError> {
    let refuse = |message| Err(ApiError::new(hoist_model::ErrorClass::Conflict, message));
    match &container.state {
        ContainerState::Running(running) if running.paused => refuse(format!(
            "container {asked} is paused, unpause the container before attach"
        )),
        ContainerState::Restarting(_) => refuse(format!(
            "container {asked} is restarting, wait until the container is running"
        )),
        _ => Ok(()),
    }
}
