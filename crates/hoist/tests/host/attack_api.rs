//! Requests made to confuse: what is checked is what is done, and nobody sends the engine to its limits.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::world::World;

/// Sends bytes as they are, and reads what comes until the end or the first answer's status line.
fn raw(world: &World, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(world.daemon.socket()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut writer = stream.try_clone().unwrap();
    let request = request.to_vec();
    // A refusal may come before everything is sent.
    let sender = std::thread::spawn(move || {
        let _ = writer.write_all(&request);
        let _ = writer.shutdown(std::net::Shutdown::Write);
    });
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    sender.join().unwrap();
    String::from_utf8_lossy(&reply).into_owned()
}

fn statuses(reply: &str) -> Vec<&str> {
    reply
        .lines()
        .filter_map(|line| line.strip_prefix("HTTP/1.1 "))
        .map(|line| &line[..3])
        .collect()
}

/// A body whose length can be read in two ways is no request: what an authorizer saw would not be what is done
/// (CVE-2024-41110, request smuggling).
#[test]
fn a_body_of_two_lengths_is_no_request() {
    let Some(world) = World::start() else { return };
    let smuggled = "POST /containers/create?name=smuggled HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
        Content-Length: 19\r\n\r\n{\"Image\":\"busybox\"}";
    let head = "POST /containers/create?name=first HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let lengths = [
        "Content-Length: 0\r\nContent-Length: 19\r\n".to_owned(),
        format!(
            "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n",
            5 + smuggled.len()
        ),
        "Content-Length: +19\r\n".to_owned(),
        "Content-Length: -1\r\n".to_owned(),
        "Content-Length: 18446744073709551635\r\n".to_owned(),
        "Transfer-Encoding: identity, chunkedx\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n".to_owned(),
        "Content-Length : 0\r\n".to_owned(),
        " Content-Length: 0\r\n".to_owned(),
    ];
    for length in lengths {
        let reply = raw(
            &world,
            format!("{head}{length}\r\n0\r\n\r\n{smuggled}").as_bytes(),
        );
        for status in statuses(&reply) {
            assert!(status.starts_with('4'), "{length:?}: {reply}");
        }
        let names = world.docker(&["ps", "-a", "--format", "{{.Names}}"]).ok();
        assert_eq!(names, "", "{length:?} made a container: {reply}");
    }
    world.finish();
}

/// Documents as deep and as long as a client likes to send them (CVE-2019-11253).
#[test]
fn bombs_are_refused_and_the_engine_lives() {
    let Some(world) = World::start() else { return };
    let pid = world.daemon.pid();
    let post = |body: Vec<u8>| {
        let head = format!(
            "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        raw(&world, &[head.into_bytes(), body].concat())
    };
    let deep =
        |open: &str, times| format!("{{\"Image\":\"busybox\",\"Labels\":{}", open.repeat(times));
    let bombs = [
        deep("[", 1 << 20).into_bytes(),
        deep("{\"a\":", 1 << 20).into_bytes(),
        format!(
            "{{\"Image\":\"busybox\",\"X\":\"{}\"}}",
            "a".repeat(64 << 20)
        )
        .into_bytes(),
        format!("{{\"Image\":{}1}}", "[".repeat(100)).into_bytes(),
    ];
    for bomb in bombs {
        let reply = post(bomb);
        let statuses = statuses(&reply);
        assert!(
            statuses.len() == 1 && statuses[0].starts_with('4'),
            "{:.300}",
            reply
        );
    }
    // A head without an end, and one line without an end.
    let mut head = b"GET /_ping HTTP/1.1\r\n".to_vec();
    for number in 0..100_000 {
        head.extend(format!("X-{number}: y\r\n").bytes());
    }
    for bytes in [head, vec![b'A'; 8 << 20]] {
        let reply = raw(&world, &bytes);
        assert!(
            statuses(&reply)
                .iter()
                .all(|status| status.starts_with('4')),
            "{reply}"
        );
    }
    assert_eq!(world.daemon.pid(), pid);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap();
    assert!(resident < 300 << 10, "{resident} kB at the highest");
    world.finish();
}

/// Names become file names: none of a request's may climb.
#[test]
fn names_of_a_request_are_no_paths() {
    let Some(world) = World::start() else { return };
    let outside = world.directory("outside");
    let climbing = format!("../../../../../../../..{}/x", outside.display());
    for name in [
        climbing.as_str(),
        "..",
        ".",
        "/",
        "a/../b",
        "a\0b",
        "%2e%2e%2fx",
    ] {
        let volume = serde_json::json!({ "Name": name }).to_string();
        let (status, body) = world
            .daemon
            .request("POST", "/volumes/create", Some(&volume))
            .unwrap();
        assert_eq!(status, 400, "{name:?}: {body}");
        let container = serde_json::json!({
            "Image": "busybox", "HostConfig": { "Mounts": [{ "Type": "volume", "Source": name, "Target": "/v" }] }
        });
        let (status, body) = world
            .daemon
            .request("POST", "/containers/create", Some(&container.to_string()))
            .unwrap();
        assert_eq!(status, 400, "{name:?}: {body}");
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(world.docker(&["volume", "ls", "-q"]).ok(), "");
    world.finish();
}
