//! What gets through a published port.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use super::arena::{World, ip, run};
use super::paths::sleeping;
use super::report::Row;
use super::statistics::Samples;
use super::{Arenas, measures, row};

/// For how long bytes are pushed through, and how often.
const PUSHED: Duration = Duration::from_millis(400);
const PUSHES: usize = 7;
/// The port of the container that is pushed to, inside and outside.
const PORT: u16 = 8080;

type Pair = (Samples, Samples);

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
    let bindings = json!({format!("{PORT}/tcp"): [{"HostPort": PORT.to_string()}]});
    let id = world.create(&sleeping(&json!({"PortBindings": bindings})))?;
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
