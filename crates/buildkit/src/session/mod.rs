//! Sessions: connections of clients on which the client is the server, by their id.
//!
//! ```text
//!  POST /session ─▶ accept(head, connection) ─▶ Session ◀─ find(id) ── a build that needs files, logins, secrets
//!                       └─ runs until the client goes
//! ```

mod auth;
mod channel;
mod content;
mod received;
mod secrets;
mod ssh;
mod sync;
mod tree;
mod upload;
mod wanted;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hoist_http::Connection;
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

pub(crate) use auth::SessionLogins;
pub(crate) use channel::{Channel, Tasks};
pub(crate) use content::ClientStore;
pub(crate) use received::{Received, fetch_layer};
pub(crate) use secrets::fetch_secrets;
pub(crate) use ssh::open_agents;
pub(crate) use sync::{Asked, SyncError, fetch_files};
pub(crate) use tree::go_mode;
#[cfg(any(test, feature = "testing"))]
pub(crate) use tree::{Tree, tar_entry};
pub(crate) use upload::{fetch_upload, is_upload, store_archive};
pub(crate) use wanted::Files;

/// How long a build waits for the session it names: both come at once, in any order.
const PATIENCE: Duration = Duration::from_secs(20);
/// Sessions at a time.
const LIMIT: usize = 1000;

/// Whose sessions there are.
#[derive(Clone, Default)]
pub(crate) struct Sessions {
    /// By id. Held for single look-ups.
    open: Arc<Mutex<HashMap<String, Session>>>,
    /// Changes with every session that comes.
    came: Arc<watch::Sender<()>>,
}

/// A client that answers questions.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// What the client says that equal contexts have in common: the name of their directory and of the client.
    pub(crate) shared_key: String,
    /// `/package.Service/Method`, in small letters.
    methods: Arc<HashSet<String>>,
    pub(crate) channel: Channel,
}

/// What a client says of its session.
#[derive(Debug)]
pub(crate) struct SessionHead {
    id: String,
    shared_key: String,
    methods: HashSet<String>,
}

impl SessionHead {
    /// Reads it from the headers of `POST /session`, or from the metadata of `Control.Session`. `None`: it has no id.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| {
            let value = headers.get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let id = text("x-docker-expose-session-uuid").filter(|id| !id.is_empty())?;
        let methods = headers.get_all("x-docker-expose-session-grpc-method");
        let methods = methods.iter().filter_map(|value| value.to_str().ok());
        Some(Self {
            id,
            shared_key: text("x-docker-expose-session-sharedkey").unwrap_or_default(),
            methods: methods.map(str::to_ascii_lowercase).collect(),
        })
    }
}

impl Sessions {
    /// Serves a session until its client goes.
    pub(crate) async fn serve(
        &self,
        head: SessionHead,
        owner: &Connection,
        connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) {
        let (channel, driver) = match Channel::over(owner, connection).await {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "a session did not begin");
                return;
            }
        };
        let session = Session {
            shared_key: head.shared_key,
            methods: Arc::new(head.methods),
            channel,
        };
        let _registered = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.len() >= LIMIT || open.contains_key(&head.id) {
                tracing::warn!(
                    session = head.id,
                    "refused: too many sessions, or one of this name"
                );
                return;
            }
            open.insert(head.id.clone(), session);
            Registered {
                sessions: self,
                id: head.id,
            }
        };
        self.came.send_replace(());
        if let Err(error) = driver.await {
            tracing::debug!(%error, "a session ended");
        }
    }

    /// The session of this name, which may be about to come.
    pub(crate) async fn find(&self, id: &str) -> Option<Session> {
        let mut came = self.came.subscribe();
        let wait = async {
            loop {
                came.mark_unchanged();
                if let Some(session) = self.get(id) {
                    return Some(session);
                }
                came.changed().await.ok()?;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.ok().flatten()
    }

    fn get(&self, id: &str) -> Option<Session> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(id).cloned()
    }
}

/// Takes a session off the list when it ends, however it does.
struct Registered<'s> {
    sessions: &'s Sessions,
    id: String,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let open = self.sessions.open.lock();
        open.unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

impl Session {
    /// Whether the client serves a method, such as `/moby.filesync.v1.FileSync/DiffCopy`.
    pub(crate) fn serves(&self, method: &str) -> bool {
        self.methods.contains(&method.to_ascii_lowercase())
    }
}
