//! How long our rules are gone when somebody flushes all of the machine's.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::arena::{World, run};
use super::report::Row;
use super::statistics::Samples;
use super::{Arenas, measures, paths, row};

/// Flushes, of each kind.
const FLUSHES: usize = 10;
/// Longer than the budget: what takes so long is a failure, not a figure.
const PATIENCE: Duration = Duration::from_secs(10);

/// From before `nft flush ruleset` starts until the table is there again, with all that was in it.
pub(super) fn flush(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let count = (FLUSHES / arenas.divide).max(1);
    let few = arenas.hoist.run(move |world| {
        // The table is there from the first container on at the latest.
        let one = world.create(&paths::sleeping(&serde_json::json!({})))?;
        let path = format!("/containers/{one}/start");
        world.client.call("POST", &path, &serde_json::Value::Null)?;
        let measured = flushes(count);
        measures::remove(world, &[one])?;
        measured
    })?;
    let many = arenas.hoist.run(move |world: &mut World| {
        let others = paths::publish_many(world)?;
        let measured = flushes(count);
        measures::remove(world, &others)?;
        measured
    })?;
    let alone = |samples| (samples, Samples::default());
    let note = "from the start of nft on; budget: 1,000 ms";
    Ok(vec![
        row(
            "the table is back after nft flush ruleset",
            "ms",
            alone(few),
            note,
        ),
        row(
            "the same with 5,000 published ports in it",
            "ms",
            alone(many),
            note,
        ),
    ])
}

fn flushes(count: usize) -> anyhow::Result<Samples> {
    let tables = run("nft", &["list", "tables"])?;
    let mut ours = tables
        .lines()
        .filter_map(|line| line.strip_prefix("table inet "));
    let ours = ours
        .find(|name| name.starts_with("hoist"))
        .context("no table")?;
    let before = elements(ours)?;
    let mut samples = Samples::default();
    for _ in 0..count {
        let begun = Instant::now();
        run("nft", &["flush", "ruleset"])?;
        // Terse: without what is in its sets.
        while run("nft", &["-t", "list", "table", "inet", ours]).is_err() {
            ensure!(begun.elapsed() < PATIENCE, "the table stays away");
        }
        samples.push(begun.elapsed());
        let after = elements(ours)?;
        ensure!(
            after == before,
            "{after} bytes of rules instead of {before}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(samples)
}

/// How much there is to tell of a table with all in it.
fn elements(table: &str) -> anyhow::Result<usize> {
    Ok(run("nft", &["list", "table", "inet", table])?.len())
}
