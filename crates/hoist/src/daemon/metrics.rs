//! `GET /metrics` for Prometheus, on an address of its own (`--metrics-addr`): the engine and every container.
//!
//! Everything is read when it is asked for; nothing is collected in between. Where Docker has a metric, it has Docker's
//! name and labels beside ours.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::response::IntoResponse;
use axum::routing::get;
use hoist_engine::records::ContainerRecord;
use hoist_engine::{Engine, LogLost};
use hoist_http::Listener;
use hoist_model::container::{BlkioEntry, ContainerState, ContainerStats, HealthStatus};
use hoist_net::Timings;
use http::header::CONTENT_TYPE;

use crate::exposition::{Exposition, Kind};

/// The content type of the format.
pub(crate) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What of the node is told.
#[derive(Clone)]
pub(super) struct About {
    pub(super) version: String,
    pub(super) docker_release: &'static str,
    pub(super) kernel: String,
    pub(super) cpus: usize,
    pub(super) memory: u64,
    pub(super) networks: Arc<Timings>,
}

/// Opens the address; a second engine on it is refused here.
pub(super) fn listen(address: SocketAddr) -> anyhow::Result<Listener> {
    tracing::info!(%address, "metrics listen, open to whoever reaches this address");
    Ok(Listener::tcp(address, None)?)
}

/// The service: `/metrics` and nothing else.
pub(super) fn router(engine: Engine, about: About) -> axum::Router {
    let metrics = move || {
        let (engine, about) = (engine.clone(), about.clone());
        async move { ([(CONTENT_TYPE, TEXT)], gather(&engine, &about).await).into_response() }
    };
    axum::Router::new().route("/metrics", get(metrics))
}

/// A container, what it uses while it runs, and what of its output is in no log.
type Reading = (Arc<ContainerRecord>, Option<ContainerStats>, LogLost);

async fn gather(engine: &Engine, about: &About) -> String {
    let mut readings = Vec::new();
    for record in engine.containers.list() {
        // One that cannot be read has ended; it is still counted.
        let stats = engine.containers.stats(&record.id).await.unwrap_or(None);
        let lost = engine.containers.log_lost(&record);
        readings.push((record, stats, lost));
    }
    let own = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let mut text = Exposition::default();
    of_the_engine(&mut text, about, &readings);
    of_objects(&mut text, engine);
    of_networks(&mut text, &about.networks);
    of_the_process(&mut text, &own);
    of_containers(&mut text, &readings);
    text.finish()
}

fn of_the_engine(text: &mut Exposition, about: &About, readings: &[Reading]) {
    text.family(
        "engine_daemon_engine_info",
        Kind::Gauge,
        "The engine; always 1.",
    )
    .sample(
        &[
            ("version", about.docker_release),
            ("hoist_version", &about.version),
            ("kernel", &about.kernel),
            ("os_type", "linux"),
        ],
        1,
    );
    text.family(
        "engine_daemon_engine_cpus_cpus",
        Kind::Gauge,
        "CPUs there are.",
    )
    .sample(&[], about.cpus);
    text.family(
        "engine_daemon_engine_memory_bytes",
        Kind::Gauge,
        "Bytes of memory of the machine.",
    )
    .sample(&[], about.memory);
    let mut states = text.family(
        "engine_daemon_container_states_containers",
        Kind::Gauge,
        "Containers by state.",
    );
    for state in ["running", "paused", "stopped"] {
        let count = readings
            .iter()
            .filter(|(record, ..)| state_of(&record.state) == state)
            .count();
        states.sample(&[("state", state)], count);
    }
}

/// What the engine keeps beside containers.
fn of_objects(text: &mut Exposition, engine: &Engine) {
    for (name, help, count) in [
        (
            "hoist_engine_images",
            "Images there are.",
            engine.images.list().len(),
        ),
        (
            "hoist_engine_volumes",
            "Volumes there are.",
            engine.volumes.list().len(),
        ),
        (
            "hoist_engine_networks",
            "Networks there are.",
            engine.networks.list().len(),
        ),
    ] {
        text.family(name, Kind::Gauge, help).sample(&[], count);
    }
}

