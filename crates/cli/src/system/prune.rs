//! `system prune`.

use clap::Args;
use serde_json::Value;

use crate::container::{api_filters, ask, show_pruned, with_configured};
use crate::image::untagged_and_deleted;
use crate::{Context, Failure, Run, output};
use hoist_render::human;

/// `system prune`.
#[derive(Args, Debug)]
pub(super) struct Prune {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

impl Prune {
    fn question(&self, filters: &[String]) -> String {
        let mut going = vec![
            "all stopped containers",
            "all networks not used by at least one container",
        ];
        if self.volumes {
            going.push("all anonymous volumes not used by at least one container");
        }
        going.extend(if self.all {
            [
                "all images without at least one container associated to them",
                "all build cache",
            ]
        } else {
            ["all dangling images", "unused build cache"]
        });
        let mut text = "WARNING! This will remove:\n".to_owned();
        for what in going {
            text += &format!("  - {what}\n");
        }
        if !filters.is_empty() {
            let mut filters = filters.to_vec();
            filters.sort_unstable();
            text += "\n  Items to be pruned will be filtered with:\n";
            for filter in filters {
                text += &format!("  - {filter}\n");
            }
        }
        text.push('\n');
        text
    }
}

impl Run for Prune {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let asked = with_configured(context, &self.filter)?;
        let filters = api_filters(&asked)?;
        let until = asked.iter().any(|filter| filter.starts_with("until="));
        if self.volumes && until {
            return Err(Failure::new(
                "ERROR: The \"until\" filter is not supported with \"--volumes\"",
            ));
        }
        if !self.force && !ask(&self.question(&asked))? {
            return Ok(0);
        }
        let client = context.client()?;
        let mut images = asked.clone();
        images.push(format!("dangling={}", !self.all));
        let images = api_filters(&images)?;
        let mut freed = 0;
        for (path, field, heading, filters) in [
            (
                "/containers/prune",
                "ContainersDeleted",
                "Deleted Containers:",
                &filters,
            ),
            (
                "/networks/prune",
                "NetworksDeleted",
                "Deleted Networks:",
                &filters,
            ),
            (
                "/volumes/prune",
                "VolumesDeleted",
                "Deleted Volumes:",
                &filters,
            ),
            ("/images/prune", "ImagesDeleted", "Deleted Images:", &images),
            (
                "/build/prune",
                "CachesDeleted",
                "Deleted build cache objects:",
                &filters,
            ),
        ] {
            if path == "/volumes/prune" && !self.volumes {
                continue;
            }
            let call = client.post(path).query_some("filters", filters.clone());
            let call = call.query_flag("all", self.all && path == "/build/prune");
            let mut answer: Value = call.send().await?.json().await?;
            untagged_and_deleted(&mut answer);
            show_pruned(&answer, field, heading)?;
            freed += answer["SpaceReclaimed"].as_u64().unwrap_or(0);
        }
        output::line(format!("Total reclaimed space: {}", human::size(freed, 4)))?;
        Ok(0)
    }
}
