//! The engine's own log: as text or as one object a line, its level changed by a reload.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::Error;

use super::reload::LogLevel;
use super::settings::{LogFormat, Settings};

/// Starts logging, and answers what changes its level later. `HOIST_LOG` wins over every other word on it.
pub(super) fn start(settings: &Settings) -> LogLevel {
    let told = EnvFilter::try_from_env("HOIST_LOG").ok();
    let is_free = told.is_none();
    let filter = told.unwrap_or_else(|| EnvFilter::new(settings.log_filter()));
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        // A journal or a file is read by programs, too.
        .with_ansi(!settings.raw_logs && std::io::stderr().is_terminal());
    // Two types, and so two branches that read the same.
    let level: Box<dyn Fn(EnvFilter) -> Result<(), Error> + Send + Sync> = match settings.log_format
    {
        LogFormat::Text => {
            let subscriber = subscriber.with_env_filter(filter).with_filter_reloading();
            let handle = subscriber.reload_handle();
            subscriber.init();
            Box::new(move |filter| handle.reload(filter))
        }
        LogFormat::Json => {
            let subscriber = subscriber.json().flatten_event(true);
            let subscriber = subscriber.with_env_filter(filter).with_filter_reloading();
            let handle = subscriber.reload_handle();
            subscriber.init();
            Box::new(move |filter| handle.reload(filter))
        }
    };
    for flag in &settings.ignored {
        if flag.contains("userland-proxy") {
            tracing::info!(%flag, "there is no proxy process: what the kernel cannot translate is relayed by the engine itself");
        } else {
            tracing::warn!(%flag, "has no meaning here and is ignored");
        }
    }
    Box::new(move |name| {
        if is_free && let Err(error) = level(EnvFilter::new(name)) {
            tracing::warn!(%error, "the log level stays");
        }
    })
}
