//! `POST /build`, the classic endpoint, of both engines: what a Dockerfile takes at first, unchanged, and with a little changed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::ensure;
use hoist_testkit::TarBuilder;

use super::arena::World;
use super::report::Row;
use super::statistics::Samples;
use super::{Arenas, row};

/// Eight steps of the kind that most files have.
const EIGHT: &str = "FROM busybox\nENV NAME=value\nWORKDIR /app\nCOPY one /app/\nRUN mkdir -p /data && echo a >/data/a\nRUN echo b >/data/b\nRUN cat /app/one /data/a /data/b >/data/all\nCMD [\"cat\", \"/data/all\"]\n";
/// Two stages that need nothing of each other, five seconds each.
const STAGES: &str = "FROM busybox AS one\nRUN sleep 5; echo one >/one\nFROM busybox AS two\nRUN sleep 5; echo two >/two\nFROM busybox\nCOPY --from=one /one /\nCOPY --from=two /two /\n";
/// Files of the large context, and of each of its directories.
const FILES: usize = 10_000;
const EACH: usize = 100;

pub(super) fn build(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    Ok(vec![
        row(
            "8-step build, everything done anew",
            "ms",
            arenas.alternate(50, 5, |world, count| eight(world, count, true))?,
            "budget: 1/5 of Docker's",
        ),
        row(
            "8-step build, unchanged",
            "ms",
            arenas.alternate(50, 20, |world, count| eight(world, count, false))?,
            "budget: 50 ms",
        ),
        row(
            "20-step build, one line changed in its last COPY",
            "ms",
            arenas.alternate(50, 10, twenty)?,
            "budget: 150 ms",
        ),
        row(
            "COPY of 10,000 files, one of them changed",
            "ms",
            arenas.alternate(10, 5, |world, count| many(world, count, true))?,
            "",
        ),
        row(
            "COPY of 10,000 files, unchanged, all of them sent",
            "ms",
            arenas.alternate(10, 5, |world, count| many(world, count, false))?,
            "",
        ),
        row(
            "two independent stages of 5 s",
            "ms",
            arenas.alternate(1, 1, stages)?,
            "budget: 5 s and what starting them takes",
        ),
    ])
}

/// Something that no build had before.
fn fresh() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{} {number}\n", std::process::id())
}

fn built(world: &mut World, query: &str, context: &[u8]) -> anyhow::Result<std::time::Duration> {
    let target = format!("/build?q=1&rm=1&t=bench{query}");
    let begun = Instant::now();
    let said = world
        .client
        .send("POST", &target, "application/x-tar", context)?;
    let took = begun.elapsed();
    let said = String::from_utf8_lossy(&said);
    ensure!(
        said.contains("sha256:") && !said.contains("errorDetail"),
        "build: {said}"
    );
    Ok(took)
}

fn eight(world: &mut World, count: usize, anew: bool) -> anyhow::Result<Samples> {
    let tar = TarBuilder::new().file("Dockerfile", 0o644, EIGHT);
    let context = tar.file("one", 0o644, "one\n").finish();
    let query = if anew { "&nocache=1" } else { "" };
    let mut samples = Samples::default();
    built(world, "", &context)?;
    for _ in 0..count {
        samples.push(built(world, query, &context)?);
    }
    Ok(samples)
}

fn twenty(world: &mut World, count: usize) -> anyhow::Result<Samples> {
    let mut dockerfile = "FROM busybox\nWORKDIR /app\nCOPY one /app/\n".to_owned();
    for number in 0..15 {
        dockerfile += &format!("RUN echo {number} >/{number}\n");
    }
    dockerfile += "ENV NAME=value\nCOPY last /app/\n";
    let context = |last: &str| {
        let tar = TarBuilder::new().file("Dockerfile", 0o644, dockerfile.as_str());
        let tar = tar.file("one", 0o644, "one\n");
        tar.file("last", 0o644, last).finish()
    };
    let mut samples = Samples::default();
    built(world, "", &context(&fresh()))?;
    for _ in 0..count {
        samples.push(built(world, "", &context(&fresh()))?);
    }
    Ok(samples)
}

fn many(world: &mut World, count: usize, changed: bool) -> anyhow::Result<Samples> {
    let dockerfile = "FROM busybox\nCOPY src /src\n";
    let mut tar = TarBuilder::new().file("Dockerfile", 0o644, dockerfile);
    for number in 0..FILES {
        let path = format!("src/{}/{number}", number / EACH);
        tar = tar.file(&path, 0o644, format!("file {number}\n"));
    }
    let mut samples = Samples::default();
    built(world, "", &tar.clone().finish())?;
    for _ in 0..count {
        let context = match changed {
            true => tar.clone().file("src/changed", 0o644, fresh()).finish(),
            false => tar.clone().finish(),
        };
        samples.push(built(world, "", &context)?);
    }
    Ok(samples)
}

fn stages(world: &mut World, count: usize) -> anyhow::Result<Samples> {
    let context = TarBuilder::new().file("Dockerfile", 0o644, STAGES).finish();
    let mut samples = Samples::default();
    for _ in 0..count {
        samples.push(built(world, "&nocache=1", &context)?);
    }
    Ok(samples)
}
