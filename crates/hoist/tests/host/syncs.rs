//! The budget of syncs by trace of a real daemon: create 1, start 0, exit 0, remove 1.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::world::{World, wait_for};

/// Calls that wait for a disk.
const CALLS: &str = "trace=fsync,fdatasync,sync_file_range,syncfs,sync,msync";

/// strace on the daemon, its zygote and all that they start.
struct Trace {
    strace: Child,
    log: std::path::PathBuf,
}

impl Trace {
    /// `None`, and a skip, where nothing can be traced.
    fn start(world: &World) -> Option<Self> {
        let log = world.files.join("trace");
        let said = world.files.join("strace");
        let pids = world.daemon.processes();
        let mut command = Command::new("strace");
        command.args(["-f", "-e", CALLS, "-o"]).arg(&log);
        for pid in &pids {
            command.args(["-p", &pid.to_string()]);
        }
        let errors = std::fs::File::create(&said).unwrap();
        let strace = command.stderr(errors).stdout(Stdio::null()).spawn();
        let Ok(mut strace) = strace else {
            hoist_testkit::skip("strace is not installed");
            return None;
        };
        let attached = wait_for("strace is attached", || {
            let text = std::fs::read_to_string(&said).unwrap_or_default();
            let all = pids
                .iter()
                .all(|pid| text.contains(&format!("Process {pid} attached")));
            if all {
                return Some(true);
            }
            matches!(strace.try_wait(), Ok(Some(_))).then_some(false)
        });
        if !attached {
            hoist_testkit::skip("strace may not trace here");
            return None;
        }
        Some(Self { strace, log })
    }

    /// How many syncs there were since the last question.
    fn syncs(&self, seen: &mut usize) -> usize {
        let now = count(&self.log);
        let new = now - *seen;
        *seen = now;
        new
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.strace);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.strace.wait();
    }
}

/// Calls begun; a call that another thread interrupts in the trace has a second line, "resumed".
fn count(log: &Path) -> usize {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let begun = text
        .lines()
        .filter(|line| line.contains("sync") && line.contains('('));
    begun.filter(|line| !line.contains("resumed>")).count()
}

#[test]
fn a_life_syncs_at_create_and_at_remove() {
    let Some(world) = World::start() else { return };
    let Some(trace) = Trace::start(&world) else {
        return world.finish();
    };
    let post = |target: &str, body: Option<&str>| {
        let (status, reply) = world.daemon.request("POST", target, body).unwrap();
        assert!(status < 300, "{target}: {status} {reply}");
    };
    let body = r#"{"Image": "busybox", "Cmd": ["sh", "-c", "echo said; exit 3"]}"#;
    let mut lives = Vec::new();
    let mut seen = count(&trace.log);
    for number in 0..9 {
        let mut life = [0; 4];
        post(&format!("/containers/create?name=c{number}"), Some(body));
        life[0] = trace.syncs(&mut seen);
        post(&format!("/containers/c{number}/start"), None);
        life[1] = trace.syncs(&mut seen);
        post(&format!("/containers/c{number}/wait"), None);
        life[2] = trace.syncs(&mut seen);
        let target = format!("/containers/c{number}");
        let (status, reply) = world.daemon.request("DELETE", &target, None).unwrap();
        assert_eq!(status, 204, "{reply}");
        life[3] = trace.syncs(&mut seen);
        lives.push(life);
    }
    // What was committed without a sync is synced within a second, in nobody's request: here and there one more.
    let median = |at: usize| {
        let mut column: Vec<usize> = lives.iter().map(|life| life[at]).collect();
        column.sort_unstable();
        column[column.len() / 2]
    };
    let budget: Vec<usize> = (0..4).map(median).collect();
    assert_eq!(
        budget,
        [1, 0, 0, 1],
        "create, start, exit, remove: {lives:?}"
    );
    drop(trace);
    world.finish();
}
