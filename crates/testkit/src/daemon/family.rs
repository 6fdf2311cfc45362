//! Which processes belong to a test's daemon, so that a test counts and kills nothing else.
//!
//! The daemon carries a mark in its environment, and so does all that Docker's daemon starts. Hoist's zygote
//! and monitors have no environment: they are found as children, and monitors that have lost their parents by
//! the log they keep open below the daemon's directory. Containers are not counted.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The environment variable whose value is the daemon's private directory.
pub(super) const MARK: &str = "HOIST_TEST_DAEMON";

/// The process ids of the daemon whose private directory is `mark`, and of everything it has started.
pub(super) fn family(mark: &str) -> Vec<u32> {
    let needle = format!("{MARK}={mark}\0");
    let (own, processes) = (std::process::id(), processes());
    let mut found: BTreeSet<u32> = processes
        .iter()
        .filter(|process| process.pid != own && process.is_marked(&needle))
        .map(|process| process.pid)
        .collect();
    let ours = |process: &&Process| process.name.starts_with("hoist-");
    // The zygote is the daemon's child, monitors are the zygote's: twice is deep enough.
    for _ in 0..2 {
        let children = processes
            .iter()
            .filter(ours)
            .filter(|process| found.contains(&process.parent));
        found.extend(children.map(|process| process.pid).collect::<Vec<_>>());
    }
    let holders = processes
        .iter()
        .filter(ours)
        .filter(|process| process.holds(mark));
    found.extend(holders.map(|process| process.pid).collect::<Vec<_>>());
    found.into_iter().collect()
}

struct Process {
    pid: u32,
    parent: u32,
    name: String,
    directory: PathBuf,
}

impl Process {
    fn is_marked(&self, needle: &str) -> bool {
        let environment = fs::read(self.directory.join("environ")).unwrap_or_default();
        environment
            .windows(needle.len())
            .any(|window| window == needle.as_bytes())
    }

    fn holds(&self, mark: &str) -> bool {
        let descriptors = fs::read_dir(self.directory.join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        descriptors
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|target| target.starts_with(mark))
    }
}

fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| read(&entry.path())).collect()
}

/// `pid (name) state parent …` of /proc/<pid>/stat (proc_pid_stat(5)); `None` for what is no process any more.
fn read(directory: &Path) -> Option<Process> {
    let pid = directory.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(directory.join("stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = tail.split_whitespace();
    let zombie = fields.next()? == "Z";
    let parent = fields.next()?.parse().ok()?;
    (!zombie).then(|| Process {
        pid,
        parent,
        name,
        directory: directory.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_marked_process_is_found_and_others_are_not() {
        let mark = format!("/nowhere/{}", std::process::id());
        let mut child = Command::new("cat")
            .env(MARK, &mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // What answers has its environment: the kernel lets the parent of a vfork(2) go on before it is in place.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let found = family(&mark);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, [child.id()]);
        assert!(family("/nowhere/else").is_empty());
    }
}
