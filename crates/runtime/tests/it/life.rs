//! A container's life as its monitor carries it: start, streams, end.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use hoist_model::Signal;
use hoist_runtime::spec::{LogSpec, ProcessId, Streams};

use crate::machine::Machine;
use crate::support::output::{ALL, Output, attach, read};
use crate::support::{Rootfs, spec, wait_for};

fn sh(rootfs: &Rootfs, script: &str) -> hoist_runtime::spec::LaunchSpec {
    spec(rootfs, &["sh", "-c", script])
}

#[test]
fn exit_codes_and_signals_come_back() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    assert_eq!(machine.run(spec(&rootfs, &["true"])), 0);
    assert_eq!(machine.run(spec(&rootfs, &["/bin/false"])), 1);
    assert_eq!(machine.run(sh(&rootfs, "exit 42")), 42);
    assert_eq!(machine.run(sh(&rootfs, "exit 255")), 255);

    let sleeper = spec(&rootfs, &["sleep", "600"]);
    let owner = ProcessId::Container(sleeper.id.clone());
    let launched = machine.launch(sleeper).unwrap();
    assert_eq!(machine.runtime.pid(&owner), Some(launched.pid));
    machine.runtime.signal(&owner, Signal::KILL).unwrap();
    let notice = machine.notice();
    assert_eq!(notice.of, owner);
    assert_eq!(notice.record.unwrap().exit_code, 137);
}

#[test]
fn environment_directory_user_and_names_are_as_asked() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let mut wanted = sh(
        &rootfs,
        "echo $COLOUR; pwd; id -u; id -g; hostname; echo $$; umask",
    );
    wanted.process.environment.push("COLOUR=green".to_owned());
    wanted.process.working_directory = "/made/for/me".to_owned();
    (wanted.process.uid, wanted.process.gid) = (1234, 567);
    wanted.process.groups = vec![567];
    wanted.process.capabilities.effective = hoist_runtime::capabilities::CapabilitySet::default();
    wanted.process.capabilities.permitted = hoist_runtime::capabilities::CapabilitySet::default();
    let output = machine.output(wanted);
    assert_eq!(
        output.stdout, "green\n/made/for/me\n1234\n567\nbox\n1\n0022\n",
        "{output:?}"
    );
}

#[test]
fn streams_are_framed_and_complete() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let output = machine.output(sh(&rootfs, "echo out; echo err >&2; exit 3"));
    assert_eq!(
        output,
        Output {
            stdout: "out\n".to_owned(),
            stderr: "err\n".to_owned(),
            code: 3
        }
    );
    // More than every buffer on the way, and written just before the end.
    let mut many = sh(&rootfs, "seq 1 60000");
    let stream = attach(&mut many);
    let reader = std::thread::spawn(move || read(stream, false, 0));
    assert_eq!(machine.run(many), 0);
    let output = reader.join().unwrap();
    assert_eq!(output.stdout.lines().count(), 60000);
    assert!(output.stdout.ends_with("60000\n"));
}

#[test]
fn a_client_that_leaves_does_not_hold_the_container_up() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let mut talker = sh(&rootfs, "seq 1 100000");
    drop(attach(&mut talker));
    let idle = attach(&mut talker);
    machine.launch(talker).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    // A client that does not read makes it wait; once it has gone, all goes on.
    assert!(machine.notices.try_recv().is_err());
    drop(idle);
    assert_eq!(machine.notice().record.unwrap().exit_code, 0);
}

#[test]
fn a_client_that_lags_loses_nothing_and_holds_nothing_up() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    // Some 14 MB: far more than memory and sockets hold, less than is kept on disk.
    let mut talker = sh(&rootfs, "seq 1 14000 | sed \"s/$/$(printf %1000s x)/\"");
    let path = machine.directory().join("c.log");
    talker.log = Some(LogSpec::json_file(path, 1 << 20, 2));
    let stream = attach(&mut talker);
    let other = attach(&mut talker);
    let reader = std::thread::spawn(move || read(other, false, 0));
    machine.launch(talker).unwrap();
    assert_eq!(machine.notice().record.unwrap().exit_code, 0);
    for text in [reader.join().unwrap().stdout, read(stream, false, 0).stdout] {
        let lines = text.lines().zip(1..);
        let wrong = lines.clone().find(|(line, number)| {
            let (first, rest) = line.split_once(' ').unwrap();
            first != number.to_string() || rest.len() != 999
        });
        assert_eq!((wrong, lines.count()), (None, 14_000));
    }
}

