//! What is measured: each function does the thing once or a batch of times on one engine.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hoist_testkit::{Compression, ImageBuilder, TarBuilder};
use serde_json::{Value, json};

use super::arena::World;
use super::client::Client;
use super::instant::Instant as InstantEngine;
use super::statistics::Samples;

/// create, start, wait, remove: the four calls, and their sum last.
pub(super) type Phases = [Samples; 5];

/// Containers that run `true`: the API's round trip on one kept connection.
pub(super) fn round_trips(
    world: &mut World,
    count: usize,
    network: &str,
) -> anyhow::Result<Phases> {
    let configuration =
        json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": network}});
    let mut phases = Phases::default();
    for _ in 0..count {
        let mut marks = vec![Instant::now()];
        let id = world.create(&configuration)?;
        marks.push(Instant::now());
        let client = &mut world.client;
        client.call("POST", &format!("/containers/{id}/start"), &Value::Null)?;
        marks.push(Instant::now());
        let waited = client.call("POST", &format!("/containers/{id}/wait"), &Value::Null)?;
        ensure!(waited["StatusCode"] == 0, "wait: {waited}");
        marks.push(Instant::now());
        client.call("DELETE", &format!("/containers/{id}"), &Value::Null)?;
        marks.push(Instant::now());
        for (phase, pair) in phases.iter_mut().zip(marks.windows(2)) {
            phase.push(pair[1] - pair[0]);
        }
        phases[4].push(marks[4] - marks[0]);
    }
    Ok(phases)
}

/// `docker run --rm busybox true`, the stock client's whole command.
pub(super) fn whole_commands(world: &mut World, count: usize) -> anyhow::Result<Samples> {
    commands(world, count, &["run", "--rm", "busybox", "true"])
}

/// The same command against answers that take no time: what the client itself costs.
pub(super) fn client_alone(world: &mut World, count: usize) -> anyhow::Result<Samples> {
    let engine = InstantEngine::start()?;
    let host = format!("unix://{}", engine.socket().display());
    commands(
        world,
        count,
        &["--host", &host, "run", "--rm", "busybox", "true"],
    )
}

fn commands(world: &mut World, count: usize, arguments: &[&str]) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..count {
        let mut command = world.daemon.client("docker");
        let start = Instant::now();
        let output = command.args(arguments).output().context("docker")?;
        samples.push(start.elapsed());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success(),
            "docker {}: {told}",
            arguments.join(" ")
        );
    }
    Ok(samples)
}

/// exec in a running container: create, start, to the end of the output.
pub(super) fn execs(world: &mut World, count: usize) -> anyhow::Result<Samples> {
    let id = sleeper(world)?;
    let exec = json!({"AttachStdout": true, "AttachStderr": true, "Cmd": ["echo", "x"]});
    let mut samples = Samples::default();
    for _ in 0..count {
        let start = Instant::now();
        let reply = world
            .client
            .call("POST", &format!("/containers/{id}/exec"), &exec)?;
        let exec = reply["Id"].as_str().context("no Id")?;
        let body = json!({"Detach": false, "Tty": false});
        let length = world.client.hijack(&format!("/exec/{exec}/start"), &body)?;
        samples.push(start.elapsed());
        ensure!(
            length == 10,
            "the output has {length} bytes, not a frame of 2"
        );
    }
    remove(world, &[id])?;
    Ok(samples)
}

/// `count` containers created and started at once, each over a connection of its own: the whole time.
pub(super) fn parallel_starts(world: &mut World, count: usize) -> anyhow::Result<Samples> {
    let socket = world.daemon.socket();
    let start = Instant::now();
    let started: Vec<anyhow::Result<String>> = std::thread::scope(|scope| {
        let each = || -> anyhow::Result<String> {
            let mut client = Client::connect(&socket)?;
            let reply = client.call("POST", "/containers/create", &sleeper_configuration())?;
            let id = reply["Id"].as_str().context("no Id")?.to_owned();
            client.call("POST", &format!("/containers/{id}/start"), &Value::Null)?;
            Ok(id)
        };
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(each)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic in a request"))
            .collect()
    });
    let took = start.elapsed();
    let ids = started
        .into_iter()
        .collect::<anyhow::Result<Vec<String>>>()?;
    remove(world, &ids)?;
    let mut samples = Samples::default();
    samples.push(took);
    Ok(samples)
}

/// Memory idle, per running container, and after containers came and went; megabytes.
pub(super) struct Memory {
    pub(super) idle: Samples,
    pub(super) each: Samples,
    pub(super) after: Samples,
}

/// Measures [`Memory`] with `running` containers at once and `cycles` that come and go.
pub(super) fn memory(world: &mut World, running: usize, cycles: usize) -> anyhow::Result<Memory> {
    let settle = || std::thread::sleep(Duration::from_secs(1));
    let mut memory = Memory {
        idle: Samples::default(),
        each: Samples::default(),
        after: Samples::default(),
    };
    settle();
    let idle = world.megabytes();
    memory.idle.push_value(idle);
    let ids = (0..running)
        .map(|_| sleeper(world))
        .collect::<anyhow::Result<Vec<_>>>()?;
    settle();
    let count = u32::try_from(running).context("a small number")?;
    memory
        .each
        .push_value((world.megabytes() - idle) / f64::from(count));
    remove(world, &ids)?;
    round_trips(world, cycles, "bridge")?;
    settle();
    memory.after.push_value(world.megabytes());
    Ok(memory)
}