/// How long starting containers waited for their networks.
fn of_networks(text: &mut Exposition, timings: &Timings) {
    let actions = [("connect", &timings.connect), ("publish", &timings.publish)];
    let mut counts = text.family(
        "hoist_network_actions_total",
        Kind::Counter,
        "Containers that were given their networks, and that had ports published, as they started.",
    );
    for (action, timing) in actions {
        counts.sample(&[("action", action)], timing.count());
    }
    let mut spent = text.family(
        "hoist_network_action_seconds_total",
        Kind::Counter,
        "Time that these took.",
    );
    for (action, timing) in actions {
        spent.sample(&[("action", action)], seconds(timing.nanoseconds()));
    }
}

/// Docker's three states.
fn state_of(state: &ContainerState) -> &'static str {
    match state {
        ContainerState::Running(running) if running.paused => "paused",
        ContainerState::Running(_) | ContainerState::Restarting(_) => "running",
        _ => "stopped",
    }
}

/// `stat` is `/proc/self/stat` (proc_pid_stat(5)).
pub(crate) fn of_the_process(text: &mut Exposition, stat: &str) {
    let words: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    // The first of them is field 3.
    let field = |number: usize| -> u64 {
        words
            .get(number - 3)
            .and_then(|word| word.parse().ok())
            .unwrap_or(0)
    };
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let page = rustix::param::page_size() as u64;
    text.family(
        "process_cpu_seconds_total",
        Kind::Counter,
        "CPU time of the daemon.",
    )
    .sample(
        &[],
        seconds((field(14) + field(15)) * 1_000_000_000 / ticks),
    );
    text.family(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "Bytes of the daemon in memory.",
    )
    .sample(&[], field(24) * page);
    text.family("process_threads", Kind::Gauge, "Threads of the daemon.")
        .sample(&[], field(20));
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    text.family(
        "process_open_fds",
        Kind::Gauge,
        "Descriptors the daemon has open.",
    )
    .sample(&[], descriptors);
}

