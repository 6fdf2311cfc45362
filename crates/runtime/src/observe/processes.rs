//! Processes, as ps(1) reads them: `/proc/PID/{stat,status,cmdline}` and the host's databases of names.

use std::collections::HashMap;
use std::fs;

use hoist_model::Timestamp;
use hoist_model::container::{NumberedName, ProcessFacts};
use rustix::param::{clock_ticks_per_second, page_size};

/// Bytes of a command line that are looked at.
const COMMAND_LINE_LIMIT: usize = 64 << 10;

/// Facts about each of these processes that still is there, or with `threads` about each of their threads, by process id.
/// Blocking, a few reads per process or thread.
#[must_use]
pub fn processes(pids: &[i32], threads: bool) -> Vec<ProcessFacts> {
    let (users, groups) = (names("/etc/passwd"), names("/etc/group"));
    let clock = Clock {
        boot_seconds: boot_seconds(),
        ticks_per_second: clock_ticks_per_second().max(1),
        page_size: page_size() as u64,
    };
    let mut all: Vec<ProcessFacts> = pids
        .iter()
        .flat_map(|pid| {
            let tasks = if threads { tasks(*pid) } else { vec![*pid] };
            tasks.into_iter().map(|task| (*pid, task))
        })
        .filter_map(|(pid, task)| {
            let directory = if threads {
                format!("/proc/{pid}/task/{task}")
            } else {
                format!("/proc/{pid}")
            };
            let mut facts = read(&directory, &clock, &users, &groups)?;
            facts.pid = pid;
            Some(facts)
        })
        .collect();
    all.sort_by_key(|facts| (facts.pid, facts.thread));
    all
}

/// The threads of a process; none of one that is gone.
fn tasks(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter();
    let names = entries.flatten().flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect()
}

struct Clock {
    boot_seconds: i64,
    ticks_per_second: u64,
    page_size: u64,
}

fn read(
    directory: &str,
    clock: &Clock,
    users: &HashMap<u32, String>,
    groups: &HashMap<u32, String>,
) -> Option<ProcessFacts> {
    let file = |name: &str| fs::read(format!("{directory}/{name}")).ok();
    let mut facts = parse_stat(&String::from_utf8_lossy(&file("stat")?), clock)?;
    let status = file("status")?;
    let status = String::from_utf8_lossy(&status);
    let named = |id: u32, names: &HashMap<u32, String>| NumberedName {
        id,
        name: names.get(&id).cloned(),
    };
    facts.users = ids(&status, "Uid:").map(|id| named(id, users));
    facts.groups = ids(&status, "Gid:").map(|id| named(id, groups));
    facts.locked_pages = field(&status, "VmLck:").is_some_and(|text| !text.starts_with('0'));
    facts.signals = ["ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:"]
        .map(|name| field(&status, name).unwrap_or_default().to_owned());
    let mut line = file("cmdline").unwrap_or_default();
    line.truncate(COMMAND_LINE_LIMIT);
    facts.arguments = words(&line);
    Some(facts)
}

