//! `cargo xtask bench`: Hoist, Debian's Docker and the bare syscall floor, side by side in one run.

mod archive;
mod arena;
mod binaries;
mod build;
mod client;
mod crowd;
mod flush;
mod instant;
mod logs;
mod measures;
mod names;
mod paths;
mod registry;
mod report;
mod statistics;
mod stop;
mod traffic;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use arena::{Arena, World};
use binaries::{docker_binary, release_binary};
use clap::Args;
use hoist_sys::floor::FloorStage;
use hoist_testkit::{TemporaryDirectory, busybox_layer};
use report::Row;
use statistics::{Number, Samples};

/// What to measure and how.
#[derive(Args)]
pub(crate) struct Options {
    /// Measures to run, by a part of their name (floor roundtrip run exec stop logs parallel sequential memory
    /// growth pull save build registry names attach publish traffic networks flush crowd
    /// named-crowd); all when none is given.
    measures: Vec<String>,
    /// The daemon's binary, in place of building the release binary.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// A directory that Debian's docker.io, containerd and runc are unpacked in; fetched when not given.
    #[arg(long)]
    docker: Option<PathBuf>,
    /// Measure Hoist alone.
    #[arg(long)]
    no_docker: bool,
    /// A tenth of the runs, to see that it works.
    #[arg(long)]
    quick: bool,
    /// Write docs/benchmarks.md, or another file of docs: a run of some measures replaces all of its file.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "benchmarks.md")]
    write: Option<String>,
}

/// Runs the bench and prints the table.
///
/// # Errors
/// When an engine does not start or a measure fails; nothing is written then.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    ensure!(
        hoist_testkit::is_root(),
        "the bench needs root: it makes network namespaces"
    );
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => release_binary(root)?,
    };
    let scripts = TemporaryDirectory::new("bench");
    let docker = if options.no_docker {
        None
    } else {
        Some(docker_binary(options, &scripts)?)
    };
    let arenas = Arenas {
        hoist: Arena::start("hoist", &binary)?,
        docker: docker
            .as_deref()
            .map(|script| Arena::start("docker", script))
            .transpose()?,
        binary,
        divide: if options.quick { 10 } else { 1 },
    };
    let mut rows = Vec::new();
    for (name, measure) in MEASURES {
        let mut parts = options.measures.iter();
        if options.measures.is_empty() || parts.any(|part| name.contains(part.as_str())) {
            eprintln!("measuring {name}");
            for row in measure(&arenas).with_context(|| format!("measuring {name}"))? {
                eprintln!(
                    "  {}: {} against {} {}",
                    row.what, row.hoist, row.docker, row.unit
                );
                rows.push(row);
            }
        }
    }
    let docker = match &arenas.docker {
        Some(arena) => Some(arena.run(|world| {
            let version = world
                .client
                .call("GET", "/version", &serde_json::Value::Null)?;
            Ok(format!(
                "{} (Debian's docker.io)",
                version["Version"].as_str().unwrap_or("?")
            ))
        })?),
        None => None,
    };
    for left in arenas.finish() {
        eprintln!("left behind: {left}");
    }
    let mut arguments = String::new();
    for measure in &options.measures {
        arguments += " ";
        arguments += measure;
    }
    if options.quick {
        arguments += " --quick";
    }
    let file = options.write.as_deref().unwrap_or("benchmarks.md");
    arguments += &format!(" --write {file}");
    let report = report::render(&rows, &arguments, docker.as_deref());
    println!("{report}");
    if options.write.is_some() {
        std::fs::write(root.join("docs").join(file), report)?;
    }
    Ok(())
}

struct Arenas {
    hoist: Arena,
    docker: Option<Arena>,
    binary: PathBuf,
    divide: usize,
}

type Measure = fn(&Arenas) -> anyhow::Result<Vec<Row>>;

const MEASURES: &[(&str, Measure)] = &[
    ("floor", floor),
    // While the engines have done nothing yet: that is what is meant by idle.
    ("memory", memory),
    ("roundtrip", round_trip),
    ("run", whole_run),
    ("exec", exec),
    ("stop", stop::stop),
    ("logs", logs::logs),
    ("parallel", parallel),
    ("sequential", sequential),
    ("pull", pull),
    ("save", archive::save),
    ("build", build::build),
    ("registry", registry::registry),
    ("names", names::names),
    ("attach", paths::attach),
    ("publish", paths::publish),
    ("traffic", traffic::traffic),
    ("networks", paths::networks),
    ("flush", flush::flush),
    ("growth", growth),
    ("crowd", crowd::crowd),
    ("named-crowd", crowd::named),
];

