//! The daemon is killed while containers start: each of them runs and is known, or does not run.

use std::process::Stdio;
use std::time::Duration;

use crate::world::{World, binary};

const CONTAINERS: usize = 8;

/// How long these containers sleep, and nobody else on this machine.
fn seconds() -> String {
    (10_000_000 + std::process::id()).to_string()
}

/// Processes on this machine that sleep so long.
fn processes() -> usize {
    let wanted = format!("sleep\0{}\0", seconds());
    let Ok(all) = std::fs::read_dir("/proc") else {
        return 0;
    };
    all.flatten()
        .filter(|entry| {
            std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == wanted.as_bytes())
        })
        .count()
}

#[test]
fn no_process_is_left_to_nobody() {
    let Some(mut world) = World::start() else {
        return;
    };
    let names: Vec<String> = (0..CONTAINERS).map(|n| format!("one{n}")).collect();
    let seconds = seconds();
    for name in &names {
        let create = ["create", "--name", name, "busybox", "sleep", &seconds];
        world.docker(&create).ok();
    }
    // At several places of a start; which of them are hit is up to the machine.
    for wait in [10, 25, 40, 80] {
        let starts: Vec<_> = names
            .iter()
            .map(|name| {
                let mut client = world.daemon.client(binary());
                client.args(["start", name]).stdout(Stdio::null());
                client.stderr(Stdio::null()).spawn().unwrap()
            })
            .collect();
        std::thread::sleep(Duration::from_millis(wait));
        world.daemon.kill();
        for mut start in starts {
            start.wait().unwrap();
        }
        world.daemon.launch();
        let running = world.docker(&["ps", "-q"]).ok().lines().count();
        assert_eq!(processes(), running, "killed after {wait} ms");
        for name in &names {
            world.docker(&["start", name]).ok();
        }
        assert_eq!(processes(), CONTAINERS, "killed after {wait} ms");
        let mut stop = vec!["kill"];
        stop.extend(names.iter().map(String::as_str));
        world.docker(&stop).ok();
    }
    let mut remove = vec!["rm"];
    remove.extend(names.iter().map(String::as_str));
    world.docker(&remove).ok();
    world.finish();
}
