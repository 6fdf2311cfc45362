//! `hoist registry`: the built-in registry as a process of its own.

mod arguments;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use hoist_http::{Listener, ServeOptions, serve};
use hoist_registry::server::{Server, ServerSettings};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use self::arguments::{Ages, Arguments, Gc, Serve, Verb};

/// How long requests may go on after the registry was asked to end.
const GRACE: Duration = Duration::from_secs(30);
/// A client that takes longer for a request's head is no client.
const HEAD_DEADLINE: Duration = Duration::from_secs(60);
/// More threads wait for each other, not for the disk.
const MOST_WORKERS: usize = 8;

/// Does what the words after `hoist registry` say.
pub(crate) fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words = [OsString::from("hoist registry")].into_iter().chain(words);
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return match error.use_stderr() {
                true => ExitCode::from(125),
                false => ExitCode::SUCCESS,
            };
        }
    };
    let done = match arguments.verb {
        Verb::Serve(arguments) => run(&arguments),
        Verb::Gc(arguments) => collect(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hoist registry: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn settings(root: std::path::PathBuf, ages: &Ages) -> ServerSettings {
    let mut settings = ServerSettings::new(root);
    settings.blob_age = ages.blob_age;
    settings.upload_age = ages.upload_age;
    settings
}

fn collect(arguments: Gc) -> anyhow::Result<()> {
    let root = arguments.root;
    // A directory that was mistyped is not made into a registry.
    if !root.join("repositories").is_dir() {
        anyhow::bail!("{} is not a registry's directory", root.display());
    }
    let server = Server::open(settings(root, &arguments.ages))?;
    let done = server.collect()?;
    println!(
        "Removed {} blobs and {} uploads, {} bytes",
        done.blobs, done.uploads, done.bytes
    );
    Ok(())
}

fn run(arguments: &Serve) -> anyhow::Result<()> {
    start_logging(arguments)?;
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.clamp(2, MOST_WORKERS))
        .enable_all()
        .build()
        .context("start the async runtime")?;
    runtime.block_on(serve_until_told(arguments))
}

fn start_logging(arguments: &Serve) -> anyhow::Result<()> {
    let told = EnvFilter::try_from_env("HOIST_LOG").ok();
    let filter = match told {
        Some(filter) => filter,
        None => EnvFilter::try_new(&arguments.log_level)
            .with_context(|| format!("log level {:?}", arguments.log_level))?,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter);
    match arguments.log_format.as_str() {
        "json" => subscriber.json().flatten_event(true).init(),
        _ => subscriber.init(),
    }
    Ok(())
}

async fn serve_until_told(arguments: &Serve) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut settings = settings(arguments.root.clone(), &arguments.ages);
    settings.deletes = !arguments.no_delete;
    settings.collect_every = Some(arguments.gc_every).filter(|every| !every.is_zero());
    let mut listeners = Vec::new();
    for address in &arguments.listen {
        listeners.push(Listener::tcp(*address, None)?);
    }
    let server = Server::open(settings)?;
    for listener in &listeners {
        tracing::info!(address = listener.address(), root = %arguments.root.display(), "the registry listens");
    }
    let options = ServeOptions {
        hijackable: |_, _| false,
        grace: GRACE,
        head_deadline: HEAD_DEADLINE,
    };
    let ending = CancellationToken::new();
    let serving = tokio::spawn(serve(listeners, server.router(), options, ending.clone()));
    let collecting = tokio::spawn(server.keep_collecting(ending.clone()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("asked to end; what is under way may finish");
    ending.cancel();
    let report = serving.await.context("the server stopped")?;
    collecting.await.context("collecting stopped")?;
    if report.cut > 0 {
        tracing::warn!(connections = report.cut, "cut at the deadline");
    }
    Ok(())
}