/// Batches that alternate between the engines.
const BATCHES: usize = 5;

impl Arenas {
    /// Takes `hoist` and `docker` samples in alternating batches, with a pause for background work between.
    fn alternate(
        &self,
        hoist: usize,
        docker: usize,
        measure: fn(&mut World, usize) -> anyhow::Result<Samples>,
    ) -> anyhow::Result<(Samples, Samples)> {
        let (mut ours, mut theirs) = (Samples::default(), Samples::default());
        let size = |count: usize| (count / self.divide / BATCHES).max(1);
        for _ in 0..BATCHES {
            let batch = size(hoist);
            ours.extend(self.hoist.run(move |world| measure(world, batch))?);
            pause();
            if let Some(arena) = &self.docker {
                let batch = size(docker);
                theirs.extend(arena.run(move |world| measure(world, batch))?);
                pause();
            }
        }
        Ok((ours, theirs))
    }

    fn finish(self) -> Vec<String> {
        let mut left = Vec::new();
        for arena in std::iter::once(self.hoist).chain(self.docker) {
            let name = arena.name;
            left.extend(
                arena
                    .finish()
                    .into_iter()
                    .map(|thing| format!("{name}: {thing}")),
            );
        }
        left
    }
}

fn pause() {
    std::thread::sleep(Duration::from_millis(500));
}

fn row(what: &str, unit: &'static str, both: (Samples, Samples), note: impl Into<String>) -> Row {
    Row {
        what: what.to_owned(),
        unit,
        hoist: both.0,
        docker: both.1,
        note: note.into(),
    }
}

fn floor(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let directory = TemporaryDirectory::new("floor");
    let lower = directory.join("lower");
    std::fs::create_dir(&lower)?;
    std::fs::write(
        directory.join("rootfs.tar"),
        busybox_layer().context("busybox-static is not installed")?,
    )?;
    let unpacked = Command::new("tar")
        .arg("-xf")
        .arg(directory.join("rootfs.tar"))
        .arg("-C")
        .arg(&lower)
        .status()?;
    ensure!(unpacked.success(), "tar: {unpacked}");
    let (mut to_exec, mut to_reaped) = (Samples::default(), Samples::default());
    for number in 0..200 / arenas.divide {
        let own = directory.join(number.to_string());
        for name in ["", "upper", "work", "root"] {
            std::fs::create_dir(own.join(name))?;
        }
        let stage = FloorStage::new(
            &lower,
            &own.join("upper"),
            &own.join("work"),
            &own.join("root"),
            Path::new("/bin/true"),
        )?;
        let times = stage.start_and_wait()?;
        to_exec.push(times.to_exec);
        to_reaped.push(times.to_reaped);
    }
    let none = Samples::default;
    Ok(vec![
        row(
            "floor: start to exec",
            "ms",
            (to_exec, none()),
            "the kernel alone, no engine",
        ),
        row(
            "floor: start to reaped",
            "ms",
            (to_reaped, none()),
            "the kernel alone, no engine",
        ),
    ])
}

fn round_trip(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for network in ["bridge", "none"] {
        let (mut ours, mut theirs) = (measures::Phases::default(), measures::Phases::default());
        let add = |to: &mut measures::Phases, more: measures::Phases| {
            to.iter_mut()
                .zip(more)
                .for_each(|(to, more)| to.extend(more));
        };
        for _ in 0..BATCHES {
            let batch = (200 / arenas.divide / BATCHES).max(1);
            add(
                &mut ours,
                arenas
                    .hoist
                    .run(move |world| measures::round_trips(world, batch, network))?,
            );
            pause();
            if let Some(arena) = &arenas.docker {
                let batch = (30 / arenas.divide / BATCHES).max(1);
                add(
                    &mut theirs,
                    arena.run(move |world| measures::round_trips(world, batch, network))?,
                );
                pause();
            }
        }
        let names = [
            "create",
            "start",
            "wait",
            "remove",
            "create+start+wait+remove",
        ];
        for ((name, ours), theirs) in names.into_iter().zip(ours).zip(theirs) {
            let what = format!("API {name}, network {network}");
            let note = if name.contains('+') {
                "budget: ratio ≥ 40 (bridge)"
            } else {
                ""
            };
            rows.push(row(&what, "ms", (ours, theirs), note));
        }
    }
    Ok(rows)
}

