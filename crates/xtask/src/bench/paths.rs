//! Networks: how long joining one and publishing a port take, what gets through, and a thousand of them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use super::arena::{World, ip, run};
use super::report::Row;
use super::statistics::Samples;
use super::{Arenas, BATCHES, measures, row};

/// Networks that are made and removed.
const NETWORKS: usize = 1000;
/// How many of them Docker makes: it takes its time, and each one more of it.
const NETWORKS_OF_DOCKER: usize = 30;
/// Ports that others have published.
const PUBLISHED: u16 = 5000;
/// How many of them each of those has.
const EACH: u16 = 100;
/// The first of them, on the host.
const FIRST: u16 = 20_000;
/// For how long bytes are pushed through, and how often.
const PUSHED: Duration = Duration::from_millis(400);
const PUSHES: usize = 7;
/// The port of the container that is pushed to, inside and outside.
const PORT: u16 = 8080;

/// A kept connection's starts of a container with these host settings: the API's time, and the engine's own of one of its
/// actions, where it tells.
fn starts(
    world: &mut World,
    count: usize,
    host: &Value,
    action: &str,
) -> anyhow::Result<(Samples, Samples)> {
    let configuration = json!({"Image": "busybox", "Cmd": ["sleep", "600"], "HostConfig": host});
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
        let mut others = Vec::new();
        for first in (FIRST + 1..=FIRST + PUBLISHED).step_by(usize::from(EACH)) {
            let id = world.create(&json!({
                "Image": "busybox",
                "Cmd": ["sleep", "600"],
                "HostConfig": bound("", first..first + EACH),
            }))?;
            others.push(id.clone());
            let start = format!("/containers/{id}/start");
            world.client.call("POST", &start, &Value::Null)?;
        }
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
    let (made, removed, left) = arenas.hoist.run(move |world| make_many(world, count))?;
    let (theirs_made, theirs_removed) = match &arenas.docker {
        Some(arena) => {
            let count = (NETWORKS_OF_DOCKER / arenas.divide).max(1);
            let (made, removed, _) = arena.run(move |world| make_many(world, count))?;
            (made, removed)
        }
        None => Pair::default(),
    };
    let tenths = |samples: &Samples| {
        let tenth = samples.count().div_ceil(10);
        let median = |last| super::statistics::Number(samples.part(last, tenth).median());
        format!("first tenth {}, last tenth {}", median(false), median(true))
    };
    let note = format!("{}; Docker: of {NETWORKS_OF_DOCKER}", tenths(&made));
    let mut counted = Samples::default();
    counted.push_value(left);
    Ok(vec![
        row(
            &format!("network create, of {count} in a row, each"),
            "ms",
            (made, theirs_made),
            note,
        ),
        row(
            "network rm of the same, each",
            "ms",
            (removed, theirs_removed),
            "",
        ),
        row(
            "links, routes, rules and neighbours that are left of them",
            "count",
            (counted, Samples::default()),
            "budget: none",
        ),
    ])
}

fn make_many(world: &mut World, count: usize) -> anyhow::Result<(Samples, Samples, f64)> {
    let (mut made, mut removed) = Pair::default();
    // With the first, the engine turns forwarding on.
    let first = network(world, "bench-first")?;
    remove_network(world, &first)?;
    std::thread::sleep(Duration::from_secs(1));
    let before = traces()?;
    let mut ids = Vec::new();
    for number in 0..count {
        let begun = Instant::now();
        ids.push(network(world, &format!("bench-{number}"))?);
        made.push(begun.elapsed());
    }
    for id in ids {
        let begun = Instant::now();
        remove_network(world, &id)?;
        removed.push(begun.elapsed());
    }
    std::thread::sleep(Duration::from_secs(1));
    Ok((made, removed, traces()? - before))
}

/// Lines that the kernel has to tell of the namespace; those of veths are of pools, which come and go.
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
        let counted = text.lines().filter(|line| !line.contains(": v"));
        lines += counted
            .filter(|line| !line.contains("extern_learn"))
            .count();
    }
    Ok(f64::from(u32::try_from(lines)?))
}

/// A namespace that is gone when dropped.
struct Namespace(String);

impl Namespace {
    fn new(what: &str) -> anyhow::Result<Self> {
        let name = format!("bench-{what}-{}", std::process::id());
        ip(&["netns", "add", &name])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        Ok(Self(name))
    }

    fn file(&self) -> anyhow::Result<File> {
        Ok(File::open(format!("/run/netns/{}", self.0))?)
    }

    /// Leads a link from here to another namespace, `None` being the calling thread's, with these addresses.
    fn lead(&self, to: Option<&Self>, name: &str, own: &str, other: &str) -> anyhow::Result<()> {
        let there: Vec<&str> = to.map_or(Vec::new(), |to| vec!["-n", &to.0]);
        let at = |words: &[&str]| ip(&[&there[..], words].concat());
        at(&[
            "link", "add", name, "type", "veth", "peer", "name", "way", "netns", &self.0,
        ])?;
        at(&["addr", "add", other, "dev", name])?;
        at(&["link", "set", name, "up"])?;
        ip(&["-n", &self.0, "addr", "add", own, "dev", "way"])?;
        ip(&["-n", &self.0, "link", "set", "way", "up"])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.0]);
    }
}

