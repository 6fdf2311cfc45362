//! What each instruction does to a stage.

use serde_json::{Map, Value};

use hoist_image::document::Healthcheck;
use hoist_model::{Digest, Signal};

use super::checks::check_port;
use super::reach::Planner;
use super::said;
use super::scope::{argument, unreadable};
use super::stage::StageState;
use super::{Address, CopyStep, FetchedSource, Input, Line, Operation, PlanError, Step};
use crate::dockerfile::{
    Action, Command, Copied, DockerfileError, Fetch, Health, Instruction, Lines, Reading,
};

impl StageState {
    pub(super) fn instruction(
        &mut self,
        planner: &mut Planner<'_>,
        instruction: &Instruction,
    ) -> Result<(), PlanError> {
        let lines = instruction.lines;
        match &instruction.action {
            Action::Add { copied, fetch } => self.add(planner, copied, fetch, lines)?,
            Action::Copy {
                copied,
                from,
                parents,
            } => {
                let input = planner.from(from.as_deref(), self.number, lines)?;
                let mut step = self.copy_step(planner, copied, input, lines)?;
                step.parents = *parents;
                for source in &step.sources {
                    let address = Address::parse(source);
                    let what = match address.map_err(|error| DockerfileError::new(lines, error))? {
                        None => continue,
                        Some(Address::Web(_)) => "a URL",
                        Some(Address::Git(_)) => "a git ref",
                    };
                    let message = format!("source can't be {what} for COPY");
                    return Err(DockerfileError::new(lines, message).into());
                }
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
                let mut said = "ARG".to_owned();
                for one in arguments {
                    planner.asked.push(one.name.clone());
                    said.push(' ');
                    said.push_str(&one.name);
                    if let Some(default) = &one.default {
                        said.push('=');
                        said.push_str(&self.scope.word(default, escape, lines)?);
                    }
                    self.check_default(planner, one, escape, lines);
                    self.seen.arguments.push(one.name.clone());
                    let mut value = argument(one, &self.scope, planner.options, escape, lines)?;
                    if value.is_none() {
                        value = planner.global.value(&one.name).map(str::to_owned);
                    }
                    let shown = value.as_deref().unwrap_or_default();
                    self.shown_arguments.push(format!("{}={shown}", one.name));
                    if let Some(value) = value {
                        self.scope.set_argument(&one.name, value);
                    }
                }
                self.said(said);
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
                self.said(format!("CMD [{}]", said::quoted(&words)));
                self.config.cmd = Some(words);
                self.has_command = true;
            }
            Action::Entrypoint(command) => {
                let words = self.words_of(command);
                self.said(format!("ENTRYPOINT [{}]", said::quoted(&words)));
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
                        check_port(planner, &word, lines);
                        // An address and a port of the host before it are read and mean nothing.
                        let port = word.rsplit(':').next().unwrap_or(&word);
                        let ports = hoist_model::quantity::exposed_ports(port);
                        exposed.extend(ports.map_err(refused)?);
                    }
                }
                self.said(format!("EXPOSE {}", exposed.join(" ")));
                for port in exposed {
                    self.config.exposed_ports.insert(port, empty());
                }
            }
            Action::Healthcheck(health) => {
                let (said, health) = health_of(health);
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
                self.said(format!("SHELL [{}]", words.join(" ")));
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
                self.said(format!("VOLUME [{}]", read.join(" ")));
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

    /// COPY that also fetches and unpacks.
    fn add(
        &mut self,
        planner: &mut Planner<'_>,
        copied: &Copied,
        fetch: &Fetch,
        lines: Lines,
    ) -> Result<(), PlanError> {
        let refused = |message: String| PlanError::from(DockerfileError::new(lines, message));
        let main = Input::Context(super::MAIN_CONTEXT.to_owned());
        let mut step = self.copy_step(planner, copied, main, lines)?;
        step.unpack = fetch.unpack.unwrap_or(true);
        let checksum = fetch.checksum.as_deref();
        let checksum = checksum.map(|text| self.word(planner, text, lines));
        let checksum = checksum.transpose()?;
        if checksum.is_some() && step.sources.len() != 1 {
            return Err(refused(
                "checksum can't be specified for multiple sources".to_owned(),
            ));
        }
        let mut paths = Vec::new();
        for source in std::mem::take(&mut step.sources) {
            let Some(mut address) = Address::parse(&source).map_err(refused)? else {
                if checksum.is_some() {
                    return Err(refused(
                        "checksum requires HTTP(S) or Git sources".to_owned(),
                    ));
                }
                paths.push(source);
                continue;
            };
            let (file, unpack) = match &mut address {
                Address::Web(web) => {
                    if let Some(checksum) = &checksum {
                        let digest = checksum.parse::<Digest>();
                        digest.map_err(|error| refused(format!("{checksum}: {error}")))?;
                    }
                    web.checksum.clone_from(&checksum);
                    (Some(web.name.clone()), fetch.unpack.unwrap_or(false))
                }
                Address::Git(git) => {
                    match (&checksum, &git.checksum) {
                        (Some(one), Some(other)) if one != other => {
                            let message = format!("checksum mismatch {one:?} != {other:?}");
                            return Err(refused(message));
                        }
                        (Some(_), _) => git.checksum.clone_from(&checksum),
                        _ => {}
                    }
                    git.keep_git_directory |= fetch.keep_git_directory.unwrap_or(false);
                    (None, false)
                }
            };
            step.fetched.push(FetchedSource {
                input: Input::Fetched(Box::new(address)),
                file,
                unpack,
            });
        }
        step.sources = paths;
        if step.sources.is_empty() {
            // The context is none of its business.
            step.from = Input::Nothing;
        }
        self.copy(planner, step, "ADD");
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
                let expanded =
                    expanded.map_err(|error| unreadable(&document.name, &error, lines))?;
                self.check_variables(planner, &expanded.unset, lines);
                planner.spend(expanded.text.len(), lines)?;
                text = expanded.text;
            }
            documents.push((document.name.clone(), text));
        }
        let exclude = copied.exclude.iter().map(|pattern| word(pattern));
        Ok(CopyStep {
            from,
            sources,
            fetched: Vec::new(),
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
        words.extend(step.fetched.iter().map(|fetched| match &fetched.input {
            Input::Fetched(address) => address.written(),
            other => other.to_string(),
        }));
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
}

/// A check, and how the history tells of it.
fn health_of(health: &Health) -> (String, Healthcheck) {
    let check = match health {
        Health::None => Healthcheck {
            test: vec!["NONE".to_owned()],
            ..Healthcheck::default()
        },
        Health::Probe {
            command,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        } => Healthcheck {
            test: match command {
                Command::Exec(words) => {
                    let kind = std::iter::once("CMD".to_owned());
                    kind.chain(words.iter().cloned()).collect()
                }
                Command::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
            },
            interval: *interval,
            timeout: *timeout,
            start_period: *start_period,
            start_interval: *start_interval,
            retries: *retries,
        },
    };
    (said::health(&check), check)
}

fn empty() -> Value {
    Value::Object(Map::new())
}

fn shown(pairs: &[(String, String)]) -> String {
    let shown: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
    shown.join(" ")
}
