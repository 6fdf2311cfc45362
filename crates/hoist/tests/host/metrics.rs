//! Prometheus metrics of a real engine.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::world::{World, own_loopback};

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

/// What promtool(1) `check metrics` complains of, and that every sample is whole.
fn lint(reply: &str) {
    let body = reply.split_once("\r\n\r\n").unwrap().1;
    let lines = body.lines().filter(|line| line.contains(' '));
    let (mut kinds, mut seen) = (BTreeMap::new(), BTreeSet::new());
    let mut helped = BTreeSet::new();
    for line in lines {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => {
                assert!(!help.is_empty() && helped.insert(name), "{line}");
            }
            ["#", "TYPE", name, kind] => {
                assert!(helped.contains(name), "no help before: {line}");
                assert!(kinds.insert(name, kind).is_none(), "twice: {line}");
                let total = name.ends_with("_total");
                assert_eq!(kind == "counter", total, "only counters end so: {line}");
                let bare = name.trim_end_matches("_total");
                for unit in [
                    "_milliseconds",
                    "_ms",
                    "_kb",
                    "_kilobytes",
                    "_percent",
                    "_count",
                    "_sum",
                ] {
                    assert!(!bare.ends_with(unit), "no base unit: {line}");
                }
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                assert!(name.chars().all(plain), "{line}");
                let ours = ["hoist_", "engine_daemon_", "process_"];
                assert!(ours.iter().any(|prefix| name.starts_with(prefix)), "{line}");
            }
            _ => {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let name = sample.split('{').next().unwrap();
                assert!(kinds.contains_key(name), "a sample of no family: {line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(seen.insert(sample), "the same sample twice: {line}");
            }
        }
    }
    assert!(kinds.len() > 20, "{kinds:?}");
}

#[test]
fn containers_and_engine_are_counted_when_asked() {
    let address = SocketAddr::from((own_loopback(), 9323));
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
    lint(&reply);
    assert_eq!(value("hoist_engine_images", ""), Some(1.0));
    assert_eq!(value("hoist_engine_networks", ""), Some(3.0));
    assert_eq!(
        value("hoist_container_oom_killed", "name=\"counted\""),
        Some(0.0)
    );
    assert!(
        value("hoist_container_start_time_seconds", "name=\"counted\"").is_some_and(|at| at > 1e9)
    );
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
