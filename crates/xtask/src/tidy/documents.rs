//! The documents a reader expects are there, and name what exists.

use std::collections::BTreeSet;

use super::{Finding, House};

/// Documents that must exist, each with a text it must contain.
const DOCUMENTS: &[(&str, &str)] = &[
    ("README.md", "scripts/quickstart"),
    ("ARCHITECTURE.md", "Invariant:"),
    ("SPECIFICATION.md", "cargo xtask bench"),
    ("CONTRIBUTING.md", "scripts/test"),
    ("CHANGELOG.md", "## [Unreleased]"),
    ("RELEASE-CHECKLIST.md", "- [ ]"),
    ("LICENSE", "Apache License"),
    ("deny.toml", "[licenses]"),
    ("docs/compatibility.md", "| GET /_ping |"),
    ("docs/security-tests.md", "| attack | CVEs | tests |"),
    ("docs/image-tests.md", "| what | shown by |"),
    ("docs/recipes/add-a-docker-endpoint.md", "compatibility.md"),
    ("docs/recipes/change-an-on-disk-format.md", "golden"),
];

/// Longest that ARCHITECTURE.md may get, in lines.
const ARCHITECTURE_LINES: usize = 500;

pub(super) fn check(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, needed) in DOCUMENTS {
        let text = house.text(path);
        if text.is_empty() {
            findings.push(Finding::Failure(format!("{path} is missing")));
        } else if !text.contains(needed) {
            findings.push(Finding::Failure(format!(
                "{path} does not contain {needed:?}"
            )));
        }
    }
    let architecture = house.text("ARCHITECTURE.md");
    let lines = architecture.lines().count();
    if lines > ARCHITECTURE_LINES {
        findings.push(Finding::Failure(format!(
            "ARCHITECTURE.md: {lines} lines, more than {ARCHITECTURE_LINES}"
        )));
    }
    for one in &house.crates {
        let (name, head) = (&one.name, ["src/lib.rs", "src/main.rs"]);
        if !architecture.contains(&format!("`{name}`")) {
            findings.push(Finding::Failure(format!(
                "ARCHITECTURE.md does not name crate `{name}`"
            )));
        }
        let documented = one.sources.iter().any(|(path, text)| {
            head.iter().any(|head| path == &one.directory.join(head)) && text.starts_with("//! ")
        });
        if !documented {
            findings.push(Finding::Failure(format!(
                "crates/{name}: its root file has no `//!` documentation"
            )));
        }
        for (path, text) in &one.sources {
            if !text.starts_with("//!") && !text.trim().is_empty() {
                let path = house.relative(path);
                findings.push(Finding::Warning(format!("{path}: no module documentation")));
            }
        }
    }
    findings.extend(transcripts(house));
    findings
}

/// Transcripts that tests/conformance/README.md does not place, and places without a transcript.
fn transcripts(house: &House) -> Vec<Finding> {
    let played = house.transcripts();
    let readme = house.text("tests/conformance/README.md");
    let table = readme
        .split_once("| verb or mode |")
        .map_or("", |cut| cut.1);
    let named: BTreeSet<String> = table
        .lines()
        .filter_map(|row| row.rsplit(" | ").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    let unplaced = played.difference(&named).map(|name| {
        Finding::Warning(format!(
            "tests/conformance/README.md does not say what {name} plays"
        ))
    });
    let gone = named.difference(&played).map(|name| {
        Finding::Failure(format!(
            "tests/conformance/README.md names {name}, which is no transcript"
        ))
    });
    unplaced.chain(gone).collect()
}
