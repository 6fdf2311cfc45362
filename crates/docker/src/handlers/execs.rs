//! Execs: create, start, resize, inspect.

use hoist_engine::error::ExecError;
use hoist_engine::execs::{ExecRequest, ExecSnapshot};
use hoist_model::container::{AttachFlags, ProcessSpec};
use http::StatusCode;
use serde::Deserialize;

use super::bridge;
use super::containers::terminal_size;
use crate::call::{Call, empty, json_reply, ok};
use crate::error::{ApiError, Reply};
use crate::wire::create_body::Words;
use crate::wire::detach_keys;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ExecCreateBody {
    user: Option<String>,
    privileged: Option<bool>,
    tty: Option<bool>,
    console_size: Option<[u16; 2]>,
    attach_stdin: Option<bool>,
    attach_stdout: Option<bool>,
    attach_stderr: Option<bool>,
    detach_keys: Option<String>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    cmd: Option<Words>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ExecStartBody {
    detach: Option<bool>,
    tty: Option<bool>,
    console_size: Option<[u16; 2]>,
}

fn size(size: Option<[u16; 2]>) -> Option<(u16, u16)> {
    size.map(|[rows, columns]| (rows, columns))
        .filter(|size| *size != (0, 0))
}

/// `POST /containers/{id}/exec`.
pub(crate) async fn create(mut call: Call) -> Reply {
    let body: ExecCreateBody = call.json().await?;
    let container = call.engine().containers.resolve(call.name())?;
    let words = body.cmd.map(Words::into_vec).unwrap_or_default();
    if words.is_empty() {
        return Err(ApiError::invalid("No exec command specified"));
    }
    let keys = body.detach_keys.filter(|keys| !keys.is_empty());
    if let Some(keys) = &keys {
        detach_keys::parse(keys)?;
    }
    let request = ExecRequest {
        process: ProcessSpec {
            command: Some(words),
            environment: body.env.unwrap_or_default(),
            working_directory: body.working_dir.unwrap_or_default(),
            user: body.user.unwrap_or_default(),
            terminal: body.tty.unwrap_or_default(),
            open_stdin: body.attach_stdin.unwrap_or_default(),
            ..ProcessSpec::default()
        },
        attach: AttachFlags {
            stdin: body.attach_stdin.unwrap_or_default(),
            stdout: body.attach_stdout.unwrap_or_default(),
            stderr: body.attach_stderr.unwrap_or_default(),
        },
        privileged: body.privileged.unwrap_or_default(),
        detach_keys: keys,
        console_size: size(body.console_size),
    };
    let id = call.engine().execs.create(&container.id, request).await?;
    json_reply(
        StatusCode::CREATED,
        &serde_json::json!({ "Id": id.as_str() }),
    )
}

/// `POST /exec/{id}/start`.
pub(crate) async fn start(mut call: Call) -> Reply {
    let hijack = bridge::take(&mut call);
    let body: ExecStartBody = call.json_or_empty().await?.unwrap_or_default();
    let exec = call.engine().execs.get(call.name())?;
    let detach = body.detach.unwrap_or_default();
    let console = size(body.console_size);
    if console.is_some() && !body.tty.unwrap_or_default() && !exec.request.process.terminal {
        return Err(ApiError::invalid(
            "console size is only supported when TTY is enabled",
        ));
    }
    let keys = if exec.request.process.terminal {
        let keys = exec.request.detach_keys.as_deref().unwrap_or_default();
        Some(detach_keys::parse(keys)?)
    } else {
        None
    };
    let execs = &call.engine().execs;
    if detach {
        execs.start(call.name(), true, console).await?;
        return Ok(empty(StatusCode::OK));
    }
    let hijack = hijack?;
    let (ended, id) = (execs.clone(), exec.id.clone());
    let (detaching, detached) = (execs.clone(), exec.id.clone());
    let begun = execs.begin(call.name(), false, console)?;
    let Some(attached) = begun.attached else {
        return Ok(empty(StatusCode::OK));
    };
    let outcome = begun.outcome;
    // The connection is taken while the process starts, as in Docker: clients read from the stream why it could not, and the
    // exit code by inspect. And they have read the reply's head when output comes.
    let afterwards = async move {
        match outcome.await {
            Ok(()) => {
                ended.ended(&id).await;
                None
            }
            Err(ExecError::Start { message, .. }) => Some(format!("{message}\r\n")),
            Err(error) => Some(format!("{}\r\n", hoist_model::chain(&error))),
        }
    };
    let streams = bridge::Streams {
        attached,
        raw: body.tty.unwrap_or_default(),
        stdin: exec.request.attach.stdin,
        output: true,
        keys,
        on_detach: Some(Box::pin(async move { detaching.detached(&detached).await })),
        replay: None,
        afterwards: Some(Box::pin(afterwards)),
    };
    bridge::answer(&call, hijack, streams)
}

/// `POST /exec/{id}/resize`.
pub(crate) async fn resize(call: Call) -> Reply {
    let (rows, columns) = terminal_size(&call)?;
    call.engine()
        .execs
        .resize(call.name(), rows, columns)
        .await?;
    Ok(empty(StatusCode::OK))
}

/// `GET /exec/{id}/json`.
pub(crate) async fn inspect(call: Call) -> Reply {
    ok(&shown(&call.engine().execs.get(call.name())?))
}

fn shown(exec: &ExecSnapshot) -> serde_json::Value {
    let request = &exec.request;
    let words = request.process.arguments();
    let (entrypoint, arguments) = words
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let mut process = serde_json::json!({
        "tty": request.process.terminal,
        "entrypoint": entrypoint,
        "arguments": arguments,
        "privileged": request.privileged,
    });
    if !request.process.user.is_empty() {
        process["user"] = request.process.user.as_str().into();
    }
    serde_json::json!({
        "ID": exec.id.as_str(),
        "Running": exec.running,
        "ExitCode": exec.exit_code,
        "ProcessConfig": process,
        "OpenStdin": request.attach.stdin,
        "OpenStderr": request.attach.stderr,
        "OpenStdout": request.attach.stdout,
        "CanRemove": false,
        "ContainerID": exec.container.as_str(),
        "DetachKeys": request.detach_keys.as_deref().unwrap_or_default(),
        "Pid": exec.pid,
    })
}
