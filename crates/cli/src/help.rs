//! Help as docker lays it out: what is used most first, nouns, the rest.

use clap::Command;
use clap::builder::ArgAction;

use super::tree::{GLOBAL_SWITCHES, GLOBAL_VALUES, usage_of};
use super::{GROUPS, Group, Program, top_verbs};

/// The verbs that docker's help puts first, in its order.
const COMMON: [&str; 9] = [
    "run", "exec", "ps", "pull", "push", "images", "login", "logout", "version",
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
    rest.push(("registry", "Serve images to other machines"));
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

/// `hoist run --help`, no wider than `columns`.
pub(super) fn verb(command: &Command, columns: usize) -> String {
    let about = command.get_about().map(ToString::to_string);
    let mut text = format!(
        "Usage:  {}\n\n{}\n",
        usage_of(command),
        about.unwrap_or_default()
    );
    let mut flags = Vec::new();
    for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
        let (Some(long), false) = (arg.get_long(), arg.is_hide_set()) else {
            continue;
        };
        let mut head = match arg.get_short() {
            Some(short) => format!("-{short}, --{long}"),
            None => format!("    --{long}"),
        };
        let name = arg.get_value_names().and_then(|names| names.first());
        if let Some(name) = name.filter(|name| *name != "bool")
            && matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
        {
            head += &format!(" {name}");
        }
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        flags.push((long.to_owned(), head, help));
    }
    if flags.is_empty() {
        return text;
    }
    flags.sort();
    text += "\nOptions:\n";
    let widest = flags
        .iter()
        .map(|(_, head, _)| head.len())
        .max()
        .unwrap_or(0);
    let room = columns.saturating_sub(widest + 6).max(20);
    for (_, head, help) in flags {
        for (number, line) in wrapped(&help, room).iter().enumerate() {
            let head = if number == 0 { head.as_str() } else { "" };
            text += format!("  {head:widest$}   {line}").trim_end();
            text.push('\n');
        }
    }
    text
}

/// A text in lines of at most `room` letters, where its words allow it.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_wrapped_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("", 7), [""]);
        assert_eq!(wrapped("indivisible", 3), ["indivisible"]);
    }
}
