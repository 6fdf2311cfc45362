//! `pull`, and pulling on behalf of `run`.

use clap::Args;
use serde_json::Value;

use crate::{Context, Failure, Run, output, reference, registry};
use hoist_render::progress::{Drawing, Target};

/// `pull`.
#[derive(Args, Debug)]
pub(crate) struct Pull {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Skip image verification: accepted, images are verified by digest only
    #[arg(long)]
    disable_content_trust: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

impl Run for Pull {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        if self.all_tags {
            return Err(Failure::new(
                "pulling all tags of a repository is not supported yet",
            ));
        }
        let parsed = reference::parse(&self.name)?;
        if !self.quiet
            && !self.name.contains('@')
            && !self
                .name
                .ends_with(&format!(":{}", parsed.manifest_selector()))
        {
            output::line(format!("Using default tag: {}", parsed.manifest_selector()))?;
        }
        let name = pull(
            context,
            &self.name,
            self.platform.as_deref(),
            self.quiet,
            Target::Stdout,
        )
        .await?;
        output::line(name)?;
        Ok(0)
    }
}

/// Pulls an image, drawing progress; answers its fully qualified name.
pub(crate) async fn pull(
    context: &Context,
    name: &str,
    platform: Option<&str>,
    quiet: bool,
    target: Target,
) -> Result<String, Failure> {
    let image = reference::parse(name)?;
    let login = registry::login_for(context, image.repository().host())?;
    let reply = context
        .client()?
        .post("/images/create")
        .query("fromImage", image.repository().to_string())
        .query("tag", image.manifest_selector())
        .query_some("platform", reference::platform(platform))
        .header("X-Registry-Auth", registry::header(&login))
        .send()
        .await?;
    let mut reports = reply.lines();
    let mut drawing = Drawing::new(target, quiet);
    while let Some(report) = reports.next::<Value>().await? {
        drawing.draw(&report).map_err(|message| Failure {
            code: 1,
            message,
            from_engine: true,
            ..Failure::new(String::new())
        })?;
    }
    Ok(image.to_string())
}
