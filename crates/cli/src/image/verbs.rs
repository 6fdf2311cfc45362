//! `tag`, `rmi`, `history`, `image inspect`, `image prune`.

use clap::Args;
use hoist_docker::client::CallError;
use hoist_model::Timestamp;
use serde_json::{Value, json};

use crate::container::{Details, now, print_objects, prune, pruned, said, with_configured};
use crate::reference::{self, segment, short};
use crate::{Context, Failure, Run, output};
use hoist_render::human;
use hoist_render::listing::Listing;

/// `tag`.
#[derive(Args, Debug)]
pub(crate) struct Tag {
    /// An image by name or id
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// Its new name
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

impl Run for Tag {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let target = reference::parse(&self.target).map_err(|failure| {
            Failure::new(format!(
                "Error parsing reference: {:?} is not a valid repository/tag: {}",
                self.target, failure.message
            ))
        })?;
        let path = format!("/images/{}/tag", segment(&self.source));
        let call = context
            .client()?
            .post(path)
            .query("repo", target.repository().to_string());
        call.query_some("tag", target.tag())
            .send()
            .await?
            .done()
            .await?;
        Ok(0)
    }
}

/// `rmi`.
#[derive(Args, Debug)]
pub(crate) struct RemoveImages {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    /// Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    platform: Vec<String>,
    /// Images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Run for RemoveImages {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let client = context.client()?;
        let (mut refusals, mut failed) = (Vec::new(), false);
        let platforms = self.platform.iter().map(|p| reference::platform_json(p));
        let platforms = platforms.collect::<Result<Vec<_>, _>>()?;
        for name in &self.images {
            let mut call = client.delete(format!("/images/{}", segment(name)));
            for platform in &platforms {
                call = call.query("platforms", platform.as_str());
            }
            let call = call
                .query_flag("force", self.force)
                .query_flag("noprune", self.no_prune);
            let removed = async { call.send().await?.json::<Vec<Value>>().await }.await;
            match removed {
                Ok(removed) => {
                    for step in removed.iter().filter_map(Value::as_object).flatten() {
                        output::line(format!(
                            "{}: {}",
                            step.0,
                            step.1.as_str().unwrap_or_default()
                        ))?;
                    }
                }
                Err(error @ (CallError::Connect { .. } | CallError::Talk { .. })) => {
                    return Err(error.into());
                }
                Err(error) => {
                    failed |= !(self.force && error.status().is_some_and(|s| s == 404));
                    refusals.push(error.into());
                }
            }
        }
        said(context, &refusals);
        Ok(u8::from(failed))
    }
}

/// `image inspect`.
#[derive(Args, Debug)]
pub(crate) struct InspectImage {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Inspect a specific platform of the multi-platform image. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Run for InspectImage {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let platform = self.platform.as_deref().map(reference::platform_json);
        print_objects(
            context,
            Some("image"),
            &self.images,
            Details {
                size: false,
                platform: platform.transpose()?,
            },
            self.format.as_deref(),
        )
        .await
    }
}

/// `history`.
#[derive(Args, Debug)]
pub(crate) struct History {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Print sizes and dates in human readable format (default true)
    #[arg(short = 'H', long, value_name = "bool", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", hide_default_value = true, action = clap::ArgAction::Set)]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Image
    #[arg(value_name = "IMAGE")]
    image: String,
}

const HISTORY_HEADINGS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

impl Run for History {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let path = format!("/images/{}/history", segment(&self.image));
        let platform = self.platform.as_deref().map(reference::platform_json);
        let call = context.client()?.get(path);
        let call = call.query_some("platform", platform.transpose()?);
        let steps: Vec<Value> = call.send().await?.json().await?;
        let now = now();
        let row = |step: &Value| {
            let text = |field: &str| step[field].as_str().unwrap_or_default();
            let created = Timestamp::from_seconds(step["Created"].as_i64().unwrap_or(0));
            let size = step["Size"].as_u64().unwrap_or(0);
            let by = text("CreatedBy").replace('\t', " ");
            let by = match by.char_indices().nth(44) {
                Some((end, _)) if !self.no_trunc => format!("{}…", &by[..end]),
                _ => by,
            };
            json!({
                "Comment": text("Comment"),
                "CreatedAt": created.to_string(),
                "CreatedBy": by,
                "CreatedSince": if self.human { human::ago(now, created) } else { created.to_string() },
                "ID": if self.no_trunc { text("Id") } else { short(text("Id")) },
                "Size": if self.human { human::size(size, 3) } else { size.to_string() },
            })
        };
        let listing = Listing {
            headings: HISTORY_HEADINGS,
            table: if self.human {
                "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
            } else {
                "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
            },
            rows: steps.iter().map(row).collect(),
        };
        let format = if self.quiet {
            Some("{{.ID}}")
        } else {
            self.format.as_deref()
        };
        output::text(listing.render(format)?)?;
        Ok(0)
    }
}

/// `image prune`.
#[derive(Args, Debug)]
pub(crate) struct PruneImages {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Run for PruneImages {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let question = if self.all {
            "WARNING! This will remove all images without at least one container associated to them."
        } else {
            "WARNING! This will remove all dangling images."
        };
        let mut filters = with_configured(context, &self.filter)?;
        filters.push(format!("dangling={}", !self.all));
        let answer = prune(context, "images", question, &filters, self.force).await?;
        let Some(mut answer) = answer else {
            return Ok(0);
        };
        untagged_and_deleted(&mut answer);
        pruned(&answer, "ImagesDeleted", "Deleted Images:")
    }
}

/// Turns the steps of a removal into lines: `untagged: x`, `deleted: sha256:…`.
pub(crate) fn untagged_and_deleted(answer: &mut Value) {
    let Some(steps) = answer.get("ImagesDeleted").and_then(Value::as_array) else {
        return;
    };
    let lines: Vec<Value> = steps
        .iter()
        .filter_map(Value::as_object)
        .flatten()
        .map(|(what, name)| {
            let name = name.as_str().unwrap_or_default();
            format!("{}: {name}", what.to_lowercase()).into()
        })
        .collect();
    answer["ImagesDeleted"] = lines.into();
}