fn of_containers(text: &mut Exposition, readings: &[Reading]) {
    /// One number of a container that runs.
    type Number = fn(&ContainerStats) -> String;
    const NUMBERS: &[(&str, Kind, &str, Number)] = &[
        (
            "hoist_container_cpu_seconds_total",
            Kind::Counter,
            "CPU time used.",
            |stats| seconds(stats.groups.cpu.total),
        ),
        (
            "hoist_container_cpu_throttled_seconds_total",
            Kind::Counter,
            "Time the CPU quota kept it from running.",
            |stats| seconds(stats.groups.cpu.throttled),
        ),
        (
            "hoist_container_memory_usage_bytes",
            Kind::Gauge,
            "Bytes in memory, page cache that could be dropped left out.",
            |stats| memory_used(stats).to_string(),
        ),
        (
            "hoist_container_memory_limit_bytes",
            Kind::Gauge,
            "Bytes it may have in memory; those of the machine where nothing limits it.",
            |stats| {
                let machine = stats.machine_memory;
                let limit = stats.groups.memory.limit.unwrap_or(machine);
                limit.min(machine).to_string()
            },
        ),
        (
            "hoist_container_processes",
            Kind::Gauge,
            "Processes and threads.",
            |stats| stats.groups.pids.current.to_string(),
        ),
        (
            "hoist_container_block_read_bytes_total",
            Kind::Counter,
            "Bytes read from block devices.",
            |stats| block(&stats.groups.blkio_bytes, "read").to_string(),
        ),
        (
            "hoist_container_block_written_bytes_total",
            Kind::Counter,
            "Bytes written to block devices.",
            |stats| block(&stats.groups.blkio_bytes, "write").to_string(),
        ),
        (
            "hoist_container_network_received_bytes_total",
            Kind::Counter,
            "Bytes received on all interfaces.",
            |stats| {
                let received = stats.interfaces.iter().map(|one| one.received.bytes);
                received.sum::<u64>().to_string()
            },
        ),
        (
            "hoist_container_network_sent_bytes_total",
            Kind::Counter,
            "Bytes sent on all interfaces.",
            |stats| {
                let sent = stats.interfaces.iter().map(|one| one.sent.bytes);
                sent.sum::<u64>().to_string()
            },
        ),
    ];
    for (name, kind, help, number) in NUMBERS {
        let mut family = text.family(name, *kind, help);
        for (record, stats, _) in readings {
            if let Some(stats) = stats {
                family.sample(&labels(record), number(stats));
            }
        }
    }
    let mut restarts = text.family(
        "hoist_container_restarts_total",
        Kind::Counter,
        "Restarts by policy since it was started by hand.",
    );
    for (record, ..) in readings {
        restarts.sample(&labels(record), record.restart_count);
    }
    let mut started = text.family(
        "hoist_container_start_time_seconds",
        Kind::Gauge,
        "When a container that runs was started, in seconds since 1970.",
    );
    for (record, ..) in readings {
        if let Some(running) = record.state.running() {
            let nanos = u64::try_from(running.started_at.as_nanos()).unwrap_or(0);
            started.sample(&labels(record), seconds(nanos));
        }
    }
    let mut exits = text.family(
        "hoist_container_exit_code",
        Kind::Gauge,
        "What the last run of a container that does not run ended with.",
    );
    for (record, ..) in readings {
        if let ContainerState::Exited(exited) | ContainerState::Restarting(exited) = &record.state {
            exits.sample(&labels(record), exited.exit_code);
        }
    }
    let mut kills = text.family(
        "hoist_container_oom_killed",
        Kind::Gauge,
        "1 if the memory limit took a process of its current or last run.",
    );
    for (record, ..) in readings {
        let killed = match &record.state {
            ContainerState::Running(running) => running.oom_killed,
            ContainerState::Exited(exited) | ContainerState::Restarting(exited) => {
                exited.oom_killed
            }
            _ => false,
        };
        kills.sample(&labels(record), u8::from(killed));
    }
    for (name, help, number) in LOST {
        let mut family = text.family(name, Kind::Counter, help);
        for (record, _, lost) in readings {
            family.sample(&labels(record), number(lost));
        }
    }
    let mut healthy = text.family(
        "hoist_container_healthy",
        Kind::Gauge,
        "1 if its health check says so; only of those that have one.",
    );
    for (record, ..) in readings {
        if let Some(health) = &record.health {
            let is = u8::from(health.status == HealthStatus::Healthy);
            healthy.sample(&labels(record), is);
        }
    }
}

/// Lines that are in no log.
type LostNumber = fn(&LogLost) -> u64;
const LOST: [(&str, &str, LostNumber); 2] = [
    (
        "hoist_container_log_lines_dropped_total",
        "Lines that did not fit in the buffer of non-blocking mode.",
        |lost| lost.dropped,
    ),
    (
        "hoist_container_log_lines_unwritten_total",
        "Lines that could not be written to the log.",
        |lost| lost.unwritten,
    ),
];

fn labels(record: &ContainerRecord) -> [(&'static str, &str); 3] {
    [
        ("id", record.id.as_str()),
        ("name", &record.name),
        ("image", &record.spec.image),
    ]
}

fn seconds(nanoseconds: u64) -> String {
    format!(
        "{}.{:09}",
        nanoseconds / 1_000_000_000,
        nanoseconds % 1_000_000_000
    )
}

/// As `docker stats` counts it.
fn memory_used(stats: &ContainerStats) -> u64 {
    let memory = &stats.groups.memory;
    let inactive = ["total_inactive_file", "inactive_file"]
        .iter()
        .find_map(|key| memory.details.get(*key));
    memory.usage.saturating_sub(inactive.copied().unwrap_or(0))
}

fn block(entries: &[BlkioEntry], operation: &str) -> u64 {
    entries
        .iter()
        .filter(|entry| entry.operation == operation)
        .map(|entry| entry.value)
        .sum()
}
