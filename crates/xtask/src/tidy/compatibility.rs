//! docs/compatibility.md lists every operation of the Docker Engine API exactly once, and says of each what
//! the router's own table says.
//!
//! The table is read as text: to link the façade would make this check as slow to build as the product.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Finding, House};

/// The operations of the API document, by group; kept as facts, not as a copy of the document.
const OPERATIONS: &str = include_str!("../../data/docker-operations.txt");
const DOCUMENT: &str = "docs/compatibility.md";
const TABLE: &str = "crates/docker/src/operations.rs";

const HEAD: &str = "\
# What of the Docker Engine API is served

Every operation of API 1.55, one row each. Versions 1.24 to 1.55 are accepted; a reply is shaped for the version asked.

- **served**: a stock client cannot tell the difference in what the transcripts under `tests/conformance/` try.
- **partly**: works, with the stated gap.
- **answered**: the subsystem is absent and answers as an engine without it does, because clients ask in passing.
- **501**: answers 501 with a sentence that says what is missing. Nothing is silently ignored.

Written by `cargo xtask compatibility` from the router's table; `cargo test -p hoist-xtask` checks that it is up to date and that no
operation is missing.
";

/// One operation as the router's table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    operation: String,
    state: &'static str,
    note: String,
}

pub(super) fn check(house: &House) -> Vec<Finding> {
    let rows = rows(&house.text(TABLE));
    let mut findings = complete(&rows, OPERATIONS);
    if house.text(DOCUMENT) != render(&rows, OPERATIONS) {
        findings.push(Finding::Failure(format!(
            "{DOCUMENT} is not what {TABLE} says: run cargo xtask compatibility"
        )));
    }
    findings
}

/// Writes the document from the router's table.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(root: &std::path::Path) -> anyhow::Result<()> {
    let table = std::fs::read_to_string(root.join(TABLE))?;
    std::fs::write(root.join(DOCUMENT), render(&rows(&table), OPERATIONS))?;
    Ok(())
}

fn complete(rows: &[Row], operations: &str) -> Vec<Finding> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *counts.entry(&row.operation).or_default() += 1;
    }
    let mut findings = Vec::new();
    for operation in operations.lines().filter(|line| !line.starts_with('#')) {
        match counts.get(operation).copied().unwrap_or(0) {
            1 => {}
            0 => findings.push(Finding::Failure(format!("{TABLE}: {operation} is missing"))),
            count => findings.push(Finding::Failure(format!(
                "{TABLE}: {operation} stands {count} times"
            ))),
        }
    }
    for row in rows
        .iter()
        .filter(|row| row.state == "partly" && row.note.is_empty())
    {
        findings.push(Finding::Failure(format!(
            "{TABLE}: {} is partly served, but nothing says what is missing",
            row.operation
        )));
    }
    findings
}

fn render(rows: &[Row], operations: &str) -> String {
    let mut text = HEAD.to_owned();
    let heading = |text: &mut String, title: &str| {
        let _ = write!(
            text,
            "\n## {title}\n\n| operation | state | note |\n|---|---|---|\n"
        );
    };
    let line = |text: &mut String, row: &Row| {
        let _ = writeln!(text, "| {} | {} | {} |", row.operation, row.state, row.note);
    };
    for known in operations.lines() {
        if let Some(group) = known.strip_prefix("## ") {
            heading(&mut text, group);
        } else if let Some(row) = rows.iter().find(|row| row.operation == known) {
            line(&mut text, row);
        }
    }
    let specified = |row: &&Row| operations.lines().any(|known| known == row.operation);
    let beyond = rows.iter().filter(|row| !specified(row));
    let (own, dockers): (Vec<&Row>, Vec<&Row>) =
        beyond.partition(|row| row.operation.contains(" /hoist/"));
    for (title, rows) in [
        (
            "Routed by Docker's engine, not in the specification",
            dockers,
        ),
        ("Hoist's own", own),
    ] {
        if rows.is_empty() {
            continue;
        }
        heading(&mut text, title);
        for row in rows {
            line(&mut text, row);
        }
    }
    text
}

/// The rows of the router's table: lines `operation("Id", "METHOD", "/path", support)`.
fn rows(source: &str) -> Vec<Row> {
    let constants: BTreeMap<&str, &str> = source
        .lines()
        .filter_map(|line| {
            let (name, value) = line.strip_prefix("const ")?.split_once(": &str = \"")?;
            Some((name, value.strip_suffix("\";")?))
        })
        .collect();
    let mut found = Vec::new();
    for line in source.lines() {
        let Some(rest) = line.trim().strip_prefix("operation(\"") else {
            continue;
        };
        let mut parts = rest.splitn(4, ", ");
        let (_, method, path) = (parts.next(), parts.next(), parts.next());
        let (Some(method), Some(path), Some(support)) = (method, path, parts.next()) else {
            continue;
        };
        let support = support.strip_suffix("),").unwrap_or(support);
        let said = support
            .split_once('(')
            .map(|(_, said)| said.strip_suffix(')').unwrap_or(said))
            .map(|said| {
                constants
                    .get(said)
                    .copied()
                    .unwrap_or(said.trim_matches('"'))
            })
            .unwrap_or_default();
        let state = match support.split('(').next().unwrap_or_default().to_lowercase() {
            kind if kind.contains("served") => "served",
            kind if kind.contains("partly") => "partly",
            kind if kind.contains("answered") => "answered",
            _ => "501",
        };
        let note = if state == "501" {
            format!("missing: {said}")
        } else {
            said.to_owned()
        };
        let operation = format!("{} {}", method.trim_matches('"'), path.trim_matches('"'));
        found.push(Row {
            operation,
            state,
            note,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
const SWARM: &str = "no manager: 503";
    operation("A", "GET", "/a", SERVED),
    operation("B", "POST", "/b/{id}", absent("b, and more (really)")),
    operation("C", "GET", "/c", Support::Answered(SWARM)),
    operation("C", "GET", "/c", Support::Partly("")),
"#;

    #[test]
    fn the_table_is_read_from_its_source() {
        let told: Vec<String> = rows(SOURCE)
            .iter()
            .map(|row| format!("{} | {} | {}", row.operation, row.state, row.note))
            .collect();
        assert_eq!(
            told,
            [
                "GET /a | served | ",
                "POST /b/{id} | 501 | missing: b, and more (really)",
                "GET /c | answered | no manager: 503",
                "GET /c | partly | ",
            ]
        );
    }

    #[test]
    fn missing_doubled_and_vague_rows_are_found() {
        let told: Vec<String> = complete(&rows(SOURCE), "## Group\nGET /a\nGET /c\nGET /d")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "failure: crates/docker/src/operations.rs: GET /c stands 2 times",
                "failure: crates/docker/src/operations.rs: GET /d is missing",
                "failure: crates/docker/src/operations.rs: GET /c is partly served, but nothing says what is missing",
            ]
        );
    }
}
