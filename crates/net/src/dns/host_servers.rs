//! The host's own name servers, read again when its file changes: containers may outlive the network the host was on.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::resolver_files::{RESOLVED_FILE, name_servers, needs_resolved_file};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What tells one state of a file from another: inode, size, modification in seconds and nanoseconds.
type Stamp = (u64, u64, i64, i64);

/// The servers of a resolv.conf.
#[derive(Debug)]
pub(super) struct HostServers {
    file: PathBuf,
    looked: Option<Instant>,
    stamps: [Option<Stamp>; 2],
    servers: Vec<IpAddr>,
}

impl HostServers {
    pub(super) fn new(file: PathBuf) -> Self {
        Self {
            file,
            looked: None,
            stamps: [None; 2],
            servers: Vec::new(),
        }
    }

    /// The servers of this moment, or of a second ago.
    pub(super) fn servers(&mut self, now: Instant) -> &[IpAddr] {
        let fresh = self
            .looked
            .is_some_and(|at| now.saturating_duration_since(at) < LOOK);
        if !fresh {
            self.looked = Some(now);
            let stamps = [stamp(&self.file), stamp(Path::new(RESOLVED_FILE))];
            if self.stamps != stamps {
                self.stamps = stamps;
                self.servers = read(&self.file);
            }
        }
        &self.servers
    }
}

fn read(file: &Path) -> Vec<IpAddr> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    if needs_resolved_file(&text)
        && let Ok(text) = std::fs::read_to_string(RESOLVED_FILE)
    {
        return name_servers(&text);
    }
    name_servers(&text)
}

fn stamp(file: &Path) -> Option<Stamp> {
    let data = std::fs::metadata(file).ok()?;
    Some((data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_read_again_but_not_at_once() {
        let directory = hoist_testkit::TemporaryDirectory::new("host-servers");
        let file = directory.path().join("resolv.conf");
        std::fs::write(&file, "nameserver 10.0.0.1\n").unwrap();
        let mut host = HostServers::new(file.clone());
        let now = Instant::now();
        let one: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap()];
        assert_eq!(host.servers(now), one);
        std::fs::write(&file, "nameserver 10.0.0.22\nnameserver ::1\n").unwrap();
        assert_eq!(host.servers(now + LOOK / 2), one);
        let two: Vec<IpAddr> = vec!["10.0.0.22".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(host.servers(now + LOOK), two);
        std::fs::remove_file(&file).unwrap();
        assert!(host.servers(now + LOOK * 2).is_empty());
    }
}
