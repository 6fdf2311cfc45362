//! `images`.

use clap::Args;
use hoist_model::Timestamp;
use serde_json::{Value, json};

use super::tree::{self, Screen};
use crate::container::{api_filters, now};
use crate::reference::short;
use crate::{Context, Failure, Run, output, terminal};
use hoist_render::human;
use hoist_render::listing::Listing;

/// `images`.
#[derive(Args, Debug)]
pub(crate) struct Images {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// List multi-platform images as a tree (EXPERIMENTAL)
    #[arg(long)]
    tree: bool,
    /// Only images of this repository, and of this tag
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
}

/// The fields of an image and their headings.
pub(crate) const HEADINGS: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "VIRTUAL SIZE"),
];
const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const TABLE_WITH_DIGESTS: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

impl Run for Images {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        if self.tree {
            let refused = [
                (self.quiet, "--quiet"),
                (self.no_trunc, "--no-trunc"),
                (self.digests, "--show-digest"),
                (self.format.is_some(), "--format"),
            ];
            if let Some((_, flag)) = refused.iter().find(|(given, _)| *given) {
                let text = format!("{flag} is not yet supported with --tree");
                return Err(Failure::new(text));
            }
        }
        let mut filters = self.filter.clone();
        filters.extend(self.repository.iter().map(|r| format!("reference={r}")));
        let call = context
            .client()?
            .get("/images/json")
            .query_flag("all", self.all);
        let call = call.query_some("filters", api_filters(&filters)?);
        let call = call.query_flag("manifests", self.tree);
        let found: Vec<Value> = call.send().await?.json().await?;
        if self.tree {
            let width = terminal::columns().map(usize::from);
            output::text(tree::draw(&found, self.all, Screen { width }))?;
            return Ok(0);
        }
        let digests = self.digests || self.format.as_ref().is_some_and(|f| f.contains(".Digest"));
        let mut found: Vec<_> = found.iter().collect();
        found.sort_by_key(|image| std::cmp::Reverse(image["Created"].as_i64()));
        let show = Show {
            now: now(),
            whole: self.no_trunc,
            digests,
        };
        let mut rows: Vec<_> = found
            .into_iter()
            .flat_map(|image| show.rows(image))
            .collect();
        if self.quiet {
            rows.dedup_by(|a, b| a["ID"] == b["ID"]);
        }
        let listing = Listing {
            headings: HEADINGS,
            table: if digests { TABLE_WITH_DIGESTS } else { TABLE },
            rows,
        };
        let configured = match (&self.format, self.quiet) {
            (None, false) => context.config()?.text("imagesFormat"),
            _ => None,
        };
        let format = match (self.quiet, self.format.as_deref()) {
            (true, None) => Some("{{.ID}}"),
            (_, format) => format.or(configured),
        };
        output::text(listing.render(format)?)?;
        Ok(0)
    }
}

/// An image as `system df` shows it, by its first name.
pub(crate) fn usage_row(image: &Value, now: Timestamp, whole: bool) -> Option<Value> {
    let show = Show {
        now,
        whole,
        digests: false,
    };
    let mut row = show.rows(image).into_iter().next()?;
    row["Digest"] = "".into();
    Some(row)
}

struct Show {
    now: Timestamp,
    whole: bool,
    digests: bool,
}

