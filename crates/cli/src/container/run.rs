//! `run` and `create`.
//!
//! The order is what clients of Docker rely on (docker/cli:cli/command/container/run.go): create, attach to the
//! created container, wait for its next exit, start it, tell it the terminal's size. Attached before it is
//! started, no output is lost; waited for before it is started, no exit is.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use clap::Args;
use hoist_docker::client::{CallError, Client, Reply};
use http::StatusCode;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::attach::{self, Attachment, Ended, Subject};
use crate::failure::start_failure_code;
use crate::spec::{ContainerFlags, Host, create_body};
use crate::terminal::{self, RawMode};
use crate::{Context, Failure, Run, image, output, reference};
use hoist_render::progress::Target;

/// `run`.
#[derive(Args, Debug)]
pub(crate) struct RunContainer {
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Proxy received signals to the process (default true)
    #[arg(long, value_name = "bool", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", hide_default_value = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[command(flatten)]
    flags: ContainerFlags,
}

/// `create`.
#[derive(Args, Debug)]
pub(crate) struct Create {
    #[command(flatten)]
    flags: ContainerFlags,
}

/// Keys that detach unless said otherwise.
pub(super) const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// The keys a flag, or else the configuration, names.
pub(super) fn keys(context: &Context, flag: Option<&str>) -> Result<(String, Vec<u8>), Failure> {
    let configured = context.config()?.text("detachKeys");
    let text = flag.or(configured).unwrap_or(DETACH_KEYS);
    Ok((text.to_owned(), terminal::detach_keys(text)?))
}

fn body(flags: &ContainerFlags, detach: bool) -> Result<Value, Failure> {
    if flags.image().starts_with('-') {
        return Err(Failure::unknown_flag(flags.image()));
    }
    if !["always", "missing", "never"].contains(&flags.pull.as_str()) {
        return Err(Failure::with_code(
            125,
            format!(
                "invalid pull option: '{}': must be one of \"always\", \"missing\" or \"never\"",
                flags.pull
            ),
        ));
    }
    let directory = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let host = Host {
        variable: &|name| std::env::var(name).ok(),
        read: &|path| std::fs::read(path),
        directory: &directory,
        console: if flags.tty { terminal::size() } else { None },
    };
    let body = create_body(flags, detach, &host)?;
    reference::parse(flags.image()).map_err(|failure| failure.code(125))?;
    Ok(body)
}

/// Creates the container, pulling its image if it is missing; answers its id.
async fn create(
    context: &Context,
    flags: &ContainerFlags,
    body: &Value,
) -> Result<String, Failure> {
    let client = context.client()?;
    if let Some(path) = &flags.cidfile
        && Path::new(path).exists()
    {
        let detail =
            "container ID file found, make sure the other container isn't running or delete";
        return Err(Failure::with_code(125, format!("{detail} {path}")));
    }
    if flags.pull == "always" {
        pull(context, flags).await?;
    }
    let call = || {
        let call = client.post("/containers/create").json(body);
        let call = call.query_some("name", flags.name.as_deref());
        call.query_some("platform", reference::platform(flags.platform.as_deref()))
            .send()
    };
    let reply = match call().await {
        Err(CallError::Refused { status, message })
            if status == StatusCode::NOT_FOUND
                && flags.pull != "never"
                && is_missing_image(&message) =>
        {
            if !flags.quiet {
                let image = reference::parse(flags.image())?;
                output::warn(format!(
                    "Unable to find image '{}' locally",
                    image.familiar()
                ));
            }
            pull(context, flags).await?;
            call().await?
        }
        other => other?,
    };
    let created: Value = reply.json().await?;
    for warning in created["Warnings"].as_array().into_iter().flatten() {
        output::warn(format!("WARNING: {}", warning.as_str().unwrap_or_default()));
    }
    let id = created["Id"].as_str().unwrap_or_default().to_owned();
    if let Some(path) = &flags.cidfile {
        std::fs::write(path, &id).map_err(|e| {
            Failure::with_code(125, format!("cannot write the container ID to {path}: {e}"))
        })?;
    }
    Ok(id)
}

/// "No such image: x" names the image; a 404 about anything else (a network, a volume) does not.
fn is_missing_image(message: &str) -> bool {
    message.to_ascii_lowercase().contains("no such image")
}

async fn pull(context: &Context, flags: &ContainerFlags) -> Result<(), Failure> {
    let platform = flags.platform.as_deref();
    image::pull(
        context,
        flags.image(),
        platform,
        flags.quiet,
        Target::Stderr,
    )
    .await
    .map(|_| ())
}

