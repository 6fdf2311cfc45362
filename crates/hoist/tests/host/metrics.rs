//! Prometheus metrics of a real engine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::world::World;

/// An address nobody listens on, for the moment.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

#[test]
fn containers_and_engine_are_counted_when_asked() {
    let address = free();
    let Some(world) = World::start_with(&["--metrics-addr", &address.to_string()]) else {
        return;
    };
    world
        .docker(&[
            "run", "-d", "--name", "counted", "-m", "64m", "busybox", "sleep", "1000",
        ])
        .ok();
    world
        .docker(&["create", "--name", "resting", "busybox", "true"])
        .ok();
    let reply = get(address, "/metrics");
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    let value = |name: &str, label: &str| -> Option<f64> {
        let line = reply
            .lines()
            .find(|line| line.starts_with(name) && line.contains(label))?;
        line.rsplit_once(' ')?.1.parse().ok()
    };
    let states = "engine_daemon_container_states_containers";
    assert_eq!(value(states, "state=\"running\""), Some(1.0));
    assert_eq!(value(states, "state=\"stopped\""), Some(1.0));
    let counted = "name=\"counted\"";
    let limit = value("hoist_container_memory_limit_bytes", counted);
    assert_eq!(limit, Some(f64::from(64 << 20)));
    assert_eq!(value("hoist_container_processes", counted), Some(1.0));
    assert!(value("hoist_container_cpu_seconds_total", counted).is_some());
    assert!(value("hoist_container_memory_usage_bytes", counted).is_some_and(|used| used > 0.0));
    assert_eq!(value("hoist_container_processes", "name=\"resting\""), None);
    assert!(value("process_resident_memory_bytes", "").is_some_and(|bytes| bytes > 1e6));
    assert!(get(address, "/").starts_with("HTTP/1.1 404 "));
    world.docker(&["rm", "-f", "counted", "resting"]).ok();
    world.finish();
}