fn words(line: &[u8]) -> Vec<String> {
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    if line.is_empty() {
        return Vec::new();
    }
    line.split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

/// Real, effective, saved, of the file system.
fn ids(status: &str, name: &str) -> [u32; 4] {
    let mut numbers = field(status, name)
        .unwrap_or_default()
        .split_whitespace()
        .map(|word| word.parse().unwrap_or(u32::MAX));
    [0; 4].map(|_| numbers.next().unwrap_or(u32::MAX))
}

/// `pid (name) state ppid …`: the name may hold anything, the last `)` ends it (proc_pid_stat(5)).
fn parse_stat(text: &str, clock: &Clock) -> Option<ProcessFacts> {
    let (head, rest) = text.rsplit_once(')')?;
    let (pid, command) = head.split_once('(')?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    // The first of them is field 3.
    let word = |number: usize| words.get(number - 3).copied();
    let signed = |number| word(number)?.parse::<i64>().ok();
    let unsigned = |number| word(number)?.parse::<u64>().ok();
    let id = |number| word(number)?.parse::<i32>().ok();
    let seconds = |ticks: u64| {
        (
            ticks / clock.ticks_per_second,
            ticks % clock.ticks_per_second,
        )
    };
    let (whole, part) = seconds(unsigned(22)?);
    let nanoseconds = part * 1_000_000_000 / clock.ticks_per_second;
    let started = Timestamp::from_seconds(clock.boot_seconds)
        .plus(std::time::Duration::from_secs(whole))
        .plus(std::time::Duration::from_nanos(nanoseconds));
    let pid = pid.trim().parse().ok()?;
    Some(ProcessFacts {
        pid,
        thread: pid,
        faults: [unsigned(10)?, unsigned(12)?],
        code_bytes: unsigned(27)?.saturating_sub(unsigned(26)?),
        realtime_priority: word(40).and_then(|word| word.parse().ok()).unwrap_or(0),
        policy: word(41).and_then(|word| word.parse().ok()).unwrap_or(0),
        command: command.to_owned(),
        state: word(3)?.chars().next()?,
        parent: id(4)?,
        group: id(5)?,
        session: id(6)?,
        terminal: u64::from(id(7)?.cast_unsigned()),
        foreground: id(8)?,
        flags: word(9)?.parse().ok()?,
        cpu_milliseconds: (unsigned(14)? + unsigned(15)?) * 1000 / clock.ticks_per_second,
        priority: signed(18)?,
        nice: signed(19)?,
        threads: unsigned(20)?,
        started_at: started,
        virtual_bytes: unsigned(23)?,
        resident_bytes: unsigned(24)?.saturating_mul(clock.page_size),
        processor: word(39).and_then(|word| word.parse().ok()).unwrap_or(0),
        ..ProcessFacts::default()
    })
}

fn boot_seconds() -> i64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    field(&text, "btime ")
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Names by number of passwd(5) or group(5); the first line of a number wins.
fn names(path: &str) -> HashMap<u32, String> {
    let text = fs::read(path).unwrap_or_default();
    let mut names = HashMap::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let mut fields = line.split(':');
        if let (Some(name), _, Some(Ok(id))) =
            (fields.next(), fields.next(), fields.next().map(str::parse))
        {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_spaces_and_parentheses() {
        let clock = Clock {
            boot_seconds: 1000,
            ticks_per_second: 100,
            page_size: 4096,
        };
        let text = "42 (a ) b) S 1 42 42 34816 42 4194560 101 0 0 0 150 50 0 0 20 0 3 0 250 1000000 25 \
            18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        let facts = parse_stat(text, &clock).unwrap();
        assert_eq!((facts.pid, facts.command.as_str()), (42, "a ) b"));
        assert_eq!((facts.terminal, facts.foreground), (34816, 42));
        assert_eq!(facts.cpu_milliseconds, 2000);
        assert_eq!(facts.started_at.as_nanos(), 1_002_500_000_000);
        assert_eq!((facts.threads, facts.processor), (3, 1));
        assert_eq!(facts.resident_bytes, 25 * 4096);
        assert_eq!(parse_stat("42 (torn", &clock), None);
    }

    #[test]
    fn words_end_with_a_null_and_may_be_empty() {
        assert_eq!(words(b"sh\0-c\0\0x\0"), ["sh", "-c", "", "x"]);
        assert_eq!(words(b""), Vec::<String>::new());
    }

    #[test]
    fn this_process_is_found_and_a_gone_one_is_not() {
        let own = i32::try_from(std::process::id()).unwrap();
        let threads = std::thread::scope(|scope| {
            let (end, ended) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || ended.recv());
            let threads = processes(&[own], true);
            drop(end);
            threads
        });
        assert!(threads.len() > 1 && threads.iter().all(|facts| facts.pid == own));
        assert!(threads[0].thread < threads[1].thread);
        let found = processes(&[own, i32::MAX], false);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].pid, own);
        assert!(!found[0].arguments.is_empty());
    }
}
