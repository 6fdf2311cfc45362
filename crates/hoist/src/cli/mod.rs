//! The command line: verbs and flags as Docker's, one request away from the engine.
//!
//! Starting must cost less than two milliseconds: the tree of verbs is built lazily (only the verb that was
//! typed gets its flags), the runtime is a current-thread one, and no version is negotiated.

mod attach;
mod config;
mod container;
mod context;
mod engine;
mod failure;
mod image;
mod network;
mod output;
mod reference;
mod registry;
mod spec;
mod system;
mod terminal;
mod transfer;
mod volume;

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

use clap::builder::{ArgAction, BoolishValueParser};
use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgMatches, Args, Command};

pub(crate) use context::{Context, Program};
pub(crate) use engine::detach_if_asked;
pub(crate) use failure::Failure;

/// A verb: its flags and what it does.
pub(crate) trait Run: Args {
    /// Does it; the status to exit with.
    fn run(self, context: &Context) -> impl Future<Output = Result<u8, Failure>>;
}

/// A row of the tables below.
pub(crate) struct Verb {
    name: &'static str,
    about: &'static str,
    aliases: &'static [&'static str],
    flags: fn(Command) -> Command,
    run: fn(&ArgMatches, &Context) -> Result<u8, Failure>,
}

/// The row of the verb `R`.
const fn verb<R: Run>(name: &'static str, about: &'static str) -> Verb {
    Verb {
        name,
        about,
        aliases: &[],
        flags: |command| go_booleans(R::augment_args(command)),
        run: |matches, context| {
            let verb =
                R::from_arg_matches(matches).map_err(|e| Failure::with_code(125, e.to_string()))?;
            context.block_on(verb.run(context))
        },
    }
}

