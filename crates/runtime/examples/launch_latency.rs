//! How long a start takes, from the order to the program and to its end. Needs root and a static busybox.
//!
//! `cargo run --release -p hoist-runtime --example launch_latency [starts]`

#![expect(
    clippy::unwrap_used,
    reason = "an example that cannot go on says where"
)]
#![allow(clippy::print_stdout, reason = "it prints what it measured")]
#![allow(unreachable_pub, reason = "the module is shared with tests")]

#[path = "../tests/it/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use hoist_cgroup::CgroupHandle;
use hoist_model::Signal;
use hoist_runtime::seccomp::{Profile, Seccomp};
use hoist_runtime::spec::{ExecSpec, NamespaceSource, ProcessId};
use hoist_runtime::{Runtime, Settings, capabilities};

fn main() -> ExitCode {
    let first = std::env::args_os().next();
    if hoist_runtime::is_zygote(first.as_deref()) {
        return hoist_runtime::zygote_main();
    }
    let starts = std::env::args()
        .nth(1)
        .map_or(200, |text| text.parse().unwrap());
    let directory = tempfile::Builder::new()
        .prefix("hoist-latency")
        .tempdir_in("/dev/shm")
        .unwrap();
    let (runtime, ears, mut notices) = Runtime::start(Settings {
        exec_root: directory.path().to_owned(),
        executable: std::env::current_exe().unwrap(),
        groups: [].into(),
        keeper: None,
    })
    .unwrap();
    ears.listen().unwrap();
    let rootfs = support::Rootfs::new();
    let set = capabilities::resolve(&[], &[], false, capabilities::available()).unwrap();
    let filter = Seccomp::new()
        .program(Profile::docker_default(), set)
        .unwrap();

    let (mut started, mut ended, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..starts {
        let mut spec = support::spec(&rootfs, &["true"]);
        spec.process.seccomp = Some(filter.clone());
        // An engine has network namespaces ready; making one is not what is measured here.
        spec.namespaces.network = NamespaceSource::Host;
        let id = spec.id.clone();
        let begin = Instant::now();
        let reply = runtime.launch(spec);
        sent.push(begin.elapsed());
        reply.blocking_recv().unwrap().unwrap();
        started.push(begin.elapsed());
        notices.blocking_recv().unwrap();
        ended.push(begin.elapsed());
        runtime.release(&id);
    }
    let sleeper = support::spec(&rootfs, &["sleep", "1000"]);
    let owner = ProcessId::Container(sleeper.id.clone());
    runtime.launch(sleeper).blocking_recv().unwrap().unwrap();
    let (mut executed, mut over) = (Vec::new(), Vec::new());
    for _ in 0..starts {
        let mut process = support::process(&["true"]);
        process.seccomp = Some(filter.clone());
        let spec = ExecSpec {
            id: support::new_id().as_str().parse().unwrap(),
            pidfd: runtime.pidfd(&owner).unwrap(),
            cgroup: CgroupHandle {
                attach: Vec::new(),
                unified: None,
            },
            process,
            attached: None,
            remapped: None,
        };
        let begin = Instant::now();
        runtime.exec(spec).blocking_recv().unwrap().unwrap();
        executed.push(begin.elapsed());
        notices.blocking_recv().unwrap();
        over.push(begin.elapsed());
    }
    tell_memory(&runtime, &owner);
    runtime.signal(&owner, Signal::KILL).unwrap();
    notices.blocking_recv().unwrap();
    for (what, times) in [
        ("order sent", sent),
        ("start, order to program", started),
        ("start, order to exit notice", ended),
        ("exec, order to program", executed),
        ("exec, order to exit notice", over),
    ] {
        tell(what, times);
    }
    ExitCode::SUCCESS
}

/// What one more container costs: the private memory of its monitor.
fn tell_memory(runtime: &Runtime, owner: &ProcessId) {
    let pid = runtime.pid(owner).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let monitor = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .unwrap()
        .trim();
    let memory = std::fs::read_to_string(format!("/proc/{monitor}/smaps_rollup")).unwrap();
    for line in memory.lines() {
        if ["Rss", "Pss:", "Private"]
            .iter()
            .any(|name| line.starts_with(name))
        {
            println!("monitor {line}");
        }
    }
}

fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_micros();
    println!(
        "{what}: min {} p50 {} p99 {} µs of {}",
        at(0),
        at(50),
        at(99),
        times.len()
    );
}
