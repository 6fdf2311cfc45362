//! `stats`: what containers use, once or every second.

use std::io::IsTerminal as _;

use clap::Args;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::reference::{segment, short};
use crate::{Run, output};
use hoist_render::human;
use hoist_render::listing::Listing;

/// `stats`.
#[derive(Args, Debug)]
pub(crate) struct Stats {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Containers
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Run for Stats {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let client = context.client()?;
        loop {
            let mut names = self.containers.clone();
            if names.is_empty() {
                let list = client.get("/containers/json").query_flag("all", self.all);
                let list: Vec<Value> = list.send().await?.json().await?;
                let ids = list.iter().filter_map(|one| one["Id"].as_str());
                names.extend(ids.map(|id| short(id).to_owned()));
            }
            let mut rows = Vec::new();
            for name in &names {
                let call = client.get(format!("/containers/{}/stats", segment(name)));
                let found: Value = call.query("stream", "0").send().await?.json().await?;
                rows.push(row(name, &found, self.no_trunc));
            }
            let listing = Listing {
                headings: HEADINGS,
                table: TABLE,
                rows,
            };
            let text = listing.render(self.format.as_deref())?;
            let clear = !self.no_stream && std::io::stdout().is_terminal();
            output::text(format!("{}{text}", if clear { "\x1b[H\x1b[J" } else { "" }))?;
            if self.no_stream {
                return Ok(0);
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }
}

const HEADINGS: &[(&str, &str)] = &[
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// One line: processor time between the two readings, memory without the page cache that can go.
fn row(asked: &str, found: &Value, whole_id: bool) -> Value {
    let whole = |path: &str| found.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let between = |field: &str| {
        let now = whole(&format!("/cpu_stats/{field}"));
        now.saturating_sub(whole(&format!("/precpu_stats/{field}")))
    };
    let cpus = whole("/cpu_stats/online_cpus").max(1);
    let cpu = percent(
        between("cpu_usage/total_usage").saturating_mul(cpus),
        between("system_cpu_usage"),
    );
    let cache = whole("/memory_stats/stats/inactive_file")
        .max(whole("/memory_stats/stats/total_inactive_file"));
    let used = whole("/memory_stats/usage").saturating_sub(cache);
    let limit = whole("/memory_stats/limit");
    let networks = found["networks"].as_object();
    let network = |field: &str| -> u64 {
        let all = networks.into_iter().flat_map(serde_json::Map::values);
        all.filter_map(|one| one[field].as_u64()).sum()
    };
    let blocks = |operation: &str| -> u64 {
        let all = found.pointer("/blkio_stats/io_service_bytes_recursive");
        let all = all.and_then(Value::as_array).into_iter().flatten();
        all.filter(|one| {
            one["op"]
                .as_str()
                .is_some_and(|op| op.eq_ignore_ascii_case(operation))
        })
        .filter_map(|one| one["value"].as_u64())
        .sum()
    };
    let id = found["id"].as_str().unwrap_or_default();
    json!({
        "Container": asked,
        "ID": if whole_id { id } else { short(id) },
        "Name": found["name"].as_str().unwrap_or_default().trim_start_matches('/'),
        "CPUPerc": cpu,
        "MemUsage": format!("{} / {}", human::binary_size(used), human::binary_size(limit)),
        "MemPerc": percent(used, limit),
        "NetIO": format!("{} / {}", human::size(network("rx_bytes"), 3), human::size(network("tx_bytes"), 3)),
        "BlockIO": format!("{} / {}", human::size(blocks("read"), 3), human::size(blocks("write"), 3)),
        "PIDs": whole("/pids_stats/current").to_string(),
    })
}

/// `12.34%`, in whole hundredths.
fn percent(part: u64, whole: u64) -> String {
    let hundredths = u128::from(part) * 10_000 / u128::from(whole.max(1));
    let hundredths = if whole == 0 { 0 } else { hundredths };
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_what_happened_between_two_readings() {
        let found = json!({
            "id": "0123456789abcdef", "name": "/web",
            "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 3 << 20, "limit": 4 << 20, "stats": {"inactive_file": 1 << 20}},
            "pids_stats": {"current": 7},
            "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 5}},
            "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 2000}]},
        });
        let row = row("web", &found, false);
        assert_eq!(row["CPUPerc"], "40.00%");
        assert_eq!(row["MemUsage"], "2MiB / 4MiB");
        assert_eq!(row["MemPerc"], "50.00%");
        assert_eq!(row["NetIO"], "1kB / 5B");
        assert_eq!(row["BlockIO"], "2kB / 0B");
        assert_eq!(
            (&row["ID"], &row["PIDs"]),
            (&json!("0123456789ab"), &json!("7"))
        );
        assert_eq!(percent(1, 0), "0.00%");
    }
}
