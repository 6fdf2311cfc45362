//! `diff`, `export`, `commit`.

use clap::Args;
use serde_json::{Value, json};

use crate::reference::segment;
use crate::{Context, Failure, Run, output, reference, transfer};

/// `diff`.
#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Run for Diff {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        if self.container.is_empty() {
            return Err(Failure::new("Container name cannot be empty"));
        }
        let path = format!("/containers/{}/changes", segment(&self.container));
        let changes: Option<Vec<Value>> = context.client()?.get(path).send().await?.json().await?;
        let mut text = String::new();
        for change in changes.iter().flatten() {
            let kind = match change["Kind"].as_u64() {
                Some(0) => "C",
                Some(1) => "A",
                Some(2) => "D",
                _ => "?",
            };
            text += &format!("{kind} {}\n", change["Path"].as_str().unwrap_or_default());
        }
        output::text(text)?;
        Ok(0)
    }
}

/// `export`.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<String>,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Run for Export {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        transfer::check_archive_output(self.output.as_deref(), "failed to export container")?;
        let path = format!("/containers/{}/export", segment(&self.container));
        let reply = context.client()?.get(path).send().await?;
        transfer::save(reply, self.output.as_deref()).await?;
        Ok(0)
    }
}

/// `commit`.
#[derive(Args, Debug)]
pub(crate) struct Commit {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "string")]
    author: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Pause container during commit (default true)
    #[arg(short, long, value_name = "bool", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", hide_default_value = true, action = clap::ArgAction::Set)]
    pause: bool,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    target: Option<String>,
}

impl Run for Commit {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let target = self.target.as_deref().filter(|target| !target.is_empty());
        let target = target.map(reference::parse).transpose()?;
        let mut call = context.client()?.post("/commit");
        call = call.query("container", self.container.as_str());
        if let Some(target) = &target {
            call = call
                .query("repo", target.repository().familiar())
                .query_some("tag", target.tag().or(Some("latest")));
        }
        call = call
            .query_some("comment", self.message.as_deref())
            .query_some("author", self.author.as_deref());
        for change in &self.change {
            call = call.query("changes", change.as_str());
        }
        if !self.pause {
            call = call.query("pause", "0");
        }
        let made: Value = call.json(&json!({})).send().await?.json().await?;
        output::line(made["Id"].as_str().unwrap_or_default())?;
        Ok(0)
    }
}
