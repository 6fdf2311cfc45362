//! `load`, `import` and `save`: tar archives in and out, streamed.

use std::fs::File;
use std::io::{IsTerminal, Read};

use clap::Args;

use super::draw;
use crate::spec::values::go_error;
use crate::transfer::{self, streamed};
use crate::{Context, Failure, Run, reference};
use hoist_render::progress::{Drawing, Target};

fn open(path: &str) -> Result<Box<dyn Read + Send>, Failure> {
    let file = File::open(path)
        .map_err(|error| Failure::new(format!("open {path}: {}", go_error(&error))))?;
    Ok(Box::new(file))
}

/// `load`.
#[derive(Args, Debug)]
pub(crate) struct Load {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "string")]
    input: Option<String>,
    /// Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

impl Run for Load {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let source: Box<dyn Read + Send> = match self.input.as_deref() {
            Some(path) if path != "-" => open(path)?,
            _ if std::io::stdin().is_terminal() => {
                return Err(Failure::new(
                    "requested load from stdin, but stdin is empty",
                ));
            }
            _ => Box::new(std::io::stdin()),
        };
        let call = context.client()?.post("/images/load");
        let call = call.query("quiet", if self.quiet { "1" } else { "0" });
        let platform = self.platform.as_deref().map(reference::platform_json);
        let call = call.query_some("platform", platform.transpose()?);
        let reply = call
            .send_stream("application/x-tar", streamed(source))
            .await?;
        draw(reply, Drawing::new(Target::Stdout, false), Failure::new).await?;
        Ok(0)
    }
}

/// `import`.
#[derive(Args, Debug)]
pub(crate) struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// A tar archive: a file, a URL, or - for standard input
    #[arg(value_name = "file|URL|-")]
    source: String,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    target: Option<String>,
}

impl Run for Import {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let remote = self.source.starts_with("http://") || self.source.starts_with("https://");
        let mut call = context.client()?.post("/images/create");
        call = call.query("fromSrc", if remote { self.source.as_str() } else { "-" });
        if let Some(target) = &self.target {
            let target = reference::parse(target)?;
            call = call
                .query("repo", target.repository().familiar())
                .query_some("tag", target.tag());
        }
        for change in &self.change {
            call = call.query("changes", change.as_str());
        }
        call = call
            .query_some("message", self.message.as_deref())
            .query_some("platform", self.platform.as_deref());
        let reply = if remote {
            call.send().await?
        } else {
            let source = match self.source.as_str() {
                "-" => Box::new(std::io::stdin()),
                path => open(path)?,
            };
            call.send_stream("application/x-tar", streamed(source))
                .await?
        };
        draw(reply, Drawing::new(Target::Stdout, false), Failure::new).await?;
        Ok(0)
    }
}

/// `save`.
#[derive(Args, Debug)]
pub(crate) struct Save {
    /// Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<String>,
    /// Images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Run for Save {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        transfer::check_archive_output(self.output.as_deref(), "failed to save image")?;
        let mut call = context.client()?.get("/images/get");
        for image in &self.images {
            call = call.query("names", image.as_str());
        }
        let platform = self.platform.as_deref().map(reference::platform_json);
        let reply = call
            .query_some("platform", platform.transpose()?)
            .send()
            .await?;
        transfer::save(reply, self.output.as_deref()).await?;
        Ok(0)
    }
}
