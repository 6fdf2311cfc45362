//! A data root on ext4 that has room and no more inodes: what needs one is refused and leaves nothing, the rest goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hoist_testkit::{TemporaryDaemon, TemporaryDirectory, skip};

use crate::world::{World, able, binary, image, seen};

const FULL: &str = "no space left on device";

/// A file with an ext4 of few inodes, mounted through a loop device; unmounted at the end, which lets go of the device.
struct Ext4(PathBuf);

impl Ext4 {
    /// `None`, and a skip, where the machine makes no such disk.
    fn new(place: &Path) -> Option<Self> {
        let (file, at) = (place.join("ext4"), place.join("disk"));
        fs::create_dir(&at).unwrap();
        fs::File::create(&file).unwrap().set_len(96 << 20).unwrap();
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-N", "2000"])
            .arg(&file)
            .status();
        if !made.is_ok_and(|status| status.success()) {
            skip("mkfs.ext4 is not installed");
            return None;
        }
        let mounted = seen(
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(&file)
                .arg(&at),
        );
        if mounted.status != Some(0) {
            skip("no loop device");
            return None;
        }
        Some(Self(at))
    }

    /// Takes all inodes there are by now, and leaves the blocks.
    fn fill(&self) {
        let directory = self.0.join("names");
        let _ = fs::create_dir(&directory);
        let taken = fs::read_dir(&directory).unwrap().count();
        for number in taken.. {
            if fs::File::create(directory.join(format!("{number}"))).is_err() {
                break;
            }
        }
    }

    fn clear(&self) {
        fs::remove_dir_all(self.0.join("names")).unwrap();
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        // Not by detaching: the loop device would stay as long as somebody has a file of it open.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn without_inodes_what_needs_one_is_refused_and_what_runs_goes_on() {
    if !able() {
        return;
    }
    let place = TemporaryDirectory::new("inodes");
    let Some(disk) = Ext4::new(place.path()) else {
        return;
    };
    let daemon = TemporaryDaemon::start_on(binary(), &disk.0.join("d"), &place.join("exec"), &[]);
    let world = World {
        daemon,
        files: TemporaryDirectory::new("host"),
    };
    world.load(&image());
    world
        .docker(&["run", "-d", "--name", "runs", "busybox", "sleep", "1000"])
        .ok();
    world
        .docker(&["create", "--name", "rests", "busybox", "sh", "-c", "exit 5"])
        .ok();
    let archive = world.path("image.tar");
    let before = world.docker(&["image", "ls", "-q"]).ok();
    disk.fill();

    // What is undone gives inodes back, perhaps a moment later: then there is room for one, which is not what is asked here.
    let refused = |words: &[&str], undo: &[&str]| {
        for _ in 0..60 {
            disk.fill();
            let seen = world.docker(words);
            if seen.status != Some(0) {
                assert!(
                    seen.err.to_lowercase().contains(FULL),
                    "{words:?}: {seen:?}"
                );
                return;
            }
            world.docker(undo).ok();
        }
        panic!("{words:?} is never refused");
    };
    refused(&["create", "--name", "more", "busybox"], &["rm", "more"]);
    refused(&["volume", "create", "more"], &["volume", "rm", "more"]);
    refused(&["import", &archive, "more:1"], &["rmi", "more:1"]);
    assert_eq!(world.docker(&["ps", "-aq"]).ok().lines().count(), 2);
    disk.fill();
    // What runs goes on: exec, logs, its state, its end.
    assert_eq!(
        world.docker(&["exec", "runs", "echo", "inside"]).ok(),
        "inside\n"
    );
    assert_eq!(world.docker(&["top", "runs"]).ok().lines().count(), 2);
    world.docker(&["stop", "-t", "0", "runs"]).ok();
    let state = [
        "inspect",
        "-f",
        "{{.State.Status}} {{.State.ExitCode}}",
        "runs",
    ];
    assert_eq!(world.docker(&state).ok(), "exited 137\n");
    // What was made before starts, or says why not.
    let started = world.docker(&["start", "-a", "rests"]);
    assert!(
        started.status == Some(5) || started.err.to_lowercase().contains(FULL),
        "{started:?}"
    );
    assert_eq!(world.docker(&["image", "ls", "-q"]).ok(), before);
    assert_eq!(world.docker(&["volume", "ls", "-q"]).ok(), "");
    world.docker(&["rm", "runs"]).ok();

    disk.clear();
    assert_eq!(world.docker(&["start", "-a", "rests"]).status, Some(5));
    world.docker(&["rm", "rests"]).ok();
    world.docker(&["volume", "create", "more"]).ok();
    world.docker(&["volume", "rm", "more"]).ok();
    world.finish();
    drop(disk);
    let loops = fs::read_to_string("/proc/mounts").unwrap();
    assert!(
        !loops.contains(&place.path().display().to_string()),
        "{loops}"
    );
}