/// Bytes through a published port, from outside and from the host's loopback, beside the same way without an engine.
pub(super) fn traffic(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let (mut outside, mut bare) = (Pair::default(), Samples::default());
    let mut loopback = Pair::default();
    let pushes = (PUSHES / arenas.divide).max(1);
    for _ in 0..pushes {
        bare.push_value(push_bare()?);
        let [out, own] = arenas.hoist.run(push_published)?;
        outside.0.push_value(out);
        loopback.0.push_value(own);
        if let Some(arena) = &arenas.docker {
            let [out, own] = arena.run(push_published)?;
            outside.1.push_value(out);
            loopback.1.push_value(own);
        }
    }
    let share = super::statistics::Number(100.0 * outside.0.median() / bare.median());
    let note = format!("{share} % of the way without an engine; budget: 95 %");
    let bare = (bare, Samples::default());
    Ok(vec![
        row(
            "TCP over veth, bridge and routing, no engine and no rules",
            "GB/s",
            bare,
            "",
        ),
        row(
            "TCP through a published port, from outside",
            "GB/s",
            outside,
            note,
        ),
        row(
            "TCP through a published port, from the host's loopback",
            "GB/s",
            loopback,
            "Docker's goes by its proxy; budget: as much",
        ),
    ])
}

/// The same links and routing as a container has, made by hand.
fn push_bare() -> anyhow::Result<f64> {
    let host = Namespace::new("host")?;
    let (outside, container) = (Namespace::new("out")?, Namespace::new("in")?);
    outside.lead(Some(&host), "out0", "198.51.100.2/24", "198.51.100.1/24")?;
    container.lead(Some(&host), "in0", "10.99.0.2/24", "10.99.0.99/32")?;
    ip(&["-n", &host.0, "link", "add", "br0", "type", "bridge"])?;
    ip(&["-n", &host.0, "addr", "add", "10.99.0.1/24", "dev", "br0"])?;
    ip(&["-n", &host.0, "link", "set", "br0", "up"])?;
    ip(&["-n", &host.0, "link", "set", "in0", "master", "br0"])?;
    ip(&[
        "-n",
        &container.0,
        "route",
        "add",
        "default",
        "via",
        "10.99.0.1",
    ])?;
    ip(&[
        "-n",
        &outside.0,
        "route",
        "add",
        "10.99.0.0/24",
        "via",
        "198.51.100.1",
    ])?;
    run(
        "ip",
        &[
            "netns",
            "exec",
            &host.0,
            "sh",
            "-c",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
        ],
    )?;
    push(
        &container.file()?,
        &outside.file()?,
        ([10, 99, 0, 2], PORT).into(),
    )
}

fn push_published(world: &mut World) -> anyhow::Result<[f64; 2]> {
    let id = world.create(&json!({
        "Image": "busybox",
        "Cmd": ["sleep", "600"],
        "HostConfig": {"PortBindings": {format!("{PORT}/tcp"): [{"HostPort": PORT.to_string()}]}},
    }))?;
    let start = format!("/containers/{id}/start");
    world.client.call("POST", &start, &Value::Null)?;
    let told = world
        .client
        .call("GET", &format!("/containers/{id}/json"), &Value::Null)?;
    let pid = told["State"]["Pid"].as_i64().context("no Pid")?;
    let netns = File::open(format!("/proc/{pid}/ns/net"))?;
    let outside = Namespace::new("outside")?;
    outside.lead(None, "out0", "198.51.100.2/24", "198.51.100.1/24")?;
    let here = File::open("/proc/thread-self/ns/net")?;
    let from_outside = push(&netns, &outside.file()?, ([198, 51, 100, 1], PORT).into())?;
    let from_here = push(&netns, &here, ([127, 0, 0, 1], PORT).into())?;
    measures::remove(world, &[id])?;
    Ok([from_outside, from_here])
}

/// Bytes a nanosecond from one namespace to a server in another, by this address.
fn push(server: &File, client: &File, to: SocketAddr) -> anyhow::Result<f64> {
    let enter = |namespace: &File| {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
    };
    std::thread::scope(|scope| {
        let (ready, listening) = std::sync::mpsc::channel();
        let received = scope.spawn(move || -> anyhow::Result<f64> {
            enter(server)?;
            let listener = TcpListener::bind(("0.0.0.0", PORT))?;
            ready.send(()).context("nobody waits")?;
            let (mut stream, _) = listener.accept()?;
            let mut buffer = vec![0; 256 << 10];
            let (mut bytes, mut begun) = (0, None);
            loop {
                let length = stream.read(&mut buffer)?;
                let begun = *begun.get_or_insert_with(Instant::now);
                if length == 0 {
                    let spent = begun.elapsed().as_secs_f64();
                    return Ok(f64::from(u32::try_from(bytes >> 10)?) * 1024.0 / spent / 1e9);
                }
                bytes += length;
            }
        });
        let sent = scope.spawn(move || -> anyhow::Result<()> {
            enter(client)?;
            listening.recv().context("the server did not start")?;
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))
                .with_context(|| format!("connecting to {to}"))?;
            let buffer = vec![0; 256 << 10];
            let begun = Instant::now();
            while begun.elapsed() < PUSHED {
                stream.write_all(&buffer)?;
            }
            Ok(())
        });
        let sent = sent.join().expect("sending does not panic");
        if let Err(error) = sent {
            // Whoever waits for a connection gets one.
            let _ = scope
                .spawn(move || enter(server).map(|()| TcpStream::connect(("127.0.0.1", PORT))));
            let _ = received.join();
            return Err(error);
        }
        let bytes = received.join().expect("receiving does not panic")?;
        ensure!(bytes > 0.0, "nothing came through");
        Ok(bytes)
    })
}
