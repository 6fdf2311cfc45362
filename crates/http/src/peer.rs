//! Who is at the other end of a request's connection.
use std::future::Future;
use std::net::SocketAddr;

/// The other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process on this machine, as the kernel vouches for it.
    Unix {
        /// Its process id when it connected.
        pid: i32,
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// An address.
    Tcp(SocketAddr),
}

/// The connection a request came on: an extension of every request (`Extension<Connection>`). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection(());

impl Connection {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> Peer {
        unimplemented!()
    }
    /// Completes when the client is gone (unix: closed both ways; TCP: closed its side). Cancel-safe.
    pub async fn closed(&self) {
        unimplemented!()
    }
    /// Runs a task that the server owns: joined at shutdown, dropped at its deadline. For hijacked connections.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, _task: F) {
        unimplemented!()
    }
}
