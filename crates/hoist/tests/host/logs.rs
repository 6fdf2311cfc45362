//! Logs of a whole engine: followed over rotation, compression and deaths of the daemon.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::world::{World, binary, wait_for};

/// Numbered lines, as fast as busybox has them.
pub(crate) fn numbered(lines: usize) -> String {
    format!("seq 1 {lines}")
}

/// The directory of a container's log files.
fn directory(world: &World, name: &str) -> PathBuf {
    let format = ["-f", "{{.LogPath}}"];
    let path = world.docker(&["inspect", format[0], format[1], name]).ok();
    Path::new(path.trim()).parent().unwrap().to_owned()
}

/// Names of log files, and their sizes.
fn files(directory: &Path) -> Vec<(String, u64)> {
    let mut files: Vec<(String, u64)> = std::fs::read_dir(directory)
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let (_, name) = name.split_once("-json.log")?;
            Some((name.to_owned(), entry.metadata().ok()?.len()))
        })
        .collect();
    files.sort();
    files
}

/// A client that follows a log into a file.
pub(crate) fn follow(world: &World, name: &str, into: &str) -> Child {
    let file = std::fs::File::create(world.files.join(into)).unwrap();
    let mut client = world.daemon.client(binary());
    client.args(["logs", "-f", name]).stdout(file);
    client.stdin(Stdio::null()).spawn().unwrap()
}

#[track_caller]
fn check_numbers(text: &str, lines: usize) {
    let mut expected = 1;
    for line in text.lines() {
        assert_eq!(line, expected.to_string(), "after {} lines", expected - 1);
        expected += 1;
    }
    assert_eq!(expected - 1, lines, "the end is missing");
}

#[test]
fn a_follower_gets_every_line_once_over_rotation_and_compression() {
    let Some(world) = World::start() else { return };
    for driver in ["json-file", "local"] {
        let options =
            format!("--log-driver={driver} --log-opt=max-size=100k --log-opt=max-file=500");
        let script = format!("sleep 0.3; {}; sleep 0.3", numbered(150_000));
        let mut arguments = vec!["run", "-d", "--name", driver];
        arguments.extend(options.split(' '));
        arguments.extend(["busybox", "sh", "-c", &script]);
        world.docker(&arguments).ok();
        let mut follower = follow(&world, driver, driver);
        assert!(follower.wait().unwrap().success());
        let text = std::fs::read_to_string(world.files.join(driver)).unwrap();
        check_numbers(&text, 150_000);
        check_numbers(&world.docker(&["logs", driver]).ok(), 150_000);
        let tail = world.docker(&["logs", "--tail", "70000", driver]).ok();
        assert_eq!(tail.lines().count(), 70_000);
        assert!(tail.starts_with("80001\n"));
    }
    // What is full gets compressed, none is left out, and nothing changes for readers.
    let directory = directory(&world, "json-file");
    wait_for("all full files to be compressed", || {
        let files = files(&directory);
        let plain = files.iter().filter(|(name, _)| !name.ends_with(".gz"));
        (files.len() > 50 && plain.count() == 1).then_some(())
    });
    check_numbers(&world.docker(&["logs", "json-file"]).ok(), 150_000);
    world.docker(&["rm", "json-file", "local"]).ok();
    world.finish();
}

#[test]
fn kills_of_the_daemon_lose_and_repeat_nothing() {
    let Some(mut world) = World::start() else {
        return;
    };
    let script = "i=1; while [ $i -le 200 ]; do seq $((i*1000-999)) $((i*1000)); i=$((i+1)); sleep 0.01; done";
    world
        .docker(&[
            "run",
            "-d",
            "--name",
            "talker",
            "--log-opt=max-size=50k",
            "--log-opt=max-file=1000",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok();
    // While it writes, rotates and compresses.
    for round in 0..4 {
        std::thread::sleep(std::time::Duration::from_millis(400 + round * 77));
        world.daemon.kill();
        std::thread::sleep(std::time::Duration::from_millis(150));
        world.daemon.launch();
    }
    let mut follower = follow(&world, "talker", "whole");
    assert!(follower.wait().unwrap().success());
    check_numbers(
        &std::fs::read_to_string(world.files.join("whole")).unwrap(),
        200_000,
    );
    let directory = directory(&world, "talker");
    wait_for("all full files to be compressed", || {
        let files = files(&directory);
        let plain = files.iter().filter(|(name, _)| !name.ends_with(".gz"));
        (plain.count() == 1).then_some(())
    });
    let names = files(&directory);
    assert!(
        names
            .iter()
            .all(|(name, size)| name.is_empty() || (name.ends_with(".gz") && *size > 0)),
        "{names:?}"
    );
    check_numbers(&world.docker(&["logs", "talker"]).ok(), 200_000);
    world.docker(&["rm", "talker"]).ok();
    world.finish();
}
