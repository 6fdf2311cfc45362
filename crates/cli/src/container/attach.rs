//! `attach`.

use std::io::IsTerminal;

use clap::Args;
use serde_json::Value;

use super::run::{beside, exit_status, keys};
use crate::attach::{self, Attachment, Ended, Subject};
use crate::reference::segment;
use crate::terminal::RawMode;
use crate::{Context, Failure, Run, output};

/// `attach`.
#[derive(Args, Debug)]
pub(crate) struct Attach {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process (default true)
    #[arg(long, value_name = "bool", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", hide_default_value = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Run for Attach {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let client = context.client()?;
        let (key_text, detach_keys) = keys(context, self.detach_keys.as_deref())?;
        let name = segment(&self.container);
        let found: Value = client
            .get(format!("/containers/{name}/json"))
            .send()
            .await?
            .json()
            .await?;
        let state = |field: &str| found["State"][field].as_bool().unwrap_or(false);
        if !state("Running") {
            return Err(Failure::new(
                "You cannot attach to a stopped container, start it first",
            ));
        }
        if state("Paused") {
            return Err(Failure::new(
                "You cannot attach to a paused container, unpause it first",
            ));
        }
        let config = |field: &str| found["Config"][field].as_bool().unwrap_or(false);
        let id = found["Id"].as_str().unwrap_or(&self.container).to_owned();
        let tty = config("Tty");
        let stdin = !self.no_stdin && config("OpenStdin");
        if tty && stdin && !std::io::stdin().is_terminal() {
            return Err(Failure::new("the input device is not a TTY"));
        }
        let mut signals = (self.sig_proxy && !tty).then(attach::caught);
        // Asked before attaching, so that an exit between the two is not missed.
        let waiting = client.post(format!("/containers/{id}/wait")).send().await?;
        let stream = client
            .post(format!("/containers/{id}/attach"))
            .query_flag("stream", true)
            .query_flag("stdin", stdin)
            .query_flag("stdout", true)
            .query_flag("stderr", true)
            .query("detachKeys", key_text)
            .hijack()
            .await?;
        let raw = if tty && stdin {
            RawMode::enter()?
        } else {
            None
        };
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
                Ended::Detached => Ok(None),
                Ended::Closed => exit_status(waiting).await.map(Some),
            }
        };
        let status = beside(client, &subject, tty, signals.as_mut(), session).await;
        drop(raw);
        let status = status?;
        if status.is_none() {
            output::warn("read escape sequence");
        }
        Ok(status.unwrap_or(0))
    }
}
