//! A thousand containers that run at the same time on one engine.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::arena::World;
use super::report::Row;
use super::statistics::Samples;
use super::{Arenas, measures, row};

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
