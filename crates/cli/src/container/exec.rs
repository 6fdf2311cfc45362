//! `exec`.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use hoist_docker::client::Client;
use serde_json::{Value, json};

use super::run::{beside, keys};
use crate::attach::{self, Attachment, Ended, Subject};
use crate::failure::start_failure_code;
use crate::reference::segment;
use crate::spec::lines_of;
use crate::terminal::{self, RawMode};
use crate::{Context, Failure, Run, output};

/// `exec`.
#[derive(Args, Debug)]
pub(crate) struct Exec {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list")]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<String>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
    /// The container, the command and its arguments
    #[arg(value_name = "CONTAINER COMMAND [ARG...]", required = true, num_args = 2.., trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

impl Exec {
    fn body(
        &self,
        key_text: &str,
        variable: &dyn Fn(&str) -> Option<String>,
        console: Option<(u16, u16)>,
    ) -> Result<Value, Failure> {
        let mut environment = Vec::new();
        for path in &self.env_file {
            let content = std::fs::read(path).map_err(|e| {
                Failure::with_code(125, format!("cannot read --env-file {path}: {e}"))
            })?;
            environment.extend(lines_of("--env-file", path, &content)?);
        }
        environment.extend(self.env.iter().cloned());
        let environment: Vec<_> = environment
            .into_iter()
            .filter_map(|v| {
                if v.contains('=') {
                    Some(v)
                } else {
                    variable(&v).map(|value| format!("{v}={value}"))
                }
            })
            .collect();
        let mut body = json!({
            "Cmd": self.words.get(1..).unwrap_or_default(),
            "Tty": self.tty,
            "Privileged": self.privileged,
            "AttachStdin": self.interactive && !self.detach,
            "AttachStdout": !self.detach,
            "AttachStderr": !self.detach,
            "DetachKeys": key_text,
        });
        if !environment.is_empty() {
            body["Env"] = environment.into();
        }
        for (name, value) in [("User", &self.user), ("WorkingDir", &self.workdir)] {
            if let Some(value) = value {
                body[name] = value.as_str().into();
            }
        }
        if self.tty
            && let Some((rows, columns)) = console
        {
            body["ConsoleSize"] = json!([rows, columns]);
        }
        Ok(body)
    }
}

impl Run for Exec {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let name = self.words.first().map_or("", String::as_str);
        if name.starts_with('-') {
            return Err(Failure::unknown_flag(name));
        }
        if self.tty && self.interactive && !self.detach && !std::io::stdin().is_terminal() {
            return Err(Failure::new("the input device is not a TTY"));
        }
        let client = context.client()?;
        let (key_text, detach_keys) = keys(context, self.detach_keys.as_deref())?;
        let console = if self.tty { terminal::size() } else { None };
        let body = self.body(&key_text, &|name| std::env::var(name).ok(), console)?;
        let created = client
            .post(format!("/containers/{}/exec", segment(name)))
            .json(&body)
            .send();
        let created: Value = created.await?.json().await?;
        let id = created["Id"].as_str().unwrap_or_default().to_owned();
        let mut start = json!({"Detach": self.detach, "Tty": self.tty});
        if let Some(size) = body.get("ConsoleSize") {
            start["ConsoleSize"] = size.clone();
        }
        let call = client.post(format!("/exec/{id}/start")).json(&start);
        let started = |error| {
            let failure = Failure::from(error);
            match start_failure_code(&failure.message) {
                125 => failure,
                code => failure.code(code),
            }
        };
        if self.detach {
            call.send().await.map_err(started)?.done().await?;
            return Ok(0);
        }
        let stream = call.hijack().await.map_err(started)?;
        let raw = if self.tty && self.interactive {
            RawMode::enter()?
        } else {
            None
        };
        let subject = Subject::Exec(id.clone());
        if self.tty {
            attach::resize(client, &subject).await;
        }
        let attachment = Attachment {
            stdin: self.interactive,
            tty: self.tty,
            detach_keys,
        };
        let session = attach::carry(stream, &attachment);
        let ended = beside(client, &subject, self.tty, None, session).await;
        drop(raw);
        if ended? == Ended::Detached {
            // The stock client's status: what the command will end with is not known.
            output::warn("read escape sequence");
            return Ok(1);
        }
        let found = ended_exec(client, &id).await?;
        let status = found["ExitCode"].as_i64().unwrap_or(0);
        Ok(u8::try_from(status & 0xff).unwrap_or(1))
    }
}

/// What became of an exec whose stream has ended. Its exit may be recorded a moment after its last output; a command
/// that closed its output and goes on is not waited for longer than that moment.
async fn ended_exec(client: &Client, id: &str) -> Result<Value, Failure> {
    const LOOKS: u32 = 40;
    let mut looks = 0;
    loop {
        let found: Value = client
            .get(format!("/exec/{id}/json"))
            .send()
            .await?
            .json()
            .await?;
        looks += 1;
        if found["Running"].as_bool() != Some(true) || looks == LOOKS {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
