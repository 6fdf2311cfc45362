//! What is said to a command line that is wrong, in the stock client's words (docker/cli:cli/required.go, cobra, pflag),
//! and the help that is asked for. 125 for what a flag is wrong about, 1 for the rest.

use std::error::Error as _;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use super::tree::{GLOBAL_VALUES, usage_of};
use super::{Failure, GROUPS, Group, Program, Verb, help, output, top_verbs};

/// The words of a command line that name what is to be done.
#[derive(Default)]
pub(super) struct Typed {
    group: Option<&'static Group>,
    verb: Option<&'static Verb>,
    /// `container ls`.
    path: String,
    /// Which word is the first of it.
    at: usize,
    /// How many words there are up to the verb.
    end: usize,
}

/// Finds verb and noun behind the global flags.
pub(super) fn typed(arguments: &[OsString]) -> Typed {
    let mut found = Typed::default();
    let mut words = arguments.iter().enumerate().skip(1);
    while let Some((at, word)) = words.next() {
        let Some(word) = word.to_str() else {
            return found;
        };
        if found.path.is_empty() {
            found.at = at;
        }
        if let Some(flag) = word.strip_prefix('-') {
            let takes_value = GLOBAL_VALUES.iter().any(|(long, short, _)| {
                flag.strip_prefix('-') == Some(*long)
                    || short.is_some_and(|short| flag.chars().eq([short]))
            });
            if takes_value {
                words.next();
            }
            continue;
        }
        match found.group {
            None => {
                found.group = GROUPS.iter().find(|group| group.noun == word);
                found.verb = top_verbs().find(|verb| verb.answers(word));
            }
            Some(group) => found.verb = group.verbs.iter().find(|verb| verb.answers(word)),
        }
        if found.verb.is_none() && found.group.is_none() {
            return found;
        }
        if !found.path.is_empty() && found.verb.is_some() {
            found.path.push(' ');
        }
        if found.verb.is_some() || found.path.is_empty() {
            found.path += word;
        }
        if found.verb.is_some() || found.path != word {
            found.end = at + 1;
            return found;
        }
    }
    found
}

impl Typed {
    /// The noun, if one was typed.
    pub(super) const fn group(&self) -> Option<&'static Group> {
        self.group
    }

    /// Noun and verb.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// How many words of the command line lead up to the verb and are it.
    pub(super) const fn end(&self) -> usize {
        self.end
    }

    /// The verb with all its flags.
    pub(super) fn command(&self, program: Program) -> Option<Command> {
        let verb = self.verb?;
        let name = format!("{} {}", program.name(), self.path);
        let command = Command::new(verb.name).bin_name(name).about(verb.about);
        Some((verb.flags)(command))
    }

    fn usage(&self, program: Program) -> String {
        match (self.command(program), self.group) {
            (Some(command), _) => usage_of(&command),
            (None, Some(group)) => format!("{} {}", program.name(), group.noun),
            (None, None) => format!("{} [OPTIONS] COMMAND [ARG...]", program.name()),
        }
    }

    /// `docker container ls`, as it is asked for more.
    fn name(&self, program: Program) -> String {
        format!("{} {}", program.name(), self.path)
            .trim_end()
            .to_owned()
    }

    /// A complaint about a flag.
    fn bad_flag(&self, program: Program, message: &str) -> String {
        let message = self.with_short(program, message);
        format!(
            "{message}\n\nUsage:  {}\n\nRun '{} --help' for more information",
            self.usage(program),
            self.name(program)
        )
    }

    /// `for "--filter" flag` becomes `for "-f, --filter" flag` where the flag has a letter.
    fn with_short(&self, program: Program, message: &str) -> String {
        let Some((before, after)) = message.split_once("for \"--") else {
            return message.to_owned();
        };
        let name = after.split('"').next().unwrap_or_default();
        let command = self.command(program);
        let arg = command
            .as_ref()
            .and_then(|c| c.get_arguments().find(|a| a.get_long() == Some(name)));
        match arg.and_then(Arg::get_short) {
            Some(short) => format!("{before}for \"-{short}, --{after}"),
            None => message.to_owned(),
        }
    }

    /// A complaint about the number of arguments.
    fn bad_arguments(&self, program: Program) -> String {
        let usage = self.usage(program);
        let (what, ask) = wanted(&usage, self.name(program).split(' ').count());
        let name = self.name(program);
        format!(
            "{}: '{name}' {what}\n\nUsage:  {usage}\n\n{ask} '{name} --help' for more information",
            program.name()
        )
    }
}

