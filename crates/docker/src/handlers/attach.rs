//! `POST /containers/{id}/attach`.

use hoist_engine::containers::{AttachRequest, LogRequest};
use hoist_model::container::ContainerState;

use super::bridge::{self, Streams};
use crate::call::Call;
use crate::clock::now;
use crate::error::{ApiError, Reply};
use crate::wire::detach_keys;

/// Attaches to a container that runs, or will: clients attach before they start it.
pub(crate) async fn attach(mut call: Call) -> Reply {
    let hijack = bridge::take(&mut call);
    let container = call.engine().containers.resolve(call.name())?;
    if let ContainerState::Running(running) = &container.state
        && running.paused
    {
        return Err(ApiError::new(
            hoist_model::ErrorClass::Conflict,
            format!(
                "container {} is paused, unpause the container before attach",
                container.id.as_str()
            ),
        ));
    }
    if let ContainerState::Restarting(_) = &container.state {
        return Err(ApiError::new(
            hoist_model::ErrorClass::Conflict,
            format!(
                "container {} is restarting, wait until the container is running",
                container.id.as_str()
            ),
        ));
    }
    let keys = detach_keys::parse(call.query.get("detachKeys").unwrap_or_default())?;
    let hijack = hijack?;
    let (stream, logs) = (call.query.boolean("stream"), call.query.boolean("logs"));
    let request = AttachRequest {
        stdin: stream && call.query.boolean("stdin"),
        stdout: call.query.boolean("stdout"),
        stderr: call.query.boolean("stderr"),
    };
    let containers = &call.engine().containers;
    // Live output is caught from here on; the replay ends where it begins.
    let attached = containers.attach(&container.id, request).await?;
    let replay = if logs {
        Some(containers.logs(
            &container.id,
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
    let (detaching, id) = (containers.clone(), container.id.clone());
    let streams = Streams {
        stdin: request.stdin,
        output: stream,
        keys: attached.terminal.then_some(keys),
        attached,
        on_detach: Some(Box::pin(async move { detaching.detached(&id).await })),
        afterwards: None,
        replay,
    };
    bridge::answer(&call, hijack, streams)
}
