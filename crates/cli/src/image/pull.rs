//! `pull`, and pulling on behalf of `run`.

use clap::Args;
use hoist_model::Repository;

use super::draw;
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
        let parsed = reference::parse(&self.name)?;
        let tagged = self.name.contains('@')
            || self
                .name
                .ends_with(&format!(":{}", parsed.manifest_selector()));
        if self.all_tags && tagged {
            return Err(Failure::new("tag can't be used with --all-tags/-a"));
        }
        if !self.quiet && !tagged && !self.all_tags {
            output::line(format!("Using default tag: {}", parsed.manifest_selector()))?;
        }
        if self.all_tags {
            let repository = parsed.repository();
            let asked = Asked {
                platform: self.platform.as_deref(),
                quiet: self.quiet,
                target: Target::Stdout,
            };
            fetch(context, repository, None, &asked).await?;
            output::line(repository.to_string())?;
            return Ok(0);
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
    let asked = Asked {
        platform,
        quiet,
        target,
    };
    let tag = Some(image.manifest_selector());
    fetch(context, image.repository(), tag, &asked).await?;
    Ok(image.to_string())
}

/// How an image is asked for.
struct Asked<'a> {
    platform: Option<&'a str>,
    quiet: bool,
    target: Target,
}

/// Asks the engine for one tag or digest of a repository, or for all of its tags, drawing progress.
async fn fetch(
    context: &Context,
    repository: &Repository,
    tag: Option<&str>,
    asked: &Asked<'_>,
) -> Result<(), Failure> {
    let login = registry::login_for(context, repository.host())?;
    let reply = context
        .client()?
        .post("/images/create")
        .query("fromImage", repository.to_string())
        .query_some("tag", tag)
        .query_some("platform", reference::platform(asked.platform))
        .header("X-Registry-Auth", registry::header(&login))
        .send()
        .await?;
    let failed = |message| Failure {
        code: 1,
        message,
        from_engine: true,
        ..Failure::new(String::new())
    };
    draw(reply, Drawing::new(asked.target, asked.quiet), failed).await
}
