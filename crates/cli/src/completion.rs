//! Shell completion: small scripts that ask this program what could come next, so that the names of containers, images,
//! networks, volumes and contexts are those of this moment.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, Args, Command};
use hoist_docker::client::Client;
use serde_json::Value;

use super::tree::{self, GLOBAL_SWITCHES, GLOBAL_VALUES};
use super::{Context, Failure, GROUPS, Program, Run, output, refusal, top_verbs};

/// The word by which the scripts ask.
pub(super) const ASK: &str = "__complete";
/// How long an engine may take to name its objects: a person waits for it with a key pressed.
const PATIENCE: Duration = Duration::from_secs(1);

/// `completion`.
#[derive(Args, Debug)]
pub(super) struct Completion {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL")]
    shell: String,
}

impl Run for Completion {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let script = match self.shell.as_str() {
            "bash" => BASH,
            "zsh" => ZSH,
            "fish" => FISH,
            other => {
                return Err(Failure::new(format!(
                    "no completion for the shell {other:?}: there is bash, zsh and fish"
                )));
            }
        };
        output::text(script.replace("PROGRAM", context.program.name()))?;
        Ok(0)
    }
}

const BASH: &str = r#"# Completion of PROGRAM for bash: source <(PROGRAM completion bash)
_PROGRAM_complete() {
    # By blanks only: bash would split image:tag and --flag=value.
    local line="${COMP_LINE:0:COMP_POINT}" words current prefix
    read -ra words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    current="${words[${#words[@]}-1]}"
    local IFS=$'\n'
    COMPREPLY=($(PROGRAM __complete "${words[@]:1}" 2>/dev/null | cut -f 1))
    if [[ "$current" == *[:=]* && "$COMP_WORDBREAKS" == *:* ]]; then
        prefix="${current%"${current##*[:=]}"}"
        COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    fi
}
complete -o bashdefault -o default -F _PROGRAM_complete PROGRAM
"#;

const ZSH: &str = r#"#compdef PROGRAM
# Completion of PROGRAM for zsh: source <(PROGRAM completion zsh), or as _PROGRAM in a directory of $fpath
_PROGRAM() {
    local -a candidates
    local line
    for line in "${(@f)$(PROGRAM __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n "$line" ]] || continue
        candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    if (( $#candidates )); then
        _describe -t values PROGRAM candidates
    else
        _files
    fi
}
(( $+functions[compdef] )) && compdef _PROGRAM PROGRAM
"#;

const FISH: &str = r#"# Completion of PROGRAM for fish: PROGRAM completion fish | source
function __PROGRAM_complete
    set -l words (commandline -opc)
    PROGRAM __complete $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c PROGRAM -n 'count (__PROGRAM_complete) >/dev/null' -f -a '(__PROGRAM_complete)'
"#;

/// What stands in a place of a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Containers,
    Running,
    Resting,
    Images,
    Networks,
    Volumes,
    Contexts,
    Words(&'static [&'static str]),
    /// Files, or what nobody can know.
    Else,
}

/// What a verb's arguments are; `only_first` of those whose later ones are something else.
fn arguments_of(path: &str) -> (Kind, bool) {
    let (noun, verb) = path.split_once(' ').unwrap_or(("", path));
    match (noun, verb) {
        ("network", "connect" | "disconnect" | "inspect" | "rm") => (Kind::Networks, false),
        ("volume", "inspect" | "rm" | "update") => (Kind::Volumes, false),
        ("context", "use" | "rm" | "inspect" | "update" | "export") => (Kind::Contexts, false),
        ("" | "container", "run" | "create") => (Kind::Images, true),
        ("" | "container", "exec" | "top") => (Kind::Running, true),
        ("" | "container", "stop" | "kill" | "attach" | "stats" | "pause" | "unpause") => {
            (Kind::Running, false)
        }
        ("" | "container", "start") => (Kind::Resting, false),
        ("" | "container", "port" | "rename" | "commit") => (Kind::Containers, true),
        (
            "" | "container",
            "rm" | "logs" | "diff" | "export" | "wait" | "update" | "restart" | "inspect",
        ) => (Kind::Containers, false),
        ("", "rmi" | "history" | "save" | "tag" | "pull" | "push")
        | ("image", "rm" | "history" | "save" | "tag" | "inspect" | "pull" | "push") => {
            (Kind::Images, false)
        }
        ("", "completion") => (Kind::Words(&["bash", "zsh", "fish"]), true),
        _ => (Kind::Else, false),
    }
}

/// What a flag's value is.
fn value_of(flag: &str) -> Kind {
    match flag {
        "network" | "net" => Kind::Networks,
        "volumes-from" | "link" => Kind::Containers,
        "context" | "from" => Kind::Contexts,
        "pull" => Kind::Words(&["always", "missing", "never"]),
        "restart" => Kind::Words(&["always", "no", "on-failure", "unless-stopped"]),
        "type" => Kind::Words(&["container", "image", "network", "volume"]),
        "log-level" => Kind::Words(&["debug", "info", "warn", "error", "fatal"]),
        "signal" | "stop-signal" => {
            Kind::Words(&["HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2"])
        }
        "format" => Kind::Words(&["json", "table"]),
        _ => Kind::Else,
    }
}

/// Answers a script: candidates for the last word, one a line, with what they are behind a tab.
pub(super) fn answer(program: Program, words: &[OsString]) -> ExitCode {
    let words: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let (current, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", &[][..]),
    };
    let mut text = String::new();
    for (word, about) in candidates(program, before, current) {
        if word.starts_with(current) {
            text += &format!("{word}\t{about}\n");
        }
    }
    // A shell that went away needs no answer.
    drop(output::text(text));
    ExitCode::SUCCESS
}

type Candidates = Vec<(String, String)>;

fn candidates(program: Program, before: &[String], current: &str) -> Candidates {
    let mut line = vec![OsString::from(program.name())];
    line.extend(before.iter().map(OsString::from));
    let typed = refusal::typed(&line);
    let named = |rows: &mut dyn Iterator<Item = (&str, &str)>| -> Candidates {
        rows.map(|(word, about)| (word.to_owned(), about.to_owned()))
            .collect()
    };
    if let Some(command) = typed.command(program) {
        return of_verb(program, &command, &typed, before, current);
    }
    if let Some(group) = typed.group() {
        let verbs = group.verbs.iter().filter(|verb| !verb.hidden);
        return named(&mut verbs.map(|verb| (verb.name, verb.about)));
    }
    if let Some(flag) = before.last().and_then(|word| global_with_value(word)) {
        return objects(program, before, value_of(flag));
    }
    if current.starts_with('-') {
        let values = GLOBAL_VALUES.iter().map(|(name, _, help)| (name, help));
        let switches = GLOBAL_SWITCHES.iter().map(|(name, _, help)| (name, help));
        return values
            .chain(switches)
            .map(|(name, help)| (format!("--{name}"), (*help).to_owned()))
            .collect();
    }
    let groups = GROUPS.iter().map(|group| (group.noun, group.about));
    let verbs = top_verbs().map(|verb| (verb.name, verb.about));
    let own = [
        ("daemon", "Run the engine in the foreground"),
        ("registry", "Serve images to other machines"),
    ];
    named(&mut groups.chain(verbs).chain(own))
}

/// The global flag that a word is and that wants a value.
fn global_with_value(word: &str) -> Option<&'static str> {
    let flag = word.strip_prefix('-')?;
    GLOBAL_VALUES
        .iter()
        .find(|(long, short, _)| {
            flag.strip_prefix('-') == Some(*long)
                || short.is_some_and(|short| flag.chars().eq([short]))
        })
        .map(|(long, _, _)| *long)
}

