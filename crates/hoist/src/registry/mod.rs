//! `hoist registry`: the built-in registry as a process of its own.

mod arguments;
mod metrics;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use hoist_http::{Listener, ServeOptions, serve};
use hoist_registry::Credentials;
use hoist_registry::server::{AccessSettings, CacheSettings, Server, ServerSettings};
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

/// What the words say of who may do what.
fn access(arguments: &Serve) -> AccessSettings {
    if let Some(users) = &arguments.users {
        return AccessSettings::Users {
            users: users.clone(),
            rights: arguments.rights.clone(),
            tokens: arguments.tokens,
        };
    }
    match (
        &arguments.token_realm,
        &arguments.token_issuer,
        &arguments.token_key,
    ) {
        (Some(realm), Some(issuer), Some(key)) => AccessSettings::Tokens {
            realm: realm.clone(),
            service: arguments.token_service.clone(),
            issuer: issuer.clone(),
            key: key.clone(),
        },
        _ => AccessSettings::Open,
    }
}

fn serve_settings(arguments: &Serve) -> anyhow::Result<ServerSettings> {
    let mut settings = settings(arguments.root.clone(), &arguments.ages);
    settings.deletes = !arguments.no_delete;
    settings.collect_every = Some(arguments.gc_every).filter(|every| !every.is_zero());
    settings.access = access(arguments);
    settings.tls = arguments.tls_cert.is_some();
    settings.url.clone_from(&arguments.url);
    settings.warning.clone_from(&arguments.warning);
    settings.cache = cache(arguments)?;
    Ok(settings)
}

/// Which registry is cached, if one is.
fn cache(arguments: &Serve) -> anyhow::Result<Option<CacheSettings>> {
    let Some(url) = &arguments.proxy else {
        return Ok(None);
    };
    let credentials = match (&arguments.proxy_user, &arguments.proxy_password_file) {
        (Some(user), Some(file)) => {
            let password = std::fs::read_to_string(file)
                .with_context(|| format!("reading {}", file.display()))?;
            Some(Credentials::basic(
                user,
                password.trim_end_matches(['\r', '\n']),
            ))
        }
        _ => None,
    };
    Ok(Some(CacheSettings {
        url: url.clone(),
        credentials,
        fresh: arguments.proxy_fresh,
        keep: arguments.proxy_keep,
        client: hoist_registry::Settings::default(),
    }))
}

async fn serve_until_told(arguments: &Serve) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let tls = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificate), Some(key)) => {
            Some(hoist_http::tls::server_config(certificate, key, None)?)
        }
        _ => None,
    };
    let mut listeners = Vec::new();
    for address in &arguments.listen {
        listeners.push(Listener::tcp(*address, tls.clone())?);
    }
    let measured = arguments
        .metrics
        .map(|address| Listener::tcp(address, None))
        .transpose()?;
    let server = Server::open(serve_settings(arguments)?)?;
    let open_to_all = matches!(access(arguments), AccessSettings::Open);
    for listener in &listeners {
        tracing::info!(address = listener.address(), root = %arguments.root.display(), open_to_all, "the registry listens");
    }
    let options = ServeOptions {
        hijackable: |_, _| false,
        grace: GRACE,
        head_deadline: HEAD_DEADLINE,
    };
    let ending = CancellationToken::new();
    let mut tasks = vec![tokio::spawn(serve(
        listeners,
        server.router(),
        options.clone(),
        ending.clone(),
    ))];
    if let Some(listener) = measured {
        tracing::info!(
            address = listener.address(),
            "metrics listen, open to whoever reaches this address"
        );
        let metrics = metrics::router(server.clone());
        tasks.push(tokio::spawn(serve(
            vec![listener],
            metrics,
            options,
            ending.clone(),
        )));
    }
    let collecting = tokio::spawn(server.clone().keep_collecting(ending.clone()));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => reload(&server).await,
        }
    }
    tracing::info!("asked to end; what is under way may finish");
    ending.cancel();
    let mut cut = 0;
    for task in tasks {
        cut += task.await.context("the server stopped")?.cut;
    }
    collecting.await.context("collecting stopped")?;
    if cut > 0 {
        tracing::warn!(connections = cut, "cut at the deadline");
    }
    Ok(())
}

async fn reload(server: &Server) {
    let server = server.clone();
    match tokio::task::spawn_blocking(move || server.reload()).await {
        Ok(Ok(())) => tracing::info!("users and rights were read again"),
        Ok(Err(error)) => {
            tracing::error!(
                error = hoist_model::chain(&error),
                "users and rights stay as they were"
            );
        }
        Err(error) => tracing::error!(%error, "users and rights stay as they were"),
    }
}
