//! Every flag of the stock client, verb by verb, is known to ours: taken with the same meaning, or refused by name.
//!
//! Read from the stock client's own `--help`, so a newer client brings its new flags with it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Nouns that are no part of what this engine serves, and what our client does not do yet.
const NOT_SERVED: [&str; 16] = [
    "build",
    "builder",
    "buildx",
    "checkpoint",
    "compose",
    "config",
    "image build",
    "network",
    "node",
    "plugin",
    "secret",
    "service",
    "stack",
    "swarm",
    "trust",
    "completion",
];

/// Flags that ours need not know, each with its reason.
const EXCEPTIONS: [(&str, &str, &str); 1] = [("*", "--help", "asked for in either")];

fn help(program: &Path, verb: &[String]) -> String {
    let output = Command::new(program)
        .args(verb)
        .arg("--help")
        .env("DOCKER_HOST", "unix:///nowhere")
        .output()
        .expect("the client can be run");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The verbs under a heading that ends in `Commands:`.
fn verbs(help: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in help.lines() {
        if line.ends_with("Commands:") {
            inside = true;
        } else if line.is_empty() {
            inside = false;
        } else if let (true, Some(word)) = (inside, line.split_whitespace().next()) {
            found.push(word.trim_end_matches('*').to_owned());
        }
    }
    found
}

/// The flags of a verb, `-a` and `--all` each.
fn flags(help: &str) -> Vec<String> {
    let mut found = Vec::new();
    let options = help.split("Options:").nth(1).unwrap_or_default();
    for line in options.lines() {
        // Descriptions are far to the right.
        let head = line.get(..8).unwrap_or(line).trim_start();
        if !head.starts_with('-') {
            continue;
        }
        for word in line
            .split_whitespace()
            .take_while(|word| word.starts_with('-'))
        {
            found.push(word.trim_end_matches(',').to_owned());
        }
    }
    found
}

/// What is missing, a line each.
pub(crate) fn missing(stock: &OsStr) -> Vec<String> {
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let own = directory.path().join("docker");
    let built = env!("CARGO_BIN_EXE_hoist").into();
    let binary = std::env::var_os("HOIST_BINARY").unwrap_or(built);
    std::os::unix::fs::symlink(binary, &own).expect("a fresh directory takes a link");
    let stock = Path::new(stock);
    let mut report = Vec::new();
    let mut left = vec![Vec::<String>::new()];
    while let Some(verb) = left.pop() {
        let name = verb.join(" ");
        if NOT_SERVED.contains(&name.as_str()) {
            continue;
        }
        let (theirs, ours) = (help(stock, &verb), help(&own, &verb));
        if !ours.contains(&format!("docker {name}")) {
            report.push(format!("docker {name}: no such verb"));
            continue;
        }
        let known = flags(&ours);
        for flag in flags(&theirs) {
            let excused = EXCEPTIONS
                .iter()
                .any(|(of, which, _)| (*of == "*" || *of == name) && *which == flag);
            if !excused && !known.contains(&flag) {
                report.push(format!("docker {name}: no flag {flag}"));
            }
        }
        for word in verbs(&theirs) {
            let mut deeper = verb.clone();
            deeper.push(word);
            left.push(deeper);
        }
    }
    report
}
