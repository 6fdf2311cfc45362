//! `search`.

use clap::Args;
use serde_json::{Value, json};

use crate::container::api_filters;
use crate::{Context, Failure, Run, output, registry};
use hoist_render::listing::Listing;

/// Characters of a description that a table shows.
const DESCRIPTION: usize = 45;

/// `search`.
#[derive(Args, Debug)]
pub(crate) struct Search {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Max number of search results
    #[arg(long, value_name = "int")]
    limit: Option<i64>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// What to look for, on Docker Hub or on the registry that it begins with
    #[arg(value_name = "TERM")]
    term: String,
}

const HEADINGS: &[(&str, &str)] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
    ("IsAutomated", "AUTOMATED"),
];
const TABLE: &str = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";

impl Run for Search {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        if self.filter.iter().any(|f| f.starts_with("is-automated=")) {
            output::warn(
                "WARNING: the \"is-automated\" filter is deprecated, and searching for \"is-automated=true\" will not yield any results in future.",
            );
        }
        let server = self.term.split_once('/').map(|(server, _)| server);
        let server = server.filter(|s| s.contains(['.', ':']) || *s == "localhost");
        let login = registry::login_for(context, server.unwrap_or("docker.io"))?;
        let limit = self.limit.filter(|limit| *limit != 0);
        let call = context
            .client()?
            .get("/images/search")
            .query("term", self.term.as_str())
            .query_some("limit", limit.map(|limit| limit.to_string()))
            .query_some("filters", api_filters(&self.filter)?)
            .header("X-Registry-Auth", registry::header(&login));
        let found: Vec<Value> = call.send().await?.json().await?;
        let rows = found.iter().map(|hit| {
            let mut description = hit["description"].as_str().unwrap_or_default().to_owned();
            description = description.replace(['\n', '\r'], " ");
            if !self.no_trunc && description.chars().count() > DESCRIPTION {
                description = description.chars().take(DESCRIPTION - 1).collect();
                description.push('…');
            }
            let mark = |field: &str| match hit[field].as_bool() {
                Some(true) => "[OK]",
                _ => "",
            };
            json!({
                "Name": hit["name"],
                "Description": description,
                "StarCount": hit["star_count"].to_string(),
                "IsOfficial": mark("is_official"),
                "IsAutomated": mark("is_automated"),
            })
        });
        let listing = Listing {
            headings: HEADINGS,
            table: TABLE,
            rows: rows.collect(),
        };
        output::text(listing.render(self.format.as_deref())?)?;
        Ok(0)
    }
}
