//! Monitors, zygotes and engines are killed, one after the other and together; nothing that a container says is lost.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use hoist_cgroup::CgroupHandle;
use hoist_model::{ExecId, Signal};
use hoist_runtime::spec::{ExecSpec, LaunchSpec, LogSpec, ProcessId};
use hoist_runtime::{Adoption, Keeper};

use crate::adoption::Engine;
use crate::machine::Machine;
use crate::support::output::{ALL, read, read_until};
use crate::support::{Rootfs, process, spec, wait_for};

fn parent(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// Monitors that are children of this zygote, but for the dead.
fn monitors(zygote: i32) -> Vec<i32> {
    children_named(zygote, "hoist-monitor")
}

fn children_named(zygote: i32, wanted: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == wanted) && parent(*pid) == Some(zygote) && lives(*pid)
    })
    .collect()
}

fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Kills the monitor of a process, and waits for the one in its place; answers its zygote.
fn replace_monitor(pid: i32) -> i32 {
    let monitor = parent(pid).unwrap();
    let zygote = parent(monitor).unwrap();
    kill_monitor(monitor, zygote);
    zygote
}

fn kill_monitor(monitor: i32, zygote: i32) {
    let before = monitors(zygote);
    kill(monitor);
    wait_for("a successor", || {
        let now = monitors(zygote);
        now.iter().find(|pid| !before.contains(pid)).copied()
    });
}

fn logged(machine: &Machine, mut spec: LaunchSpec) -> LaunchSpec {
    spec.log = Some(LogSpec::json_file(
        machine.directory().join("c.log"),
        1 << 20,
        3,
    ));
    spec
}

fn log(machine: &Machine) -> Vec<String> {
    let text = std::fs::read_to_string(machine.directory().join("c.log")).unwrap_or_default();
    text.lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["log"].as_str().unwrap().trim().to_owned()
        })
        .collect()
}

#[test]
fn a_killed_monitor_is_replaced_and_nothing_said_is_lost() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let script = "i=0; while test ! -e /tmp/stop; do i=$((i+1)); echo $i; sleep 0.01; done; exit 7";
    let spec = logged(&machine, spec(&rootfs, &["sh", "-c", script]));
    let id = spec.id.clone();
    let owner = ProcessId::Container(id.clone());
    let launched = machine.launch(spec).unwrap();
    let zygote = replace_monitor(launched.pid);
    assert_eq!(parent(launched.pid), Some(zygote));
    for _ in 0..2 {
        kill_monitor(monitors(zygote)[0], zygote);
    }
    let mut stream = machine.runtime.attach(&owner, ALL).unwrap();
    read_until(&mut stream, "\n");
    std::fs::write(rootfs.path("tmp/stop"), "").unwrap();
    let notice = machine.notice();
    assert_eq!(notice.of, owner);
    assert_eq!(notice.record.unwrap().exit_code, 7);
    let numbers: Vec<usize> = log(&machine).iter().map(|n| n.parse().unwrap()).collect();
    let expected: Vec<usize> = (1..=numbers.len()).collect();
    assert_eq!(numbers, expected);
    assert!(matches!(
        machine.runtime.adopt(&id, None),
        Adoption::Exited(record) if record.exit_code == 7
    ));
    machine.runtime.release(&id);
}

#[test]
fn input_stays_open_over_a_killed_monitor_and_ends_when_its_client_does() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let mut spec = spec(&rootfs, &["cat"]);
    spec.process.open_stdin = true;
    spec.process.stdin_once = true;
    let owner = ProcessId::Container(spec.id.clone());
    let launched = machine.launch(spec).unwrap();
    replace_monitor(launched.pid);
    let mut stream = machine.runtime.attach(&owner, ALL).unwrap();
    stream.write_all(b"still here\n").unwrap();
    read_until(&mut stream, "still here\n");
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(machine.notice().record.unwrap().exit_code, 0);
    assert_eq!(read(stream, false, 0).stdout, "");
}

