//! Help as docker lays it out: what is used most first, nouns, the rest.

use super::tree::{GLOBAL_SWITCHES, GLOBAL_VALUES};
use super::{GROUPS, Group, Program, top_verbs};

/// The verbs that docker's help puts first, in its order.
const COMMON: [&str; 8] = [
    "run", "exec", "ps", "pull", "images", "login", "logout", "version",
];

fn rows<'a>(heading: &str, rows: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let rows: Vec<_> = rows.collect();
    let widest = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = format!("\n{heading}:\n");
    for (name, about) in rows {
        text += &format!("  {name:widest$}   {about}\n");
    }
    text
}

/// `hoist --help`.
pub(super) fn root(program: Program) -> String {
    let name = program.name();
    let mut text = format!(
        "Usage:  {name} [OPTIONS] COMMAND\n\nContainers: run them, and what they are made of\n"
    );
    let common = COMMON
        .iter()
        .chain(&["info"])
        .filter_map(|name| top_verbs().find(|verb| verb.name == *name));
    text += &rows(
        "Common Commands",
        common.map(|verb| (verb.name, verb.about)),
    );
    text += &rows(
        "Management Commands",
        GROUPS.iter().map(|group| (group.noun, group.about)),
    );
    let mut rest: Vec<_> = top_verbs()
        .filter(|verb| !COMMON.contains(&verb.name) && verb.name != "info" && !verb.hidden)
        .map(|verb| (verb.name, verb.about))
        .collect();
    rest.push(("daemon", "Run the engine in the foreground"));
    rest.sort_unstable();
    text += &rows("Commands", rest.into_iter());
    let flag = |(long, short, _): &(&str, Option<char>, &str), value: &str| match short {
        Some(short) => format!("-{short}, --{long}{value}"),
        None => format!("    --{long}{value}"),
    };
    let mut flags: Vec<(&str, String, &str)> = GLOBAL_VALUES
        .iter()
        .map(|f| (f.0, flag(f, " string"), f.2))
        .chain(GLOBAL_SWITCHES.iter().map(|f| (f.0, flag(f, ""), f.2)))
        .collect();
    flags.push((
        "version",
        "-v, --version".to_owned(),
        "Print version information and quit",
    ));
    flags.sort_unstable();
    text += &rows(
        "Global Options",
        flags.iter().map(|(_, flag, help)| (flag.as_str(), *help)),
    );
    text += &format!("\nRun '{name} COMMAND --help' for more information on a command.\n");
    if program == Program::Hoist {
        text += "The engine is started when none listens; 'hoist system info' says which one answers.\n";
    }
    text
}

/// `hoist volume --help`.
pub(super) fn group(program: Program, group: &Group) -> String {
    let name = format!("{} {}", program.name(), group.noun);
    let verbs = group.verbs.iter().filter(|verb| !verb.hidden);
    format!(
        "Usage:  {name} COMMAND\n\n{}\n{}\nRun '{name} COMMAND --help' for more information on a command.\n",
        group.about,
        rows("Commands", verbs.map(|verb| (verb.name, verb.about)))
    )
}
