//! What each instruction does to a stage.

use serde_json::{Map, Value};

use hoist_image::document::Healthcheck;
use hoist_model::Signal;

use super::reach::Planner;
use super::scope::{argument, unreadable};
use super::stage::StageState;
use super::{CopyStep, Input, Line, Operation, PlanError, Step};
use crate::dockerfile::{
    Action, Command, Copied, DockerfileError, Health, Instruction, Lines, Reading,
};

impl StageState {
    pub(super) fn instruction(
        &mut self,
        planner: &mut Planner<'_>,
        instruction: &Instruction,
    ) -> Result<(), PlanError> {
        let lines = instruction.lines;
        match &instruction.action {
            Action::Add {
                copied,
                checksum,
                unpack,
                ..
            } => {
                if checksum.is_some() || copied.sources.iter().any(|source| is_address(source)) {
                    let what = "ADD of an address";
                    return Err(PlanError::Missing { lines, what });
                }
                let from = Input::Context(super::MAIN_CONTEXT.to_owned());
                let step = self.copy_step(planner, copied, from, lines)?;
                let step = CopyStep {
                    unpack: unpack.unwrap_or(true),
                    ..step
                };
                self.copy(planner, step, "ADD");
            }
            Action::Copy {
                copied,
                from,
                parents,
            } => {
                let input = planner.from(from.as_deref(), self.number, lines)?;
                let mut step = self.copy_step(planner, copied, input, lines)?;
                step.parents = *parents;
                self.copy(planner, step, "COPY");
            }
            Action::Run(run) => self.run(planner, run, lines)?,
            Action::Workdir(path) => {
                let path = self.word(planner, path, lines)?;
                let path = self.absolute(&path);
                let path = match path.trim_end_matches('/') {
                    "" => "/",
                    path => path,
                };
                self.config.working_dir = path.to_owned();
                let step = planner.step(Step {
                    below: self.files.clone(),
                    operation: Operation::Directory {
                        path: path.to_owned(),
                        owner: self.config.user.clone(),
                    },
                });
                self.files = Input::Step(step);
                self.history.push(Line {
                    created_by: format!("WORKDIR {path}"),
                    step: Some(step),
                });
            }
            _ => self.configure(planner, instruction)?,
        }
        Ok(())
    }

    /// What changes the config alone.
    fn configure(
        &mut self,
        planner: &mut Planner<'_>,
        instruction: &Instruction,
    ) -> Result<(), PlanError> {
        let lines = instruction.lines;
        let refused = |message: String| PlanError::from(DockerfileError::new(lines, message));
        match &instruction.action {
            Action::Arg(arguments) => {
                let escape = planner.file.directives.escape;
                for one in arguments {
                    planner.asked.push(one.name.clone());
                    let mut value = argument(one, &self.scope, planner.options, escape, lines)?;
                    if value.is_none() {
                        value = planner.global.value(&one.name).map(str::to_owned);
                    }
                    if let Some(value) = value {
                        self.scope.set_argument(&one.name, value);
                    }
                }
                self.said(instruction.text.clone());
            }
            Action::Env(pairs) => {
                let mut read = Vec::with_capacity(pairs.len());
                for pair in pairs {
                    let name = self.word(planner, &pair.name, lines)?;
                    read.push((name, self.word(planner, &pair.value, lines)?));
                }
                for (name, value) in &read {
                    self.scope.set_environment(name, value);
                }
                self.said(format!("ENV {}", shown(&read)));
            }
            Action::Label(pairs) => {
                let mut read = Vec::with_capacity(pairs.len());
                for pair in pairs {
                    let name = self.word(planner, &pair.name, lines)?;
                    read.push((name, self.word(planner, &pair.value, lines)?));
                }
                self.said(format!("LABEL {}", shown(&read)));
                self.config.labels.extend(read);
            }
            Action::Cmd(command) => {
                let words = self.words_of(command);
                self.said(format!("CMD {}", json(&words)));
                self.config.cmd = Some(words);
                self.has_command = true;
            }
            Action::Entrypoint(command) => {
                let words = self.words_of(command);
                self.said(format!("ENTRYPOINT {}", json(&words)));
                self.config.entrypoint = Some(words).filter(|words| !words.is_empty());
                if !self.has_command {
                    self.config.cmd = None;
                }
            }
            Action::Expose(ports) => {
                let escape = planner.file.directives.escape;
                let mut exposed = Vec::new();
                for port in ports {
                    for word in self.scope.words(port, escape, lines)? {
                        exposed
                            .extend(hoist_model::quantity::exposed_ports(&word).map_err(refused)?);
                    }
                }
                self.said(format!("EXPOSE {}", exposed.join(" ")));
                for port in exposed {
                    self.config.exposed_ports.insert(port, empty());
                }
            }
            Action::Healthcheck(health) => {
                let (said, health) = self.health(health);
                self.said(format!("HEALTHCHECK {said}"));
                self.config.healthcheck = Some(health);
            }
            Action::Maintainer(name) => {
                let name = self.word(planner, name, lines)?;
                self.said(format!("MAINTAINER {name}"));
                self.author = Some(name);
            }
            Action::Onbuild(trigger) => {
                self.said(format!("ONBUILD {trigger}"));
                let triggers = self.config.on_build.get_or_insert_default();
                triggers.push(trigger.clone());
            }
            Action::Shell(words) => {
                self.said(format!("SHELL {}", json(words)));
                self.config.shell = Some(words.clone());
            }
            Action::Stopsignal(signal) => {
                let signal = self.word(planner, signal, lines)?;
                let parsed = signal.parse::<Signal>();
                parsed.map_err(|error| refused(error.to_string()))?;
                self.said(format!("STOPSIGNAL {signal}"));
                self.config.stop_signal = Some(signal);
            }
            Action::User(user) => {
                let user = self.word(planner, user, lines)?;
                self.said(format!("USER {user}"));
                self.config.user = user;
            }
            Action::Volume(paths) => {
                let mut read = Vec::with_capacity(paths.len());
                for path in paths {
                    let path = self.word(planner, path, lines)?;
                    if path.is_empty() {
                        let message = "VOLUME specified can not be an empty string";
                        return Err(refused(message.to_owned()));
                    }
                    read.push(path);
                }
                self.said(format!("VOLUME {}", json(&read)));
                for path in read {
                    self.config.volumes.insert(path, empty());
                }
            }
            Action::Add { .. } | Action::Copy { .. } | Action::Run(_) | Action::Workdir(_) => {
                unreachable!("changes files")
            }
        }
        Ok(())
    }