#[test]
fn a_terminal_lives_on() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let mut spec = spec(&rootfs, &["sh"]);
    spec.process.terminal = Some((24, 80));
    spec.process.open_stdin = true;
    let owner = ProcessId::Container(spec.id.clone());
    let launched = machine.launch(spec).unwrap();
    replace_monitor(launched.pid);
    let mut stream = machine.runtime.attach(&owner, ALL).unwrap();
    machine.runtime.resize(&owner, 33, 44).unwrap();
    stream.write_all(b"stty size\n").unwrap();
    read_until(&mut stream, "33 44");
    stream.write_all(b"exit 9\n").unwrap();
    assert_eq!(machine.notice().record.unwrap().exit_code, 9);
}

#[test]
fn the_end_of_an_exec_is_told_though_its_monitor_was_killed() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let spec = spec(&rootfs, &["sleep", "600"]);
    let container = ProcessId::Container(spec.id.clone());
    let launched = machine.launch(spec).unwrap();
    let zygote = parent(parent(launched.pid).unwrap()).unwrap();
    let id = ExecId::from_bytes(&[7; 32]);
    let script = "while test ! -e /tmp/stop; do sleep 0.01; done; exit 5";
    let exec = ExecSpec {
        id: id.clone(),
        pidfd: machine.runtime.pidfd(&container).unwrap(),
        cgroup: CgroupHandle {
            attach: Vec::new(),
            unified: None,
        },
        process: process(&["sh", "-c", script]),
        attached: None,
        remapped: None,
    };
    let exec = machine.runtime.exec(exec).blocking_recv().unwrap().unwrap();
    kill_monitor(parent(exec.pid).unwrap(), zygote);
    std::fs::write(rootfs.path("tmp/stop"), "").unwrap();
    let notice = machine.notice();
    assert_eq!(notice.of, ProcessId::Exec(id));
    assert_eq!(notice.record.unwrap().exit_code, 5);
    machine.runtime.signal(&container, Signal::KILL).unwrap();
    assert_eq!(machine.notice().record.unwrap().exit_code, 137);
}

#[test]
fn a_killed_zygote_takes_nothing_with_it() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let script = "while test ! -e /tmp/stop; do sleep 0.01; done; exit 4";
    let first = logged(&machine, spec(&rootfs, &["sh", "-c", script]));
    let launched = machine.launch(first).unwrap();
    let monitor = parent(launched.pid).unwrap();
    let zygote = parent(monitor).unwrap();
    kill(zygote);
    wait_for("its end", || (!lives(zygote)).then_some(()));
    // The next start finds it gone, and has another.
    assert_eq!(machine.run(spec(&rootfs, &["true"])), 0);
    std::fs::write(rootfs.path("tmp/stop"), "").unwrap();
    assert_eq!(machine.notice().record.unwrap().exit_code, 4);
}

#[test]
fn an_engine_and_then_the_monitor_are_killed() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let script = "i=0; while test ! -e /tmp/stop; do i=$((i+1)); echo $i; sleep 0.01; done; exit 6";
    let mut engine = Engine::start(&machine, script);
    engine.kill();
    let owner = ProcessId::Container(engine.id.clone());
    assert!(matches!(
        machine.runtime.adopt(&engine.id, None),
        Adoption::Running(_)
    ));
    // Its zygote ended with the engine: the process falls to whoever adopts orphans on this machine.
    kill(parent(engine.pid).unwrap());
    let before = log(&machine).len();
    wait_for("more of the log", || {
        (log(&machine).len() > before + 5).then_some(())
    });
    let mut stream = wait_for("an attached client", || {
        machine.runtime.attach(&owner, ALL).ok()
    });
    read_until(&mut stream, "\n");
    std::fs::write(format!("{}/tmp/stop", engine.rootfs), "").unwrap();
    let notice = machine.notice();
    assert_eq!(notice.of, owner);
    // Told by a kernel since 6.15; else nobody knows, and nobody makes it up.
    assert!(notice.record.is_none_or(|record| record.exit_code == 6));
    let numbers: Vec<usize> = log(&machine).iter().map(|n| n.parse().unwrap()).collect();
    let expected: Vec<usize> = (1..=numbers.len()).collect();
    assert_eq!(numbers, expected);
    machine.runtime.release(&engine.id);
}

