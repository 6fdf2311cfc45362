//! From statements to typed instructions.

use super::arguments::{Flags, Form, Parts, form, parts, plain_words, quoted_words};
use super::error::{DockerfileError, Lines, nearest};
use super::instruction::{
    Action, Argument, Command, Copied, Fetch, Health, Instruction, Pair, Run, RunNetwork, Stage,
};
use super::mount::MountText;
use super::source::{HereDocument, Statement, here_document};

/// A statement, typed.
pub(super) enum Parsed {
    From(Box<Stage>),
    Instruction(Box<Instruction>),
}

const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a statement.
///
/// # Errors
/// A name, flags or arguments that there are not, with Docker's words.
pub(super) fn parse(statement: &Statement, escape: char) -> Result<Parsed, DockerfileError> {
    let parts = parts(&statement.text, escape);
    let mut reader = Reader {
        lines: statement.lines,
        escape,
        name: parts.name.to_ascii_uppercase(),
        rest: parts.rest,
        documents: &statement.here_documents,
        flags: Flags::new(&parts.flags, statement.lines),
    };
    if reader.name == "FROM" {
        let stage = reader.stage(statement)?;
        reader.flags.finish()?;
        return Ok(Parsed::From(Box::new(stage)));
    }
    let action = reader.action(statement, &parts)?;
    reader.flags.finish()?;
    Ok(Parsed::Instruction(Box::new(Instruction {
        lines: statement.lines,
        text: statement.text.trim().to_owned(),
        name: parts.name.to_owned(),
        action,
    })))
}

struct Reader<'s> {
    lines: Lines,
    escape: char,
    /// In capitals.
    name: String,
    rest: &'s str,
    documents: &'s [HereDocument],
    flags: Flags<'s>,
}