impl Verb {
    /// The same under other names too.
    const fn or(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    fn command(&self) -> Command {
        Command::new(self.name)
            .about(self.about)
            .aliases(self.aliases)
            .defer(self.flags)
    }

    fn answers(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// Lets switches be written as Go's flags allow: `--rm`, `--rm=true`, `--rm=false`.
fn go_booleans(command: Command) -> Command {
    // `-h` is the host name in `run`; help is `--help`, as in Docker.
    let command = command.disable_help_flag(true).arg(
        Arg::new("help")
            .long("help")
            .help("Print usage")
            .action(ArgAction::HelpShort),
    );
    let usage = usage_of(&command);
    command.override_usage(usage).mut_args(|arg| {
        if !matches!(arg.get_action(), ArgAction::SetTrue) {
            return arg;
        }
        arg.action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .value_parser(BoolishValueParser::new())
            .hide_default_value(true)
            .hide_possible_values(true)
            .value_name("bool")
    })
}

/// `docker run [OPTIONS] IMAGE [COMMAND] [ARG...]`: the words as the stock client shows them.
fn usage_of(command: &Command) -> String {
    let program = std::env::args_os().next().map(std::path::PathBuf::from);
    let docker = program.is_some_and(|p| p.file_name().is_some_and(|name| name == "docker"));
    let name = if docker {
        Program::Docker
    } else {
        Program::Hoist
    }
    .name();
    let mut usage = format!("{name} {} [OPTIONS]", command.get_name());
    for positional in command.get_positionals() {
        let names = positional.get_value_names().unwrap_or_default();
        let words: Vec<_> = names.iter().map(|n| n.as_str()).collect();
        let words = words.join(" ");
        let many = matches!(positional.get_action(), ArgAction::Append) && !words.contains(' ');
        usage += &match (positional.is_required_set(), many) {
            (true, true) => format!(" {words} [{words}...]"),
            (true, false) => format!(" {words}"),
            (false, true) => format!(" [{words}...]"),
            (false, false) => format!(" [{words}]"),
        };
    }
    usage
}

/// The nouns and their verbs.
const NOUNS: &[(&str, &str, &[Verb])] = &[
    ("container", "Manage containers", container::VERBS),
    ("image", "Manage images", image::VERBS),
    ("network", "Manage networks", network::VERBS),
    ("system", "Manage the engine", system::NOUN_VERBS),
    ("volume", "Manage volumes", volume::VERBS),
];

/// The verbs that need no noun.
fn top_verbs() -> impl Iterator<Item = &'static Verb> {
    container::TOP_VERBS
        .iter()
        .chain(image::TOP_VERBS)
        .chain(system::VERBS)
        .chain(registry::VERBS)
}

fn tree(program: Program) -> Command {
    let list = |name: &'static str, short: Option<char>, help: &'static str| {
        let arg = Arg::new(name)
            .long(name)
            .help(help)
            .action(ArgAction::Append);
        match short {
            Some(short) => arg.short(short),
            None => arg,
        }
    };
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .help(help)
            .action(ArgAction::SetTrue)
    };
    let mut command = Command::new(program.name())
        .about("Containers: run them, build them, many of them, on many machines")
        .version(concat!(
            env!("CARGO_PKG_VERSION"),
            ", serving the Docker Engine API"
        ))
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(list(
            "host",
            Some('H'),
            "Engine to connect to: unix://PATH or tcp://HOST:PORT",
        ))
        .arg(list(
            "context",
            Some('c'),
            "Name of the docker context to use",
        ))
        .arg(list(
            "config",
            None,
            "Directory of the client's configuration",
        ))
        .arg(switch("debug", "Enable debug mode").short('D'))
        .arg(switch("tls", "Use TLS; implied by --tlsverify"))
        .arg(switch("tlsverify", "Use TLS and verify the remote"))
        .arg(list(
            "tlscacert",
            None,
            "Trust certs signed only by this CA (default: ca.pem)",
        ))
        .arg(list(
            "tlscert",
            None,
            "Path to TLS certificate file (default: cert.pem)",
        ))
        .arg(list(
            "tlskey",
            None,
            "Path to TLS key file (default: key.pem)",
        ))
        .arg(list(
            "log-level",
            Some('l'),
            "Accepted for docker's sake; the client logs nothing",
        ))
        .arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .help("Print version information and quit")
                .action(ArgAction::Version),
        );
    for verb in top_verbs() {
        command = command.subcommand(verb.command());
    }
    for (noun, about, _) in NOUNS {
        // Built only when the noun was typed.
        let fill: fn(Command) -> Command = |command| {
            let found = NOUNS
                .iter()
                .find(|(noun, _, _)| *noun == command.get_name());
            let verbs = found.map_or(&[][..], |(_, _, verbs)| *verbs);
            command
                .subcommand_required(true)
                .arg_required_else_help(true)
                .disable_help_subcommand(true)
                .subcommands(verbs.iter().map(Verb::command))
        };
        command = command.subcommand(Command::new(*noun).about(*about).defer(fill));
    }
    command.subcommand(
        Command::new("daemon")
            .about("Run the engine in the foreground")
            .disable_help_flag(true)
            .arg(
                Arg::new("flags")
                    .num_args(0..)
                    .trailing_var_arg(true)
                    .allow_hyphen_values(true),
            ),
    )
}

/// The verb that was typed and its flags.
fn find(matches: &ArgMatches) -> Option<(&'static Verb, &ArgMatches)> {
    let (name, inner) = matches.subcommand()?;
    if let Some((_, _, verbs)) = NOUNS.iter().find(|(noun, _, _)| *noun == name) {
        let (name, inner) = inner.subcommand()?;
        return Some((verbs.iter().find(|verb| verb.answers(name))?, inner));
    }
    Some((top_verbs().find(|verb| verb.answers(name))?, inner))
}

