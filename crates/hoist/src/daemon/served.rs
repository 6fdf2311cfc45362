//! The registry in the engine's process (`--registry`): its own directory below the data root, and the engine's images beside.
//!
//! It has a runtime of its own: a blob that comes from a slow disk keeps one of its threads waiting and none of the API's.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use hoist_http::{Listener, ServeOptions, serve};
use hoist_registry::server::{AccessSettings, Server, ServerSettings, Shelf};
use tokio_util::sync::CancellationToken;

use super::settings::Settings;

/// How long requests may go on after the engine was asked to end.
const GRACE: Duration = Duration::from_secs(5);
const HEAD_DEADLINE: Duration = Duration::from_secs(60);
const WORKERS: usize = 2;

/// What the flags say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegistrySettings {
    pub(crate) address: SocketAddr,
    pub(crate) users: Option<PathBuf>,
    pub(crate) rights: Option<PathBuf>,
    /// Certificate and key.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
}

/// One that serves.
pub(super) struct ServedRegistry {
    server: Server,
    ending: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl ServedRegistry {
    /// Opens its directory and its address, and serves.
    pub(super) fn start(
        settings: &Settings,
        own: &RegistrySettings,
        shelf: Arc<dyn Shelf>,
    ) -> anyhow::Result<Self> {
        let tls = match &own.tls {
            Some((certificate, key)) => {
                Some(hoist_http::tls::server_config(certificate, key, None)?)
            }
            None => None,
        };
        let mut asked = ServerSettings::new(settings.data_root.join("registry"));
        asked.tls = tls.is_some();
        asked.shelf = Some(shelf);
        if let Some(users) = &own.users {
            asked.access = AccessSettings::Users {
                users: users.clone(),
                rights: own.rights.clone(),
                tokens: false,
            };
        }
        let open_to_all = own.users.is_none();
        let server = Server::open(asked).context("open the registry")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("registry")
            .enable_all()
            .build()
            .context("start the registry's runtime")?;
        let ending = CancellationToken::new();
        let listener = {
            let _entered = runtime.enter();
            Listener::tcp(own.address, tls)?
        };
        tracing::info!(
            address = listener.address(),
            open_to_all,
            "the registry listens; the engine's images are served there"
        );
        let (serving, until) = (server.clone(), ending.clone());
        let thread = std::thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    let options = ServeOptions {
                        hijackable: |_, _| false,
                        grace: GRACE,
                        head_deadline: HEAD_DEADLINE,
                    };
                    let collecting = tokio::spawn(serving.clone().keep_collecting(until.clone()));
                    serve(vec![listener], serving.router(), options, until).await;
                    let _ = collecting.await;
                });
            });
        Ok(Self {
            server,
            ending,
            thread: Some(thread.context("start the registry's thread")?),
        })
    }

    /// Reads users and rights again. Blocking.
    pub(super) fn reload(&self) {
        if let Err(error) = self.server.reload() {
            tracing::error!(
                error = hoist_model::chain(&error),
                "the registry's users and rights stay as they were"
            );
        }
    }

    /// Ends it; what is under way may finish for a moment. Blocking.
    pub(super) fn stop(mut self) {
        self.ending.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the registry's thread panicked");
        }
    }
}