/// How many arguments a usage asks for, in words, and how the stock client goes on from there.
fn wanted(usage: &str, name_words: usize) -> (String, &'static str) {
    let mut depth = 0_usize;
    let mut words: Vec<String> = vec![String::new()];
    for letter in usage.chars() {
        match letter {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 => {
                words.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = words.last_mut() {
            last.push(letter);
        }
    }
    let words = words.split_off(name_words.min(words.len()));
    let (mut least, mut more, mut many) = (0, 0, false);
    for word in words.iter().filter(|word| *word != "[OPTIONS]") {
        // `NAME[:TAG]` has to be there, `[COMMAND]` need not.
        if !word.starts_with('[') {
            least += 1;
        } else if word.contains("...") || word.contains(' ') {
            many = true;
        } else {
            more += 1;
        }
    }
    let arguments = |n: usize| if n == 1 { "argument" } else { "arguments" };
    match (least, more, many) {
        (0, 0, false) => ("accepts no arguments".to_owned(), "Run"),
        (n, _, true) => (format!("requires at least {n} {}", arguments(n)), "See"),
        (n, 0, false) => (format!("requires {n} {}", arguments(n)), "Run"),
        (0, m, false) => (format!("requires at most {m} {}", arguments(m)), "Run"),
        (n, m, false) => (
            format!("requires at least {n} and at most {} arguments", n + m),
            "Run",
        ),
    }
}

/// A failure that a verb itself found in the values of its flags.
pub(super) fn say(program: Program, arguments: &[OsString], failure: &Failure) -> String {
    typed(arguments).bad_flag(program, failure.message.trim_end())
}

/// Says what is wrong with the command line, or prints the help that was asked for.
pub(super) fn refuse(program: Program, arguments: &[OsString], error: &clap::Error) -> ExitCode {
    let typed = typed(arguments);
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let wrong = |message: &str| {
        output::warn(typed.bad_flag(program, message));
        ExitCode::from(125)
    };
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::MissingSubcommand => show_help(program, &typed, error),
        ErrorKind::UnknownArgument => match text(ContextKind::InvalidArg) {
            Some("-h") => show_help(program, &typed, error),
            Some(flag) if flag.starts_with("--") => {
                let flag = flag.split([' ', '=']).next().unwrap_or(flag);
                let before = &arguments[..typed.at.min(arguments.len())];
                if before
                    .iter()
                    .any(|word| word.to_str().is_some_and(|w| w.starts_with(flag)))
                {
                    // Wrong before any verb.
                    let root = Typed::default();
                    output::warn(root.bad_flag(program, &format!("unknown flag: {flag}")));
                    return ExitCode::from(125);
                }
                wrong(&format!("unknown flag: {flag}"))
            }
            Some(flag) if flag.starts_with('-') && flag != "-" => {
                let short = flag.chars().nth(1).unwrap_or('-');
                wrong(&format!("unknown shorthand flag: '{short}' in {flag}"))
            }
            _ => {
                output::warn(typed.bad_arguments(program));
                ExitCode::FAILURE
            }
        },
        ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues => {
            output::warn(typed.bad_arguments(program));
            ExitCode::FAILURE
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            let flag = text(ContextKind::InvalidArg).unwrap_or_default();
            let long = flag.split([' ', '=', '[']).next().unwrap_or(flag);
            let last = arguments.last().and_then(|word| word.to_str());
            match last.and_then(|last| last.strip_prefix('-')) {
                Some(last) if value.is_empty() && !last.contains('=') => wrong(&match last {
                    last if last.starts_with('-') => format!("flag needs an argument: {long}"),
                    last => {
                        let short = last.chars().next_back().unwrap_or('-');
                        format!("flag needs an argument: '{short}' in -{last}")
                    }
                }),
                _ => {
                    let command = typed.command(program);
                    let why = reason(command.as_ref(), long, value, error);
                    wrong(&format!(
                        "invalid argument {value:?} for \"{long}\" flag: {why}"
                    ))
                }
            }
        }
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            let (name, path) = (program.name(), typed.name(program));
            let usage = typed
                .group
                .map_or_else(String::new, |_| format!("Usage:  {path}\n\n"));
            output::warn(format!(
                "{name}: unknown command: {path} {word}\n\n{usage}Run '{path} --help' for more information"
            ));
            ExitCode::FAILURE
        }
        // Nobody may read it: the status still says it.
        _ => {
            drop(error.print());
            ExitCode::from(if error.use_stderr() { 125 } else { 0 })
        }
    }
}

