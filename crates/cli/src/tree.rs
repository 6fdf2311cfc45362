//! The tree of verbs as clap is told it. Only the verb that was typed gets its flags.

use clap::builder::{ArgAction, BoolishValueParser};
use clap::{Arg, Command};

use super::{GROUPS, Program, Verb, top_verbs};

/// Global flags that take a value: long name, short name, help.
pub(super) const GLOBAL_VALUES: [(&str, Option<char>, &str); 7] = [
    (
        "config",
        None,
        "Location of client config files (default ~/.docker)",
    ),
    (
        "context",
        Some('c'),
        "Name of the context to use to connect to the engine (overrides DOCKER_HOST)",
    ),
    (
        "host",
        Some('H'),
        "Engine to connect to: unix://PATH, tcp://HOST:PORT or ssh://[USER@]HOST",
    ),
    (
        "log-level",
        Some('l'),
        "Accepted for docker's sake; the client logs nothing",
    ),
    (
        "tlscacert",
        None,
        "Trust certs signed only by this CA (default ca.pem)",
    ),
    (
        "tlscert",
        None,
        "Path to TLS certificate file (default cert.pem)",
    ),
    ("tlskey", None, "Path to TLS key file (default key.pem)"),
];

/// Global flags that are switches.
pub(super) const GLOBAL_SWITCHES: [(&str, Option<char>, &str); 3] = [
    ("debug", Some('D'), "Enable debug mode"),
    ("tls", None, "Use TLS; implied by --tlsverify"),
    ("tlsverify", None, "Use TLS and verify the remote"),
];

/// The whole tree, the flags of verbs left for later.
pub(super) fn tree(program: Program) -> Command {
    let named = |name: &'static str, short: Option<char>, help: &'static str| {
        let arg = Arg::new(name).long(name).help(help);
        match short {
            Some(short) => arg.short(short),
            None => arg,
        }
    };
    let mut command = Command::new(program.name())
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(help_flag())
        .arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .help("Print version information and quit")
                .action(ArgAction::SetTrue),
        );
    for (name, short, help) in GLOBAL_VALUES {
        command = command.arg(named(name, short, help).action(ArgAction::Append));
    }
    for (name, short, help) in GLOBAL_SWITCHES {
        command = command.arg(named(name, short, help).action(ArgAction::SetTrue));
    }
    command = command.args_override_self(true);
    for verb in top_verbs() {
        command = command.subcommand(verb.command());
    }
    for group in GROUPS {
        // Built only when the noun was typed.
        let fill: fn(Command) -> Command = |command| {
            let found = GROUPS.iter().find(|g| g.noun == command.get_name());
            let verbs = found.map_or(&[][..], |group| group.verbs);
            command
                .subcommand_required(true)
                .arg_required_else_help(true)
                .disable_help_flag(true)
                .disable_help_subcommand(true)
                .arg(help_flag())
                .subcommands(verbs.iter().map(Verb::command))
        };
        command = command.subcommand(Command::new(group.noun).about(group.about).defer(fill));
    }
    for (name, about) in [
        ("daemon", "Run the engine in the foreground"),
        ("registry", "Serve images to other machines"),
    ] {
        // The binary takes these before this tree does; here they are known by name.
        let flags = Arg::new("flags")
            .num_args(0..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true);
        let subcommand = Command::new(name).about(about).disable_help_flag(true);
        command = command.subcommand(subcommand.arg(flags));
    }
    command
}

/// `-h` is the host name in `run`; help is `--help`, as in docker.
fn help_flag() -> Arg {
    Arg::new("help")
        .long("help")
        .help("Print usage")
        .hide(true)
        .action(ArgAction::HelpShort)
}

/// Flags as Go's are written: `--rm`, `--rm=true`, `--rm=false`; the last of several wins; a value may begin with a dash.
pub(super) fn go_flags(command: Command) -> Command {
    let command = command
        .disable_help_flag(true)
        .args_override_self(true)
        .arg(help_flag());
    let usage = usage_of(&command);
    command.override_usage(usage).mut_args(|arg| {
        let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
            && arg.get_num_args().is_none_or(|n| n.min_values() > 0);
        if takes_value && !arg.is_positional() {
            return arg.allow_hyphen_values(true);
        }
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

/// Whether a verb has flags of its own.
fn has_flags(command: &Command) -> bool {
    let mut flags = command.get_arguments().filter(|arg| !arg.is_positional());
    flags.any(|arg| arg.get_id() != "help" && !arg.is_hide_set())
}

/// `docker run [OPTIONS] IMAGE [COMMAND] [ARG...]`: the words as the stock client shows them.
pub(super) fn usage_of(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let mut usage = name.to_owned();
    if has_flags(command) {
        usage += " [OPTIONS]";
    }
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