#[test]
fn a_process_whose_engine_and_monitor_died_together_is_watched_again() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let mut engine = Engine::start(&machine, "exec sleep 600");
    let monitor = parent(engine.pid).unwrap();
    engine.kill();
    kill(monitor);
    wait_for("the orphan", || {
        (parent(engine.pid) != Some(monitor)).then_some(())
    });
    assert_eq!(
        machine.runtime.adopt(&engine.id, None),
        Adoption::Unknown,
        "nobody told which process it is"
    );
    let adopted = machine.runtime.adopt(&engine.id, Some(engine.pid));
    assert!(matches!(adopted, Adoption::Running(launched) if launched.pid == engine.pid));
    let owner = ProcessId::Container(engine.id.clone());
    machine.runtime.signal(&owner, Signal::KILL).unwrap();
    let notice = machine.notice();
    assert_eq!(notice.of, owner);
    assert!(notice.record.is_none_or(|record| record.exit_code == 137));
    machine.runtime.release(&engine.id);
}

#[test]
fn what_is_kept_for_later_engines_is_closed_when_the_end_is_told() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let given = Arc::new(Mutex::new(Some(OwnedFd::from(theirs))));
    let had = Arc::clone(&given);
    let keeper = Keeper(Arc::new(move |_| {
        let had = had.lock().unwrap();
        had.iter().map(|fd| fd.try_clone().unwrap()).collect()
    }));
    let Some(mut machine) = Machine::start_with(Some(keeper)) else {
        return;
    };
    let rootfs = Rootfs::new();
    let mut spec = spec(&rootfs, &["sleep", "600"]);
    let theirs = given.lock().unwrap().as_ref().unwrap().try_clone().unwrap();
    spec.kept = vec![theirs];
    let (owner, id) = (ProcessId::Container(spec.id.clone()), spec.id.clone());
    let launched = machine.launch(spec).unwrap();
    assert!(
        machine.runtime.take_kept(&id).is_empty(),
        "whoever gave it has it"
    );
    replace_monitor(launched.pid);
    given.lock().unwrap().take();
    // As an engine that comes later: it finds with the successor what was kept, once.
    wait_for("the successor's answer", || {
        let adopted = machine.runtime.adopt(&id, None);
        matches!(adopted, Adoption::Running(_)).then_some(())
    });
    let mut kept = machine.runtime.take_kept(&id);
    assert!(machine.runtime.take_kept(&id).is_empty());
    let one = kept.pop().expect("the successor has it");
    UnixStream::from(one).write_all(b"x").unwrap();
    ours.read_exact(&mut [0]).unwrap();
    machine.runtime.signal(&owner, Signal::KILL).unwrap();
    machine.notice();
    ours.set_nonblocking(true).unwrap();
    // A child that another test forks has a copy of every descriptor until it executes its program.
    wait_for("the end of who held it", || {
        matches!(ours.read(&mut [0]), Ok(0)).then_some(())
    });
}

#[test]
fn killed_spares_are_replaced_and_missed_by_nobody() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let first = spec(&rootfs, &["sleep", "600"]);
    let mut owners = vec![ProcessId::Container(first.id.clone())];
    let launched = machine.launch(first).unwrap();
    let zygote = parent(parent(launched.pid).unwrap()).unwrap();
    let spares = || {
        let spares = children_named(zygote, "hoist-spare");
        (spares.len() == 2).then_some(spares)
    };
    for spare in wait_for("two spares", spares) {
        kill(spare);
        wait_for("its end", || (!lives(spare)).then_some(()));
    }
    assert_eq!(machine.run(spec(&rootfs, &["true"])), 0);
    wait_for("two others", spares);
    // Of a zygote that is gone none is used, and none stays.
    let old = spares().unwrap();
    kill(zygote);
    wait_for("its end", || (!lives(zygote)).then_some(()));
    let second = spec(&rootfs, &["sleep", "600"]);
    owners.push(ProcessId::Container(second.id.clone()));
    let second = machine.launch(second).unwrap();
    assert_ne!(parent(parent(second.pid).unwrap()), Some(zygote));
    assert!(!old.contains(&parent(second.pid).unwrap()));
    wait_for("their end", || {
        (!old.iter().any(|spare| lives(*spare))).then_some(())
    });
    for owner in owners {
        machine.runtime.signal(&owner, Signal::KILL).unwrap();
        assert_eq!(machine.notice().of, owner);
    }
}
