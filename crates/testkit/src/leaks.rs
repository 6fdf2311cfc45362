//! What the kernel holds that an engine may have forgotten.
//!
//! A [`KernelState`] is a list of named things; two of them are compared as sets. Network namespaces without a
//! name and detached mounts die with the last process that holds them, so the processes are the check for
//! those.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Things an engine makes and must remove, as lines of `kind name`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelState {
    things: BTreeSet<String>,
}

impl KernelState {
    /// Looks at the machine: mounts, links, nf_tables tables, and under names that contain `hoist` cgroups,
    /// processes and entries of `/run`; and how many network namespaces processes live in.
    #[must_use]
    pub fn now() -> Self {
        let mut things = BTreeSet::new();
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for line in mountinfo.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            things.insert(format!("mount {} ({})", fields[4], fields[0]));
        }
        for name in names(Path::new("/sys/class/net")) {
            things.insert(format!("link {name}"));
        }
        for name in names(Path::new("/run"))
            .into_iter()
            .filter(|name| name.contains("hoist"))
        {
            things.insert(format!("run /run/{name}"));
        }
        for name in names(Path::new("/run/netns")) {
            things.insert(format!("netns {name}"));
        }
        cgroups(Path::new("/sys/fs/cgroup"), 6, &mut things);
        tables(&mut things);
        processes(&mut things);
        Self { things }
    }

    /// What is there now and was not in `before`, sorted; waits up to `patience` for it to go, because veth
    /// pairs and cgroups are removed in the background.
    #[must_use]
    pub fn leaked_since(before: &Self, patience: Duration) -> Vec<String> {
        let end = Instant::now() + patience;
        loop {
            let now = Self::now();
            let leaked: Vec<String> = now.things.difference(&before.things).cloned().collect();
            if leaked.is_empty() || Instant::now() >= end {
                return leaked;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// One thing a line.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.things
            .iter()
            .map(|thing| format!("{thing}\n"))
            .collect()
    }

    /// Reads what [`Self::to_text`] wrote.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self {
            things: text.lines().map(str::to_owned).collect(),
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Directories below `directory` whose path has `hoist` in it; their number, not their ids, is what leaks.
fn cgroups(directory: &Path, depth: u32, things: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if path.to_string_lossy().contains("hoist") {
                things.insert(format!("cgroup {}", path.display()));
            }
            cgroups(&path, depth - 1, things);
        }
    }
}

fn tables(things: &mut BTreeSet<String>) {
    let listed = std::process::Command::new("nft")
        .args(["list", "tables"])
        .output();
    let Ok(listed) = listed else { return };
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        things.insert(format!("nf_tables {line}"));
    }
}

fn processes(things: &mut BTreeSet<String>) {
    let mut namespaces = BTreeSet::new();
    for name in names(Path::new("/proc"))
        .into_iter()
        .filter(|name| name.parse::<u32>().is_ok())
    {
        let process = Path::new("/proc").join(&name);
        let command = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let command = command.trim();
        // The house's own tasks and test binaries are no engines.
        let engine = command.starts_with("hoist")
            && !command.starts_with("hoist_")
            && !command.starts_with("hoist-xtask");
        if engine {
            things.insert(format!("process {command} {name}"));
        }
        if let Ok(namespace) = fs::read_link(process.join("ns/net")) {
            namespaces.insert(namespace);
        }
    }
    for number in 1..=namespaces.len() {
        things.insert(format!("network namespace number {number}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_being_written() {
        let state = KernelState::now();
        assert!(state.to_text().contains("mount /"));
        assert_eq!(KernelState::from_text(&state.to_text()), state);
    }

    #[test]
    fn what_was_there_before_is_no_leak() {
        let before = KernelState::from_text("link a\n");
        let mut after = before.clone();
        after.things.insert("link b".to_owned());
        assert_eq!(
            after.things.difference(&before.things).collect::<Vec<_>>(),
            ["link b"]
        );
    }
}
