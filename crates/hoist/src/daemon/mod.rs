//! The engine as a process: settings, sockets, composition, serving, and an orderly end that leaves containers running.

mod apparmor;
mod arguments;
mod build;
mod build_cache;
mod doors;
mod ending;
mod fetch;
mod fsck;
mod keys;
mod launch_spec;
mod logging;
mod lost_store;
pub(crate) mod metrics;
mod mounts;
mod network;
mod node;
mod oom;
mod pid_file;
mod process;
mod registry;
mod reload;
mod remap;
mod rlimits;
mod served;
mod settings;
mod shelf;
mod sockets;
mod user_namespace;
mod wire;
mod zygote;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use hoist_http::ServeOptions;
use hoist_model::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use self::doors::Doors;
pub(crate) use self::fsck::at_rest as fsck;
use self::logging::Log;
use self::pid_file::PidFile;
use self::reload::Reload;
use self::settings::Settings;

/// How long requests may go on after the engine was asked to end.
const GRACE: Duration = Duration::from_secs(5);
/// Worker threads: the engine waits for the kernel, it does not compute.
const WORKERS: usize = 2;

/// What a thread of the engine's gets of a processor at once, in nanoseconds: it answers soon though containers compute.
const SLICE: u64 = 200_000;

/// Runs the engine with the words after `hoist daemon` or `dockerd`.
pub(crate) fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.into_iter().collect();
    let (arguments, ignored) = match arguments::parse(words.clone()) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(125)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let validate = arguments.validate;
    let result = settings::settle(arguments, ignored).and_then(|settings| {
        if validate {
            println!("configuration OK");
            return Ok(());
        }
        let log = logging::start(&settings);
        run(settings, words, log)
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hoist daemon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: Settings, words: Vec<OsString>, log: Log) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the engine needs to be started as root");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        // Without it nothing breaks: a kernel that has no such slices lets others finish theirs first.
        .on_thread_start(|| drop(hoist_sys::process::set_slice(SLICE)))
        .enable_all()
        .build()
        .context("start the async runtime")?;
    runtime.block_on(serve(settings, words, log))
}

async fn serve(settings: Settings, words: Vec<OsString>, log: Log) -> anyhow::Result<()> {
    let pidfile = settings
        .pidfile
        .as_deref()
        .map(PidFile::write)
        .transpose()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // Sockets first: a second engine on the same hosts is refused before it touches anything.
    let opened = sockets::listen(&settings)?;
    let mapping = remap::asked_for(&settings)?;
    let placed = remap::placed(&settings, mapping.as_deref());
    let wired = wire::wire(&placed, mapping, now()).await?;
    let networks = wired.networks();
    let engine = wired.engine.clone();
    let about = metrics::About {
        version: wired.node.version.clone(),
        docker_release: hoist_docker::DOCKER_RELEASE,
        kernel: wired.node.kernel_version.clone(),
        cpus: wired.node.cpus,
        memory: wired.node.memory,
        networks: networks.timings(),
    };
    let metrics = metrics::router(engine.clone(), about);
    let options = ServeOptions {
        hijackable: hoist_docker::is_hijackable,
        grace: GRACE,
        head_deadline: hoist_http::HEAD_DEADLINE,
    };
    let caches = Arc::new(build_cache::RegistryCaches {
        source: wired.registry.clone(),
        images: engine.images.clone(),
    });
    let api = hoist_docker::Api::new(wired.engine, wired.builder, caches, wired.node.clone());
    let mut reload = Reload {
        words,
        settings,
        log,
        pidfile,
        node: wired.node,
        api: api.clone(),
        registry: wired.registry,
        runtime: wired.runtime,
        network: wired.network,
        snapshotter: wired.snapshotter,
        networks: engine.networks.clone(),
        confinement: wired.confinement,
        events: engine.events.clone(),
    };
    let delivery = tokio::spawn(wire::deliver(engine.clone(), wired.exits));
    let mut doors = Doors::new(api.router(), metrics, options);
    doors.serve(opened);
    let served = match &placed.registry {
        Some(own) => Some(served::ServedRegistry::start(&placed, own, wired.shelf)?),
        None => None,
    };
    sockets::tell_service_manager("READY=1");
    if let Err(error) = hoist_sys::code::let_go_of_code() {
        tracing::debug!(%error, "the code of the start stays in memory");
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                sockets::tell_service_manager("RELOADING=1");
                reload.run(&mut doors).await;
                if let Some(served) = &served {
                    served.reload();
                }
                sockets::tell_service_manager("READY=1");
            }
        }
        if doors.is_broken() {
            bail!("the API server ended by itself");
        }
    }
    sockets::tell_service_manager("STOPPING=1");
    if reload.settings.live_restore {
        tracing::info!("asked to end; containers go on running");
    } else {
        ending::end_containers(&engine, reload.settings.shutdown_timeout).await;
    }
    doors.close_all().await;
    if let Some(served) = served {
        served.stop();
    }
    delivery.abort();
    engine.containers.shut_down().await;
    let busy = engine
        .containers
        .list()
        .iter()
        .any(|c| c.state.running().is_some());
    if let Err(error) = networks.stop(busy) {
        tracing::warn!(
            error = hoist_model::chain(&error),
            "the network was not wholly undone"
        );
    }
    drop(reload.pidfile);
    Ok(())
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_nanos(since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
}