#[test]
fn a_client_that_is_stuck_is_waited_for_a_while_and_told() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    // Without a log there is nowhere to keep its output.
    let mut talker = sh(&rootfs, "seq 1 1000000; exec sleep 0.2");
    let stream = attach(&mut talker);
    let begun = Instant::now();
    machine.launch(talker).unwrap();
    assert_eq!(machine.notice().record.unwrap().exit_code, 0);
    let seconds = begun.elapsed().as_secs();
    assert!(seconds >= 9, "{seconds} s");
    let output = read(stream, false, 0);
    let shown: usize = output.stdout.len();
    let text = output.stderr.strip_prefix("hoist: ").unwrap();
    let left_out: usize = text.split(' ').next().unwrap().parse().unwrap();
    assert!(text.ends_with("bytes of output are not shown: this client took nothing for 10 s\n"));
    // 1 to 1,000,000 and their newlines.
    assert_eq!(shown + left_out, 6_888_896);
}

#[test]
fn input_reaches_the_process_and_its_end_too() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let mut counter = spec(&rootfs, &["wc", "-c"]);
    counter.process.open_stdin = true;
    counter.process.stdin_once = true;
    let mut stream = attach(&mut counter);
    machine.launch(counter).unwrap();
    let reader = stream.try_clone().unwrap();
    stream.write_all(&vec![b'x'; 1_000_000]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(machine.notice().record.unwrap().exit_code, 0);
    assert_eq!(read(reader, false, 0).stdout, "1000000\n");
}

#[test]
fn all_input_arrives_when_the_client_leaves_right_after_it() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let mut counter = sh(&rootfs, "sleep 0.3; wc -c > /tmp/count");
    counter.process.open_stdin = true;
    counter.process.stdin_once = true;
    let mut stream = attach(&mut counter);
    machine.launch(counter).unwrap();
    stream.write_all(&vec![b'x'; 200_000]).unwrap();
    drop(stream);
    assert_eq!(machine.notice().record.unwrap().exit_code, 0);
    let count = std::fs::read_to_string(rootfs.path("/tmp/count")).unwrap();
    assert_eq!(count, "200000\n");
}

#[test]
fn without_open_stdin_input_is_at_its_end() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let output = machine.output(spec(&rootfs, &["wc", "-c"]));
    assert_eq!((output.stdout.as_str(), output.code), ("0\n", 0));
}

#[test]
fn a_terminal_is_one_and_takes_a_size() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let mut wanted = sh(
        &rootfs,
        "tty; stty size; read line; stty size; test -c /dev/console",
    );
    wanted.process.terminal = Some((24, 80));
    wanted.process.open_stdin = true;
    let owner = ProcessId::Container(wanted.id.clone());
    let mut stream = attach(&mut wanted);
    machine.launch(wanted).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let mut seen = String::new();
    wait_for("the first size", || {
        let mut buffer = [0; 256];
        let count = reader.read(&mut buffer).unwrap();
        seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        seen.contains("24 80").then_some(())
    });
    assert!(seen.contains("/dev/pts/0"), "{seen:?}");
    machine.runtime.resize(&owner, 50, 132).unwrap();
    stream.write_all(b"\n").unwrap();
    assert_eq!(machine.notice().record.unwrap().exit_code, 0);
    let rest = read(reader, true, 0);
    assert!(rest.stdout.contains("50 132"), "{rest:?}");
}

#[test]
fn a_terminal_belongs_to_its_user() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let mut wanted = sh(&rootfs, "stat -c %u $(tty); echo again > /dev/tty");
    wanted.process.terminal = Some((24, 80));
    (wanted.process.uid, wanted.process.gid) = (1234, 1234);
    let output = machine.output(wanted);
    assert_eq!(output.stdout, "1234\r\nagain\r\n");
}

#[test]
fn a_user_can_open_the_standard_streams_again() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let mut wanted = sh(&rootfs, "echo out > /dev/stdout; echo err > /dev/stderr");
    (wanted.process.uid, wanted.process.gid) = (1234, 1234);
    let output = machine.output(wanted);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn a_client_may_come_later_and_take_one_stream() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let mut wanted = sh(&rootfs, "read line; echo out; echo err >&2");
    wanted.process.open_stdin = true;
    let owner = ProcessId::Container(wanted.id.clone());
    machine.launch(wanted).unwrap();
    let only_errors = Streams {
        stderr: true,
        ..Streams::default()
    };
    let errors = machine.runtime.attach(&owner, only_errors).unwrap();
    let mut all = machine.runtime.attach(&owner, ALL).unwrap();
    all.write_all(b"go\n").unwrap();
    assert_eq!(machine.notice().record.unwrap().exit_code, 0);
    let errors = read(errors, false, 0);
    assert_eq!(
        (errors.stdout.as_str(), errors.stderr.as_str()),
        ("", "err\n")
    );
    assert_eq!(read(all, false, 0).stdout, "out\n");
    wait_for("the process to be forgotten", || {
        machine.runtime.attach(&owner, ALL).err()
    });
}

