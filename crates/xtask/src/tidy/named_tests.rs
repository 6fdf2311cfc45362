//! Every test that a document of tests names exists, and every transcript.

use std::collections::BTreeSet;

use super::{Finding, House};

const DOCUMENTS: [&str; 2] = ["docs/security-tests.md", "docs/image-tests.md"];

pub(super) fn check(house: &House) -> Vec<Finding> {
    let sources = house.crates.iter().flat_map(|one| &one.sources);
    let transcripts = house.transcripts();
    let mut named: BTreeSet<&str> = sources.flat_map(|(_, text)| tests(text)).collect();
    named.extend(transcripts.iter().map(String::as_str));
    let check = |document: &str| -> Vec<Finding> {
        missing(&house.text(document), &named)
            .map(|what| Finding::Failure(format!("{document}: {what}")))
            .collect()
    };
    DOCUMENTS.into_iter().flat_map(check).collect()
}

/// Names of the functions under `#[test]` and `#[tokio::test]`.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    text.split("#[test]")
        .flat_map(|part| part.split("#[tokio::test"))
        .skip(1)
        .filter_map(|part| part.split_once("fn ")?.1.split_once('(').map(|cut| cut.0))
}

/// What the table's rows name in backquotes in their last column and is no test, and rows that name nothing.
fn missing<'a>(document: &'a str, tests: &'a BTreeSet<&str>) -> impl Iterator<Item = String> + 'a {
    let rows = document
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1);
    rows.flat_map(|row| {
        let cell = row.trim_end_matches([' ', '|']).rsplit(" | ").next();
        let cell = cell.unwrap_or_default();
        let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        let silent = named.is_empty() && !cell.starts_with("no ");
        let gone = named.into_iter().filter(|name| !tests.contains(name));
        gone.map(|name| format!("there is no test `{name}`"))
            .chain(silent.then(|| format!("no test in row {row:?}")))
            .collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_test_is_found() {
        let source = "fn helper() {}\n#[test]\nfn one() {}\n#[tokio::test(flavor = \"x\")]\nasync fn two() {}";
        let found: BTreeSet<&str> = tests(source).collect();
        assert_eq!(found, BTreeSet::from(["one", "two"]));
        let document = "| attack | CVEs | tests |\n|---|---|---|\n\
            | a | 1 | `one`, `two` |\n| b | 2 | `helper` |\n| c | 3 | no builder yet |\n| d | 4 | soon |\n";
        let missing: Vec<String> = missing(document, &found).collect();
        assert_eq!(missing.len(), 2, "{missing:?}");
        assert!(missing[0].contains("`helper`") && missing[1].contains("soon"));
    }
}
