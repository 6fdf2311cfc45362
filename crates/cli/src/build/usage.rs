//! `builder du`: what the build cache keeps, as `docker buildx du` lists it.

use clap::Args;
use hoist_render::{human, table};
use serde_json::Value;

use crate::{Context, Failure, Run, output};

/// `builder du`.
#[derive(Args, Debug)]
pub(super) struct BuildUsage {
    /// Provide filter values (id, type, description, shared, private)
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Tell more of each entry
    #[arg(long)]
    verbose: bool,
}

impl Run for BuildUsage {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let call = context.client()?.get("/system/df");
        let call = call.query("type", "build-cache").query("verbose", "1");
        let answer: Value = call.send().await?.json().await?;
        // Engines of API 1.52 and later have the one, others the other.
        let newer = answer["BuildCacheUsage"]["Items"].as_array();
        let entries = newer.or_else(|| answer["BuildCache"].as_array());
        let entries = entries.cloned().unwrap_or_default();
        let mut chosen = Vec::new();
        for entry in entries {
            if self.fits(&entry)? {
                chosen.push(entry);
            }
        }
        output::text(match self.verbose {
            true => verbose(&chosen),
            false => list(&chosen),
        })?;
        Ok(0)
    }
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry[key].as_str().unwrap_or_default()
}

fn bytes(entry: &Value) -> u64 {
    entry["Size"].as_u64().unwrap_or(0)
}

fn is_shared(entry: &Value) -> bool {
    entry["Shared"].as_bool().unwrap_or(false)
}

impl BuildUsage {
    fn fits(&self, entry: &Value) -> Result<bool, Failure> {
        for filter in &self.filter {
            let (name, value) = filter.split_once('=').unwrap_or((filter, "true"));
            let fits = match name {
                "id" => text(entry, "ID").starts_with(value),
                "type" => text(entry, "Type") == value,
                "description" => text(entry, "Description").contains(value),
                "shared" => is_shared(entry) == (value == "true"),
                "private" => is_shared(entry) != (value == "true"),
                _ => return Err(Failure::new(format!("invalid filter '{filter}'"))),
            };
            if !fits {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn list(entries: &[Value]) -> String {
    let mut lines = String::from("ID\tRECLAIMABLE\tSIZE\tLAST USED\n");
    for entry in entries {
        let id: String = text(entry, "ID").chars().take(25).collect();
        let shared = if is_shared(entry) { "*" } else { "" };
        let size = human::size(bytes(entry), 4);
        let used = text(entry, "LastUsedAt");
        lines.push_str(&format!("{id}\ttrue\t{size}{shared}\t{used}\n"));
    }
    format!("{}{}", table::align(&lines), totals(entries))
}

/// What images have too is theirs: letting go of it frees nothing.
fn totals(entries: &[Value]) -> String {
    let sum = |shared: bool| {
        let of_kind = entries.iter().filter(|entry| is_shared(entry) == shared);
        of_kind.map(bytes).sum::<u64>()
    };
    let (shared, private) = (sum(true), sum(false));
    let lines = format!(
        "Shared:\t{}\nPrivate:\t{}\nReclaimable:\t{}\nTotal:\t{}\n",
        human::size(shared, 4),
        human::size(private, 4),
        human::size(private, 4),
        human::size(shared + private, 4),
    );
    table::align(&lines)
}

fn verbose(entries: &[Value]) -> String {
    let mut whole = String::new();
    for entry in entries {
        let lines = format!(
            "ID:\t{}\nCreated at:\t{}\nReclaimable:\ttrue\nShared:\t{}\nSize:\t{}\nDescription:\t{}\nUsage count:\t{}\nLast used:\t{}\nType:\t{}\n",
            text(entry, "ID"),
            text(entry, "CreatedAt"),
            is_shared(entry),
            human::size(bytes(entry), 4),
            text(entry, "Description").replace(['\t', '\n'], " "),
            entry["UsageCount"],
            text(entry, "LastUsedAt"),
            text(entry, "Type"),
        );
        whole.push_str(&table::align(&lines));
        whole.push('\n');
    }
    whole + &totals(entries)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_listed_with_what_they_cost() {
        let entry = |id: &str, size: u64, shared: bool| {
            json!({
                "ID": id, "Type": "regular", "Description": "RUN make", "Shared": shared, "Size": size,
                "CreatedAt": "then", "LastUsedAt": "now", "UsageCount": 2,
            })
        };
        let entries = [entry("aa", 2000, false), entry("bb", 3000, true)];
        expect![[r#"
            ID        RECLAIMABLE   SIZE      LAST USED
            aa        true          2kB       now
            bb        true          3kB*      now
            Shared:        3kB
            Private:       2kB
            Reclaimable:   2kB
            Total:         5kB
        "#]]
        .assert_eq(&list(&entries));
        assert!(verbose(&entries).contains("Description:   RUN make\n"));
        let usage = |filter: &str| BuildUsage {
            filter: vec![filter.to_owned()],
            verbose: false,
        };
        assert!(usage("shared=true").fits(&entries[1]).unwrap());
        assert!(!usage("private").fits(&entries[1]).unwrap());
        assert!(usage("colour=red").fits(&entries[0]).is_err());
    }
}
