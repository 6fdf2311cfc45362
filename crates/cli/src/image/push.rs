//! `push`.

use clap::Args;

use super::draw;
use crate::reference::{platform_json, segment};
use crate::{Context, Failure, Run, output, reference, registry};
use hoist_render::progress::{Drawing, Target};

/// `push`.
#[derive(Args, Debug)]
pub(crate) struct Push {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// How layers are compressed: gzip or zstd; zstd takes an engine of ours
    #[arg(long, value_name = "string", value_parser = ["gzip", "zstd"])]
    compression: Option<String>,
    /// Skip image signing: accepted, nothing is signed
    #[arg(long)]
    disable_content_trust: bool,
    /// Push a platform-specific manifest as a single-platform image to the registry
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

impl Run for Push {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let image = reference::parse(&self.name)?;
        let repository = image.repository();
        let tag = image.manifest_selector();
        let named = self.name.ends_with(&format!(":{tag}"));
        if self.all_tags && (named || image.digest().is_some()) {
            return Err(Failure::new("tag can't be used with --all-tags/-a"));
        }
        if image.digest().is_some() {
            return Err(Failure::new("cannot push a digest reference"));
        }
        if !self.all_tags && !named && !self.quiet {
            output::line(format!("Using default tag: {tag}"))?;
        }
        let platform = reference::platform(self.platform.as_deref());
        let platform = platform.as_deref().map(platform_json).transpose()?;
        let login = registry::login_for(context, repository.host())?;
        let reply = context
            .client()?
            .post(format!("/images/{}/push", segment(&repository.to_string())))
            .query_some("tag", (!self.all_tags).then_some(tag))
            .query_some("platform", platform)
            .query_some("compression", self.compression.as_deref())
            .header("X-Registry-Auth", registry::header(&login))
            .send()
            .await?;
        // What comes in the stream is told without a frame, as docker does.
        draw(
            reply,
            Drawing::new(Target::Stdout, self.quiet),
            Failure::new,
        )
        .await?;
        if self.quiet {
            output::line(image.to_string())?;
        }
        Ok(0)
    }
}
