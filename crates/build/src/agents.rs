//! `RUN --mount=type=ssh`: sockets of one build that lead to the agents of whoever builds, wherever those are.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;

use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::builder::Builder;
use crate::run::{Agents, scratch_directory};

/// Connections of programs at a time; more wait.
const CONNECTIONS: usize = 64;

/// The sockets. Dropping them ends every connection.
#[derive(Debug)]
pub struct AgentSockets {
    directory: tempfile::TempDir,
    /// One for each socket; its connections are its own.
    listening: JoinSet<()>,
    agents: Agents,
}

impl AgentSockets {
    /// None yet, in a directory that only root looks into.
    ///
    /// # Errors
    /// There is no room for the directory.
    pub fn new(builder: &Builder) -> io::Result<Self> {
        Ok(Self {
            directory: scratch_directory(&builder.tools.scratch)?,
            listening: JoinSet::new(),
            agents: Agents(BTreeMap::new()),
        })
    }

    /// A socket for the agent of this id; `serve` carries one connection to it, to the end of either.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn add<F>(
        &mut self,
        id: &str,
        serve: impl Fn(UnixStream) -> F + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // An id is never a path.
        let path = self.directory.path().join(self.agents.0.len().to_string());
        let listener = UnixListener::bind(&path)?;
        self.agents.0.insert(id.to_owned(), path);
        self.listening.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let is_full = connections.len() >= CONNECTIONS;
                tokio::select! {
                    accepted = listener.accept(), if !is_full => match accepted {
                        Ok((stream, _)) => drop(connections.spawn(serve(stream))),
                        Err(error) => {
                            tracing::debug!(%error, "a socket of an ssh agent ended");
                            return;
                        }
                    },
                    Some(_) = connections.join_next(), if !connections.is_empty() => {}
                }
            }
        });
        Ok(())
    }

    /// Where they are, by id.
    #[must_use]
    pub fn agents(&self) -> Agents {
        self.agents.clone()
    }
}
