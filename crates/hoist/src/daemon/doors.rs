//! Where the engine is reached, as something that changes while it runs: every host is served by a task of its own, so that
//! a reload opens and closes single ones.

use std::collections::HashMap;

use axum::Router;
use hoist_http::{Listener, ServeOptions, ServeReport, serve};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::settings::{Host, Settings};
use super::{metrics, sockets};

/// What one task serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Door {
    Api(Host),
    Metrics,
}

struct Open {
    closing: CancellationToken,
    task: JoinHandle<ServeReport>,
}

/// All of them.
pub(super) struct Doors {
    api: Router,
    metrics: Router,
    options: ServeOptions,
    open: HashMap<Door, Open>,
}

impl Doors {
    pub(super) fn new(api: Router, metrics: Router, options: ServeOptions) -> Self {
        Self {
            api,
            metrics,
            options,
            open: HashMap::new(),
        }
    }

    /// Serves what was opened before the engine was made.
    pub(super) fn serve(&mut self, opened: sockets::Opened) {
        for (host, listeners) in opened.hosts {
            self.start(Door::Api(host), listeners);
        }
        if let Some(listener) = opened.metrics {
            self.start(Door::Metrics, vec![listener]);
        }
    }

    fn start(&mut self, door: Door, listeners: Vec<Listener>) {
        let router = match &door {
            Door::Api(_) => {
                for listener in &listeners {
                    tracing::info!(address = listener.address(), "API listens");
                }
                self.api.clone()
            }
            Door::Metrics => self.metrics.clone(),
        };
        let closing = CancellationToken::new();
        let task = tokio::spawn(serve(
            listeners,
            router,
            self.options.clone(),
            closing.clone(),
        ));
        self.open.insert(door, Open { closing, task });
    }

    /// Opens what `new` has beyond `old` and closes what it has no more. TCP hosts are opened anew where TLS differs, also in a file's contents, and unix
    /// sockets where the group does. What
    /// cannot be opened is said, and leaves the others as they are.
    pub(super) async fn change(&mut self, old: &Settings, new: &Settings) {
        // Sockets that were handed over can be neither opened nor closed by us.
        let movable = |host: &&Host| !matches!(host, Host::Inherited);
        let stays = |host: &Host, among: &Settings| {
            let differs = match host {
                Host::Tcp(_) => old.tls != new.tls,
                Host::Unix(_) => old.group != new.group,
                Host::Inherited => false,
            };
            among.hosts.contains(host) && !differs
        };
        for host in old.hosts.iter().filter(movable) {
            if !stays(host, new) {
                tracing::info!(%host, "the API listens here no more");
                self.close(&Door::Api(host.clone())).await;
            }
        }
        for host in new.hosts.iter().filter(movable) {
            if stays(host, old) {
                continue;
            }
            match sockets::open(host, new) {
                Ok(listeners) => self.start(Door::Api(host.clone()), listeners),
                Err(error) => {
                    tracing::error!(%host, error = format!("{error:#}"), "reload: is not opened");
                }
            }
        }
        if old.metrics != new.metrics {
            self.close(&Door::Metrics).await;
            match new.metrics.map(metrics::listen).transpose() {
                Ok(Some(listener)) => self.start(Door::Metrics, vec![listener]),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "reload: metrics are not served"
                    );
                }
            }
        }
    }

    /// Closes one, without waiting for what is under way there.
    async fn close(&mut self, door: &Door) {
        if let Some(open) = self.open.remove(door) {
            open.closing.cancel();
            // Its address is free only once nothing accepts there any more.
            if tokio::time::timeout(std::time::Duration::from_millis(200), open.task)
                .await
                .is_err()
            {
                tracing::info!("connections there end on their own");
            }
        }
    }

    /// Whether one ended by itself, which none does.
    pub(super) fn is_broken(&self) -> bool {
        self.open.values().any(|open| open.task.is_finished())
    }

    /// Closes all, and waits for what is under way as long as it may take.
    pub(super) async fn close_all(self) {
        for open in self.open.values() {
            open.closing.cancel();
        }
        let mut cut = 0;
        for open in self.open.into_values() {
            cut += open.task.await.map_or(0, |report| report.cut);
        }
        if cut > 0 {
            tracing::info!(connections = cut, "cut at the deadline");
        }
    }
}
