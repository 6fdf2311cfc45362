//! The command line: verbs and flags as Docker's, one request away from the engine.
//!
//! Starting must cost less than two milliseconds: the tree of verbs is built lazily (only the verb that was
//! typed gets its flags), the runtime is a current-thread one, and no version is negotiated.

mod attach;
mod build;
mod completion;
mod config;
mod container;
mod context;
mod contexts;
mod engine;
mod failure;
mod fsck;
mod help;
mod image;
mod manifest;
mod network;
mod output;
mod reference;
mod refusal;
mod registry;
mod spec;
mod system;
mod terminal;
mod transfer;
mod tree;
mod volume;

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

use clap::{ArgMatches, Args, Command};

pub use context::Program;
pub use engine::detach_if_asked;
pub use fsck::{AtRest, FsckAtRest};
pub use spec::InvalidFlag;
pub use spec::values::bytes;

pub(crate) use context::Context;
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
    /// Whether help keeps quiet about it, as about `system dial-stdio`.
    hidden: bool,
    flags: fn(Command) -> Command,
    run: fn(&ArgMatches, &Context) -> Result<u8, Failure>,
}

/// The row of the verb `R`.
const fn verb<R: Run>(name: &'static str, about: &'static str) -> Verb {
    Verb {
        name,
        about,
        aliases: &[],
        hidden: false,
        flags: |command| {
            // The type's own comment is for who reads the code.
            let about = command.get_about().cloned().unwrap_or_default();
            tree::go_flags(R::augment_args(command).about(about))
        },
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

    /// The same, not shown in help.
    const fn hidden(self) -> Self {
        Self {
            hidden: true,
            ..self
        }
    }

    fn command(&self) -> Command {
        Command::new(self.name)
            .about(self.about)
            .aliases(self.aliases)
            .hide(self.hidden)
            .defer(self.flags)
    }

    fn answers(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// A noun and its verbs.
pub(crate) struct Group {
    noun: &'static str,
    about: &'static str,
    verbs: &'static [Verb],
}

const fn group(noun: &'static str, about: &'static str, verbs: &'static [Verb]) -> Group {
    Group { noun, about, verbs }
}

/// The nouns.
const GROUPS: &[Group] = &[
    group("builder", "Manage builds", build::NOUN_VERBS),
    group("container", "Manage containers", container::VERBS),
    group("context", "Manage contexts", contexts::VERBS),
    group("image", "Manage images", image::VERBS),
    group("manifest", manifest::ABOUT, manifest::VERBS),
    group("network", "Manage networks", network::VERBS),
    group("system", "Manage the engine", system::NOUN_VERBS),
    group("volume", "Manage volumes", volume::VERBS),
];

/// The verbs that need no noun.
fn top_verbs() -> impl Iterator<Item = &'static Verb> {
    container::TOP_VERBS
        .iter()
        .chain(image::TOP_VERBS)
        .chain(build::TOP_VERBS)
        .chain(system::VERBS)
        .chain(registry::VERBS)
}

/// The verb that was typed and its flags.
fn find(matches: &ArgMatches) -> Option<(&'static Verb, &ArgMatches)> {
    let (name, inner) = matches.subcommand()?;
    if let Some(group) = GROUPS.iter().find(|group| group.noun == name) {
        let (name, inner) = inner.subcommand()?;
        return Some((group.verbs.iter().find(|verb| verb.answers(name))?, inner));
    }
    Some((top_verbs().find(|verb| verb.answers(name))?, inner))
}

/// `docker help ps` is `docker ps --help`.
fn ask_for_help(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let at = arguments
        .iter()
        .skip(1)
        .position(|word| !word.as_encoded_bytes().starts_with(b"-"))?
        + 1;
    if arguments[at] != "help" {
        return None;
    }
    let mut asked = arguments.to_vec();
    asked.remove(at);
    asked.push("--help".into());
    Some(asked)
}

/// Runs the client; `at_rest` checks the data root of an engine that does not run.
pub fn main(program: Program, arguments: &[OsString], at_rest: FsckAtRest) -> ExitCode {
    if let Some((word, rest)) = arguments.get(1..).and_then(<[_]>::split_first)
        && word == completion::ASK
    {
        return completion::answer(program, rest);
    }
    let asked = ask_for_help(arguments);
    let arguments = asked.as_deref().unwrap_or(arguments);
    if let [_, only] = arguments
        && (only == "-v" || only == "--version")
    {
        return print_version(program);
    }
    let matches = match tree::tree(program).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return refusal::refuse(program, arguments, &error),
    };
    if matches.get_flag("version") {
        return print_version(program);
    }
    let Some((verb, inner)) = find(&matches) else {
        output::warn(format!("{}: no such command", program.name()));
        return ExitCode::from(125);
    };
    let done = Context::new(program, &matches).and_then(|mut context| {
        context.fsck_at_rest = at_rest;
        (verb.run)(inner, &context)
    });
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if failure.bad_flag {
                output::warn(refusal::say(program, arguments, &failure));
            } else if !failure.message.is_empty() {
                output::warn(program.sentence(&failure, verb.name));
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Scripts read the release from the second line's place, so `docker` names the one whose API is served.
fn print_version(program: Program) -> ExitCode {
    let own = env!("CARGO_PKG_VERSION");
    let release = hoist_docker::DOCKER_RELEASE;
    let text = match program {
        Program::Docker => format!("Docker version {release}, build hoist-{own}"),
        Program::Hoist => format!("hoist {own}, serving the API of Docker {release}"),
    };
    // Nobody may read it.
    drop(output::line(text));
    ExitCode::SUCCESS
}

/// The whole tree with every flag.
#[cfg(test)]
fn whole_tree(program: Program) -> Command {
    let mut tree = tree::tree(program);
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
        tree::tree(Program::Hoist)
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
            ("hoist ps -n 1 -n 2 -f -a", "ps"),
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