impl Reader<'_> {
    fn action(
        &mut self,
        statement: &Statement,
        parts: &Parts<'_>,
    ) -> Result<Action, DockerfileError> {
        Ok(match self.name.as_str() {
            "ADD" => self.add()?,
            "ARG" => self.arg(&statement.comments)?,
            "CMD" => Action::Cmd(self.command()?),
            "COPY" => self.copy()?,
            "ENTRYPOINT" => Action::Entrypoint(self.command()?),
            "ENV" => Action::Env(self.pairs()?),
            "EXPOSE" => {
                let mut ports = self.at_least_one(plain_words(self.rest))?;
                ports.sort();
                Action::Expose(ports)
            }
            "HEALTHCHECK" => Action::Healthcheck(self.healthcheck()?),
            "LABEL" => Action::Label(self.pairs()?),
            "MAINTAINER" => Action::Maintainer(self.exactly_one()?),
            "ONBUILD" => Action::Onbuild(self.onbuild(statement)?),
            "RUN" => Action::Run(self.run()?),
            "SHELL" => match self.form()? {
                Form::Exec(words) => Action::Shell(self.at_least_one(words)?),
                Form::Shell if self.rest.is_empty() => {
                    return Err(self.error("SHELL requires at least one argument"));
                }
                Form::Shell => {
                    return Err(self.error(format!(
                        "SHELL requires the arguments to be in JSON form: {}",
                        statement.text.trim()
                    )));
                }
            },
            "STOPSIGNAL" => Action::Stopsignal(self.exactly_one()?),
            "USER" => Action::User(self.exactly_one()?),
            "VOLUME" => {
                let volumes = self.words()?;
                let volumes = self.at_least_one(volumes)?;
                if volumes.iter().any(|volume| volume.trim().is_empty()) {
                    return Err(self.error("VOLUME specified can not be an empty string"));
                }
                Action::Volume(volumes.iter().map(|v| v.trim().to_owned()).collect())
            }
            "WORKDIR" => Action::Workdir(self.exactly_one()?),
            _ => {
                let mut error = self.error(format!("unknown instruction: {}", parts.name));
                error.suggestion = nearest(parts.name, NAMES).map(|meant| {
                    if parts.name.chars().any(char::is_uppercase) {
                        meant.to_owned()
                    } else {
                        meant.to_ascii_lowercase()
                    }
                });
                return Err(error);
            }
        })
    }

    fn stage(&mut self, statement: &Statement) -> Result<Stage, DockerfileError> {
        let words = plain_words(self.rest);
        let (base, name) = match words.as_slice() {
            [base] => (base, None),
            [base, word, name] if word.eq_ignore_ascii_case("as") => {
                let lower = name.to_ascii_lowercase();
                let mut bytes = lower.bytes();
                let is_valid = bytes.next().is_some_and(|b| b.is_ascii_lowercase())
                    && bytes.all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
                if !is_valid {
                    return Err(self.error(format!(
                        "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
                    )));
                }
                (base, Some(lower))
            }
            _ => return Err(self.error("FROM requires either one or three arguments")),
        };
        Ok(Stage {
            lines: statement.lines,
            text: statement.text.trim().to_owned(),
            base: base.clone(),
            platform: self.flags.text("platform")?.map(str::to_owned),
            description: name
                .as_deref()
                .and_then(|name| described(&statement.comments, name)),
            name,
            instructions: Vec::new(),
        })
    }

    fn add(&mut self) -> Result<Action, DockerfileError> {
        let copied = self.copied()?;
        Ok(Action::Add {
            copied,
            fetch: Fetch {
                checksum: self.flags.text("checksum")?.map(str::to_owned),
                keep_git_directory: self.flags.switch("keep-git-dir")?,
                unpack: self.flags.switch("unpack")?,
            },
        })
    }

    fn copy(&mut self) -> Result<Action, DockerfileError> {
        let copied = self.copied()?;
        Ok(Action::Copy {
            copied,
            from: self.flags.text("from")?.map(str::to_owned),
            parents: self.flags.switch("parents")?.unwrap_or(false),
        })
    }

    fn copied(&mut self) -> Result<Copied, DockerfileError> {
        let mut words = self.words()?;
        let name = self.name.clone();
        let Some(destination) = words.pop().filter(|_| !words.is_empty()) else {
            return Err(self.error(format!(
                "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
            )));
        };
        if matches!(here_document(&destination), Ok(Some(_))) {
            return Err(self.error(format!("{name} cannot accept a heredoc as a destination")));
        }
        let mut copied = Copied {
            destination,
            owner: self.flags.text("chown")?.map(str::to_owned),
            mode: self.flags.text("chmod")?.map(str::to_owned),
            link: self.flags.switch("link")?.unwrap_or(false),
            exclude: self
                .flags
                .every("exclude")?
                .into_iter()
                .map(str::to_owned)
                .collect(),
            ..Copied::default()
        };
        for word in words {
            match here_document(&word) {
                Ok(Some(announced)) => copied.documents.extend(
                    self.documents
                        .iter()
                        .find(|document| document.name == announced.name)
                        .cloned(),
                ),
                _ => copied.sources.push(word),
            }
        }
        Ok(copied)
    }

    fn arg(&mut self, comments: &[String]) -> Result<Action, DockerfileError> {
        let words = self.at_least_one(quoted_words(self.rest, self.escape))?;
        words
            .into_iter()
            .map(|word| {
                let (name, default) = match word.split_once('=') {
                    Some(("", _)) => return Err(self.error("ARG names can not be blank")),
                    Some((name, default)) => (name.to_owned(), Some(default.to_owned())),
                    None => (word, None),
                };
                Ok(Argument {
                    description: described(comments, &name),
                    name,
                    default,
                })
            })
            .collect::<Result<_, _>>()
            .map(Action::Arg)
    }

    /// `name=value …`, or of old `name value`, where the value is the rest of the line.
    fn pairs(&mut self) -> Result<Vec<Pair>, DockerfileError> {
        let words = self.at_least_one(quoted_words(self.rest, self.escape))?;
        if !words[0].contains('=') {
            let Some((name, value)) = self.rest.split_once([' ', '\t', '\u{b}', '\u{c}', '\r'])
            else {
                return Err(self.error(format!("{} must have two arguments", self.name)));
            };
            return Ok(vec![Pair {
                name: name.to_owned(),
                value: value.trim_start().to_owned(),
                is_legacy: true,
            }]);
        }
        words
            .iter()
            .map(|word| match word.split_once('=') {
                None => Err(self.error(format!(
                    "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
                ))),
                Some(("", _)) => Err(self.error(format!("{} names can not be blank", self.name))),
                Some((name, value)) => Ok(Pair {
                    name: name.to_owned(),
                    value: value.to_owned(),
                    is_legacy: false,
                }),
            })
            .collect()
    }

    fn run(&mut self) -> Result<Run, DockerfileError> {
        let mounts = self
            .flags
            .every("mount")?
            .into_iter()
            .map(|text| MountText::parse(text).map_err(|error| self.error(error.to_string())))
            .collect::<Result<_, _>>()?;
        let network = match self.flags.text("network")? {
            None | Some("default") => RunNetwork::Default,
            Some("none") => RunNetwork::None,
            Some("host") => RunNetwork::Host,
            Some(other) => return Err(self.error(format!("invalid network mode {other:?}"))),
        };
        let insecure = match self.flags.text("security")? {
            None | Some("sandbox") => false,
            Some("insecure") => true,
            Some(other) => return Err(self.error(format!("security {other:?} is not valid"))),
        };
        Ok(Run {
            command: self.command()?,
            documents: self.documents.to_vec(),
            mounts,
            network,
            insecure,
        })
    }

    fn healthcheck(&mut self) -> Result<Health, DockerfileError> {
        let (kind, command) = self
            .rest
            .split_once(char::is_whitespace)
            .unwrap_or((self.rest, ""));
        match kind.to_ascii_uppercase().as_str() {
            "" => Err(self.error("HEALTHCHECK requires at least one argument")),
            "NONE" if command.trim().is_empty() => Ok(Health::None),
            "NONE" => Err(self.error("HEALTHCHECK NONE takes no arguments")),
            "CMD" => {
                self.rest = command.trim_start();
                let command = self.command()?;
                let is_empty = match &command {
                    Command::Exec(words) => words.is_empty(),
                    Command::Shell(line) => line.is_empty(),
                };
                if is_empty {
                    return Err(self.error("Missing command after HEALTHCHECK CMD"));
                }
                let retries = self.flags.text("retries")?.unwrap_or("0");
                let retries: i64 = retries
                    .parse::<i32>()
                    .map_err(|_| self.error(format!("invalid number of --retries: {retries:?}")))?
                    .into();
                if retries < 0 {
                    return Err(self.error(format!("--retries cannot be negative ({retries})")));
                }
                Ok(Health::Probe {
                    command,
                    interval: self.duration("interval")?,
                    timeout: self.duration("timeout")?,
                    start_period: self.duration("start-period")?,
                    start_interval: self.duration("start-interval")?,
                    retries,
                })
            }
            _ => Err(self.error(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)"))),
        }
    }

    fn onbuild(&mut self, statement: &Statement) -> Result<String, DockerfileError> {
        let trigger = self
            .rest
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        match trigger.as_str() {
            "" => return Err(self.error("ONBUILD requires at least one argument")),
            "ONBUILD" => {
                return Err(self.error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"));
            }
            "MAINTAINER" | "FROM" => {
                return Err(self.error(format!("{trigger} isn't allowed as an ONBUILD trigger")));
            }
            _ => {}
        }
        let mut text = statement.text.trim()["ONBUILD".len()..]
            .trim_start()
            .to_owned();
        // It is read once here, so that what is wrong is found where it was written.
        parse(
            &Statement {
                lines: self.lines,
                text: text.clone(),
                comments: Vec::new(),
                here_documents: self.documents.to_vec(),
            },
            self.escape,
        )?;
        for document in self.documents {
            text.push('\n');
            text.push_str(&document.text);
            text.push_str(&document.name);
        }
        Ok(text)
    }

    fn form(&self) -> Result<Form, DockerfileError> {
        form(self.rest, self.lines)
    }

    fn command(&self) -> Result<Command, DockerfileError> {
        Ok(match self.form()? {
            Form::Exec(words) => Command::Exec(words),
            Form::Shell => Command::Shell(self.rest.to_owned()),
        })
    }

    /// A JSON array's strings, or words.
    fn words(&self) -> Result<Vec<String>, DockerfileError> {
        Ok(match self.form()? {
            Form::Exec(words) => words,
            Form::Shell => plain_words(self.rest),
        })
    }

    fn exactly_one(&self) -> Result<String, DockerfileError> {
        if self.rest.is_empty() {
            return Err(self.error(format!("{} requires exactly one argument", self.name)));
        }
        Ok(self.rest.to_owned())
    }

    fn at_least_one(&self, words: Vec<String>) -> Result<Vec<String>, DockerfileError> {
        if words.is_empty() {
            return Err(self.error(format!("{} requires at least one argument", self.name)));
        }
        Ok(words)
    }

    fn duration(&mut self, name: &'static str) -> Result<i64, DockerfileError> {
        /// A millisecond: less is refused.
        const LEAST: i64 = 1_000_000;
        let Some(text) = self.flags.text(name)?.filter(|text| !text.is_empty()) else {
            return Ok(0);
        };
        match hoist_model::quantity::duration(text) {
            None => Err(self.error(format!("invalid duration {text:?} of --{name}"))),
            Some(value) if value != 0 && value < LEAST => {
                Err(self.error(format!("Interval {name:?} cannot be less than 1ms")))
            }
            Some(value) => Ok(value),
        }
    }

    fn error(&self, message: impl Into<String>) -> DockerfileError {
        DockerfileError::new(self.lines, message)
    }
}

/// What a comment says of a name: `# name what it is`.
fn described(comments: &[String], name: &str) -> Option<String> {
    comments
        .iter()
        .find_map(|comment| comment.strip_prefix(name)?.strip_prefix(' '))
        .map(str::to_owned)
}
