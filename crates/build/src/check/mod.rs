//! Build checks: what is most likely wrong with a Dockerfile that can be built (docker/dockerfile 1.1x, "Build checks"). Clients know rules by
//! their names.

mod file;
mod rules;
mod settings;

use std::fmt::Write as _;

use crate::dockerfile::{Lines, excerpt};

pub(crate) use file::{check_file, is_secret};
pub use rules::Rule;
pub use settings::{CheckError, CheckSettings};

/// Something that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Which check.
    pub rule: Rule,
    /// What is wrong, with the operand.
    pub message: String,
    /// Where.
    pub lines: Lines,
}

impl Warning {
    /// On one line: `Rule: what (line 3)`.
    #[must_use]
    pub fn headline(&self) -> String {
        let (name, line) = (self.rule.name(), self.lines.first);
        format!("{name}: {} (line {line})", self.message)
    }
}

/// Warnings as `docker build --check` shows them (BuildKit's `frontend.lint`): the rule and where to read of it, what is wrong, and the lines.
#[must_use]
pub fn report(warnings: &[Warning], name: &str, source: &str) -> String {
    let mut text = String::new();
    let rule = "-".repeat(20);
    for warning in warnings {
        let (check, first) = (warning.rule, warning.lines.first);
        let _ = write!(text, "\nWARNING: {}", check.name());
        if let Some(url) = check.url() {
            let _ = write!(text, " - {url}");
        }
        let message = &warning.message;
        let shown = excerpt(source, warning.lines);
        let _ = write!(text, "\n{message}\n{name}:{first}\n{rule}\n{shown}{rule}\n");
    }
    text
}

#[cfg(test)]
mod tests;