fn whole_run(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let alone = arenas.alternate(100, 25, measures::client_alone)?;
    let whole = arenas.alternate(100, 25, measures::whole_commands)?;
    let over = Number(whole.0.median() - alone.0.median());
    let note = format!("over the client alone: {over} ms; budget: 15 ms");
    Ok(vec![
        row(
            "the same command, every answer canned and at once: the client alone",
            "ms",
            alone,
            "",
        ),
        row("`docker run --rm busybox true`", "ms", whole, note),
    ])
}

fn exec(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let both = arenas.alternate(200, 30, measures::execs)?;
    Ok(vec![row(
        "exec, create+start to end of output",
        "ms",
        both,
        "budget: 2 ms",
    )])
}

fn parallel(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    // Docker takes seconds for it: once is enough to see.
    let count = 50 / arenas.divide;
    let mut both = (Samples::default(), Samples::default());
    for _ in 0..BATCHES {
        both.0.extend(
            arenas
                .hoist
                .run(move |world| measures::parallel_starts(world, count))?,
        );
        pause();
    }
    if let Some(arena) = &arenas.docker {
        both.1
            .extend(arena.run(move |world| measures::parallel_starts(world, count))?);
    }
    Ok(vec![row(
        "50 × create+start at once, all of it",
        "ms",
        both,
        "budget: 1,000 ms",
    )])
}

fn sequential(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let count = 500 / arenas.divide;
    let mut phases = arenas
        .hoist
        .run(move |world| measures::round_trips(world, count, "bridge"))?;
    let ours = std::mem::take(&mut phases[4]);
    let (first, last) = (ours.part(false, count / 10), ours.part(true, count / 10));
    let theirs = match &arenas.docker {
        Some(arena) => {
            let count = 50 / arenas.divide;
            let mut phases =
                arena.run(move |world| measures::round_trips(world, count, "bridge"))?;
            std::mem::take(&mut phases[4])
        }
        None => Samples::default(),
    };
    let note = format!(
        "first tenth {} ms, last tenth {} ms",
        Number(first.median()),
        Number(last.median())
    );
    Ok(vec![row(
        "one after another, each",
        "ms",
        (ours, theirs),
        note,
    )])
}

fn memory(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let ours = arenas.hoist.run(|world| measures::memory(world, 20, 100))?;
    let theirs = match &arenas.docker {
        Some(arena) => Some(arena.run(|world| measures::memory(world, 20, 20))?),
        None => None,
    };
    let (idle, each, after) = theirs
        .map(|memory| (memory.idle, memory.each, memory.after))
        .unwrap_or_default();
    Ok(vec![
        row(
            "memory idle (PSS)",
            "MB",
            (ours.idle, idle),
            "freshly started; budget: 20 MB",
        ),
        row(
            "memory per running container (PSS, without it)",
            "MB",
            (ours.each, each),
            "budget: 1 MiB",
        ),
        row(
            "memory after 100 came and went (Docker: 20)",
            "MB",
            (ours.after, after),
            "budget: 25 MB",
        ),
    ])
}

fn pull(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let ours = arenas.hoist.run(|world| measures::pulls(world, 3))?;
    let theirs = match &arenas.docker {
        Some(arena) => arena.run(|world| measures::pulls(world, 3))?,
        None => Samples::default(),
    };
    Ok(vec![row(
        "pull, 3 gzip layers of 310 MB in all, to a container that ran",
        "ms",
        (ours, theirs),
        "local registry",
    )])
}

fn growth(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let cycles = 1000 / arenas.divide;
    let (before, after) = arenas.hoist.run(move |world| {
        let before = measures::holdings(world);
        measures::round_trips(world, cycles, "bridge")?;
        Ok((before, measures::holdings(world)))
    })?;
    let mut rows = Vec::new();
    for ((what, before), (_, after)) in before.into_iter().zip(after) {
        let mut sample = Samples::default();
        sample.push_value(after);
        let note = format!("{} before", Number(before));
        let what = format!("growth over {cycles} cycles: {what}");
        rows.push(row(&what, "after", (sample, Samples::default()), note));
    }
    Ok(rows)
}
