//! Columns of `ps`: names, titles and how each is written (procps `ps(1)`, STANDARD FORMAT SPECIFIERS).

use std::cmp::Ordering;

use hoist_model::Timestamp;
use hoist_model::container::{NumberedName, ProcessFacts};

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// Its title where none is asked for.
    pub(super) title: &'static str,
    write: fn(&ProcessFacts, &Machine) -> String,
}

/// What is not in the process itself.
pub(super) struct Machine {
    pub(super) now: Timestamp,
    /// Bytes of memory.
    pub(super) memory: u64,
}

const DAY: u64 = 24 * 60 * 60;
/// Where the flags of a task that ps shows begin: forked but did not exec (1), used superuser privileges (4).
const FLAGS_SHIFT: u32 = 6;

impl Column {
    pub(super) fn render(&self, facts: &ProcessFacts, machine: &Machine) -> String {
        (self.write)(facts, machine)
    }

    /// Whether it tells what runs, before which a tree is drawn.
    pub(super) fn is_command(&self) -> bool {
        matches!(self.title, "CMD" | "COMMAND")
    }

    /// Sorts by what a column tells of: numbers as such, times by when.
    pub(super) fn compare(
        &self,
        a: &ProcessFacts,
        b: &ProcessFacts,
        machine: &Machine,
    ) -> Ordering {
        match self.title {
            "TIME" => return a.cpu_milliseconds.cmp(&b.cpu_milliseconds),
            "STIME" | "START" | "STARTED" => return a.started_at.cmp(&b.started_at),
            "ELAPSED" => return b.started_at.cmp(&a.started_at),
            "%CPU" | "C" => return per_mille(a, machine).cmp(&per_mille(b, machine)),
            "%MEM" => return a.resident_bytes.cmp(&b.resident_bytes),
            _ => {}
        }
        let (a, b) = (self.render(a, machine), self.render(b, machine));
        match (a.parse::<i64>(), b.parse::<i64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => a.cmp(&b),
        }
    }

