//! A thousand containers that run at the same time on one engine: on the default bridge, and on a user's network by name.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use super::arena::{World, run};
use super::report::Row;
use super::statistics::Samples;
use super::{Arenas, measures, names, row};

/// How many at the same time.
const CROWD: usize = 1000;
/// How often they are listed.
const LISTS: usize = 50;
/// What was going on before is over after this time, and how long the engine is then watched.
const SETTLE: Duration = Duration::from_secs(5);
const WATCHED: Duration = Duration::from_secs(5);

/// What was seen of a crowd.
#[derive(Default)]
struct Crowd {
    started: Samples,
    memory: Samples,
    listed: Samples,
    busy: Samples,
}

/// The network that they are on by name, and its subnet: the engine's own are too small.
const NETWORK: &str = "bench-crowd";
const SUBNET: &str = "172.30.0.0/16";

/// Starts as many on one network of a user's; from the last of them all are asked for by name and spoken to.
pub(super) fn named(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let count = CROWD / arenas.divide;
    let named = arenas.hoist.run(move |world| {
        let before = veths()?;
        let wanted = json!({"Name": NETWORK, "IPAM": {"Config": [{"Subnet": SUBNET}]}});
        world.client.call("POST", "/networks/create", &wanted)?;
        let mut ids = Vec::with_capacity(count);
        let measured = meet(world, count, &mut ids);
        let begun = Instant::now();
        measures::remove(world, &ids)?;
        let mut named = measured?;
        named.removed.push(begun.elapsed());
        world
            .client
            .call("DELETE", &format!("/networks/{NETWORK}"), &Value::Null)?;
        let begun = Instant::now();
        loop {
            let left = veths()? + named.neighbours_of(SUBNET)?;
            // What is ready for the next is as many as before, give or take a few.
            if left <= before + READY {
                break;
            }
            ensure!(
                begun.elapsed() < TAKEN_DOWN,
                "{left} veths and neighbours are left"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        named.gone.push_value(begun.elapsed().as_secs_f64());
        Ok(named)
    })?;
    let alone = |samples| (samples, Samples::default());
    Ok(vec![
        row(
            &format!(
                "{count} containers on one user's network created and started in a row, all of it"
            ),
            "ms",
            alone(named.started),
            "budget: 10,000 ms",
        ),
        row(
            "there: the name of each of them answered to the last, p99",
            "ms",
            alone(named.answered),
            "one question after another; all addresses differ; budget: 1 ms",
        ),
        row(
            "there: a connection of the last to every fourth of them, p99",
            "ms",
            alone(named.spoken),
            "refused by its kernel: nobody listens",
        ),
        row(
            "there: neighbours that the host knows",
            "count",
            alone(named.neighbours),
            "not counted by gc_thresh3",
        ),
        row("there: all of them removed", "ms", alone(named.removed), ""),
        row(
            "from then to the end of their veths and neighbours",
            "s",
            alone(named.gone),
            "in the background",
        ),
    ])
}

/// Of so many, the last speaks to one. Both sides learn each other's address, and the kernel keeps 1,024 that were learned,
/// of all namespaces together (`gc_thresh3`), each for five seconds at least: more than 500 pairs at once do not fit.
const SPOKEN: usize = 4;
/// Interfaces that may be ready for the next container, beyond what was before.
const READY: usize = 16;
/// The longest that the kernel may take to take down what a thousand had.
const TAKEN_DOWN: Duration = Duration::from_secs(120);

/// What was seen of those with names.
#[derive(Default)]
struct Named {
    started: Samples,
    answered: Samples,
    spoken: Samples,
    neighbours: Samples,
    removed: Samples,
    gone: Samples,
}

impl Named {
    /// Neighbours of a subnet that the host knows. Its first two bytes tell.
    fn neighbours_of(&self, subnet: &str) -> anyhow::Result<usize> {
        let beginning = &subnet[..subnet.find(".0.0/").context("a subnet of 16 bits")? + 1];
        let all = run("ip", &["neigh"])?;
        Ok(all
            .lines()
            .filter(|line| line.starts_with(beginning))
            .count())
    }
}

/// Veths of the host.
fn veths() -> anyhow::Result<usize> {
    Ok(run("ip", &["-o", "link", "show", "type", "veth"])?
        .lines()
        .count())
}

fn meet(world: &mut World, count: usize, ids: &mut Vec<String>) -> anyhow::Result<Named> {
    let mut named = Named::default();
    let begun = Instant::now();
    for number in 0..count {
        let name = format!("c{number}");
        let id = world.create(&json!({
            "Image": "busybox",
            "Cmd": ["sleep", "1000"],
            "HostConfig": {"NetworkMode": NETWORK},
            "NetworkingConfig": {"EndpointsConfig": {NETWORK: {"Aliases": [name]}}},
        }))?;
        ids.push(id.clone());
        world
            .client
            .call("POST", &format!("/containers/{id}/start"), &Value::Null)?;
    }
    named.started.push(begun.elapsed());
    let last = ids.last().context("no container")?;
    let netns = names::namespace_of(world, last)?;
    let (answered, spoken) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask_for_all(netns.as_fd(), count));
        asking.join().expect("asking does not panic")
    })?;
    named.answered.push_value(answered.quantile(99));
    named.spoken.push_value(spoken.quantile(99));
    let known = u32::try_from(named.neighbours_of(SUBNET)?)?;
    named.neighbours.push_value(f64::from(known));
    Ok(named)
}

