//! Checks that know what variables stand for and what a stage began with (see [`crate::check`]).

use std::collections::BTreeSet;

use hoist_model::{ImageReference, Platform};

use super::reach::{Beginning, Planner};
use super::scope::{Scope, argument};
use super::stage::StageState;
use super::{Address, PlanOptions};
use crate::check::{Rule, Warning, is_secret};
use crate::dockerfile::{Action, Argument, Command, Expanded, Instruction, Lines, Stage, nearest};

/// What a stage had so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Names of ARG, with a value or without.
    pub(super) arguments: Vec<String>,
    has_workdir: bool,
    cmd: Option<Lines>,
    entrypoint: Option<Lines>,
    healthcheck: Option<Lines>,
}

impl Planner<'_> {
    pub(super) fn warn(&self, rule: Rule, message: String, lines: Lines) {
        self.warnings.borrow_mut().push(Warning {
            rule,
            message,
            lines,
        });
    }

    /// Names in FROM that no ARG before it has.
    fn check_from(&self, unset: &BTreeSet<String>, lines: Lines) {
        let declared = self.file.arguments.iter().map(|(_, one)| one.name.as_str());
        let declared: Vec<&str> = declared.chain(self.global.names()).collect();
        for name in unset
            .iter()
            .filter(|name| !declared.contains(&name.as_str()))
        {
            let meant = nearest(name, declared.iter().copied());
            let meant = meant.map_or_else(String::new, |meant| format!(" (did you mean {meant}?)"));
            let message = format!("FROM argument '{name}' is not declared{meant}");
            self.warn(Rule::UndefinedArgInFrom, message, lines);
        }
    }

    fn check_platform(&self, stage: &Stage, written: &str, read: &Expanded) {
        let lines = stage.lines;
        if read.used.len() == 1 && read.unset.is_empty() {
            let target = self.global.value("TARGETPLATFORM");
            if read.used.contains("TARGETPLATFORM") && target == Some(&read.text) {
                let message = format!(
                    "Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
                );
                self.warn(Rule::RedundantTargetPlatform, message, lines);
            }
        }
        if !read.used.is_empty() || !read.unset.is_empty() {
            return;
        }
        let Ok(platform) = read.text.parse::<Platform>() else {
            return;
        };
        // A stage that says by its name that it is of a platform may be.
        let name = stage.name.as_deref().unwrap_or_default();
        if !name.contains(&platform.os) && !name.contains(&platform.architecture) {
            let message = format!(
                "FROM --platform flag should not use constant value {:?}",
                read.text
            );
            self.warn(Rule::FromPlatformFlagConstDisallowed, message, lines);
        }
    }

    pub(super) fn check_base(&self, name: &str, wanted: &str, found: &Beginning, lines: Lines) {
        let (Some(_), Ok(expected)) = (&found.id, wanted.parse::<Platform>()) else {
            return;
        };
        let config = &found.config;
        if config.os.is_empty() || config.architecture.is_empty() {
            return;
        }
        let actual = Platform {
            os: config.os.clone(),
            architecture: config.architecture.clone(),
            variant: config.variant.clone(),
            ..expected.clone()
        };
        if expected.os != actual.os || expected.architecture != actual.architecture {
            let message = format!(
                "Base image {name} was pulled with platform \"{actual}\", expected \"{expected}\" for current build"
            );
            self.warn(Rule::InvalidBaseImagePlatform, message, lines);
        }
    }

    /// Looks at every FROM, whatever of the file is needed.
    pub(super) fn check_stages(&self) {
        let escape = self.file.directives.escape;
        for stage in &self.file.stages {
            // What cannot be read is an error where it matters.
            if let Ok(base) = self.global.expanded(&stage.base, escape, stage.lines) {
                self.check_from(&base.unset, stage.lines);
            }
            let Some(written) = &stage.platform else {
                continue;
            };
            if let Ok(platform) = self.global.expanded(written, escape, stage.lines) {
                self.check_from(&platform.unset, stage.lines);
                self.check_platform(stage, written, &platform);
            }
        }
        self.check_defaults();
    }

    /// Whether every FROM names an image also where no build argument is given.
    fn check_defaults(&self) {
        let none = PlanOptions {
            arguments: std::collections::BTreeMap::new(),
            ..self.options.clone()
        };
        let escape = self.file.directives.escape;
        let mut scope = Scope {
            environment: Vec::new(),
            arguments: super::scope::of_platforms(&Platform::host(), &none.platform),
        };
        for (lines, one) in &self.file.arguments {
            match argument(one, &scope, &none, escape, *lines) {
                Ok(Some(value)) => scope.set_argument(&one.name, value),
                Ok(None) => {}
                // It is found again where it matters.
                Err(_) => return,
            }
        }
        for stage in &self.file.stages {
            let Ok(base) = scope.word(&stage.base, escape, stage.lines) else {
                return;
            };
            if ImageReference::parse(&base).is_err() {
                let written = &stage.base;
                let message = format!(
                    "Default value for ARG {written} results in empty or invalid base image name"
                );
                self.warn(Rule::InvalidDefaultArgInFrom, message, stage.lines);
            }
        }
    }
}