/// Runs the client.
pub(crate) fn main(program: Program, arguments: &[OsString]) -> ExitCode {
    let matches = match tree(program).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return refuse(program, arguments, &error),
    };
    let Some((verb, inner)) = find(&matches) else {
        output::warn(format!("{}: no such command", program.name()));
        return ExitCode::from(125);
    };
    let done = Context::new(program, &matches).and_then(|context| (verb.run)(inner, &context));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.message.is_empty() {
                output::warn(program.sentence(&failure, verb.name));
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Says what is wrong with the command line, or prints the help that was asked for. 125 for the verbs whose other
/// statuses are the container's, 1 for the rest, as in Docker.
fn refuse(program: Program, arguments: &[OsString], error: &clap::Error) -> ExitCode {
    let named = |kind| match error.get(kind) {
        Some(clap::error::ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let verbs = ["run", "create", "exec"];
    let words = arguments.iter().skip(1).filter_map(|a| a.to_str());
    let verb = words
        .clone()
        .find(|word| !word.starts_with('-'))
        .unwrap_or("");
    let containers = words.take(4).any(|a| verbs.contains(&a));
    let name = program.name();
    match (
        error.kind(),
        named(ContextKind::InvalidArg),
        named(ContextKind::InvalidSubcommand),
    ) {
        (ErrorKind::UnknownArgument, Some(flag), _) => {
            let usage = error.get(ContextKind::Usage).map(ToString::to_string);
            output::warn(if flag.starts_with('-') {
                unknown_flag(program, verb, flag, usage.as_deref())
            } else {
                arguments_complaint(program, verb, "accepts no arguments", usage.as_deref())
            });
            if flag.starts_with('-') {
                return ExitCode::from(125);
            }
        }
        (ErrorKind::MissingRequiredArgument, ..) => {
            let usage = error.get(ContextKind::Usage).map(ToString::to_string);
            let what = "requires at least 1 argument";
            output::warn(arguments_complaint(program, verb, what, usage.as_deref()));
        }
        (ErrorKind::InvalidSubcommand, _, Some(word)) => {
            output::warn(format!(
                "{name}: unknown command: {name} {word}\n\nRun '{name} --help' for more information"
            ));
        }
        // Nobody may read it: the status still says it.
        _ => drop(error.print()),
    }
    ExitCode::from(match error.kind() {
        _ if !error.use_stderr() => 0,
        ErrorKind::MissingRequiredArgument => 1,
        _ if containers => 125,
        _ => 1,
    })
}

/// Too many or too few arguments, in the stock client's words.
fn arguments_complaint(program: Program, verb: &str, what: &str, usage: Option<&str>) -> String {
    let name = program.name();
    let usage = usage.map_or("", |u| u.trim_start_matches("Usage:").trim());
    let ask = if what.starts_with("requires") {
        "See"
    } else {
        "Run"
    };
    format!(
        "{name}: '{name} {verb}' {what}\n\nUsage:  {usage}\n\n{ask} '{name} {verb} --help' for more information"
    )
}

/// A flag that is not there, in the stock client's words.
fn unknown_flag(program: Program, verb: &str, flag: &str, usage: Option<&str>) -> String {
    let flag = flag.split([' ', '=']).next().unwrap_or(flag);
    let what = match flag.strip_prefix('-') {
        Some(short) if !short.starts_with('-') => {
            format!("unknown shorthand flag: '{short}' in {flag}")
        }
        _ => format!("unknown flag: {flag}"),
    };
    let name = program.name();
    let usage = usage
        .map(|u| u.trim_start_matches("Usage:").trim())
        .filter(|u| !u.is_empty());
    let usage = usage.map_or_else(|| format!("{name} {verb} [OPTIONS]"), str::to_owned);
    format!("{what}\n\nUsage:  {usage}\n\nRun '{name} {verb} --help' for more information")
}

/// The whole tree with every flag, for completions.
pub(crate) fn whole_tree(program: Program) -> Command {
    let mut tree = tree(program);
    tree.build();
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_well_formed() {
        whole_tree(Program::Hoist).debug_assert();
    }

    fn parse(line: &str) -> ArgMatches {
        tree(Program::Hoist)
            .try_get_matches_from(line.split_whitespace())
            .unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    #[test]
    fn nouns_and_verbs_lead_to_the_same_place() {
        for (line, name) in [
            ("hoist ps -a", "ps"),
            ("hoist container ls -a", "ls"),
            ("hoist container ps", "ls"),
            ("hoist image rm x", "rm"),
            ("hoist -H unix:///x volume ls", "ls"),
        ] {
            let matches = parse(line);
            assert_eq!(find(&matches).unwrap().0.name, name, "{line}");
        }
    }

    #[test]
    fn switches_are_written_as_in_go_and_stop_at_the_image() {
        let matches = parse("hoist run -it --rm=false --init=true -e A=1 debian ls --rm -la");
        let (_, run) = find(&matches).unwrap();
        assert!(run.get_one::<bool>("tty").unwrap() & run.get_one::<bool>("interactive").unwrap());
        assert!(!run.get_one::<bool>("rm").unwrap() & run.get_one::<bool>("init").unwrap());
        let words: Vec<_> = run
            .get_many::<String>("image_and_command")
            .unwrap()
            .collect();
        assert_eq!(words, ["debian", "ls", "--rm", "-la"]);
    }
}
