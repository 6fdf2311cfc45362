//! `system df`.

use clap::Args;
use hoist_model::Timestamp;
use serde_json::{Value, json};

use crate::{Context, Failure, Run, container, image, output, volume};
use hoist_render::human;
use hoist_render::listing::Listing;
use hoist_render::template::Template;

/// `system df`.
#[derive(Args, Debug)]
pub(super) struct DiskUsage {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

/// What one kind of object occupies.
struct Kind {
    name: &'static str,
    total: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
    /// Whether a percentage is shown of what can be reclaimed.
    percent: bool,
}

impl Kind {
    fn row(&self) -> Value {
        let free = human::size(self.reclaimable, 4);
        let free = match (self.reclaimable * 100).checked_div(self.size) {
            Some(percent) if self.percent => format!("{free} ({percent}%)"),
            _ => free,
        };
        json!({
            "Active": self.active.to_string(), "Reclaimable": free,
            "Size": human::size(self.size, 4), "TotalCount": self.total.to_string(), "Type": self.name,
        })
    }
}

/// The objects of a kind: newer engines keep them one level deeper.
fn items(usage: &Value, old: &str, new: &str) -> Vec<Value> {
    let list = usage[new]["Items"]
        .as_array()
        .or_else(|| usage[old].as_array());
    list.cloned().unwrap_or_default()
}

/// A number of bytes; negative and absent ones are unknown.
fn bytes(value: &Value) -> Option<u64> {
    value.as_u64()
}

fn images(usage: &Value, list: &[Value]) -> Kind {
    let used = list.iter().filter(|i| i["Containers"].as_i64() != Some(0));
    let alone = used.filter_map(|i| bytes(&i["Size"])?.checked_sub(bytes(&i["SharedSize"])?));
    let alone: u64 = alone.sum();
    let whole = &usage["ImageUsage"]["TotalSize"];
    let size = bytes(whole)
        .or_else(|| bytes(&usage["LayersSize"]))
        .unwrap_or(0);
    let active = list
        .iter()
        .filter(|i| i["Containers"].as_i64().unwrap_or(0) > 0);
    Kind {
        name: "Images",
        total: list.len(),
        active: active.count(),
        size,
        reclaimable: size.saturating_sub(alone),
        percent: true,
    }
}

fn simple(
    name: &'static str,
    list: &[Value],
    size: impl Fn(&Value) -> u64,
    is_active: impl Fn(&Value) -> bool,
) -> Kind {
    let idle = list.iter().filter(|item| !is_active(item));
    Kind {
        name,
        total: list.len(),
        active: list.iter().filter(|item| is_active(item)).count(),
        size: list.iter().map(&size).sum(),
        reclaimable: idle.map(&size).sum(),
        percent: name != "Build Cache",
    }
}

const HEADINGS: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];
const IMAGES: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const VOLUMES: &str = "{{.Name}}\t{{.Links}}\t{{.Size}}";
const CACHE: &str = "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}";
const CACHE_HEADINGS: &[(&str, &str)] = &[
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];

impl Run for DiskUsage {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let format = self.format.as_deref().filter(|format| !format.is_empty());
        // A template that is none is told of before the engine counts.
        if let Some(template) = format {
            Template::parse(template)?;
        }
        let call = context.client()?.get("/system/df").query("verbose", "1");
        let usage: Value = call.send().await?.json().await?;
        let image_list = items(&usage, "Images", "ImageUsage");
        let container_list = items(&usage, "Containers", "ContainerUsage");
        let volume_list = items(&usage, "Volumes", "VolumeUsage");
        let cache_list = items(&usage, "BuildCache", "BuildCacheUsage");
        if !self.verbose {
            let written = |c: &Value| bytes(&c["SizeRw"]).unwrap_or(0);
            let runs = |c: &Value| {
                let state = c["State"].as_str().unwrap_or_default();
                ["running", "paused", "restarting"].contains(&state)
            };
            let held = |v: &Value| bytes(&v["UsageData"]["Size"]).unwrap_or(0);
            let used = |v: &Value| v["UsageData"]["RefCount"].as_i64().unwrap_or(0) > 0;
            let cached = |c: &Value| bytes(&c["Size"]).unwrap_or(0);
            let kinds = [
                images(&usage, &image_list),
                simple("Containers", &container_list, written, runs),
                simple("Local Volumes", &volume_list, held, used),
                simple("Build Cache", &cache_list, cached, |c| c["InUse"] == true),
            ];
            let listing = Listing {
                headings: HEADINGS,
                table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
                rows: kinds.iter().map(Kind::row).collect(),
            };
            output::text(listing.render(format)?)?;
            return Ok(0);
        }
        let now = container::now();
        let table = format.is_none_or(|format| format == "table");
        let images: Vec<_> = image_list
            .iter()
            .filter_map(|i| image::usage_row(i, now, !table))
            .collect();
        let containers: Vec<_> = container_list
            .iter()
            .map(|c| container::usage_row(c, now, !table))
            .collect();
        let volumes: Vec<_> = volume_list.iter().map(volume::row).collect();
        let cache: Vec<_> = cache_list.iter().map(|c| cache_row(c, now)).collect();
        if let (false, Some(format)) = (table, format) {
            let all = json!({
                "Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": cache,
            });
            let text = match format {
                "json" => hoist_render::template::go_json(&all) + "\n",
                template => Template::parse(template)?.render(&all)?,
            };
            output::text(text)?;
            return Ok(0);
        }
        let show = |headings, table, rows| {
            Listing {
                headings,
                table,
                rows,
            }
            .render(None)
        };
        let size: u64 = cache_list.iter().filter_map(|c| bytes(&c["Size"])).sum();
        let text = format!(
            "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\n\n{}",
            show(image::HEADINGS, IMAGES, images)?,
            show(container::HEADINGS, CONTAINERS, containers)?,
            show(volume::HEADINGS, VOLUMES, volumes)?,
            human::size(size, 4),
            show(CACHE_HEADINGS, CACHE, cache)?,
        );
        output::text(text)?;
        Ok(0)
    }
}

fn cache_row(record: &Value, now: Timestamp) -> Value {
    let text = |field: &str| record[field].as_str().unwrap_or_default();
    let since = |field: &str| {
        let at = text(field).parse::<Timestamp>();
        at.map_or_else(|_| String::new(), |at| human::ago(now, at))
    };
    json!({
        "ID": text("ID"), "CacheType": text("Type"), "Size": human::size(bytes(&record["Size"]).unwrap_or(0), 3),
        "CreatedSince": since("CreatedAt"), "LastUsedSince": since("LastUsedAt"),
        "UsageCount": record["UsageCount"].to_string(), "Shared": (record["Shared"] == true).to_string(),
        "Description": text("Description"), "InUse": (record["InUse"] == true).to_string(),
    })
}
