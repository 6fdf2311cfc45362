//! What variables stand for.

use hoist_model::Platform;

use super::PlanOptions;
use crate::dockerfile::{Argument, DockerfileError, Expanded, Lines, Reading, WordError, expand};

/// Build arguments that steps get without an ARG, and that neither the cache nor the history knows of (Dockerfile reference,
/// "Predefined ARGs").
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The variables of a stage, or of what is before the first one.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// ENV, as `NAME=value`: goes before ARG of the same name.
    pub(super) environment: Vec<String>,
    /// ARG with its value, in the order of the file.
    pub(super) arguments: Vec<(String, String)>,
}

impl Scope {
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.environment
            .iter()
            .find_map(|text| text.split_once('=').filter(|(own, _)| *own == name))
            .map(|(_, value)| value)
            .or_else(|| {
                let found = self.arguments.iter().rev().find(|(own, _)| own == name);
                found.map(|(_, value)| value.as_str())
            })
    }

    pub(super) fn set_environment(&mut self, name: &str, value: &str) {
        let text = format!("{name}={value}");
        let same = |own: &String| own.split('=').next() == Some(name);
        match self.environment.iter_mut().find(|own| same(own)) {
            Some(own) => *own = text,
            None => self.environment.push(text),
        }
    }

    pub(super) fn set_argument(&mut self, name: &str, value: String) {
        self.arguments.retain(|(own, _)| own != name);
        self.arguments.push((name.to_owned(), value));
    }

    /// As a step's program sees it: ARG too, where ENV does not say otherwise.
    pub(super) fn of_a_run(&self) -> Vec<String> {
        let is_free = |name: &str| {
            let mut names = self.environment.iter().map(|text| text.split('=').next());
            !names.any(|own| own == Some(name))
        };
        let arguments = self.arguments.iter().filter(|(name, _)| is_free(name));
        arguments
            .map(|(name, value)| format!("{name}={value}"))
            .chain(self.environment.iter().cloned())
            .collect()
    }

    pub(super) fn expand(&self, text: &str, reading: Reading) -> Result<Expanded, WordError> {
        expand(text, reading, &|name| self.value(name))
    }

    /// One word, with the lines to blame.
    pub(super) fn word(
        &self,
        text: &str,
        escape: char,
        lines: Lines,
    ) -> Result<String, DockerfileError> {
        Ok(self.expanded(text, escape, lines)?.text)
    }

    /// The same, with the names that were used and those that were not there.
    pub(super) fn expanded(
        &self,
        text: &str,
        escape: char,
        lines: Lines,
    ) -> Result<Expanded, DockerfileError> {
        self.expand(text, Reading::plain(escape))
            .map_err(|error| unreadable(text, &error, lines))
    }

    /// Every name that has a value.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let environment = self.environment.iter();
        environment
            .filter_map(|text| text.split_once('=').map(|(name, _)| name))
            .chain(self.arguments.iter().map(|(name, _)| name.as_str()))
    }

    /// Words, with the lines to blame.
    pub(super) fn words(
        &self,
        text: &str,
        escape: char,
        lines: Lines,
    ) -> Result<Vec<String>, DockerfileError> {
        self.expand(text, Reading::plain(escape))
            .map(|expanded| expanded.words)
            .map_err(|error| unreadable(text, &error, lines))
    }
}

pub(super) fn unreadable(text: &str, error: &WordError, lines: Lines) -> DockerfileError {
    DockerfileError::new(lines, format!("failed to process {text:?}: {error}"))
}

/// What a build argument is: as the builder says, else the file's default, else nothing.
pub(super) fn argument(
    argument: &Argument,
    scope: &Scope,
    options: &PlanOptions,
    escape: char,
    lines: Lines,
) -> Result<Option<String>, DockerfileError> {
    if let Some(Some(given)) = options.arguments.get(&argument.name) {
        return Ok(Some(given.clone()));
    }
    match &argument.default {
        Some(default) => scope.word(default, escape, lines).map(Some),
        None => Ok(None),
    }
}

/// The proxies among the build arguments, as `NAME=value`.
pub(super) fn proxies(options: &PlanOptions) -> Vec<String> {
    PROXIES
        .iter()
        .filter_map(|name| {
            let value = options.arguments.get(*name)?.as_ref()?;
            Some(format!("{name}={value}"))
        })
        .collect()
}

pub(super) fn is_proxy(name: &str) -> bool {
    PROXIES.contains(&name)
}

/// The arguments that there are without being given (Dockerfile reference, "Automatic platform ARGs in the global scope").
pub(super) fn of_platforms(build: &Platform, target: &Platform) -> Vec<(String, String)> {
    let of = |prefix: &str, platform: &Platform| {
        [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", platform.variant.clone().unwrap_or_default()),
        ]
        .map(|(name, value)| (format!("{prefix}{name}"), value))
    };
    of("BUILD", build)
        .into_iter()
        .chain(of("TARGET", target))
        .collect()
}
