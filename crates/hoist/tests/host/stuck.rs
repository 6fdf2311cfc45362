//! Clients that are stuck: the engine, the container's writer and everybody else go on, in bounded memory and on a bounded disk.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::logs::{follow, numbered};
use crate::world::{World, binary, wait_for};

/// Asks the engine for something endless and reads nothing of it.
fn stuck(world: &World, request: &str) -> UnixStream {
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

fn memchr(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len())
        .position(|window| window == wanted)
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
    late.set_read_timeout(Some(Duration::from_secs(30)))
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

/// All that a client of a container's streams got: bytes of standard output, and what was said on standard error.
fn frames(bytes: &[u8]) -> (usize, String) {
    let (mut shown, mut said) = (0, String::new());
    let head = memchr(bytes, b"\r\n\r\n").map_or(0, |at| at + 4);
    let mut rest = &bytes[head..];
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let [stream, _, _, _, a, b, c, d] = *header;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap();
        let (text, after) = after.split_at(length);
        match stream {
            1 => shown += length,
            _ => said += std::str::from_utf8(text).unwrap(),
        }
        rest = after;
    }
    assert!(rest.is_empty(), "{} bytes are no frame", rest.len());
    (shown, said)
}

/// Bytes of files without a name that a process holds.
fn nameless_bytes(pid: u32) -> u64 {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    entries
        .flatten()
        .filter(|entry| {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            target.to_string_lossy().ends_with(" (deleted)")
        })
        .filter_map(|entry| std::fs::metadata(entry.path()).ok())
        .filter(std::fs::Metadata::is_file)
        .map(|file| file.len())
        .sum()
}

#[test]
fn many_attached_clients_that_are_stuck_hold_nobody_up() {
    const CLIENTS: usize = 40;
    const LINES: usize = 30_000;
    let Some(world) = World::start() else { return };
    // Some 30 MB, in long lines: 40 times that is more than is kept on disk for all.
    let script = format!("read go; seq 1 {LINES} | sed \"s/$/$(printf %1000s x)/\"");
    let run = [
        "run", "-di", "--name", "talker", "busybox", "sh", "-c", &script,
    ];
    world.docker(&run).ok();
    world
        .docker(&["run", "-d", "--name", "other", "busybox", "sleep", "1000"])
        .ok();
    let request = "POST /v1.55/containers/talker/attach?stream=1&stdout=1&stderr=1";
    let before = resident_kib(world.daemon.pid());
    let mut clients: Vec<UnixStream> = (0..CLIENTS).map(|_| stuck(&world, request)).collect();
    // One reads.
    let mut reader = stuck(&world, request);
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        text
    });
    std::thread::scope(|scope| {
        // Until the end: it is attached, too.
        scope.spawn(|| go(&world));
        wait_for("the disk to be used", || {
            let held = world.daemon.processes().into_iter().map(nameless_bytes);
            (held.sum::<u64>() > 64 << 20).then_some(())
        });
        let elsewhere = world.docker(&["exec", "other", "echo", "here"]);
        assert_eq!(elsewhere.ok(), "here\n");
        // The writer is held up for a while at most.
        assert_eq!(world.docker(&["wait", "talker"]).ok(), "0\n");
    });
    let whole: usize = (1..=LINES).map(|line| line.to_string().len() + 1001).sum();
    assert_eq!(frames(&reading.join().unwrap()), (whole, String::new()));
    // What is kept for the others is bounded.
    let held: u64 = world
        .daemon
        .processes()
        .into_iter()
        .map(nameless_bytes)
        .sum();
    // In rings that began to be read.
    let most = (256 << 20) + CLIENTS as u64 * (512 << 10);
    assert!(held <= most, "{held} bytes are kept on disk");
    assert!(
        held > 64 << 20,
        "{held} bytes are kept on disk: not what is tried here"
    );
    let grown = resident_kib(world.daemon.pid()).saturating_sub(before);
    assert!(grown < 41 * 700, "{grown} KiB for 41 clients");
    // Each of them, late, gets what was kept for it and hears what was not.
    for client in &mut clients {
        let mut text = Vec::new();
        client.read_to_end(&mut text).unwrap();
        let (shown, said) = frames(&text);
        let left_out = said.strip_prefix("hoist: ").map_or(0, |said| {
            said.split(' ').next().unwrap().parse::<usize>().unwrap()
        });
        assert_eq!(shown + left_out, whole, "{said}");
    }
    world.docker(&["rm", "-f", "talker", "other"]).ok();
    world.finish();
}

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .count()
}

/// More than the threads that tokio has for work that blocks, which is what they would take.
const MANY: usize = 600;

#[test]
fn readers_of_archives_that_are_stuck_hold_nobody_up() {
    let Some(world) = World::start() else { return };
    world
        .docker(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .ok();
    let before = (
        resident_kib(world.daemon.pid()),
        threads(world.daemon.pid()),
    );
    let requests = [
        "GET /containers/box/export",
        "GET /containers/box/archive?path=/bin",
        "GET /images/busybox/get",
    ];
    let readers: Vec<UnixStream> = (0..MANY)
        .map(|reader| stuck(&world, requests[reader % requests.len()]))
        .collect();
    world.docker(&["run", "--rm", "busybox", "true"]).ok();
    let archive = world.path("root.tar");
    world.docker(&["export", "-o", &archive, "box"]).ok();
    assert!(std::fs::metadata(&archive).unwrap().len() > 1 << 20);
    world.docker(&["top", "box"]).ok();
    let grown = resident_kib(world.daemon.pid()).saturating_sub(before.0);
    // Most of it in the connections' buffers.
    assert!(grown < 1024 * MANY as u64, "{grown} KiB for {MANY} readers");
    drop(readers);
    wait_for("their threads to end", || {
        (threads(world.daemon.pid()) < before.1 + MANY / 2).then_some(())
    });
    world.docker(&["rm", "-f", "box"]).ok();
    world.finish();
}

#[test]
fn uploads_that_stand_still_hold_nobody_up() {
    let Some(world) = World::start() else { return };
    world
        .docker(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .ok();
    let before = threads(world.daemon.pid());
    let requests = ["POST /images/load", "PUT /containers/box/archive?path=/tmp"];
    let begin = |upload: usize| {
        let mut stream = UnixStream::connect(world.daemon.socket()).unwrap();
        let request = requests[upload % requests.len()];
        let head = "Host: d\r\nContent-Type: application/x-tar\r\nContent-Length: 1000000";
        write!(stream, "{request} HTTP/1.1\r\n{head}\r\n\r\nabc").unwrap();
        stream
    };
    let uploads: Vec<UnixStream> = (0..MANY).map(begin).collect();
    // All were taken up, and wait for the rest.
    wait_for("a thread for each upload", || {
        (threads(world.daemon.pid()) >= before + MANY).then_some(())
    });
    world.docker(&["run", "--rm", "busybox", "true"]).ok();
    let archive = world.path("root.tar");
    world.docker(&["export", "-o", &archive, "box"]).ok();
    world.docker(&["import", &archive, "again"]).ok();
    drop(uploads);
    wait_for("their threads to end", || {
        (threads(world.daemon.pid()) < before + MANY / 2).then_some(())
    });
    world.docker(&["rm", "-f", "box"]).ok();
    world.finish();
}