fn of_verb(
    program: Program,
    command: &Command,
    typed: &refusal::Typed,
    before: &[String],
    current: &str,
) -> Candidates {
    let flags = || command.get_arguments().filter(|arg| !arg.is_positional());
    let takes_value = |arg: &Arg| arg.get_num_args().is_none_or(|n| n.min_values() > 0);
    let of_word = |word: &str| {
        let flag = word.strip_prefix('-')?;
        let found = match flag.strip_prefix('-') {
            Some(long) => flags().find(|arg| arg.get_long() == Some(long)),
            None => flags().find(|arg| arg.get_short() == flag.chars().next_back()),
        };
        found.filter(|arg| takes_value(arg))
    };
    if let Some((flag, _)) = current
        .split_once('=')
        .filter(|_| current.starts_with("--"))
    {
        let name = flag.trim_start_matches('-');
        return objects(program, before, value_of(name))
            .into_iter()
            .map(|(word, about)| (format!("{flag}={word}"), about))
            .collect();
    }
    // Behind the verb's own words.
    let mut rest = before.iter().skip(typed.end().saturating_sub(1));
    let mut positionals = 0;
    while let Some(word) = rest.next() {
        if let Some(flag) = of_word(word) {
            if rest.next().is_none() {
                return objects(
                    program,
                    before,
                    value_of(flag.get_long().unwrap_or_default()),
                );
            }
        } else if !word.starts_with('-') {
            positionals += 1;
        }
    }
    let (kind, only_first) = arguments_of(typed.path());
    if current.starts_with('-') && !(only_first && positionals > 0) {
        let flags = flags().filter(|arg| !arg.is_hide_set() || arg.get_id() == "help");
        return flags
            .filter_map(|arg| {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                Some((format!("--{}", arg.get_long()?), help))
            })
            .collect();
    }
    if only_first && positionals > 0 {
        return Vec::new();
    }
    objects(program, before, kind)
}