impl Run for Create {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let body = body(&self.flags, false)?;
        let id = create(context, &self.flags, &body)
            .await
            .map_err(|f| f.code(1))?;
        output::line(id)?;
        Ok(0)
    }
}

impl Run for RunContainer {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let flags = &self.flags;
        let to_125 = |failure: Failure| failure.code(125);
        let attaches = |stream| !self.detach && flags.attaches(stream);
        if self.detach && !flags.attach.is_empty() {
            return Err(Failure::new(
                "conflicting options: cannot specify both --attach and --detach",
            ));
        }
        if flags.tty && attaches("stdin") && !io::stdin().is_terminal() {
            return Err(Failure::with_code(1, "the input device is not a TTY"));
        }
        let (key_text, detach_keys) = if self.detach {
            (String::new(), Vec::new())
        } else {
            keys(context, self.detach_keys.as_deref())?
        };
        let body = body(flags, self.detach)?;
        // Caught from here on: a Ctrl-C while the image is pulled ends the client, one after that is the container's.
        let id = create(context, flags, &body).await.map_err(to_125)?;
        let client = context.client().map_err(to_125)?;
        if self.detach {
            start(client, &id).await?;
            output::line(id)?;
            return Ok(0);
        }
        let mut signals = self.sig_proxy.then(attach::caught);
        let any = ["stdin", "stdout", "stderr"].into_iter().any(attaches);
        let stream = if any {
            let mut call = client
                .post(format!("/containers/{id}/attach"))
                .query_flag("stream", true);
            for name in ["stdin", "stdout", "stderr"] {
                call = call.query_flag(name, attaches(name));
            }
            Some(
                call.query("detachKeys", key_text)
                    .hijack()
                    .await
                    .map_err(|e| to_125(e.into()))?,
            )
        } else {
            None
        };
        let condition = if flags.rm { "removed" } else { "next-exit" };
        let waiting = client
            .post(format!("/containers/{id}/wait"))
            .query("condition", condition)
            .send()
            .await
            .map_err(|e| to_125(e.into()))?;
        let raw = if flags.tty && attaches("stdin") {
            RawMode::enter()?
        } else {
            None
        };
        if let Err(failure) = start(client, &id).await {
            drop(raw);
            return Err(failure);
        }
        let subject = Subject::Container(id.clone());
        if flags.tty {
            attach::resize(client, &subject).await;
        }
        let attachment = Attachment {
            stdin: attaches("stdin"),
            tty: flags.tty,
            detach_keys,
        };
        let session = async {
            if let Some(stream) = stream
                && attach::carry(stream, &attachment).await? == Ended::Detached
            {
                return Ok(None);
            }
            exit_status(waiting).await.map(Some)
        };
        let status = beside(client, &subject, flags.tty, signals.as_mut(), session).await;
        drop(raw);
        Ok(status?.unwrap_or(0))
    }
}

/// Runs a session with signals and sizes handed on beside it.
pub(super) async fn beside<T>(
    client: &Client,
    subject: &Subject,
    tty: bool,
    signals: Option<&mut UnboundedReceiver<&'static str>>,
    session: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let sizes = async {
        if tty {
            attach::follow_size(client, subject).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    let Subject::Container(id) = subject else {
        return tokio::select! { done = session => done, () = sizes => Err(Failure::silent(1)) };
    };
    tokio::select! {
        done = session => done,
        () = sizes => Err(Failure::silent(1)),
        () = attach::proxy(client, id, signals) => Err(Failure::silent(1)),
    }
}

/// Starts a container; its failure carries the status that the failure's words ask for.
pub(super) async fn start(client: &Client, id: &str) -> Result<(), Failure> {
    let reply = client.post(format!("/containers/{id}/start")).send().await;
    match reply {
        Ok(reply) => Ok(reply.done().await?),
        Err(error) => {
            let failure = Failure::from(error);
            let code = start_failure_code(&failure.message);
            Err(failure.code(code))
        }
    }
}

/// The exit status a wait answers with.
pub(super) async fn exit_status(waiting: Reply) -> Result<u8, Failure> {
    let answer: Value = waiting.json().await?;
    if let Some(message) = answer.pointer("/Error/Message").and_then(Value::as_str)
        && !message.is_empty()
    {
        return Err(Failure::with_code(125, message));
    }
    // Raw terminals may have swallowed what was printed last.
    io::stdout().flush()?;
    let status = answer["StatusCode"].as_i64().unwrap_or(125);
    Ok(u8::try_from(status & 0xff).unwrap_or(125))
}
