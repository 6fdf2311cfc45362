//! Who may reach the engine's sockets and files.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::world::{World, seen};

/// Sockets have paths and are the engine's own: none in the abstract namespace, which a container with the host's
/// network would share (CVE-2020-15257); none that others may write to.
#[test]
fn sockets_have_paths_and_are_private() {
    let Some(world) = World::start() else { return };
    let named = |line: &&str| {
        line.split_whitespace()
            .nth(7)
            .is_some_and(|name| name.starts_with('@'))
    };
    let held = held_sockets(&world.daemon.processes());
    world
        .docker(&["run", "-d", "--name", "one", "busybox", "sleep", "1000"])
        .ok();
    let later = held_sockets(&world.daemon.processes());
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    for line in table.lines().filter(named) {
        let inode = line
            .split_whitespace()
            .nth(6)
            .unwrap_or_default()
            .to_owned();
        assert!(!held.contains(&inode) && !later.contains(&inode), "{line}");
    }
    let mut sockets = 0;
    walk(
        &world.daemon.directory().join("exec"),
        &mut |path, metadata| {
            if metadata.file_type().is_socket() {
                sockets += 1;
                let mode = metadata.permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{}", path.display());
            }
        },
    );
    assert!(sockets > 0, "the monitor of a running container listens");
    let api = std::fs::metadata(world.daemon.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(api & 0o007, 0, "{api:o}");
    world.docker(&["rm", "-f", "one"]).ok();
    world.finish();
}

/// A user of the host reads nothing of containers: set-user-id programs in their layers would be his
/// (CVE-2021-41091, CVE-2024-25621).
#[test]
fn users_of_the_host_do_not_walk_into_the_state() {
    let Some(world) = World::start() else { return };
    let script = "echo secret > /secret; chmod 644 /secret; echo kept > /v/kept; sleep 1000";
    world
        .docker(&[
            "run", "-d", "--name", "one", "-v", "vol:/v", "busybox", "sh", "-c", script,
        ])
        .ok();
    let directory = world.daemon.directory();
    // The test's own directory is closed to others: it must not be what protects.
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    for root in ["data", "exec"] {
        let root = directory.join(root);
        let stranger = seen(
            Command::new("find")
                .arg(&root)
                .args(["-mindepth", "1", "-print"])
                .uid(65534)
                .gid(65534),
        );
        let names: Vec<&str> = stranger.out.lines().collect();
        assert!(names.is_empty(), "{}: {names:#?}", root.display());
    }
    world.docker(&["rm", "-f", "one"]).ok();
    world.finish();
}

/// Inodes of the sockets that processes hold.
fn held_sockets(processes: &[u32]) -> Vec<String> {
    let mut found = Vec::new();
    for pid in processes {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        for link in descriptors
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        {
            let link = link.display().to_string();
            if let Some(inode) = link.strip_prefix("socket:[") {
                found.push(inode.trim_end_matches(']').to_owned());
            }
        }
    }
    assert!(!found.is_empty());
    found
}

fn walk(path: &Path, visit: &mut impl FnMut(&Path, &std::fs::Metadata)) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let path = entry.path();
        if let Ok(metadata) = std::fs::symlink_metadata(&path) {
            visit(&path, &metadata);
            if metadata.is_dir() {
                walk(&path, visit);
            }
        }
    }
}
