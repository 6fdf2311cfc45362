//! Rules of the house that the compiler does not check.
//!
//! Each module checks one concern and knows nothing of the others. The same checks run as
//! `cargo test -p hoist-xtask`, so that a plain `cargo test` finds an untidy house.

mod arrows;
pub(crate) mod compatibility;
mod documents;
mod lints;
mod named_tests;
mod sizes;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// One thing that is not as the house wants it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Worth a look; tidy still passes.
    Warning(String),
    /// A broken rule; tidy fails.
    Failure(String),
}

impl Finding {
    /// Whether this finding fails the check.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::Failure(_))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warning(text) => write!(f, "warning: {text}"),
            Self::Failure(text) => write!(f, "failure: {text}"),
        }
    }
}

/// Runs every check on the repository at `root`.
///
/// # Errors
/// When a file that every check needs cannot be read.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let house = House::read(root)?;
    let mut findings = Vec::new();
    findings.extend(arrows::check(&house));
    findings.extend(sizes::check(&house));
    findings.extend(lints::check(&house));
    findings.extend(documents::check(&house));
    findings.extend(compatibility::check(&house));
    findings.extend(named_tests::check(&house));
    Ok(findings)
}

/// The repository as the checks see it.
pub(crate) struct House {
    /// Its root directory.
    pub(crate) root: PathBuf,
    /// Its crates, by directory name.
    pub(crate) crates: Vec<Crate>,
}

/// One crate under `crates/`.
pub(crate) struct Crate {
    /// The directory's name, which is the crate's name in the house.
    pub(crate) name: String,
    /// Its directory.
    pub(crate) directory: PathBuf,
    /// The text of its Cargo.toml.
    pub(crate) manifest: String,
    /// Its Rust files (`src`, `tests`, `examples`, `benches`), path and text.
    pub(crate) sources: Vec<(PathBuf, String)>,
}

impl House {
    fn read(root: &Path) -> anyhow::Result<Self> {
        let mut crates = Vec::new();
        for entry in std::fs::read_dir(root.join("crates")).context("crates/")? {
            let directory = entry?.path();
            let manifest = directory.join("Cargo.toml");
            if !manifest.exists() {
                continue;
            }
            let name = directory
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let mut sources = Vec::new();
            rust_files(&directory, &mut sources)?;
            sources.sort();
            let manifest = std::fs::read_to_string(manifest)?;
            crates.push(Crate {
                name,
                directory,
                manifest,
                sources,
            });
        }
        crates.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            root: root.to_owned(),
            crates,
        })
    }

    /// The text of a file of the repository; empty if it is not there (its absence is `documents`' finding).
    pub(crate) fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    /// The names of all transcripts.
    pub(crate) fn transcripts(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.root.join("tests/conformance"));
        let entries = entries.into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_some_and(|kind| kind == "txt"))
            .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
            .collect()
    }

    /// `path` as seen from the root.
    pub(crate) fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }
}

fn rust_files(directory: &Path, found: &mut Vec<(PathBuf, String)>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                rust_files(&path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("reading {}", path.display()))?;
            found.push((path, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_in_order() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .unwrap();
        let findings = check(root).unwrap();
        let failures: Vec<String> = findings
            .iter()
            .filter(|f| f.is_failure())
            .map(ToString::to_string)
            .collect();
        assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    }
}