/// From a namespace, on a thread that is given up for it: asks for each name, and connects to each address.
fn ask_for_all(netns: BorrowedFd<'_>, count: usize) -> anyhow::Result<(Samples, Samples)> {
    move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(names::SERVER)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut answered, mut spoken) = (Samples::default(), Samples::default());
    let mut addresses = HashSet::new();
    for number in 0..count {
        let begun = Instant::now();
        let address = names::ask_for(&socket, &format!("c{number}"))?;
        answered.push(begun.elapsed());
        ensure!(
            addresses.insert(address),
            "c{number}: {address} is another's as well"
        );
        if !number.is_multiple_of(SPOKEN) {
            continue;
        }
        let begun = Instant::now();
        // A port that nobody listens to: it is the other end that refuses.
        let to = SocketAddr::from((address, 9));
        let refused = TcpStream::connect_timeout(&to, Duration::from_secs(5));
        spoken.push(begun.elapsed());
        let refused = refused.err().map(|error| error.kind());
        ensure!(
            refused == Some(std::io::ErrorKind::ConnectionRefused),
            "c{number} at {address}: {refused:?}"
        );
    }
    Ok((answered, spoken))
}

/// Starts them one after another, lists them, and watches what the engine does while nobody asks anything of it. Hoist
/// alone: Docker would take minutes and gigabytes.
pub(super) fn crowd(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let count = CROWD / arenas.divide;
    let crowd = arenas.hoist.run(move |world| {
        let idle = world.megabytes();
        let mut ids = Vec::with_capacity(count);
        let measured = gather(world, count, idle, &mut ids);
        measures::remove(world, &ids)?;
        measured
    })?;
    let alone = |samples| (samples, Samples::default());
    Ok(vec![
        row(
            &format!("{count} containers created and started in a row, all of it"),
            "ms",
            alone(crowd.started),
            "network bridge; budget: 10,000 ms",
        ),
        row(
            &format!("memory of {count} running containers (PSS, over idle)"),
            "MB",
            alone(crowd.memory),
            "budget: 1,074 MB (1 GiB)",
        ),
        row(
            &format!("GET /containers/json?all=1 with {count} running"),
            "ms",
            alone(crowd.listed),
            "budget: 10 ms",
        ),
        row(
            &format!("the engine's processor time while {count} containers sleep, per second"),
            "ms",
            alone(crowd.busy),
            "over 5 s, of daemon, zygote and monitors; no polling",
        ),
    ])
}

fn gather(
    world: &mut World,
    count: usize,
    idle: f64,
    ids: &mut Vec<String>,
) -> anyhow::Result<Crowd> {
    let mut crowd = Crowd::default();
    let configuration = json!({
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "HostConfig": {"NetworkMode": "bridge"},
    });
    let begun = Instant::now();
    for _ in 0..count {
        let id = world.create(&configuration)?;
        ids.push(id.clone());
        world
            .client
            .call("POST", &format!("/containers/{id}/start"), &Value::Null)?;
    }
    crowd.started.push(begun.elapsed());
    for _ in 0..LISTS {
        let begun = Instant::now();
        // Read, not parsed: that would be our time.
        let list = world
            .client
            .send("GET", "/containers/json?all=1", "", b"")?;
        crowd.listed.push(begun.elapsed());
        let list: Value = serde_json::from_slice(&list)?;
        let running = list.as_array().into_iter().flatten();
        let running = running.filter(|one| one["State"] == "running").count();
        ensure!(running == count, "{running} of {count} containers run");
    }
    std::thread::sleep(SETTLE);
    crowd.memory.push_value(world.megabytes() - idle);
    let before = ticks(world)?;
    std::thread::sleep(WATCHED);
    let ticks = u32::try_from(ticks(world)? - before)?;
    let each = 1000.0 / f64::from(u32::try_from(rustix::param::clock_ticks_per_second())?);
    let milliseconds = f64::from(ticks) * each;
    crowd.busy.push_value(milliseconds / WATCHED.as_secs_f64());
    Ok(crowd)
}

/// Processor time of the engine's own processes (proc_pid_stat(5), utime and stime), in clock ticks.
fn ticks(world: &World) -> anyhow::Result<u64> {
    let mut sum = 0;
    for pid in world.daemon.processes() {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            // It ended meanwhile.
            continue;
        };
        let (_, fields) = stat.rsplit_once(')').context("no name in a stat file")?;
        for field in fields.split_whitespace().skip(11).take(2) {
            sum += field.parse::<u64>()?;
        }
    }
    Ok(sum)
}
