//! Further processes in a running container.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use hoist_cgroup::CgroupHandle;
use hoist_model::{ContainerId, ExecId, Signal};
use hoist_runtime::spec::{ExecSpec, ProcessId};
use hoist_runtime::{LaunchError, Launched};

use crate::machine::Machine;
use crate::support::output::{ALL, Output, read};
use crate::support::{Rootfs, new_id, process, spec};

struct Target {
    machine: Machine,
    rootfs: Rootfs,
    id: ContainerId,
}

impl Target {
    fn start() -> Option<Self> {
        let machine = Machine::start()?;
        let rootfs = Rootfs::new();
        let sleeper = spec(&rootfs, &["sleep", "600"]);
        let id = sleeper.id.clone();
        machine.launch(sleeper).unwrap();
        Some(Self {
            machine,
            rootfs,
            id,
        })
    }

    fn pidfd(&self) -> OwnedFd {
        let owner = ProcessId::Container(self.id.clone());
        self.machine.runtime.pidfd(&owner).unwrap()
    }

    fn exec(&self, arguments: &[&str]) -> (ExecSpec, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let spec = ExecSpec {
            id: new_id().as_str().parse::<ExecId>().unwrap(),
            pidfd: self.pidfd(),
            cgroup: CgroupHandle {
                attach: Vec::new(),
                unified: None,
            },
            process: process(arguments),
            attached: Some((ALL, theirs)),
            remapped: None,
        };
        (spec, ours)
    }

    fn start_exec(&self, spec: ExecSpec) -> Result<Launched, LaunchError> {
        self.machine.runtime.exec(spec).blocking_recv().unwrap()
    }

    fn output(&mut self, spec: ExecSpec, stream: UnixStream) -> Output {
        let owner = ProcessId::Exec(spec.id.clone());
        let terminal = spec.process.terminal.is_some();
        self.start_exec(spec).unwrap();
        let notice = self.machine.notice();
        assert_eq!(notice.of, owner);
        read(stream, terminal, notice.record.unwrap().exit_code)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let owner = ProcessId::Container(self.id.clone());
        self.machine.runtime.signal(&owner, Signal::KILL).unwrap();
        self.machine.notice();
    }
}

#[test]
fn it_shares_namespaces_and_root() {
    let Some(mut target) = Target::start() else {
        return;
    };
    std::fs::write(target.rootfs.path("/etc/word"), "inside\n").unwrap();
    let script = "cat /etc/word; hostname; for n in pid net ipc uts mnt cgroup; do \
        test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo $n; done; exit 9";
    let (spec, stream) = target.exec(&["sh", "-c", script]);
    let output = target.output(spec, stream);
    assert_eq!(
        (output.stdout.as_str(), output.code),
        ("inside\nbox\n", 9),
        "{output:?}"
    );
}

#[test]
fn input_and_terminals_work_as_at_start() {
    let Some(mut target) = Target::start() else {
        return;
    };
    let (mut spec, mut stream) = target.exec(&["wc", "-c"]);
    spec.process.open_stdin = true;
    spec.process.stdin_once = true;
    stream.write_all(b"12345").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(target.output(spec, stream).stdout, "5\n");

    let (mut spec, stream) = target.exec(&["sh", "-c", "tty; stty size; stat -c %u $(tty)"]);
    spec.process.terminal = Some((10, 20));
    (spec.process.uid, spec.process.gid) = (77, 77);
    let output = target.output(spec, stream);
    assert_eq!(output.stdout, "/dev/pts/0\r\n10 20\r\n77\r\n");
}

#[test]
fn failures_are_told_and_leave_the_container_alone() {
    let Some(mut target) = Target::start() else {
        return;
    };
    let (spec, _stream) = target.exec(&["nosuch"]);
    let error = target.start_exec(spec).unwrap_err();
    assert_eq!(error.exit_code, 127);
    let (mut spec, _stream) = target.exec(&["true"]);
    spec.process.working_directory = "/nowhere".to_owned();
    let error = target.start_exec(spec).unwrap_err();
    assert!(error.message.contains("/nowhere"), "{error}");
    let (spec, stream) = target.exec(&["true"]);
    assert_eq!(target.output(spec, stream).code, 0);
}

#[test]
fn a_signal_ends_it_alone_and_a_grandchild_does_not_keep_it() {
    let Some(mut target) = Target::start() else {
        return;
    };
    let (spec, _stream) = target.exec(&["sleep", "600"]);
    let owner = ProcessId::Exec(spec.id.clone());
    target.start_exec(spec).unwrap();
    target.machine.runtime.signal(&owner, Signal::KILL).unwrap();
    assert_eq!(target.machine.notice().record.unwrap().exit_code, 137);

    // It sleeps on for longer than anything is waited for here.
    let (spec, stream) = target.exec(&["sh", "-c", "sleep 600 & echo done"]);
    let output = target.output(spec, stream);
    assert_eq!((output.stdout.as_str(), output.code), ("done\n", 0));
}
