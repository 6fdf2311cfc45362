//! `logs`.

use clap::Args;
use hoist_http::mux::Demux;
use serde_json::Value;

use super::filters::{now, since};
use crate::attach::show;
use crate::reference::segment;
use crate::{Context, Failure, Run};

/// `logs`.
#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Number of lines to show from the end of the logs
    #[arg(
        short = 'n',
        long,
        value_name = "string",
        default_value = "all",
        allow_hyphen_values = true
    )]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    until: Option<String>,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Run for Logs {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let instant = |text: &Option<String>| text.as_ref().map(|t| since(t, now())).transpose();
        let client = context.client()?;
        let path = format!("/containers/{}", segment(&self.container));
        let found: Value = client
            .get(format!("{path}/json"))
            .send()
            .await?
            .json()
            .await?;
        let tty = found["Config"]["Tty"].as_bool().unwrap_or(false);
        let mut reply = client
            .get(format!("{path}/logs"))
            .query_flag("stdout", true)
            .query_flag("stderr", true)
            .query_flag("follow", self.follow)
            .query_flag("timestamps", self.timestamps)
            .query_flag("details", self.details)
            .query("tail", self.tail.as_str())
            .query_some("since", instant(&self.since)?)
            .query_some("until", instant(&self.until)?)
            .send()
            .await?;
        let mut demux = (!tty).then(Demux::default);
        while let Some(chunk) = reply.chunk().await? {
            show(&chunk, demux.as_mut())?;
        }
        Ok(0)
    }
}
