//! Networks: how long joining one and publishing a port take, and a thousand of them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::arena::{World, run};
use super::report::Row;
use super::statistics::Samples;
use super::{Arenas, BATCHES, measures, row};

/// Networks that are made and removed.
const NETWORKS: usize = 1000;
/// How many of them Docker makes: it takes its time, and each one more of it.
const NETWORKS_OF_DOCKER: usize = 30;
/// The longest that their bridges may take to go.
const TAKEN_DOWN: Duration = Duration::from_secs(180);
/// Ports that others have published.
const PUBLISHED: u16 = 5000;
/// How many of them each of those has.
const EACH: u16 = 100;
/// The first of them, on the host.
const FIRST: u16 = 20_000;
/// A container that sleeps, with these host settings. Ports that are published are exposed, too: Docker publishes no others.
pub(super) fn sleeping(host: &Value) -> Value {
    let ports = host["PortBindings"].as_object().into_iter().flatten();
    let exposed: serde_json::Map<_, _> = ports.map(|(port, _)| (port.clone(), json!({}))).collect();
    json!({"Image": "busybox", "Cmd": ["sleep", "600"], "ExposedPorts": exposed, "HostConfig": host})
}

/// A kept connection's starts of a container with these host settings: the API's time, and the engine's own of one of its
/// actions, where it tells.
fn starts(
    world: &mut World,
    count: usize,
    host: &Value,
    action: &str,
) -> anyhow::Result<(Samples, Samples)> {
    let configuration = sleeping(host);
    let (mut whole, mut own) = (Samples::default(), Samples::default());
    for _ in 0..count {
        let id = world.create(&configuration)?;
        let before = seconds(world, action)?;
        let start = format!("/containers/{id}/start");
        let begun = Instant::now();
        world.client.call("POST", &start, &Value::Null)?;
        whole.push(begun.elapsed());
        if let (Some(before), Some(after)) = (before, seconds(world, action)?) {
            own.push_value((after - before) * 1000.0);
        }
        measures::remove(world, &[id])?;
    }
    Ok((whole, own))
}

