//! Where requests come from: unix sockets and TCP, with TLS or without.
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a unix socket is made.
#[derive(Clone, Copy, Debug)]
pub struct UnixSocket {
    /// Permission bits; Docker's are 0o660.
    pub mode: u32,
    /// Owning group, if not the caller's.
    pub group: Option<u32>,
}

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A live server answers on this socket.
    #[error("a server already answers on {}", path.display())]
    Taken {
        /// The socket's path.
        path: PathBuf,
    },
    /// A file that is no socket is in the way.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The file's path.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("listen on {address}")]
    Io {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A listening socket. A unix socket's file goes away with it, if it is still ours.
#[derive(Debug)]
pub struct Listener(());

impl Listener {
    /// Listens on a unix socket; a file left by a dead server is replaced. Blocking, briefly; needs a runtime.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn unix(_path: &Path, _options: UnixSocket) -> Result<Self, ListenError> {
        unimplemented!()
    }
    /// Listens on a TCP address, with TLS if given a configuration (see [`crate::tls`]).
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn tcp(
        _address: SocketAddr,
        _tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Result<Self, ListenError> {
        unimplemented!()
    }
    /// Takes a socket that already listens (socket activation).
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn inherited(_fd: OwnedFd) -> Result<Self, ListenError> {
        unimplemented!()
    }
    /// `unix:///run/hoist.sock` or `tcp://127.0.0.1:2375`, with the port that was really bound.
    #[must_use]
    pub fn address(&self) -> String {
        unimplemented!()
    }
}
