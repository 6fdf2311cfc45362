//! `docker save`, `rmi` and `docker load` of a large image, by the API.

use std::fs::File;
use std::time::Instant;

use anyhow::ensure;
use hoist_testkit::TemporaryDirectory;

use super::arena::World;
use super::report::Row;
use super::statistics::Samples;
use super::{Arenas, measures, row};

/// Times that each is done.
const RUNS: usize = 5;

/// Megabytes a second of tar out and in, and milliseconds of a removal.
type Rates = [Samples; 3];

pub(super) fn save(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let ours = arenas.hoist.run(rates)?;
    let theirs = match &arenas.docker {
        Some(arena) => arena.run(rates)?,
        None => Rates::default(),
    };
    let [saved, removed, loaded] = ours;
    let [their_saved, their_removed, their_loaded] = theirs;
    Ok(vec![
        row(
            "save of a 310 MB image to a client that reads",
            "MB/s",
            (saved, their_saved),
            "budget: 1,000 MB/s of tar",
        ),
        row(
            "load of the same archive",
            "MB/s",
            (loaded, their_loaded),
            "budget: 1,000 MB/s of tar",
        ),
        row(
            "rmi of the same image",
            "ms",
            (removed, their_removed),
            "budget: 100 ms",
        ),
    ])
}

fn rates(world: &mut World) -> anyhow::Result<Rates> {
    let archive = measures::big_image()?.name("big:1").docker_archive();
    let kind = "application/x-tar";
    world.client.send("POST", "/images/load", kind, &archive)?;
    drop(archive);
    let directory = TemporaryDirectory::new("saved");
    let path = directory.path().join("big.tar");
    world
        .client
        .fetch("/images/big:1/get", &mut File::create(&path)?)?;
    let saved = File::open(&path)?;
    saved.sync_all()?;
    let bytes = saved.metadata()?.len();
    let mut rates = Rates::default();
    for _ in 0..RUNS {
        let begun = Instant::now();
        let taken = world
            .client
            .fetch("/images/big:1/get", &mut std::io::sink())?;
        rates[0].push_value(rate(taken, begun));
        ensure!(taken == bytes, "saved {taken} bytes, and {bytes} before");
        let begun = Instant::now();
        world.client.send("DELETE", "/images/big:1", kind, b"")?;
        rates[1].push(begun.elapsed());
        let begun = Instant::now();
        let told = world.client.post_file("/images/load", &saved)?;
        rates[2].push_value(rate(bytes, begun));
        let told = String::from_utf8_lossy(&told);
        ensure!(told.contains("Loaded image: big:1"), "load: {told}");
    }
    world.client.send("DELETE", "/images/big:1", kind, b"")?;
    Ok(rates)
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn rate(bytes: u64, begun: Instant) -> f64 {
    bytes as f64 / 1e6 / begun.elapsed().as_secs_f64()
}
