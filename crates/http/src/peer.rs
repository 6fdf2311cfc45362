//! Who is at the other end of a request's connection, and whether it still is.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::file_body::Files;
use crate::socket::Socket;

/// The other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process on this machine, as the kernel vouches for it (SO_PEERCRED).
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
pub struct Connection {
    pub(crate) peer: Peer,
    pub(crate) socket: Arc<Socket>,
    /// Where bodies that are files are known; none where the connection is encrypted.
    pub(crate) files: Option<Arc<Files>>,
    pub(crate) tasks: TaskTracker,
    /// Cancelled at the server's last deadline.
    pub(crate) cut: CancellationToken,
}

impl Connection {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Completes when the client is gone, both ways: on unix sockets when it closed, on TCP when it reset the connection
    /// (which it does once something is sent to a socket it closed). A client that only stopped writing is not
    /// gone. Cancel-safe. Ordinary replies under way end by themselves when their client goes.
    pub async fn closed(&self) {
        self.socket.gone(false).await;
    }

    /// Runs a task that the server owns: joined at shutdown, dropped at its deadline. For hijacked connections.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) {
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = cut.cancelled() => {}
            }
        });
    }
}
