//! The daemon is killed while containers start: each of them runs and is known, or does not run.

use std::process::Stdio;
use std::time::Duration;

use crate::world::{World, binary};

/// A program that only these containers run.
const PROGRAM: [&str; 2] = ["sleep", "86397"];
const CONTAINERS: usize = 8;

/// Processes on this machine with the program's words.
fn processes() -> usize {
    let wanted = format!("{}\0{}\0", PROGRAM[0], PROGRAM[1]);
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
    for name in &names {
        let create = ["create", "--name", name, "busybox", PROGRAM[0], PROGRAM[1]];
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
