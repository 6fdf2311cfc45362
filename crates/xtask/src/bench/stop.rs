//! How long it takes to stop a container whose first process wants to go.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use super::arena::World;
use super::report::Row;
use super::statistics::Samples;
use super::{Arenas, row};

/// Ends as soon as it is told to, and says when it can be told.
const COOPERATIVE: &str = "trap 'exit 0' TERM; echo ready; while :; do sleep 1000 & wait; done";
/// Within this it says so.
const READY: Duration = Duration::from_secs(10);

/// `POST /containers/{id}/stop`, to its answer.
pub(super) fn stop(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let both = arenas.alternate(50, 10, stops)?;
    Ok(vec![row(
        "API stop of a container that ends at SIGTERM",
        "ms",
        both,
        "budget: 20 ms",
    )])
}

fn stops(world: &mut World, count: usize) -> anyhow::Result<Samples> {
    let configuration = json!({"Image": "busybox", "Cmd": ["sh", "-c", COOPERATIVE]});
    let mut samples = Samples::default();
    for _ in 0..count {
        let id = world.create(&configuration)?;
        let client = &mut world.client;
        client.call("POST", &format!("/containers/{id}/start"), &Value::Null)?;
        let end = Instant::now() + READY;
        while client
            .send("GET", &format!("/containers/{id}/logs?stdout=1"), "", b"")?
            .is_empty()
        {
            ensure!(Instant::now() < end, "the container says nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
        let begun = Instant::now();
        client.call("POST", &format!("/containers/{id}/stop"), &Value::Null)?;
        samples.push(begun.elapsed());
        let seen = client.call("GET", &format!("/containers/{id}/json"), &Value::Null)?;
        ensure!(seen["State"]["ExitCode"] == 0, "stop: {}", seen["State"]);
        client.call("DELETE", &format!("/containers/{id}"), &Value::Null)?;
    }
    Ok(samples)
}
