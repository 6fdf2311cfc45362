//! An engine is killed; another takes its containers over.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hoist_model::ContainerId;
use hoist_runtime::Adoption;
use hoist_runtime::spec::ProcessId;

use crate::machine::Machine;
use crate::support::output::{ALL, read_until};
use crate::support::{new_id, wait_for};

pub(crate) struct Engine {
    process: Child,
    pub(crate) pid: i32,
    pub(crate) id: ContainerId,
    pub(crate) rootfs: String,
}

impl Engine {
    /// An engine in a process of its own, on the exec-root of `machine`, with one container.
    pub(crate) fn start(machine: &Machine, script: &str) -> Self {
        let id = new_id();
        let mut process = Command::new(env!("CARGO_BIN_EXE_hoist-runtime-zygote"))
            .arg("engine")
            .arg(machine.exec_root())
            .arg(machine.directory().join("c.log"))
            .args([id.as_str(), script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let pid = lines.next().unwrap().unwrap().parse().unwrap();
        let rootfs = lines.next().unwrap().unwrap();
        Self {
            process,
            pid,
            id,
            rootfs,
        }
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.rootfs);
    }
}

#[test]
fn a_running_container_is_taken_over_and_its_log_is_whole() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let script = "i=0; while test ! -e /tmp/stop; do i=$((i+1)); echo $i; sleep 0.01; done; exit 7";
    let mut engine = Engine::start(&machine, script);
    std::thread::sleep(Duration::from_millis(100));
    engine.kill();
    std::thread::sleep(Duration::from_millis(100));
    let Adoption::Running(launched) = machine.runtime.adopt(&engine.id, None) else {
        panic!("not running");
    };
    assert_eq!(launched.pid, engine.pid);
    let owner = ProcessId::Container(engine.id.clone());
    let mut stream = machine.runtime.attach(&owner, ALL).unwrap();
    read_until(&mut stream, "\n");
    std::fs::write(format!("{}/tmp/stop", engine.rootfs), "").unwrap();
    let notice = machine.notice();
    assert_eq!(notice.of, owner);
    assert_eq!(notice.record.unwrap().exit_code, 7);

    let text = std::fs::read_to_string(machine.directory().join("c.log")).unwrap();
    let numbers: Vec<u32> = text
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["log"].as_str().unwrap().trim().parse().unwrap()
        })
        .collect();
    let expected: Vec<u32> = (1..=u32::try_from(numbers.len()).unwrap()).collect();
    assert_eq!(numbers, expected);
    machine.runtime.release(&engine.id);
    assert!(machine.runtime.leftovers().is_empty());
}

#[test]
fn an_end_in_between_is_on_record() {
    let Some(machine) = Machine::start() else {
        return;
    };
    let mut engine = Engine::start(
        &machine,
        "while test ! -e /tmp/stop; do sleep 0.01; done; exit 33",
    );
    engine.kill();
    std::fs::write(format!("{}/tmp/stop", engine.rootfs), "").unwrap();
    wait_for("the container's end", || {
        (!std::path::Path::new(&format!("/proc/{}", engine.pid)).exists()).then_some(())
    });
    let record = wait_for("the record", || {
        match machine.runtime.adopt(&engine.id, None) {
            Adoption::Exited(record) => Some(record),
            _ => None,
        }
    });
    assert_eq!(record.exit_code, 33);
    assert_eq!(machine.runtime.leftovers(), [engine.id.clone()]);
    machine.runtime.release(&engine.id);
    assert_eq!(machine.runtime.adopt(&engine.id, None), Adoption::Unknown);
}
