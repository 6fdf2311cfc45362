//! docs/compatibility.md lists every operation of the Docker Engine API exactly once.

use std::collections::BTreeMap;

use super::{Finding, House};

const OPERATIONS: &str = include_str!("../../data/docker-operations.txt");
const DOCUMENT: &str = "docs/compatibility.md";
const STATES: &[&str] = &["served", "partly", "501"];

pub(super) fn check(house: &House) -> Vec<Finding> {
    compare(&house.text(DOCUMENT), OPERATIONS)
}

fn compare(document: &str, operations: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    for line in document
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains(" /"))
    {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let (operation, state) = (cells.next().unwrap_or(""), cells.next().unwrap_or(""));
        let note = cells.next().unwrap_or("");
        *rows.entry(operation).or_default() += 1;
        if !STATES.contains(&state) {
            findings.push(Finding::Failure(format!(
                "{DOCUMENT}: {operation} is {state:?}, not one of {}",
                STATES.join(", ")
            )));
        }
        if state == "partly" && note.is_empty() {
            findings.push(Finding::Failure(format!(
                "{DOCUMENT}: {operation} is partly served, but nothing says what is missing"
            )));
        }
    }
    for operation in operations
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match rows.remove(operation) {
            Some(1) => {}
            Some(count) => findings.push(Finding::Failure(format!(
                "{DOCUMENT}: {operation} stands {count} times"
            ))),
            None => findings.push(Finding::Failure(format!(
                "{DOCUMENT}: {operation} is missing"
            ))),
        }
    }
    for operation in rows.keys() {
        findings.push(Finding::Failure(format!(
            "{DOCUMENT}: {operation} is not an operation (crates/xtask/data/docker-operations.txt)"
        )));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_doubled_and_unknown_rows_are_found() {
        let document = "| GET /a | served | |\n| GET /b | 501 | |\n| GET /b | 501 | |\n| GET /d | partly | |\n";
        let texts: Vec<String> = compare(document, "# list\nGET /a\nGET /b\nGET /c\n")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "failure: docs/compatibility.md: GET /d is partly served, but nothing says what is missing",
                "failure: docs/compatibility.md: GET /b stands 2 times",
                "failure: docs/compatibility.md: GET /c is missing",
                "failure: docs/compatibility.md: GET /d is not an operation (crates/xtask/data/docker-operations.txt)",
            ]
        );
    }
}
