//! How fast a container is that does nothing but log.

use std::time::Instant;

use anyhow::ensure;
use serde_json::{Value, json};

use super::arena::World;
use super::report::Row;
use super::statistics::Samples;
use super::{Arenas, row};

/// What is written: ten times a file of 100-byte lines.
const FILE: usize = 10_000_000;
const TIMES: usize = 10;

/// 100 MB of lines through each mode: from start to the end of the process that writes them.
pub(super) fn logs(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let blocking = arenas.alternate(50, 50, |world, count| writes(world, count, "blocking"))?;
    let free = arenas.alternate(50, 50, |world, count| writes(world, count, "non-blocking"))?;
    Ok(vec![
        row(
            "100 MB of lines logged (json-file, 3 x 10 MB), start to exit",
            "ms",
            blocking,
            "blocking: every line is kept; budget: 6 s (1 GB/min)",
        ),
        row(
            "the same, mode=non-blocking",
            "ms",
            free,
            "what does not fit in 1 MiB is dropped; budget: 6 s",
        ),
    ])
}

fn writes(world: &mut World, count: usize, mode: &str) -> anyhow::Result<Samples> {
    let file = world.daemon.directory().join("lines");
    if !file.exists() {
        let line = format!("{:099}\n", 7);
        std::fs::write(&file, line.repeat(FILE / line.len()))?;
    }
    let command: Vec<&str> = std::iter::once("cat")
        .chain(std::iter::repeat_n("/lines", TIMES))
        .collect();
    let configuration = json!({
        "Image": "busybox",
        "Cmd": command,
        "HostConfig": {
            "NetworkMode": "none",
            "Binds": [format!("{}:/lines:ro", file.display())],
            "LogConfig": {
                "Type": "json-file",
                "Config": {"max-size": "10m", "max-file": "3", "mode": mode},
            },
        },
    });
    let mut samples = Samples::default();
    for _ in 0..count {
        let id = world.create(&configuration)?;
        let client = &mut world.client;
        let begun = Instant::now();
        client.call("POST", &format!("/containers/{id}/start"), &Value::Null)?;
        let waited = client.call("POST", &format!("/containers/{id}/wait"), &Value::Null)?;
        samples.push(begun.elapsed());
        ensure!(waited["StatusCode"] == 0, "wait: {waited}");
        client.call("DELETE", &format!("/containers/{id}"), &Value::Null)?;
    }
    Ok(samples)
}