/// What an engine holds: for seeing that it does not grow.
pub(super) fn holdings(world: &World) -> Vec<(&'static str, f64)> {
    std::thread::sleep(Duration::from_secs(2));
    let pid = world.daemon.pid();
    let entries = |path: &str| {
        let count = std::fs::read_dir(path).map_or(0, Iterator::count);
        f64::from(u32::try_from(count).unwrap_or(u32::MAX))
    };
    let lines = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        f64::from(u32::try_from(text.lines().count()).unwrap_or(u32::MAX))
    };
    let processes = u32::try_from(world.daemon.processes().len()).unwrap_or(u32::MAX);
    let cgroups = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let cgroups: u32 = cgroups
        .lines()
        .filter(|line| line.starts_with("memory\t") || line.starts_with("pids\t"))
        .filter_map(|line| line.split('\t').nth(2)?.parse::<u32>().ok())
        .sum();
    vec![
        ("memory (PSS), MB", world.megabytes()),
        ("processes", f64::from(processes)),
        (
            "open descriptors of the daemon",
            entries(&format!("/proc/{pid}/fd")),
        ),
        ("mounts", lines(&format!("/proc/{pid}/mountinfo"))),
        (
            "cgroups (memory and pids, whole machine)",
            f64::from(cgroups),
        ),
        ("network links", lines("/proc/self/net/dev") - 2.0),
    ]
}

/// Pull from the registry in the namespace, then run a container of it: to its end.
pub(super) fn pulls(world: &mut World, count: usize) -> anyhow::Result<Samples> {
    let registry = world
        .registry
        .as_ref()
        .context("docker-registry is not installed")?;
    registry.put("big", "1", &big_image()?);
    let name = format!("localhost:{}/big:1", registry.address().port());
    let mut samples = Samples::default();
    for _ in 0..count {
        let start = Instant::now();
        let target = format!("/images/create?fromImage={}", name.replace('/', "%2F"));
        let told = world
            .client
            .send("POST", &target, "application/json", b"")?;
        let told = String::from_utf8_lossy(&told);
        ensure!(!told.contains("errorDetail"), "pull: {told}");
        let id = world.create(&json!({"Image": name, "Cmd": ["true"]}))?;
        world
            .client
            .call("POST", &format!("/containers/{id}/start"), &Value::Null)?;
        let waited = world
            .client
            .call("POST", &format!("/containers/{id}/wait"), &Value::Null)?;
        samples.push(start.elapsed());
        ensure!(waited["StatusCode"] == 0, "wait: {waited}");
        remove(world, &[id])?;
        world
            .client
            .call("DELETE", &format!("/images/{name}"), &Value::Null)?;
    }
    Ok(samples)
}

/// busybox and two layers of 1,500 files each: about 310 MB of words, 95 MB in gzip. The same on every machine.
pub(super) fn big_image() -> anyhow::Result<ImageBuilder> {
    let mut image = ImageBuilder::busybox().context("busybox-static is not installed")?;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let words: Vec<[u8; 8]> = (0..4096).map(|_| next().to_le_bytes()).collect();
    for layer in 0..2 {
        let mut tar = TarBuilder::new().directory(&format!("layer{layer}"));
        for file in 0..1500 {
            let mut content = Vec::with_capacity(104_000);
            while content.len() < 103_000 {
                // Twelve bits choose a word of eight bytes, and one byte is noise.
                let number = next();
                for shift in [0, 12, 24, 36] {
                    content.extend_from_slice(&words[usize::try_from((number >> shift) & 0xfff)?]);
                }
                content.push(number.to_le_bytes()[7]);
            }
            tar = tar.file(&format!("layer{layer}/file{file}"), 0o644, content);
        }
        image = image.layer(tar.finish());
    }
    Ok(image.compression(Compression::Gzip))
}

fn sleeper_configuration() -> Value {
    json!({"Image": "busybox", "Cmd": ["sleep", "1000"]})
}

fn sleeper(world: &mut World) -> anyhow::Result<String> {
    let id = world.create(&sleeper_configuration())?;
    world
        .client
        .call("POST", &format!("/containers/{id}/start"), &Value::Null)?;
    Ok(id)
}

pub(super) fn remove(world: &mut World, ids: &[String]) -> anyhow::Result<()> {
    for id in ids {
        world
            .client
            .call("DELETE", &format!("/containers/{id}?force=1"), &Value::Null)?;
    }
    Ok(())
}

/// A short text from a program's output, for the report's head.
pub(super) fn tell(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::null())
        .output();
    output
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
        .unwrap_or_default()
}
