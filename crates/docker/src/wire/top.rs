//! `ps` as `GET /containers/{id}/top` gives it (API 1.55, `ContainerTopResponse`), rendered from proc(5): no program runs.
//!
//! Which processes are listed is the container's matter, so ps's options that select are accepted and mean nothing; those
//! that choose columns are obeyed (procps `ps(1)`); all others are refused. Times are UTC.

mod columns;

use hoist_model::Timestamp;
use hoist_model::container::ProcessFacts;
use serde::Serialize;

use self::columns::{Column, Machine};
use crate::error::ApiError;

/// The reply.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Top {
    titles: Vec<String>,
    processes: Vec<Vec<String>>,
}

/// One column as asked for: what and under which title.
type Titled = (Column, String);

/// Renders processes as `ps` with these arguments would.
pub(crate) fn top(
    arguments: &str,
    processes: &[ProcessFacts],
    now: Timestamp,
    memory: u64,
) -> Result<Top, ApiError> {
    let columns = parse(arguments)?;
    if !columns.iter().any(|(_, title)| title == "PID") {
        return Err(ApiError::invalid("Couldn't find PID field in ps output"));
    }
    let machine = Machine { now, memory };
    Ok(Top {
        titles: columns.iter().map(|(_, title)| title.clone()).collect(),
        processes: processes
            .iter()
            .map(|facts| {
                columns
                    .iter()
                    .map(|(column, _)| column.render(facts, &machine))
                    .collect()
            })
            .collect(),
    })
}

fn named(names: &str) -> Vec<Titled> {
    names
        .split(' ')
        .filter_map(|name| {
            let column = Column::find(name)?;
            Some((column, column.title.to_owned()))
        })
        .collect()
}

fn refuse(what: &str) -> ApiError {
    ApiError::invalid(format!(
        "ps option {what} is not supported: processes are read without ps, which knows -e -A -a -d -x, -f -F -l -j, aux-style letters (a x u j l w) and -o LIST"
    ))
}

/// What is shown, by the last option that says.
fn parse(arguments: &str) -> Result<Vec<Titled>, ApiError> {
    let mut words = arguments.split_ascii_whitespace();
    let mut listed: Vec<Titled> = Vec::new();
    let mut shape: Option<&str> = None;
    while let Some(word) = words.next() {
        let (letters, dashed) = match word.strip_prefix('-') {
            Some(rest) if rest.starts_with('-') => match rest.strip_prefix("-format") {
                Some(list) => {
                    let list = list.strip_prefix('=').or_else(|| words.next());
                    listed.extend(list_of(list.ok_or_else(|| refuse(word))?)?);
                    continue;
                }
                None => return Err(refuse(word)),
            },
            Some(letters) => (letters, true),
            None => (word, false),
        };
        // `-aux` is how everybody writes `aux`; ps takes it so too.
        let dashed = dashed && !letters.contains('u');
        for (at, letter) in letters.char_indices() {
            match (letter, dashed) {
                ('e' | 'A' | 'a' | 'd' | 'x', true) | ('a' | 'x' | 'w', _) => {}
                ('f', true) => shape = Some("f"),
                ('F', true) => shape = Some("F"),
                ('l', true) => shape = Some("l"),
                ('j', true) => shape = Some("j"),
                ('u', false) => shape = Some("bsd_u"),
                ('j', false) => shape = Some("bsd_j"),
                ('l', false) => shape = Some("bsd_l"),
                ('o', _) => {
                    let rest = &letters[at + 1..];
                    let list = if rest.is_empty() {
                        words.next()
                    } else {
                        Some(rest)
                    };
                    listed.extend(list_of(list.ok_or_else(|| refuse(word))?)?);
                    break;
                }
                _ => return Err(refuse(word)),
            }
        }
        if !dashed && shape.is_none() && letters.contains(['a', 'x']) {
            shape = Some("bsd");
        }
    }
    if !listed.is_empty() {
        return Ok(listed);
    }
    Ok(named(match shape {
        Some("f") => "UID pid ppid c stime tname time cmd",
        Some("F") => "UID pid ppid c sz rss psr stime tname time cmd",
        Some("l") => "f s uid pid ppid c opri ni addr sz wchan tname time ucmd",
        Some("j") => "pid pgid sid tname time ucmd",
        Some("bsd_u") => "user pid %cpu %mem vsz rss tname stat start_time bsdtime args",
        Some("bsd_j") => "ppid pid pgid sid tname tpgid stat uid bsdtime args",
        Some("bsd_l") => "f uid pid ppid pri ni vsz rss wchan stat tname bsdtime args",
        Some("bsd") => "pid tname stat bsdtime args",
        _ => "pid tname time ucmd",
    }))
}