/// How long an engine's network actions of a kind took so far, if it tells.
fn seconds(world: &World, action: &str) -> anyhow::Result<Option<f64>> {
    let Some(address) = world.metrics else {
        return Ok(None);
    };
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let name = format!("hoist_network_action_seconds_total{{action=\"{action}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    let value = value.context("the metrics do not tell of network actions")?;
    Ok(Some(value.parse()?))
}

fn network(world: &mut World, name: &str) -> anyhow::Result<String> {
    let made = world
        .client
        .call("POST", "/networks/create", &json!({"Name": name}))?;
    Ok(made["Id"].as_str().context("no Id")?.to_owned())
}

fn remove_network(world: &mut World, id: &str) -> anyhow::Result<()> {
    let path = format!("/networks/{id}");
    world.client.call("DELETE", &path, &Value::Null)?;
    Ok(())
}

/// Starts on a user's network, and on none for comparison.
pub(super) fn attach(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let mut own = Samples::default();
    let (mut joined, mut alone) = (Pair::default(), Pair::default());
    for _ in 0..BATCHES {
        let count = (100 / arenas.divide / BATCHES).max(1);
        let (a, b, c) = arenas.hoist.run(move |world| join(world, count))?;
        joined.0.extend(a);
        alone.0.extend(b);
        own.extend(c);
        if let Some(arena) = &arenas.docker {
            let count = (30 / arenas.divide / BATCHES).max(1);
            let (a, b, _) = arena.run(move |world| join(world, count))?;
            joined.1.extend(a);
            alone.1.extend(b);
        }
    }
    Ok(vec![
        row("API start, network of a user's", "ms", joined, ""),
        row("API start beside it, network none", "ms", alone, ""),
        row(
            "of it, joining the network, by the engine's own clock",
            "ms",
            (own, Samples::default()),
            "metric hoist_network_action_seconds_total; budget: 0.3 ms",
        ),
    ])
}

type Pair = (Samples, Samples);

fn join(world: &mut World, count: usize) -> anyhow::Result<(Samples, Samples, Samples)> {
    let id = network(world, "bench-attach")?;
    // The first network brings what is kept ready for it.
    std::thread::sleep(Duration::from_millis(300));
    let (mut whole, mut alone, mut own) = Default::default();
    for _ in 0..count {
        let host = json!({"NetworkMode": "bench-attach"});
        let (a, b) = starts(world, 1, &host, "connect")?;
        Samples::extend(&mut whole, a);
        Samples::extend(&mut own, b);
        let (a, _) = starts(world, 1, &json!({"NetworkMode": "none"}), "connect")?;
        Samples::extend(&mut alone, a);
    }
    remove_network(world, &id)?;
    Ok((whole, alone, own))
}

/// Ports of the host, each bound to one of the container's; with `""` for both families.
fn bound(host: &str, ports: impl Iterator<Item = u16>) -> Value {
    let bindings = ports.map(|port| {
        let inner = format!("{}/tcp", port - FIRST + 1);
        (
            inner,
            json!([{"HostIp": host, "HostPort": port.to_string()}]),
        )
    });
    json!({"PortBindings": bindings.collect::<serde_json::Map<_, _>>()})
}

/// Starts containers that publish thousands of ports; answers their ids.
pub(super) fn publish_many(world: &mut World) -> anyhow::Result<Vec<String>> {
    let mut others = Vec::new();
    for first in (FIRST + 1..=FIRST + PUBLISHED).step_by(usize::from(EACH)) {
        let id = world.create(&sleeping(&bound("", first..first + EACH)))?;
        others.push(id.clone());
        let start = format!("/containers/{id}/start");
        world.client.call("POST", &start, &Value::Null)?;
    }
    Ok(others)
}

/// Starts with one published port, while nobody has any, and while others have thousands.
pub(super) fn publish(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let count = (100 / arenas.divide).max(1);
    let one = || bound("", std::iter::once(FIRST));
    let (whole, own) = arenas
        .hoist
        .run(move |world| starts(world, count, &one(), "publish"))?;
    let theirs = match &arenas.docker {
        Some(arena) => {
            let count = (30 / arenas.divide).max(1);
            arena
                .run(move |world| starts(world, count, &one(), "publish"))?
                .0
        }
        None => Samples::default(),
    };
    let (crowded, beside) = arenas.hoist.run(move |world| {
        let others = publish_many(world)?;
        let measured = starts(world, count, &one(), "publish");
        measures::remove(world, &others)?;
        measured
    })?;
    let alone = |samples| (samples, Samples::default());
    Ok(vec![
        row(
            "API start with one published port",
            "ms",
            (whole, theirs),
            "",
        ),
        row(
            "of it, publishing the port, by the engine's own clock",
            "ms",
            alone(own),
            "both families; budget: 0.2 ms",
        ),
        row(
            "API start with one published port, beside 5,000 of others'",
            "ms",
            alone(crowded),
            "all in both families",
        ),
        row(
            "of it, publishing the port, by the engine's own clock",
            "ms",
            alone(beside),
            "both families; budget: 0.2 ms",
        ),
    ])
}

/// Networks made one after another and then removed: each, and what is left of them.
pub(super) fn networks(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let count = (NETWORKS / arenas.divide).max(1);
    let many = arenas.hoist.run(move |world| make_many(world, count))?;
    let theirs = match &arenas.docker {
        Some(arena) => {
            let count = (NETWORKS_OF_DOCKER / arenas.divide).max(1);
            arena.run(move |world| make_many(world, count))?
        }
        None => Many::default(),
    };
    let Many {
        made,
        removed,
        gone,
        left,
    } = many;
    let tenths = |samples: &Samples| {
        let tenth = samples.count().div_ceil(10);
        let median = |last| super::statistics::Number(samples.part(last, tenth).median());
        format!("first tenth {}, last tenth {}", median(false), median(true))
    };
    let note = format!("{}; Docker: of {NETWORKS_OF_DOCKER}", tenths(&made));
    Ok(vec![
        row(
            &format!("network create, of {count} in a row, each"),
            "ms",
            (made, theirs.made),
            note,
        ),
        row(
            "network rm of the same, each",
            "ms",
            (removed, theirs.removed),
            "budget: 5 ms",
        ),
        row(
            "from the last of them to the end of the last bridge",
            "s",
            (gone, theirs.gone),
            "in the background, one at a time",
        ),
        row(
            "links, routes, rules and neighbours that are left of them",
            "count",
            (left, theirs.left),
            "budget: none",
        ),
    ])
}

/// What was seen of networks.
#[derive(Default)]
struct Many {
    made: Samples,
    removed: Samples,
    gone: Samples,
    left: Samples,
}

fn make_many(world: &mut World, count: usize) -> anyhow::Result<Many> {
    let mut many = Many::default();
    // With the first, the engine turns forwarding on.
    let first = network(world, "bench-first")?;
    remove_network(world, &first)?;
    std::thread::sleep(Duration::from_secs(1));
    let before = traces()?;
    let mut ids = Vec::new();
    for number in 0..count {
        let begun = Instant::now();
        ids.push(network(world, &format!("bench-{number}"))?);
        many.made.push(begun.elapsed());
    }
    for id in ids {
        let begun = Instant::now();
        remove_network(world, &id)?;
        many.removed.push(begun.elapsed());
    }
    let begun = Instant::now();
    let mut left = traces()? - before;
    while left > 0.0 && begun.elapsed() < TAKEN_DOWN {
        std::thread::sleep(Duration::from_millis(100));
        left = traces()? - before;
    }
    many.gone.push_value(begun.elapsed().as_secs_f64());
    many.left.push_value(left);
    Ok(many)
}

/// Lines that the kernel has to tell of the namespace; those of veths are of pools, which come and go, and link-local
/// addresses come when a bridge has its first.
fn traces() -> anyhow::Result<f64> {
    let mut lines = 0;
    for command in [
        &["ip", "-o", "link"][..],
        &["ip", "-o", "addr"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "neigh"],
        &["nft", "list", "ruleset"],
    ] {
        let text = run(command[0], &command[1..])?;
        let passing = [": v", " dev v", "fe80::", "ff00::", "extern_learn"];
        let is_passing = |line: &&str| passing.iter().any(|part| line.contains(part));
        lines += text.lines().filter(|line| !is_passing(line)).count();
    }
    Ok(f64::from(u32::try_from(lines)?))
}