impl StageState {
    /// Looks at an instruction before it is done.
    pub(super) fn check(&mut self, planner: &Planner<'_>, instruction: &Instruction) {
        let (lines, name) = (instruction.lines, instruction.name.as_str());
        match &instruction.action {
            Action::Cmd(command) => {
                used_once(planner, name, &mut self.seen.cmd, lines);
                self.check_command(planner, name, command, lines);
            }
            Action::Entrypoint(command) => {
                used_once(planner, name, &mut self.seen.entrypoint, lines);
                self.check_command(planner, name, command, lines);
            }
            Action::Healthcheck(_) => {
                used_once(planner, name, &mut self.seen.healthcheck, lines);
            }
            Action::Env(pairs) | Action::Label(pairs) => {
                for pair in pairs {
                    if pair.is_legacy {
                        let message = format!(
                            "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
                        );
                        planner.warn(Rule::LegacyKeyValueFormat, message, lines);
                    }
                    if matches!(instruction.action, Action::Env(_)) {
                        not_secret(planner, "ENV", &pair.name, lines);
                    }
                }
            }
            Action::Arg(arguments) => {
                for one in arguments {
                    not_secret(planner, "ARG", &one.name, lines);
                }
            }
            Action::Workdir(path) => {
                let escape = planner.file.directives.escape;
                let path = self.scope.word(path, escape, lines);
                if let Ok(path) = path
                    && !self.seen.has_workdir
                    && !path.starts_with('/')
                {
                    let message = format!(
                        "Relative workdir {path:?} can have unexpected results if the base image changes"
                    );
                    planner.warn(Rule::WorkdirRelativePath, message, lines);
                }
                self.seen.has_workdir = true;
            }
            Action::Add { copied, .. } => {
                self.check_sources(planner, "Add", &copied.sources, lines)
            }
            Action::Copy {
                copied, from: None, ..
            } => {
                self.check_sources(planner, "Copy", &copied.sources, lines);
            }
            _ => {}
        }
    }

    fn check_command(&self, planner: &Planner<'_>, name: &str, command: &Command, lines: Lines) {
        // Whoever chose a shell meant it.
        if matches!(command, Command::Shell(_)) && self.config.shell.is_none() {
            let message = format!(
                "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
            );
            planner.warn(Rule::JsonArgsRecommended, message, lines);
        }
    }

    fn check_sources(&self, planner: &Planner<'_>, verb: &str, sources: &[String], lines: Lines) {
        for source in sources {
            let escape = planner.file.directives.escape;
            let Ok(path) = self.scope.word(source, escape, lines) else {
                continue;
            };
            if matches!(Address::parse(&path), Ok(None))
                && planner
                    .options
                    .ignore
                    .matches(&crate::ignore::cleaned(&path))
            {
                let message =
                    format!("Attempting to {verb} file {path:?} that is excluded by .dockerignore");
                planner.warn(Rule::CopyIgnoredFile, message, lines);
            }
        }
    }

    /// Names that nothing before has.
    pub(super) fn check_variables(
        &self,
        planner: &Planner<'_>,
        unset: &BTreeSet<String>,
        lines: Lines,
    ) {
        for name in unset
            .iter()
            .filter(|name| !self.seen.arguments.contains(name))
        {
            let meant = nearest(name, self.scope.names());
            let meant =
                meant.map_or_else(String::new, |meant| format!(" (did you mean ${meant}?)"));
            let message = format!("Usage of undefined variable '${name}'{meant}");
            planner.warn(Rule::UndefinedVar, message, lines);
        }
    }

    /// The default of an argument counts where the builder gives none.
    pub(super) fn check_default(
        &self,
        planner: &Planner<'_>,
        one: &Argument,
        escape: char,
        lines: Lines,
    ) {
        let is_given = matches!(planner.options.arguments.get(&one.name), Some(Some(_)));
        if let (false, Some(default)) = (is_given, &one.default)
            && let Ok(expanded) = self.scope.expanded(default, escape, lines)
        {
            self.check_variables(planner, &expanded.unset, lines);
        }
    }
}

fn used_once(planner: &Planner<'_>, name: &str, seen: &mut Option<Lines>, lines: Lines) {
    if let Some(before) = seen.replace(lines) {
        let message = format!(
            "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
        );
        // The one before is the one that counts for nothing.
        planner.warn(Rule::MultipleInstructionsDisallowed, message, before);
    }
}

fn not_secret(planner: &Planner<'_>, instruction: &str, name: &str, lines: Lines) {
    if is_secret(name) {
        let message = format!(
            "Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})"
        );
        planner.warn(Rule::SecretsUsedInArgOrEnv, message, lines);
    }
}

/// A port that is more than a port, or whose protocol has capitals.
pub(super) fn check_port(planner: &Planner<'_>, port: &str, lines: Lines) {
    let (address, container) = match port.rsplit_once(':') {
        Some((address, container)) => (Some(address), container),
        None => (None, port),
    };
    if let Some((_, protocol)) = container.split_once('/')
        && protocol.chars().any(char::is_uppercase)
    {
        let message =
            format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
        planner.warn(Rule::ExposeProtoCasing, message, lines);
    }
    if address.is_some() {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
        );
        planner.warn(Rule::ExposeInvalidFormat, message, lines);
    }
}
