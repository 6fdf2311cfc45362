//! Many clients at once, and bad ones: the engine serves on, in bounded memory, and gives everything back.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::world::{World, at_rest, wait_for};

/// Connections of each kind; together ten thousand.
const IDLE: usize = 3000;
const HALF_OPEN: usize = 3000;
const KEPT: usize = 1000;
const WAITS: usize = 1500;
const WATCHERS: usize = 1000;
const ATTACHED: usize = 500;
/// What a connection may cost the engine, in KiB.
const EACH: u64 = 40;

fn connect(world: &World) -> UnixStream {
    let stream = wait_for("a place in the queue", || {
        match UnixStream::connect(world.daemon.socket()) {
            Ok(stream) => Some(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("connect: {error}"),
        }
    });
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).unwrap();
    stream.set_write_timeout(patience).unwrap();
    stream
}

/// A connection on which this was sent.
fn sent(world: &World, text: &str) -> UnixStream {
    let mut stream = connect(world);
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// Reads what is there, at most this much.
fn some(mut stream: &UnixStream, length: usize) -> String {
    let mut buffer = vec![0; length];
    let length = stream.read(&mut buffer).unwrap_or(0);
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

fn descriptors(world: &World) -> usize {
    let directory = format!("/proc/{}/fd", world.daemon.pid());
    std::fs::read_dir(directory).unwrap().count()
}

/// The same of an engine that has made ready what it keeps ready.
fn descriptors_at_rest(world: &World) -> usize {
    at_rest(&world.daemon, || descriptors(world))
}

/// A field of the daemon's status, in KiB.
fn memory(world: &World, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A daemon started with this soft limit of open files; the test itself has all there are. `None` where those do not do.
fn start_limited(soft: u64) -> Option<World> {
    let all = getrlimit(Resource::Nofile).maximum;
    if all.is_some_and(|all| all < 12_000) {
        hoist_testkit::skip("no 12000 open files are allowed");
        return None;
    }
    let limit = |current| Rlimit {
        current,
        maximum: all,
    };
    setrlimit(Resource::Nofile, limit(Some(soft))).unwrap();
    let world = World::start();
    setrlimit(Resource::Nofile, limit(all)).unwrap();
    world
}

#[test]
fn ten_thousand_clients_are_served_and_cost_little() {
    let Some(world) = start_limited(1024) else {
        return;
    };
    world
        .docker(&["run", "-d", "--name", "one", "busybox", "sleep", "1000"])
        .ok();
    let (open, used) = (descriptors_at_rest(&world), memory(&world, "VmRSS"));
    let mut crowd = Vec::new();
    for (count, text) in [
        (IDLE, ""),
        (
            HALF_OPEN,
            "GET /containers/json HTTP/1.1\r\nHost: h\r\nX-Slow: ",
        ),
        (KEPT, "GET /_ping HTTP/1.1\r\nHost: h\r\n\r\n"),
        (
            WAITS,
            "POST /containers/one/wait HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        ),
        (WATCHERS, "GET /events HTTP/1.1\r\nHost: h\r\n\r\n"),
        (
            ATTACHED,
            "POST /containers/one/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n",
        ),
    ] {
        let began = crowd.len();
        crowd.extend((0..count).map(|_| sent(&world, text)));
        if text.ends_with("\r\n\r\n") {
            for stream in &crowd[began..] {
                let said = some(stream, 4096);
                let fine = ["HTTP/1.1 200", "HTTP/1.1 101"];
                assert!(
                    fine.iter().any(|head| said.starts_with(head)),
                    "{text}{said}"
                );
            }
        }
    }
    assert_eq!(crowd.len(), 10_000);
    assert!(
        descriptors(&world) >= open + crowd.len(),
        "they are not open"
    );

    // They are many, and others are served as before.
    let said = world.docker(&["run", "--rm", "busybox", "echo", "room"]);
    assert_eq!(said.ok(), "room\n");
    let grown = memory(&world, "VmRSS").saturating_sub(used);
    assert!(
        grown < EACH * crowd.len() as u64,
        "{grown} KiB for {} connections",
        crowd.len()
    );

    // Everyone who waits is told, who is attached sees the end, who watches sees the event.
    world.docker(&["kill", "one"]).ok();
    let waits = &crowd[IDLE + HALF_OPEN + KEPT..][..WAITS];
    for stream in waits {
        let said = some(stream, 4096);
        assert!(said.contains(r#""StatusCode":137"#), "{said}");
    }
    for stream in &crowd[IDLE + HALF_OPEN + KEPT + WAITS..][..WATCHERS] {
        let mut said = String::new();
        while !said.contains("\"die\"") {
            let more = some(stream, 65536);
            assert!(!more.is_empty(), "no die in {said}");
            said += &more;
        }
    }
    for mut stream in &crowd[crowd.len() - ATTACHED..] {
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
    }
    drop(crowd);
    wait_for("the connections are let go", || {
        (descriptors(&world) <= open + 8).then_some(())
    });
    world.docker(&["rm", "one"]).ok();
    world.finish();
}

/// Sends, and that this is all, and reads what comes until the other side closes.
fn conversation(world: &World, text: &str) -> String {
    let mut stream = connect(world);
    // A server that refuses may close before all is sent.
    let _ = stream.write_all(text.as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn abusive_requests_are_refused_and_leave_nothing() {
    let Some(world) = World::start() else {
        return;
    };
    let open = descriptors_at_rest(&world);
    let status = |text: &str| {
        let said = conversation(&world, text);
        let status = said.split(' ').nth(1).unwrap_or("closed").to_owned();
        (status, said)
    };
    // A head without an end.
    let huge = format!(
        "GET /_ping HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
        "x".repeat(2 << 20)
    );
    assert_eq!(status(&huge).0, "431");
    let many = "X: y\r\n".repeat(10_000);
    let many = format!("GET /_ping HTTP/1.1\r\nHost: h\r\n{many}\r\n");
    assert_eq!(status(&many).0, "431");
    let long = format!(
        "GET /_ping?{} HTTP/1.1\r\nHost: h\r\n\r\n",
        "x".repeat(1 << 20)
    );
    assert!(
        matches!(&*status(&long).0, "414" | "431"),
        "{}",
        status(&long).0
    );
    // Chunks that are none.
    for chunk in [
        "FFFFFFFFFFFFFFFFF\r\n",
        "-1\r\n",
        "zz\r\n",
        "5\r\nabc",
        "\0\r\n",
    ] {
        let text = format!(
            "POST /containers/create HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
        );
        let (status, said) = status(&text);
        assert!(matches!(&*status, "400" | "closed"), "{chunk:?}: {said}");
    }
    // Requests in a row, answered in a row.
    let ping = "GET /_ping HTTP/1.1\r\nHost: h\r\n\r\n";
    let said = conversation(&world, &ping.repeat(200));
    assert_eq!(said.matches("HTTP/1.1 200").count(), 200);
    // A body that does not end is read up to a limit.
    let mut stream = sent(
        &world,
        "POST /containers/create HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let before = memory(&world, "VmRSS");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let mut taken = 0_u64;
    while stream.write_all(chunk.as_bytes()).is_ok() {
        taken += 64;
        assert!(taken < 64 << 10, "64 MiB of a body were taken");
    }
    let said = some(&stream, 4096);
    assert!(said.starts_with("HTTP/1.1 4"), "{said}");
    let grown = memory(&world, "VmRSS").saturating_sub(before);
    assert!(grown < 40 << 10, "{grown} KiB for a body without an end");

    // Connections that break while they are taken over.
    world
        .docker(&["run", "-di", "--name", "one", "busybox", "cat"])
        .ok();
    for round in 0..200 {
        let mut stream = sent(
            &world,
            "POST /containers/one/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n",
        );
        match round % 4 {
            0 => {}
            1 => drop(stream.shutdown(Shutdown::Read)),
            2 => drop(stream.write_all(b"half a line")),
            _ => drop(some(&stream, 64)),
        }
    }
    // Only the standard input of who had an open one counts: it was open once, and is no more after `StdinOnce`.
    world.docker(&["rm", "-f", "one"]).ok();
    wait_for("the connections are let go", || {
        (descriptors(&world) <= open + 8).then_some(())
    });
    world.finish();
}