    fn copy_step(
        &self,
        planner: &Planner<'_>,
        copied: &Copied,
        from: Input,
        lines: Lines,
    ) -> Result<CopyStep, PlanError> {
        let word = |text: &str| self.word(planner, text, lines);
        let optional = |text: &Option<String>| text.as_deref().map(word).transpose();
        let sources = copied.sources.iter().map(|source| word(source));
        let sources: Vec<String> = sources.collect::<Result<_, _>>()?;
        let destination = self.absolute(&word(&copied.destination)?);
        if sources.len() + copied.documents.len() > 1 && !destination.ends_with('/') {
            let message = "When using COPY or ADD with more than one source file, the destination must be a directory and end with a /";
            return Err(DockerfileError::new(lines, message).into());
        }
        let mut documents = Vec::with_capacity(copied.documents.len());
        for document in &copied.documents {
            let mut text = document.content();
            if document.expand {
                let reading = Reading {
                    quotes_are_text: true,
                    ..Reading::plain(planner.file.directives.escape)
                };
                let expanded = self.scope.expand(&text, reading);
                text = expanded
                    .map_err(|error| unreadable(&document.name, &error, lines))?
                    .text;
            }
            documents.push((document.name.clone(), text));
        }
        let exclude = copied.exclude.iter().map(|pattern| word(pattern));
        Ok(CopyStep {
            from,
            sources,
            documents,
            destination,
            owner: optional(&copied.owner)?,
            mode: optional(&copied.mode)?,
            parents: false,
            link: copied.link,
            exclude: exclude.collect::<Result<_, _>>()?,
            unpack: false,
        })
    }

    fn copy(&mut self, planner: &mut Planner<'_>, step: CopyStep, name: &str) {
        let mut words = vec![name.to_owned()];
        words.extend(step.owner.iter().map(|owner| format!("--chown={owner}")));
        words.extend(step.mode.iter().map(|mode| format!("--chmod={mode}")));
        words.extend(step.sources.iter().cloned());
        words.extend(step.documents.iter().map(|(name, _)| format!("<<{name}")));
        words.push(step.destination.clone());
        let step = planner.step(Step {
            below: self.files.clone(),
            operation: Operation::Copy(Box::new(step)),
        });
        self.files = Input::Step(step);
        self.history.push(Line {
            created_by: words.join(" "),
            step: Some(step),
        });
    }

    /// A command's words: in its shell form, those of the stage's shell and the line.
    pub(super) fn words_of(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(line) => {
                let mut words = self.shell();
                words.push(line.clone());
                words
            }
        }
    }

    pub(super) fn shell(&self) -> Vec<String> {
        let own = self.config.shell.clone();
        own.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()])
    }

    fn health(&self, health: &Health) -> (String, Healthcheck) {
        match health {
            Health::None => {
                let test = vec!["NONE".to_owned()];
                let none = Healthcheck {
                    test,
                    ..Healthcheck::default()
                };
                ("NONE".to_owned(), none)
            }
            Health::Probe {
                command,
                interval,
                timeout,
                start_period,
                start_interval,
                retries,
            } => {
                let test = match command {
                    Command::Exec(words) => {
                        let kind = std::iter::once("CMD".to_owned());
                        kind.chain(words.iter().cloned()).collect()
                    }
                    Command::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
                };
                let said = json(&test);
                let probe = Healthcheck {
                    test,
                    interval: *interval,
                    timeout: *timeout,
                    start_period: *start_period,
                    start_interval: *start_interval,
                    retries: *retries,
                };
                (said, probe)
            }
        }
    }
}

fn empty() -> Value {
    Value::Object(Map::new())
}

fn json(words: &[String]) -> String {
    serde_json::to_string(words).expect("texts are JSON")
}

fn shown(pairs: &[(String, String)]) -> String {
    let shown: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
    shown.join(" ")
}

/// What ADD fetches instead of copying it.
fn is_address(source: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"]
        .iter()
        .any(|prefix| source.starts_with(prefix))
}