/// The names of the objects of a kind; none if no engine answers.
fn objects(program: Program, before: &[String], kind: Kind) -> Candidates {
    if let Kind::Words(words) = kind {
        return words
            .iter()
            .map(|word| ((*word).to_owned(), String::new()))
            .collect();
    }
    if kind == Kind::Else {
        return Vec::new();
    }
    // The flags that say which engine, without the rest of the line, which is not complete.
    let mut line = vec![program.name().to_owned()];
    let mut words = before.iter().peekable();
    while let Some(word) = words.next_if(|word| word.starts_with('-')) {
        line.push(word.clone());
        if global_with_value(word).is_some() {
            line.extend(words.next().cloned());
        }
    }
    line.push("version".to_owned());
    let Ok(matches) = tree::tree(program).try_get_matches_from(line) else {
        return Vec::new();
    };
    let Ok(context) = Context::new(program, &matches) else {
        return Vec::new();
    };
    if kind == Kind::Contexts {
        let names = context.store().names().into_iter();
        return names
            .chain(["default".to_owned()])
            .map(|name| (name, String::new()))
            .collect();
    }
    let Ok(client) = context.client_as_is() else {
        return Vec::new();
    };
    context
        .block_on(async { tokio::time::timeout(PATIENCE, ask(client, kind)).await })
        .ok()
        .flatten()
        .unwrap_or_default()
}

async fn ask(client: &Client, kind: Kind) -> Option<Candidates> {
    let (path, field) = match kind {
        Kind::Images => ("/images/json", "RepoTags"),
        Kind::Networks => ("/networks", "Name"),
        Kind::Volumes => ("/volumes", "Name"),
        _ => ("/containers/json", "Names"),
    };
    let mut call = client.get(path);
    if matches!(kind, Kind::Containers | Kind::Resting) {
        call = call.query("all", "1");
    }
    if kind == Kind::Resting {
        let resting = r#"{"status":["created","exited"]}"#;
        call = call.query("filters", resting);
    }
    let mut found: Value = call.send().await.ok()?.json().await.ok()?;
    if kind == Kind::Volumes {
        found = found["Volumes"].take();
    }
    let mut names = Vec::new();
    for object in found.as_array()? {
        let about = match kind {
            Kind::Containers | Kind::Running | Kind::Resting => {
                let text = |field: &str| object[field].as_str().unwrap_or_default();
                format!("{}, {}", text("Image"), text("Status"))
            }
            Kind::Networks | Kind::Volumes => {
                object["Driver"].as_str().unwrap_or_default().to_owned()
            }
            _ => String::new(),
        };
        let list = object[field].as_array().map_or_else(
            || object[field].as_str().into_iter().collect(),
            |list| list.iter().filter_map(Value::as_str).collect::<Vec<_>>(),
        );
        for name in list {
            names.push((name.trim_start_matches('/').to_owned(), about.clone()));
        }
    }
    names.sort();
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(line: &str) -> Vec<String> {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let current = words.pop().unwrap();
        candidates(Program::Hoist, &words, &current)
            .into_iter()
            .map(|(word, _)| word)
            .filter(|word| word.starts_with(&current))
            .collect()
    }

    #[test]
    fn verbs_nouns_flags_and_values() {
        assert_eq!(complete("ren"), ["rename"]);
        assert_eq!(complete("volume l"), ["ls"]);
        assert_eq!(complete("--tlsc"), ["--tlscacert", "--tlscert"]);
        assert_eq!(complete("container ls --no"), ["--no-trunc"]);
        assert_eq!(complete("ps --no"), ["--no-trunc"]);
        assert_eq!(complete("run --pull n"), ["never"]);
        assert_eq!(complete("run -it --restart=on"), ["--restart=on-failure"]);
        assert_eq!(complete("completion z"), ["zsh"]);
        // The command in the container is nobody's to know.
        assert!(complete("run debian --no").is_empty());
        assert!(complete("nope ").contains(&"ps".to_owned()));
    }

    #[test]
    fn what_a_verb_is_about() {
        assert_eq!(arguments_of("container rm"), (Kind::Containers, false));
        assert_eq!(arguments_of("run"), (Kind::Images, true));
        assert_eq!(arguments_of("image ls"), (Kind::Else, false));
    }
}