/// `pid,cmd,user=WHO`: a title of one's own takes the rest of the word, as in ps.
fn list_of(list: &str) -> Result<Vec<Titled>, ApiError> {
    let mut columns = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let end = rest.find([',', '=']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(column) = Column::find(name).filter(|_| name != "UID") else {
            return Err(ApiError::invalid(format!(
                "ps column {name:?} is not supported"
            )));
        };
        if let Some(title) = after.strip_prefix('=') {
            if name == "pid" || title.contains("PID") || title.is_empty() {
                return Err(ApiError::invalid(format!(
                    "specifying \"{name}={title}\" is not allowed"
                )));
            }
            columns.push((column, title.to_owned()));
            break;
        }
        columns.push((column, column.title.to_owned()));
        rest = after.strip_prefix(',').unwrap_or_default();
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use hoist_model::container::NumberedName;

    fn shell() -> ProcessFacts {
        let root = NumberedName {
            id: 0,
            name: Some("root".to_owned()),
        };
        ProcessFacts {
            pid: 1234,
            parent: 1200,
            group: 1234,
            session: 1234,
            terminal: 0x8800,
            foreground: 1234,
            state: 'S',
            flags: 0x0040_0100,
            priority: 20,
            threads: 2,
            started_at: Timestamp::from_seconds(1_732_399_940),
            cpu_milliseconds: 65_000,
            virtual_bytes: 4 << 20,
            resident_bytes: 1 << 20,
            users: [root.clone(), root.clone()],
            groups: [root.clone(), root],
            command: "sh".to_owned(),
            arguments: vec!["sh".to_owned(), "-c".to_owned(), "sleep 1".to_owned()],
            ..ProcessFacts::default()
        }
    }

    fn shown(arguments: &str) -> String {
        let now = Timestamp::from_seconds(1_732_400_070);
        match top(arguments, &[shell()], now, 100 << 20) {
            Ok(top) => format!("{}\n{}", top.titles.join("|"), top.processes[0].join("|")),
            Err(error) => error.message,
        }
    }

    #[test]
    fn formats() {
        let all: String = [
            "-ef", "-e", "aux", "-aux", "ax", "-F", "-l", "-j", "axl", "axj",
        ]
        .map(|arguments| format!("{arguments}\n{}\n", shown(arguments)))
        .concat();
        expect![[r#"
            -ef
            UID|PID|PPID|C|STIME|TTY|TIME|CMD
            root|1234|1200|50|22:12|pts/0|00:01:05|sh -c sleep 1
            -e
            PID|TTY|TIME|CMD
            1234|pts/0|00:01:05|sh
            aux
            USER|PID|%CPU|%MEM|VSZ|RSS|TTY|STAT|START|TIME|COMMAND
            root|1234|50.0|1.0|4096|1024|pts/0|Ssl+|22:12|1:05|sh -c sleep 1
            -aux
            USER|PID|%CPU|%MEM|VSZ|RSS|TTY|STAT|START|TIME|COMMAND
            root|1234|50.0|1.0|4096|1024|pts/0|Ssl+|22:12|1:05|sh -c sleep 1
            ax
            PID|TTY|STAT|TIME|COMMAND
            1234|pts/0|Ssl+|1:05|sh -c sleep 1
            -F
            UID|PID|PPID|C|SZ|RSS|PSR|STIME|TTY|TIME|CMD
            root|1234|1200|50|1024|1024|0|22:12|pts/0|00:01:05|sh -c sleep 1
            -l
            F|S|UID|PID|PPID|C|PRI|NI|ADDR|SZ|WCHAN|TTY|TIME|CMD
            4|S|0|1234|1200|50|80|0|-|1024|-|pts/0|00:01:05|sh
            -j
            PID|PGID|SID|TTY|TIME|CMD
            1234|1234|1234|pts/0|00:01:05|sh
            axl
            F|UID|PID|PPID|PRI|NI|VSZ|RSS|WCHAN|STAT|TTY|TIME|COMMAND
            4|0|1234|1200|19|0|4096|1024|-|Ssl+|pts/0|1:05|sh -c sleep 1
            axj
            PPID|PID|PGID|SID|TTY|TPGID|STAT|UID|TIME|COMMAND
            1200|1234|1234|1234|pts/0|1234|Ssl+|0|1:05|sh -c sleep 1
        "#]]
        .assert_eq(&all);
    }

    #[test]
    fn lists_of_columns() {
        assert_eq!(shown("-o pid,comm"), "PID|COMMAND\n1234|sh");
        assert_eq!(shown("-eo pid,user=WHO"), "PID|WHO\n1234|root");
        assert_eq!(shown("-o pid -o etime"), "PID|ELAPSED\n1234|02:10");
        assert_eq!(shown("--format=pid,nlwp"), "PID|NLWP\n1234|2");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert_eq!(shown("-o comm"), "Couldn't find PID field in ps output");
        assert_eq!(shown("-o pid=X"), "specifying \"pid=X\" is not allowed");
        assert_eq!(
            shown("-o user=PID,pid"),
            "specifying \"user=PID,pid\" is not allowed"
        );
        assert_eq!(shown("-o pid,nope"), "ps column \"nope\" is not supported");
        assert!(shown("-eZ").starts_with("ps option -eZ is not supported"));
        assert!(shown("--forest").starts_with("ps option --forest is not supported"));
        assert!(shown("-o").starts_with("ps option -o is not supported"));
    }
}