    /// By its name or one of its aliases. `UID` is the user's name under that title, as in `ps -f`.
    #[rustfmt::skip]
    pub(super) fn find(name: &str) -> Option<Self> {
        let (title, write): (&str, fn(&ProcessFacts, &Machine) -> String) = match name {
            "pid" | "tgid" => (if name == "pid" { "PID" } else { "TGID" }, |p, _| p.pid.to_string()),
            "ppid" => ("PPID", |p, _| p.parent.to_string()),
            "pgid" | "pgrp" => (if name == "pgid" { "PGID" } else { "PGRP" }, |p, _| p.group.to_string()),
            "sid" | "sess" | "session" => (if name == "sid" { "SID" } else { "SESS" }, |p, _| p.session.to_string()),
            "tpgid" => ("TPGID", |p, _| p.foreground.to_string()),
            "UID" => ("UID", |p, _| named(&p.users[1])),
            "user" | "uname" => ("USER", |p, _| named(&p.users[1])),
            "euser" => ("EUSER", |p, _| named(&p.users[1])),
            "ruser" => ("RUSER", |p, _| named(&p.users[0])),
            "uid" => ("UID", |p, _| p.users[1].id.to_string()),
            "euid" => ("EUID", |p, _| p.users[1].id.to_string()),
            "ruid" => ("RUID", |p, _| p.users[0].id.to_string()),
            "group" => ("GROUP", |p, _| named(&p.groups[1])),
            "egroup" => ("EGROUP", |p, _| named(&p.groups[1])),
            "rgroup" => ("RGROUP", |p, _| named(&p.groups[0])),
            "gid" => ("GID", |p, _| p.groups[1].id.to_string()),
            "egid" => ("EGID", |p, _| p.groups[1].id.to_string()),
            "rgid" => ("RGID", |p, _| p.groups[0].id.to_string()),
            "comm" | "ucomm" => ("COMMAND", |p, _| comm(p)),
            "ucmd" => ("CMD", |p, _| comm(p)),
            "args" | "command" => ("COMMAND", |p, _| line(p)),
            "cmd" => ("CMD", |p, _| line(p)),
            "tname" => ("TTY", |p, _| terminal(p.terminal)),
            "tty" | "tt" => ("TT", |p, _| terminal(p.terminal)),
            "time" | "cputime" => ("TIME", |p, _| long_time(p.cpu_milliseconds / 1000)),
            "cputimes" | "times" => ("TIME", |p, _| (p.cpu_milliseconds / 1000).to_string()),
            "bsdtime" => ("TIME", |p, _| {
                let seconds = p.cpu_milliseconds / 1000;
                format!("{}:{:02}", seconds / 60, seconds % 60)
            }),
            "etime" => ("ELAPSED", |p, m| elapsed(age(p, m))),
            "etimes" => ("ELAPSED", |p, m| age(p, m).to_string()),
            "stime" => ("STIME", |p, m| started(p.started_at, m.now)),
            "start_time" | "bsdstart" => ("START", |p, m| started(p.started_at, m.now)),
            "start" => ("STARTED", |p, _| p.started_at.to_string()[11..19].to_owned()),
            "lstart" => ("STARTED", |p, _| p.started_at.to_string()[..19].replace('T', " ")),
            "c" => ("C", |p, m| (per_mille(p, m) / 10).min(99).to_string()),
            "pcpu" | "%cpu" => ("%CPU", |p, m| tenths(per_mille(p, m))),
            "pmem" | "%mem" => ("%MEM", |p, m| {
                tenths(p.resident_bytes.saturating_mul(1000).checked_div(m.memory).unwrap_or(0).min(999))
            }),
            "rss" | "rssize" | "rsz" => (if name == "rsz" { "RSZ" } else { "RSS" }, |p, _| (p.resident_bytes / 1024).to_string()),
            "vsz" | "vsize" => ("VSZ", |p, _| (p.virtual_bytes / 1024).to_string()),
            "sz" => ("SZ", |p, _| (p.virtual_bytes / 4096).to_string()),
            "stat" => ("STAT", |p, _| stat(p)),
            "s" | "state" => ("S", |p, _| p.state.to_string()),
            "ni" | "nice" => ("NI", |p, _| p.nice.to_string()),
            "pri" => ("PRI", |p, _| (39 - p.priority).to_string()),
            "opri" => ("PRI", |p, _| (60 + p.priority).to_string()),
            "lwp" => ("LWP", |p, _| p.thread.to_string()),
            "tid" => ("TID", |p, _| p.thread.to_string()),
            "spid" => ("SPID", |p, _| p.thread.to_string()),
            "suid" | "svuid" => (if name == "suid" { "SUID" } else { "SVUID" }, |p, _| p.users[2].id.to_string()),
            "suser" | "svuser" => (if name == "suser" { "SUSER" } else { "SVUSER" }, |p, _| named(&p.users[2])),
            "fuid" | "fsuid" => (if name == "fuid" { "FUID" } else { "FSUID" }, |p, _| p.users[3].id.to_string()),
            "fuser" => ("FUSER", |p, _| named(&p.users[3])),
            "sgid" | "svgid" => (if name == "sgid" { "SGID" } else { "SVGID" }, |p, _| p.groups[2].id.to_string()),
            "sgroup" => ("SGROUP", |p, _| named(&p.groups[2])),
            "fgid" | "fsgid" => (if name == "fgid" { "FGID" } else { "FSGID" }, |p, _| p.groups[3].id.to_string()),
            "fgroup" => ("FGROUP", |p, _| named(&p.groups[3])),
            "min_flt" | "minflt" => (if name == "minflt" { "MINFLT" } else { "MINFL" }, |p, _| p.faults[0].to_string()),
            "maj_flt" | "majflt" => (if name == "majflt" { "MAJFLT" } else { "MAJFL" }, |p, _| p.faults[1].to_string()),
            "trs" => ("TRS", |p, _| (p.code_bytes / 1024).to_string()),
            "drs" => ("DRS", |p, _| (p.virtual_bytes.saturating_sub(p.code_bytes) / 1024).to_string()),
            "cls" | "class" | "policy" => (if name == "policy" { "POL" } else { "CLS" }, |p, _| class(p.policy)),
            "sched" => ("SCH", |p, _| p.policy.to_string()),
            "rtprio" => ("RTPRIO", |p, _| match p.realtime_priority {
                0 => "-".to_owned(),
                priority => priority.to_string(),
            }),
            "pending" | "sig" => ("PENDING", |p, _| p.signals[0].clone()),
            "blocked" | "sigmask" | "sig_block" => ("BLOCKED", |p, _| p.signals[1].clone()),
            "ignored" | "sigignore" | "sig_ignore" => ("IGNORED", |p, _| p.signals[2].clone()),
            "caught" | "sigcatch" | "sig_catch" => ("CAUGHT", |p, _| p.signals[3].clone()),
            "nlwp" => ("NLWP", |p, _| p.threads.to_string()),
            "thcount" => ("THCNT", |p, _| p.threads.to_string()),
            "psr" => ("PSR", |p, _| p.processor.to_string()),
            "f" | "flag" | "flags" => ("F", |p, _| ((p.flags >> FLAGS_SHIFT) & 7).to_string()),
            // Neither is told to anyone since kernels have hidden their addresses.
            "wchan" => ("WCHAN", |_, _| "-".to_owned()),
            "addr" => ("ADDR", |_, _| "-".to_owned()),
            _ => return None,
        };
        Some(Self { title, write })
    }
}

