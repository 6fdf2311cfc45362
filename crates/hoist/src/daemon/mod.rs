//! The engine as a process: settings, sockets, composition, serving, and an orderly end that leaves containers running.

mod arguments;
mod launch_spec;
mod metrics;
mod mounts;
mod network;
mod node;
mod oom;
mod registry;
mod rlimits;
mod settings;
mod wire;
mod zygote;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use hoist_http::{ListenError, Listener, ServeOptions, UnixSocket};
use hoist_model::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::settings::{DOCKER_SOCKET, Host, Settings};

/// How long requests may go on after the engine was asked to end.
const GRACE: Duration = Duration::from_secs(5);
/// Worker threads: the engine waits for the kernel, it does not compute.
const WORKERS: usize = 2;

/// Runs the engine with the words after `hoist daemon` or `dockerd`.
pub(crate) fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (arguments, ignored) = match arguments::parse(words) {
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
        start_logging(&settings);
        run(&settings)
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hoist daemon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_logging(settings: &Settings) {
    let level = if settings.debug {
        "debug"
    } else {
        &settings.log_level
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("HOIST_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    for flag in &settings.ignored {
        tracing::warn!(%flag, "has no meaning here and is ignored");
    }
}

fn run(settings: &Settings) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the engine needs to be started as root");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("start the async runtime")?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: &Settings) -> anyhow::Result<()> {
    let pidfile = settings
        .pidfile
        .as_deref()
        .map(PidFile::write)
        .transpose()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Sockets first: a second engine on the same hosts is refused before it touches anything.
    let listeners = listen(settings)?;
    let metrics = settings.metrics.map(metrics::listen).transpose()?;
    let wired = wire::wire(settings, now()).await?;
    let networks = wired.networks();
    let engine = wired.engine.clone();
    let shutdown = CancellationToken::new();
    let options = ServeOptions {
        hijackable: hoist_docker::is_hijackable,
        grace: GRACE,
    };
    let counting = metrics.map(|listener| {
        let about = metrics::About {
            version: wired.node.version.clone(),
            docker_release: hoist_docker::DOCKER_RELEASE,
            kernel: wired.node.kernel_version.clone(),
            cpus: wired.node.cpus,
            memory: wired.node.memory,
        };
        let router = metrics::router(engine.clone(), about);
        tokio::spawn(hoist_http::serve(
            vec![listener],
            router,
            options.clone(),
            shutdown.clone(),
        ))
    });
    let router = hoist_docker::router(wired.engine, wired.node);
    for listener in &listeners {
        tracing::info!(address = listener.address(), "API listens");
    }
    let delivery = tokio::spawn(wire::deliver(engine.clone(), wired.exits));
    let serving = hoist_http::serve(listeners, router, options, shutdown.clone());
    tokio::pin!(serving);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = &mut serving => bail!("the API server ended by itself"),
    }
    tracing::info!("asked to end; containers go on running");
    shutdown.cancel();
    let report = serving.await;
    if report.cut > 0 {
        tracing::info!(connections = report.cut, "cut at the deadline");
    }
    delivery.abort();
    if let Some(counting) = counting {
        let _ = counting.await;
    }
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
    drop(pidfile);
    Ok(())
}

/// Opens every socket. Of the default ones, docker.sock is left to a live engine that answers there.
fn listen(settings: &Settings) -> anyhow::Result<Vec<Listener>> {
    let group = settings.group.as_deref().unwrap_or("docker");
    let group_id = group_id(group);
    if group_id.is_none() && settings.group.is_some() {
        bail!("group {group:?} does not exist");
    }
    let options = UnixSocket {
        mode: 0o660,
        group: group_id,
    };
    let mut listeners = Vec::with_capacity(settings.hosts.len());
    for host in &settings.hosts {
        let listener = match host {
            Host::Unix(path) => {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)
                        .with_context(|| format!("mkdir {}", parent.display()))?;
                }
                Listener::unix(path, options)
            }
            Host::Tcp(address) => {
                tracing::warn!(%host, "the API is open to whoever reaches this address: it has no TLS");
                Listener::tcp(*address, None)
            }
        };
        match listener {
            Ok(listener) => listeners.push(listener),
            Err(ListenError::Taken { path })
                if settings.default_hosts && path == Path::new(DOCKER_SOCKET) =>
            {
                tracing::info!(
                    "another engine answers on {DOCKER_SOCKET}; to use this one: docker context create hoist --docker host=unix://{}",
                    settings::SOCKET
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(listeners)
}

/// Looks a group up in /etc/group: the static binary has no name service.
fn group_id(name: &str) -> Option<u32> {
    let text = fs::read_to_string("/etc/group").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// The file with our process id; goes away with us.
struct PidFile(std::path::PathBuf);

impl PidFile {
    fn write(path: &Path) -> anyhow::Result<Self> {
        if let Ok(text) = fs::read_to_string(path)
            && let Ok(pid) = text.trim().parse::<u32>()
            && pid != std::process::id()
            && is_alive(pid)
        {
            bail!(
                "pid file {} names process {pid}, which is running",
                path.display()
            );
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("mkdir {}", parent.display()))?;
        }
        fs::write(path, format!("{}", std::process::id()))
            .with_context(|| format!("write pid file {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

/// Whether a process runs; one that ended and was not waited for does not.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_nanos(since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
}