#[test]
fn programs_that_cannot_be_executed_are_told_in_dockers_words() {
    let Some(machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    std::fs::write(rootfs.path("/etc/plain"), "text").unwrap();
    std::fs::write(rootfs.path("/bin/plain"), "text").unwrap();
    std::fs::write(rootfs.path("/bin/script"), "#!/no/interpreter\n").unwrap();
    std::fs::write(rootfs.path("/bin/garbage"), "\x7fELFgarbage").unwrap();
    for name in ["bin/script", "bin/garbage"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(rootfs.path(name), mode).unwrap();
    }
    for (program, text, code) in [
        (
            "nosuch",
            "exec: \"nosuch\": executable file not found in $PATH",
            127,
        ),
        (
            "plain",
            "exec: \"plain\": executable file not found in $PATH",
            127,
        ),
        (
            "/nosuch",
            "exec: \"/nosuch\": stat /nosuch: no such file or directory",
            127,
        ),
        ("/etc/plain", "exec: \"/etc/plain\": permission denied", 126),
        ("/etc", "exec: \"/etc\": is a directory", 126),
        ("script", "exec /bin/script: no such file or directory", 127),
        ("/bin/garbage", "exec /bin/garbage: exec format error", 126),
    ] {
        let error = machine.launch(spec(&rootfs, &[program])).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.exit_code), (text, code));
    }
}

#[test]
fn a_zygote_that_dies_is_replaced() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let sleeper = spec(&rootfs, &["sleep", "600"]);
    let owner = ProcessId::Container(sleeper.id.clone());
    machine.launch(sleeper).unwrap();
    let zygote = own_zygote();
    rustix::process::kill_process(zygote, rustix::process::Signal::KILL).unwrap();
    wait_for("the zygote's end", || {
        let stat = std::fs::read_to_string(format!("/proc/{zygote}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
    assert_eq!(machine.run(sh(&rootfs, "exit 5")), 5);
    machine.runtime.signal(&owner, Signal::KILL).unwrap();
    assert_eq!(machine.notice().record.unwrap().exit_code, 137);
}

/// The zygote of this test's machine: threads have children of their own.
fn own_zygote() -> rustix::process::Pid {
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    let pid = children.split_whitespace().next().unwrap();
    rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap()
}

#[test]
fn an_init_passes_signals_on_reaps_orphans_and_ends_as_its_program_does() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let with_init = |script: &str| {
        let mut spec = spec(&rootfs, &["sh", "-c", script]);
        spec.init = true;
        spec
    };
    let seen = with_init(
        "echo $$; cat /proc/1/comm; tr -d '\\0' < /proc/1/cmdline; ls /proc/self/fd | wc -l; exit 9",
    );
    let seen = machine.output(seen);
    assert_eq!(seen.code, 9);
    // The three streams and the directory that is listed.
    assert_eq!(seen.stdout, "2\ndocker-init\n/sbin/docker-init4\n");

    // What is orphaned is its child, and no zombie for long.
    let orphans = with_init(
        "(sleep 0.05 & sleep 0.05 &); sleep 0.1; n=0
        while grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null && test $n -lt 100; do
            sleep 0.05; n=$((n+1))
        done
        test $n -lt 100 && echo none",
    );
    assert_eq!(machine.output(orphans).stdout, "none\n");

    let signalled = with_init("trap 'exit 7' USR1; touch /tmp/ready; while :; do sleep 0.01; done");
    let owner = ProcessId::Container(signalled.id.clone());
    machine.launch(signalled).unwrap();
    wait_for("its trap", || {
        rootfs.path("tmp/ready").exists().then_some(())
    });
    machine
        .runtime
        .signal(&owner, "USR1".parse().unwrap())
        .unwrap();
    assert_eq!(machine.notice().record.unwrap().exit_code, 7);

    // Without a handler the program, which is no PID 1, ends by it.
    let sleeper = with_init("exec sleep 600");
    let owner = ProcessId::Container(sleeper.id.clone());
    machine.launch(sleeper).unwrap();
    machine
        .runtime
        .signal(&owner, "TERM".parse().unwrap())
        .unwrap();
    assert_eq!(machine.notice().record.unwrap().exit_code, 143);

    let mut absent = spec(&rootfs, &["nosuch"]);
    absent.init = true;
    let id = absent.id.clone();
    let error = machine.launch(absent).unwrap_err();
    assert_eq!(error.exit_code, 127);
    machine.runtime.release(&id);

    let mut terminal = with_init("tty; stty size; exit 3");
    terminal.process.terminal = Some((11, 22));
    let seen = machine.output(terminal);
    assert_eq!(
        (seen.stdout.as_str(), seen.code),
        ("/dev/pts/0\r\n11 22\r\n", 3)
    );
}
