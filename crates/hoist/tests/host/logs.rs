//! Logs of a whole engine: followed over rotation, compression and deaths of the daemon.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::world::{World, binary, wait_for};

/// Numbered lines, as fast as busybox has them.
fn numbered(lines: usize) -> String {
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
fn follow(world: &World, name: &str, into: &str) -> Child {
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

/// Asks the engine for something endless and reads nothing of it.
fn stuck(world: &World, request: &str) -> UnixStream {
    use std::io::Write;
    let mut stream = UnixStream::connect(world.daemon.socket()).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
    // The head came: it is served.
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    stream
}

/// Tells the talker, which waits for a line, to talk.
fn go(world: &World) {
    let go = format!("echo go | {} attach talker >/dev/null", binary().display());
    crate::world::seen(world.daemon.client("sh").args(["-c", &go]));
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn readers_of_logs_that_are_stuck_hold_nobody_up() {
    let Some(world) = World::start() else { return };
    let script = format!("read go; {}", numbered(300_000));
    world
        .docker(&[
            "run",
            "-di",
            "--name",
            "talker",
            "--log-opt=max-size=500k",
            "--log-opt=max-file=4",
            "busybox",
            "sh",
            "-c",
            &script,
        ])
        .ok();
    // More than the engine has threads that may block.
    let request = "GET /containers/talker/logs?stdout=1&follow=1";
    let readers: Vec<UnixStream> = (0..700).map(|_| stuck(&world, request)).collect();
    let before = resident_kib(world.daemon.pid());
    let mut follower = follow(&world, "talker", "seen");
    go(&world);
    assert_eq!(world.docker(&["wait", "talker"]).ok(), "0\n");
    assert!(follower.wait().unwrap().success());
    // It says so where it could not keep up; what it has is in order and ends with the end.
    let seen = std::fs::read_to_string(world.files.join("seen")).unwrap();
    let numbers: Vec<u32> = seen.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(numbers.last(), Some(&300_000));
    // Half a MiB each is on its way, most of it in the connection's buffer, and no more comes.
    let grown = resident_kib(world.daemon.pid()).saturating_sub(before);
    assert!(grown < 700 * 700, "{grown} KiB for 700 readers");
    // One of them goes on after long: it reads what there is, and hears of what there is no more.
    let mut late = readers.into_iter().next().unwrap();
    late.set_read_timeout(Some(std::time::Duration::from_secs(30)))
        .unwrap();
    let mut text = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while memchr(&text, b"300000\n").is_none() {
        let length = late.read(&mut buffer).unwrap();
        assert!(length > 0, "the stream ended early");
        text.extend_from_slice(&buffer[..length]);
    }
    assert!(memchr(&text, b"log files were rotated away before they were read").is_some());
    world.docker(&["rm", "talker"]).ok();
    world.finish();
}

fn memchr(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len())
        .position(|window| window == wanted)
}

#[test]
fn an_attached_client_that_is_stuck_holds_nobody_up() {
    let Some(world) = World::start() else { return };
    // Some 30 MB, in long lines.
    let script = "read go; seq 1 30000 | sed \"s/$/$(printf %1000s x)/\"";
    world
        .docker(&[
            "run", "-di", "--name", "talker", "busybox", "sh", "-c", script,
        ])
        .ok();
    let request = "POST /containers/talker/attach?stream=1&stdout=1";
    let mut late = stuck(&world, request);
    go(&world);
    // It ends in the time that any command here is given.
    assert_eq!(world.docker(&["wait", "talker"]).ok(), "0\n");
    // It was kept for it.
    let mut text = Vec::new();
    late.read_to_end(&mut text).unwrap();
    assert!(text.len() > 30_000 * 1001, "{} bytes", text.len());
    world.docker(&["rm", "talker"]).ok();
    world.finish();
}

#[test]
fn readers_of_events_that_are_stuck_hold_nobody_up() {
    let Some(world) = World::start() else { return };
    let readers: Vec<UnixStream> = (0..50)
        .map(|_| stuck(&world, "GET /events?since=1"))
        .collect();
    let before = resident_kib(world.daemon.pid());
    // Labels go with events: 400 of 8 KiB each, far more than a connection holds.
    let label = "x".repeat(8192);
    let body = format!(r#"{{"Image":"busybox","Labels":{{"big":"{label}"}}}}"#);
    for _ in 0..200 {
        let made = world
            .daemon
            .request("POST", "/containers/create", Some(&body))
            .unwrap();
        assert_eq!(made.0, 201);
        let id: String = made
            .1
            .chars()
            .skip_while(|c| *c != ':')
            .skip(2)
            .take(64)
            .collect();
        let gone = world
            .daemon
            .request("DELETE", &format!("/containers/{id}"), None)
            .unwrap();
        assert_eq!(gone.0, 204, "{}", gone.1);
    }
    let grown = resident_kib(world.daemon.pid()).saturating_sub(before);
    // The journal of 400 such events, and what is on its way to 50 readers.
    assert!(grown < 50 * 1500, "{grown} KiB for 50 readers");
    // Others hear everything.
    let until = world.docker(&[
        "events",
        "--since",
        "1",
        "--until",
        "0s",
        "--filter",
        "event=destroy",
    ]);
    assert_eq!(until.ok().lines().count(), 200);
    drop(readers);
    world.finish();
}

#[test]
fn execs_stats_and_websockets_whose_clients_are_stuck_hold_nobody_up() {
    use std::io::Write;
    let Some(world) = World::start() else { return };
    // Some megabytes a second.
    let script = "while sleep 0.01; do head -c 65536 /dev/zero | tr '\\0' x; echo; done";
    let run = ["run", "-d", "--name", "busy", "busybox", "sh", "-c", script];
    world.docker(&run).ok();
    let before = resident_kib(world.daemon.pid());
    let mut readers = Vec::new();
    for _ in 0..50 {
        // Output without end, of which nobody takes any.
        let body = Some(r#"{"Cmd":["yes"],"AttachStdout":true}"#);
        let made = world.daemon.request("POST", "/containers/busy/exec", body);
        let made = made.unwrap();
        assert_eq!(made.0, 201, "{}", made.1);
        let id: String = made.1.chars().skip(7).take(64).collect();
        let mut stream = UnixStream::connect(world.daemon.socket()).unwrap();
        let head = "Host: d\r\nContent-Type: application/json\r\nContent-Length: 2";
        write!(
            stream,
            "POST /exec/{id}/start HTTP/1.1\r\n{head}\r\n\r\n{{}}"
        )
        .unwrap();
        readers.push(stream);
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nHost: d";
        let mut stream = UnixStream::connect(world.daemon.socket()).unwrap();
        let path = "/containers/busy/attach/ws?stream=1&stdout=1";
        write!(stream, "GET {path} HTTP/1.1\r\n{upgrade}\r\n\r\n").unwrap();
        readers.push(stream);
        readers.push(stuck(&world, "GET /containers/busy/stats"));
    }
    for stream in &mut readers {
        // Each is served: the head came.
        let mut first = [0; 1];
        stream.read_exact(&mut first).unwrap();
    }
    let told = world.docker(&["exec", "busy", "echo", "here"]);
    assert_eq!(told.ok(), "here\n");
    let grown = resident_kib(world.daemon.pid()).saturating_sub(before);
    assert!(grown < 150 * 700, "{grown} KiB for 150 readers");
    world.docker(&["rm", "-f", "busy"]).ok();
    drop(readers);
    world.finish();
}
