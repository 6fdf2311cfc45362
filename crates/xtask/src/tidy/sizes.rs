//! Files stay small enough to be read at one sitting.

use super::{Finding, House};

const WARN: usize = 500;
const FAIL: usize = 800;

/// File name endings that are exempt: generated code and tables of facts are not read top to bottom.
const EXEMPT: &[&str] = &["_table.rs", "_tables.rs"];

pub(super) fn check(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in house.crates.iter().flat_map(|one| &one.sources) {
        let name = house.relative(path);
        if name.contains("/generated/") || EXEMPT.iter().any(|ending| name.ends_with(ending)) {
            continue;
        }
        let lines = text.lines().count();
        if lines > FAIL {
            findings.push(Finding::Failure(format!(
                "{name}: {lines} lines, more than {FAIL}"
            )));
        } else if lines > WARN {
            findings.push(Finding::Warning(format!(
                "{name}: {lines} lines, more than {WARN}"
            )));
        }
    }
    findings
}
