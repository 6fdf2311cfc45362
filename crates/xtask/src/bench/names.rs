//! How long a container waits for the address of another that it names.

use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use super::arena::World;
use super::report::Row;
use super::statistics::Samples;
use super::{Arenas, BATCHES, row};

/// Questions a second.
const RATE: u32 = 5000;
/// For how long they are asked, per batch.
const SECONDS: u32 = 2;
/// Before a question is due, the asker waits awake: sleeping longer than that would count as the answer's.
const AWAKE: Duration = Duration::from_micros(120);
/// Where containers find their name server.
pub(super) const SERVER: &str = "127.0.0.11:53";

/// Questions at a steady rate from inside a container for another's name. Each answer's time counts from when its
/// question was due, so that one late answer makes those after it late, too.
pub(super) fn names(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let median = arenas.alternate(BATCHES, BATCHES, |world, count| ask(world, count, 50))?;
    let late = arenas.alternate(BATCHES, BATCHES, |world, count| ask(world, count, 99))?;
    Ok(vec![
        row(
            "DNS answer at 5,000 questions/s, p50 of each batch",
            "ms",
            median,
            "",
        ),
        row(
            "DNS answer at 5,000 questions/s, p99 of each batch",
            "ms",
            late,
            "budget: 1 ms",
        ),
    ])
}

fn ask(world: &mut World, count: usize, per_cent: usize) -> anyhow::Result<Samples> {
    let made = world
        .client
        .call("POST", "/networks/create", &json!({"Name": "bench-names"}))?;
    let network = made["Id"].as_str().context("no Id")?.to_owned();
    let mut ids = Vec::new();
    for name in ["asked", "asker"] {
        let id = world.create(&json!({
            "Image": "busybox",
            "Cmd": ["sleep", "600"],
            "HostConfig": {"NetworkMode": "bench-names"},
            "NetworkingConfig": {"EndpointsConfig": {"bench-names": {"Aliases": [name]}}},
        }))?;
        let start = format!("/containers/{id}/start");
        world.client.call("POST", &start, &Value::Null)?;
        ids.push(id);
    }
    let netns = namespace_of(world, &ids[1])?;
    let mut samples = Samples::default();
    for _ in 0..count {
        let batch = std::thread::scope(|scope| {
            let asking = scope.spawn(|| batch(netns.as_fd()));
            asking.join().expect("asking does not panic")
        })?;
        samples.push_value(batch.quantile(per_cent));
    }
    for id in &ids {
        let path = format!("/containers/{id}?force=1");
        world.client.call("DELETE", &path, &Value::Null)?;
    }
    let path = format!("/networks/{network}");
    world.client.call("DELETE", &path, &Value::Null)?;
    Ok(samples)
}

/// The network namespace of a running container.
pub(super) fn namespace_of(world: &mut World, id: &str) -> anyhow::Result<File> {
    let told = world
        .client
        .call("GET", &format!("/containers/{id}/json"), &Value::Null)?;
    let pid = told["State"]["Pid"].as_i64().context("no Pid")?;
    Ok(File::open(format!("/proc/{pid}/ns/net"))?)
}

/// Asks for the address of a name; the first of the answer.
pub(super) fn ask_for(socket: &UdpSocket, name: &str) -> anyhow::Result<Ipv4Addr> {
    // Recursion desired, one question: A, IN.
    let mut question = vec![
        7,
        7,
        1,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        u8::try_from(name.len())?,
    ];
    question.extend(name.as_bytes());
    question.extend(b"\0\0\x01\0\x01");
    socket.send(&question)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    let answer = &answer[..length];
    ensure!(answer[3] & 15 == 0 && answer[7] == 1, "{name}: {answer:?}");
    // The question again, then one record: a pointer, type, class, time to live, length.
    let address = answer.get(question.len() + 12..question.len() + 16);
    let address: [u8; 4] = address.context("no address")?.try_into()?;
    Ok(address.into())
}

/// Asks from a namespace, on a thread that is given up for it.
fn batch(netns: std::os::fd::BorrowedFd<'_>) -> anyhow::Result<Samples> {
    move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(SERVER)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut samples = Samples::default();
    let step = Duration::from_secs(1) / RATE;
    let begun = Instant::now();
    for number in 0..RATE * SECONDS {
        let due = begun + step * number;
        let early = due.saturating_duration_since(Instant::now());
        if early > AWAKE {
            std::thread::sleep(early - AWAKE);
        }
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        let [.., high, low] = number.to_be_bytes();
        // Recursion desired, one question: `asked`, A, IN.
        let mut question = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        question.extend(b"\x05asked\0\0\x01\0\x01");
        socket.send(&question)?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        samples.push(due.elapsed());
        let good = answer[..2] == [high, low] && answer[3] & 15 == 0 && answer[7] == 1;
        ensure!(good, "answered: {:?}", &answer[..length]);
    }
    Ok(samples)
}
