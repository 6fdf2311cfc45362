//! What the kernel holds for one engine beyond processes and mounts: links, network namespaces, control groups. Their names
//! derive from the data root (ARCHITECTURE §8), so that engines beside this one are not counted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hoist_testkit::TemporaryDaemon;

use crate::world::{at_rest, links, tag};

/// How many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    links: usize,
    namespaces: usize,
    groups: usize,
}

/// Beyond what was kept ready: the two namespaces without a network, if they came later, and what is in the making when it is
/// counted.
const SLACK: usize = 4;

impl Held {
    pub(super) fn now(daemon: &TemporaryDaemon) -> Self {
        let tag = tag(daemon);
        let mut namespaces = BTreeSet::new();
        for pid in daemon.processes() {
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
            for descriptor in descriptors.into_iter().flatten().flatten() {
                let target = fs::read_link(descriptor.path()).unwrap_or_default();
                let target = target.to_string_lossy().into_owned();
                if target.starts_with("net:[") {
                    namespaces.insert(target);
                }
            }
        }
        Self {
            links: links(daemon),
            namespaces: namespaces.len(),
            groups: groups(Path::new("/sys/fs/cgroup"), 3, &format!("hoist-{tag}")),
        }
    }

    /// What an engine without containers holds, once it has made ready what it keeps ready.
    pub(super) fn at_rest(daemon: &TemporaryDaemon) -> Self {
        at_rest(daemon, || Self::now(daemon))
    }

    /// What there is more of than there was at rest.
    pub(super) fn beyond(self, rest: Self) -> Vec<String> {
        let kinds = [
            ("links", self.links, rest.links),
            ("network namespaces", self.namespaces, rest.namespaces),
            ("control groups", self.groups, rest.groups),
        ];
        let grown = kinds.iter().filter(|(_, now, then)| *now > then + SLACK);
        grown
            .map(|(kind, now, then)| format!("{now} {kind}, {then} at rest"))
            .collect()
    }
}

/// Groups below those of this name, themselves included.
fn groups(directory: &Path, depth: usize, name: &str) -> usize {
    let mut found = 0;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().contains(name) {
            found += 1 + all(&entry.path());
        } else if depth > 0 {
            found += groups(&entry.path(), depth - 1, name);
        }
    }
    found
}

fn all(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| 1 + all(&entry.path())).sum()
}
