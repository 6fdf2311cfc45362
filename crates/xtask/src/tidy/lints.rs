//! Lint settings that each crate must carry itself, and the fence around `unsafe`.

use super::{Finding, House};

/// Where `unsafe` may be: path prefixes, each with its reason.
const UNSAFE: &[(&str, &str)] = &[
    (
        "crates/sys/src/",
        "the fence: raw system calls as safe functions",
    ),
    ("crates/vmm/src/", "the microVM monitor maps guest memory"),
    (
        "crates/runtime/src/child",
        "between clone and exec nothing but raw system calls may run",
    ),
];

pub(super) fn check(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    let root = house.text("clippy.toml");
    let wanted = disallowed(&root);
    if wanted.is_empty() {
        findings.push(Finding::Failure("clippy.toml disallows nothing".to_owned()));
    }
    for one in &house.crates {
        if !one.manifest.contains("[lints]\nworkspace = true") {
            findings.push(Finding::Failure(format!(
                "crates/{}: does not take the workspace's lints",
                one.name
            )));
        }
        let own = one.directory.join("clippy.toml");
        if let Ok(text) = std::fs::read_to_string(&own) {
            let listed = disallowed(&text);
            for path in wanted.iter().filter(|path| !listed.contains(path)) {
                findings.push(Finding::Failure(format!(
                    "{}: replaces the root file but does not repeat {path}",
                    house.relative(&own)
                )));
            }
        }
        for (path, text) in &one.sources {
            let name = house.relative(path);
            let fenced = UNSAFE.iter().any(|(prefix, _)| name.starts_with(prefix));
            if !fenced && let Some(line) = unsafe_line(text) {
                findings.push(Finding::Failure(format!(
                    "{name}:{line}: unsafe code outside the fence"
                )));
            }
        }
    }
    findings
}

/// The paths that a clippy.toml disallows.
fn disallowed(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("{ path = \"")?.split('"').next())
        .collect()
}

/// The first line, counted from 1, that opens unsafe code or allows it.
fn unsafe_line(text: &str) -> Option<usize> {
    // Written apart, so that this file is not its own finding.
    let openers = [
        concat!("un", "safe {"),
        concat!("un", "safe fn"),
        concat!("un", "safe impl"),
        concat!("un", "safe_code"),
    ];
    let found = text.lines().position(|line| {
        let code = line.split("//").next().unwrap_or_default();
        openers.iter().any(|opener| code.contains(opener))
    });
    found.map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opened_fence_is_seen_and_a_comment_is_not() {
        assert_eq!(
            unsafe_line(concat!("fn a() {\n  un", "safe { b() }\n}")),
            Some(2)
        );
        assert_eq!(unsafe_line(concat!("// un", "safe { b() }")), None);
    }

    #[test]
    fn the_disallowed_paths_are_read() {
        let text =
            "disallowed-methods = [\n    { path = \"std::env::set_var\", reason = \"x\" },\n]";
        assert_eq!(disallowed(text), ["std::env::set_var"]);
    }
}