/// As ps(1) names the scheduling policies of sched(7).
fn class(policy: u32) -> String {
    let name = match policy {
        0 => "TS",
        1 => "FF",
        2 => "RR",
        3 => "B",
        4 => "ISO",
        5 => "IDL",
        6 => "DLN",
        _ => "?",
    };
    name.to_owned()
}

fn named(user: &NumberedName) -> String {
    user.name.clone().unwrap_or_else(|| user.id.to_string())
}

fn comm(process: &ProcessFacts) -> String {
    let dead = if process.state == 'Z' {
        " <defunct>"
    } else {
        ""
    };
    format!("{}{dead}", process.command)
}

/// The command line; of a process without one its name in brackets.
fn line(process: &ProcessFacts) -> String {
    if process.arguments.is_empty() {
        let dead = if process.state == 'Z' {
            " <defunct>"
        } else {
            ""
        };
        return format!("[{}]{dead}", process.command);
    }
    process
        .arguments
        .join(" ")
        .replace(|c: char| c.is_control(), "?")
}

/// `pts/3`, `tty1`, `?` (Linux `admin-guide/devices.txt`).
fn terminal(device: u64) -> String {
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    match major {
        0 => "?".to_owned(),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        5 if minor == 1 => "console".to_owned(),
        136..=143 => format!("pts/{}", (major - 136) * (1 << 20) + minor),
        _ => format!("{major}:{minor}"),
    }
}

/// `[DD-]HH:MM:SS`.
fn long_time(seconds: u64) -> String {
    let (days, rest) = (seconds / DAY, seconds % DAY);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 {
        format!("{days}-{clock}")
    } else {
        clock
    }
}

/// `[[DD-]HH:]MM:SS`.
fn elapsed(seconds: u64) -> String {
    let long = long_time(seconds);
    if seconds < 3600 {
        long[3..].to_owned()
    } else {
        long
    }
}

fn age(process: &ProcessFacts, machine: &Machine) -> u64 {
    machine.now.since(process.started_at).as_secs()
}

/// CPU time by life time.
fn per_mille(process: &ProcessFacts, machine: &Machine) -> u64 {
    process
        .cpu_milliseconds
        .checked_div(age(process, machine))
        .unwrap_or(0)
}

fn tenths(number: u64) -> String {
    format!("{}.{}", number / 10, number % 10)
}

/// `HH:MM` today, `Nov24` this year, else the year.
fn started(at: Timestamp, now: Timestamp) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (at, now) = (at.to_string(), now.to_string());
    if at[..10] == now[..10] {
        return at[11..16].to_owned();
    }
    if at[..4] != now[..4] {
        return at[..4].to_owned();
    }
    let month = at[5..7].parse::<usize>().unwrap_or(1);
    format!("{}{}", MONTHS[(month - 1) % 12], &at[8..10])
}

fn stat(process: &ProcessFacts) -> String {
    let mut text = process.state.to_string();
    let mut mark = |holds: bool, letter: char| {
        if holds {
            text.push(letter);
        }
    };
    mark(process.nice < 0, '<');
    mark(process.nice > 0, 'N');
    mark(process.locked_pages, 'L');
    mark(process.session == process.pid, 's');
    mark(process.threads > 1, 'l');
    mark(process.foreground == process.group, '+');
    text
}
