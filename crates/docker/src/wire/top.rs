//! `ps` as `GET /containers/{id}/top` gives it (API 1.55, `ContainerTopResponse`), rendered from proc(5): no program runs.
//!
//! Which processes are listed is the container's matter, so ps's options that select all are accepted and mean nothing, and
//! those that select some are refused; those that choose columns, sort, show threads and draw trees are obeyed (procps
//! `ps(1)`). Times are UTC.

mod columns;
mod options;
mod order;

use hoist_model::Timestamp;
use hoist_model::container::ProcessFacts;
use serde::Serialize;

use self::columns::Machine;
pub(crate) use self::options::Asked;
use crate::error::ApiError;

/// The reply.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Top {
    titles: Vec<String>,
    processes: Vec<Vec<String>>,
}

/// Reads arguments of `ps`.
pub(crate) fn parse(arguments: &str) -> Result<Asked, ApiError> {
    let asked = options::parse(arguments)?;
    if !asked.columns.iter().any(|(_, title)| title == "PID") {
        return Err(ApiError::invalid("Couldn't find PID field in ps output"));
    }
    Ok(asked)
}

/// Renders processes as `ps` with these arguments would.
pub(crate) fn top(asked: &Asked, processes: &[ProcessFacts], now: Timestamp, memory: u64) -> Top {
    let machine = Machine { now, memory };
    let placed = order::placed(asked, processes, &machine);
    Top {
        titles: asked
            .columns
            .iter()
            .map(|(_, title)| title.clone())
            .collect(),
        processes: placed
            .into_iter()
            .map(|(facts, branches)| {
                let columns = asked.columns.iter();
                columns
                    .map(|(column, _)| {
                        let text = column.render(facts, &machine);
                        if column.is_command() {
                            format!("{branches}{text}")
                        } else {
                            text
                        }
                    })
                    .collect()
            })
            .collect(),
    }
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
            thread: 1234,
            users: [0; 4].map(|_| root.clone()),
            groups: [0; 4].map(|_| root.clone()),
            command: "sh".to_owned(),
            arguments: vec!["sh".to_owned(), "-c".to_owned(), "sleep 1".to_owned()],
            ..ProcessFacts::default()
        }
    }

    fn shown(arguments: &str) -> String {
        let now = Timestamp::from_seconds(1_732_400_070);
        match parse(arguments) {
            Ok(asked) => {
                let top = top(&asked, &[shell()], now, 100 << 20);
                format!("{}\n{}", top.titles.join("|"), top.processes[0].join("|"))
            }
            Err(error) => error.message,
        }
    }

    /// A shell with two children, one of which has a child.
    fn family() -> Vec<ProcessFacts> {
        let of = |pid: i32, parent: i32, command: &str, resident: u64| ProcessFacts {
            pid,
            thread: pid,
            parent,
            command: command.to_owned(),
            arguments: vec![command.to_owned()],
            resident_bytes: resident << 10,
            ..shell()
        };
        vec![
            of(10, 1, "sh", 30),
            of(11, 10, "make", 900),
            of(12, 11, "cc", 40),
            of(13, 10, "sleep", 7),
        ]
    }

    fn listed(arguments: &str) -> String {
        let now = Timestamp::from_seconds(1_732_400_070);
        let top = top(&parse(arguments).unwrap(), &family(), now, 100 << 20);
        let lines = top.processes.iter().map(|line| line.join("|"));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn lines_are_sorted_as_asked() {
        for (arguments, expected) in [
            ("-o pid,rss --sort=-rss", "11|900\n12|40\n10|30\n13|7"),
            ("-o pid,rss --sort rss", "13|7\n10|30\n12|40\n11|900"),
            ("axo pid,rss k -rss", "11|900\n12|40\n10|30\n13|7"),
            (
                "-o pid,comm --sort=ppid,-pid",
                "10|sh\n13|sleep\n11|make\n12|cc",
            ),
            ("-o pid,comm --sort=comm", "12|cc\n11|make\n10|sh\n13|sleep"),
        ] {
            assert_eq!(listed(arguments), expected, "{arguments}");
        }
    }

    #[test]
    fn trees_are_drawn() {
        let drawn = "10|sh\n11| \\_ make\n12| |   \\_ cc\n13| \\_ sleep";
        assert_eq!(listed("-eo pid,args --forest"), drawn);
        assert_eq!(listed("axf -o pid,args"), drawn);
        assert_eq!(
            listed("-eH -o pid,comm"),
            "10|sh\n11|  make\n12|    cc\n13|  sleep"
        );
    }

    #[test]
    fn threads_have_columns_of_their_own() {
        assert!(parse("-eLf").unwrap().threads && !parse("-ef").unwrap().threads);
        let shown = ["-eLf", "-eL", "-eT", "-eTf", "axH"].map(|arguments| shown(arguments) + "\n");
        expect![[r#"
            UID|PID|PPID|LWP|C|NLWP|STIME|TTY|TIME|CMD
            root|1234|1200|1234|50|2|22:12|pts/0|00:01:05|sh -c sleep 1
            PID|LWP|TTY|TIME|CMD
            1234|1234|pts/0|00:01:05|sh
            PID|SPID|TTY|TIME|CMD
            1234|1234|pts/0|00:01:05|sh
            UID|PID|SPID|PPID|C|STIME|TTY|TIME|CMD
            root|1234|1234|1200|50|22:12|pts/0|00:01:05|sh -c sleep 1
            PID|TTY|STAT|TIME|COMMAND
            1234|pts/0|Ssl+|1:05|sh -c sleep 1
        "#]]
        .assert_eq(&shown.concat());
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
        assert!(shown("--nope").starts_with("ps option --nope is not supported"));
        assert!(shown("-p 1").starts_with("ps option -p is not supported"));
        assert_eq!(
            shown("-e --sort=nope"),
            "error: unknown sort specifier: nope"
        );
        assert!(shown("-o").starts_with("ps option -o is not supported"));
    }
}