impl Show {
    /// One row per tag; per digest where there is no tag, or where digests are shown.
    fn rows(&self, image: &Value) -> Vec<Value> {
        let list = |field: &str| -> Vec<String> {
            let items = image[field].as_array().into_iter().flatten();
            let items = items
                .filter_map(Value::as_str)
                .filter(|i| !i.contains("<none>"));
            items.map(str::to_owned).collect()
        };
        let (tags, digests) = (list("RepoTags"), list("RepoDigests"));
        let digest_of = |repository: &str| {
            let of = digests.iter().filter_map(|d| d.split_once('@'));
            of.into_iter()
                .find(|(r, _)| *r == repository)
                .map(|(_, d)| d.to_owned())
        };
        let mut names: Vec<(String, String, String)> = Vec::new();
        for tag in &tags {
            let (repository, tag) = tag.rsplit_once(':').unwrap_or((tag, "<none>"));
            let digest = digest_of(repository).unwrap_or_else(|| "<none>".to_owned());
            names.push((repository.to_owned(), tag.to_owned(), digest));
        }
        for digest in &digests {
            let (repository, digest) = digest.split_once('@').unwrap_or((digest, "<none>"));
            let named = names.iter().any(|(r, _, _)| r == repository);
            if !named && (tags.is_empty() || self.digests) {
                names.push((
                    repository.to_owned(),
                    "<none>".to_owned(),
                    digest.to_owned(),
                ));
            }
        }
        if names.is_empty() {
            let none = || "<none>".to_owned();
            names.push((none(), none(), none()));
        }
        let id = image["Id"].as_str().unwrap_or_default();
        let created = Timestamp::from_seconds(image["Created"].as_i64().unwrap_or(0));
        let number = |field: &str| image[field].as_i64().filter(|n| *n >= 0);
        let size = |field: &str| match number(field) {
            Some(n) => human::size(n.unsigned_abs(), 3),
            None => "N/A".to_owned(),
        };
        let unknown = || "N/A".to_owned();
        let unique = number("Size").zip(number("SharedSize"));
        let unique = unique.map(|(whole, shared)| whole.saturating_sub(shared));
        let row = |(repository, tag, digest): (String, String, String)| {
            json!({
                "Containers": number("Containers").map_or_else(|| "N/A".to_owned(), |n| n.to_string()),
                "CreatedAt": human::instant(created),
                "CreatedSince": human::ago(self.now, created),
                "Digest": digest,
                "ID": if self.whole { id } else { short(id) },
                "Repository": repository,
                "SharedSize": number("SharedSize").map_or_else(unknown, |n| human::size(n.unsigned_abs(), 4)),
                "Size": size("Size"),
                "Tag": tag,
                "UniqueSize": unique.map_or_else(unknown, |n| human::size(n.unsigned_abs(), 4)),
                "VirtualSize": number("Size").map_or_else(String::new, |n| human::size(n.unsigned_abs(), 4)),
            })
        };
        names.into_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn each_tag_is_a_row() {
        let images = [
            json!({"Id": format!("sha256:{}", "ab".repeat(32)), "Created": 0, "Size": 4_269_678,
                "RepoTags": ["busybox:latest", "host:5000/box:1"],
                "RepoDigests": ["busybox@sha256:00"]}),
            json!({"Id": format!("sha256:{}", "cd".repeat(32)), "Created": 500_000, "Size": 123_456_789}),
        ];
        let table = |digests| {
            let show = Show {
                now: Timestamp::from_seconds(1_000_000),
                whole: false,
                digests,
            };
            let rows = images.iter().flat_map(|i| show.rows(i)).collect();
            let table = if digests { TABLE_WITH_DIGESTS } else { TABLE };
            Listing {
                headings: HEADINGS,
                table,
                rows,
            }
            .render(None)
            .unwrap()
        };
        expect![[r#"
            REPOSITORY      TAG       IMAGE ID       CREATED       SIZE
            busybox         latest    abababababab   11 days ago   4.27MB
            host:5000/box   1         abababababab   11 days ago   4.27MB
            <none>          <none>    cdcdcdcdcdcd   5 days ago    123MB
        "#]]
        .assert_eq(&table(false));
        expect![[r#"
            REPOSITORY      TAG       DIGEST      IMAGE ID       CREATED       SIZE
            busybox         latest    sha256:00   abababababab   11 days ago   4.27MB
            host:5000/box   1         <none>      abababababab   11 days ago   4.27MB
            <none>          <none>    <none>      cdcdcdcdcdcd   5 days ago    123MB
        "#]]
        .assert_eq(&table(true));
    }
}
