//! What the kernel holds for one engine beyond processes and mounts: links, network namespaces, control groups. Their names
//! derive from the data root (ARCHITECTURE §8), so that engines beside this one are not counted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hoist_testkit::TemporaryDaemon;
use sha2::Digest as _;

/// How many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    links: usize,
    namespaces: usize,
    groups: usize,
}

/// Beyond what is kept ready: what may be in the making when it is counted.
const SLACK: usize = 2;
/// How long nothing may change until it is called rest, and how long that may take.
const STILL: Duration = Duration::from_millis(600);
const PATIENCE: Duration = Duration::from_secs(30);

impl Held {
    pub(super) fn now(daemon: &TemporaryDaemon) -> Self {
        let tag = tag(daemon);
        let links = fs::read_dir("/sys/class/net")
            .into_iter()
            .flatten()
            .flatten();
        let links = links
            .filter(|link| link.file_name().to_string_lossy().contains(&tag))
            .count();
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
            links,
            namespaces: namespaces.len(),
            groups: groups(Path::new("/sys/fs/cgroup"), 3, &format!("hoist-{tag}")),
        }
    }

    /// What an engine without containers holds, once it has made ready what it keeps ready.
    pub(super) fn at_rest(daemon: &TemporaryDaemon) -> Self {
        let end = Instant::now() + PATIENCE;
        let (mut last, mut since) = (Self::now(daemon), Instant::now());
        while since.elapsed() < STILL {
            std::thread::sleep(Duration::from_millis(20));
            let now = Self::now(daemon);
            if now != last {
                assert!(Instant::now() < end, "never at rest: {now:?}");
                (last, since) = (now, Instant::now());
            }
        }
        last
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

/// What the names of an engine have in them: the beginning of a digest of its data root.
fn tag(daemon: &TemporaryDaemon) -> String {
    let root = daemon.directory().join("data").canonicalize().unwrap();
    let digest = sha2::Sha256::digest(root.as_os_str().as_encoded_bytes());
    format!("{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2])
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