/// Why a value is none, as Go says it.
fn reason(command: Option<&Command>, long: &str, value: &str, error: &clap::Error) -> String {
    let name = long.trim_start_matches('-');
    let arg = command.and_then(|c| c.get_arguments().find(|a| a.get_long() == Some(name)));
    let kind = arg
        .and_then(|arg| arg.get_value_names()?.first().cloned())
        .map_or_else(String::new, |name| name.to_string());
    let parse = match kind.as_str() {
        "bool" => "ParseBool",
        "int" | "int64" => "ParseInt",
        "uint16" | "uint64" => "ParseUint",
        "decimal" => return format!("failed to parse {value} as a rational number"),
        _ => {
            return error
                .source()
                .map_or_else(|| "not one of its values".to_owned(), ToString::to_string);
        }
    };
    let digits = value.trim_start_matches(['-', '+']);
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let why = if number && parse != "ParseBool" {
        "value out of range"
    } else {
        "invalid syntax"
    };
    format!("strconv.{parse}: parsing {value:?}: {why}")
}

/// How wide help may be.
fn columns_of_terminal() -> usize {
    let wide = std::io::stdout().is_terminal().then(super::terminal::size);
    wide.flatten()
        .map_or(80, |(_, columns)| usize::from(columns).clamp(40, 160))
}

/// Prints help: what was asked for on standard output, what was not on standard error, as docker does.
fn show_help(program: Program, typed: &Typed, error: &clap::Error) -> ExitCode {
    let text = match (typed.verb, typed.group) {
        (Some(_), _) => match typed.command(program) {
            Some(command) => help::verb(&command, columns_of_terminal()),
            None => error.to_string(),
        },
        (None, Some(group)) => help::group(program, group),
        (None, None) => help::root(program),
    };
    let asked = error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        && error.kind() != ErrorKind::MissingSubcommand;
    if asked {
        // Nobody may read it.
        drop(output::text(text));
    } else {
        output::warn(text.trim_end());
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_typed_verb_is_found_behind_global_flags() {
        for (line, path) in [
            ("docker ps -a", "ps"),
            (
                "docker -H unix:///x --debug container ls -a",
                "container ls",
            ),
            ("docker --context=a volume", "volume"),
            ("docker container nope ls", "container"),
            ("docker nope ps", ""),
            ("docker", ""),
        ] {
            assert_eq!(typed(&words(line)).path, path, "{line}");
        }
    }

    #[test]
    fn the_number_of_arguments_is_read_from_the_usage() {
        for (usage, what) in [
            ("d rm [OPTIONS] C [C...]", "requires at least 1 argument"),
            ("d ps [OPTIONS]", "accepts no arguments"),
            ("d tag A[:T] B[:T]", "requires 2 arguments"),
            (
                "d port C [P[/PROTO]]",
                "requires at least 1 and at most 2 arguments",
            ),
            ("d top C [ps OPTIONS]", "requires at least 1 argument"),
            (
                "d exec [OPTIONS] C COMMAND [ARG...]",
                "requires at least 2 arguments",
            ),
            ("d images [OPTIONS] [R[:T]]", "requires at most 1 argument"),
        ] {
            assert_eq!(wanted(usage, 2).0, what, "{usage}");
        }
    }
}
