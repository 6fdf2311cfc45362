//! `start`.

use std::io::IsTerminal;

use clap::Args;
use serde_json::Value;

use super::lifecycle::try_each;
use super::run::{beside, exit_status, keys, start};
use crate::attach::{self, Attachment, Ended, Subject};
use crate::reference::segment;
use crate::terminal::RawMode;
use crate::{Context, Failure, Run, output};

/// `start`.
#[derive(Args, Debug)]
pub(crate) struct Start {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Restore from this checkpoint: refused, there are none
    #[arg(long, value_name = "string")]
    checkpoint: Option<String>,
    /// Use a custom checkpoint storage directory: refused, there are none
    #[arg(long, value_name = "string")]
    checkpoint_dir: Option<String>,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Run for Start {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        for (flag, value) in [
            ("--checkpoint", &self.checkpoint),
            ("--checkpoint-dir", &self.checkpoint_dir),
        ] {
            if value.is_some() {
                return Err(Failure::new(format!(
                    "\"{flag}\" is only supported on a Docker daemon with experimental features enabled"
                )));
            }
        }
        if !self.attach && !self.interactive {
            let client = context.client()?;
            let mut failed: Vec<&str> = Vec::new();
            let start = async |name: &str| {
                let asked = client.post(format!("/containers/{}/start", segment(name)));
                asked.send().await?.done().await
            };
            // Each is said at once, a connection that fails among them, as docker does.
            try_each(&self.containers, start, |name, error| {
                output::warn(context.program.sentence(&Failure::from(error), ""));
                failed.push(name);
                Ok(())
            })
            .await?;
            if failed.is_empty() {
                return Ok(0);
            }
            return Err(Failure::new(format!(
                "failed to start containers: {}",
                failed.join(", ")
            )));
        }
        let [name] = &self.containers[..] else {
            return Err(Failure::new(
                "you cannot start and attach multiple containers at once",
            ));
        };
        self.attached(context, name).await
    }
}

impl Start {
    async fn attached(&self, context: &Context, name: &str) -> Result<u8, Failure> {
        let client = context.client()?;
        let (key_text, detach_keys) = keys(context, self.detach_keys.as_deref())?;
        let found: Value = client
            .get(format!("/containers/{}/json", segment(name)))
            .send()
            .await?
            .json()
            .await?;
        let config = |field: &str| found["Config"][field].as_bool().unwrap_or(false);
        let id = found["Id"].as_str().unwrap_or(name).to_owned();
        let tty = config("Tty");
        let stdin = self.interactive && config("OpenStdin");
        if tty && stdin && !std::io::stdin().is_terminal() {
            return Err(Failure::new("the input device is not a TTY"));
        }
        let mut signals = attach::caught();
        let stream = client
            .post(format!("/containers/{id}/attach"))
            .query_flag("stream", true)
            .query_flag("stdin", stdin)
            .query_flag("stdout", true)
            .query_flag("stderr", true)
            .query("detachKeys", key_text)
            .hijack()
            .await?;
        let removed = found["HostConfig"]["AutoRemove"].as_bool().unwrap_or(false);
        let waiting = client
            .post(format!("/containers/{id}/wait"))
            .query("condition", if removed { "removed" } else { "next-exit" })
            .send()
            .await?;
        let raw = if tty && stdin {
            RawMode::enter()?
        } else {
            None
        };
        if let Err(failure) = start(client, &id).await {
            drop(raw);
            return Err(failure);
        }
        let subject = Subject::Container(id);
        if tty {
            attach::resize(client, &subject).await;
        }
        let attachment = Attachment {
            stdin,
            tty,
            detach_keys,
        };
        let session = async {
            match attach::carry(stream, &attachment).await? {
                Ended::Detached => Ok(0),
                Ended::Closed => exit_status(waiting).await,
            }
        };
        let status = beside(client, &subject, tty, Some(&mut signals), session).await;
        drop(raw);
        if status.is_err() {
            output::text("")?;
        }
        status
    }
}
