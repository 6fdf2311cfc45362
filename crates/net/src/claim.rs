//! One engine at a time chooses subnets: engines of one machine look at the same routes, and two that look at the same
//! moment would choose the same. At the next start each would find the other's and could not make its network again.
//!
//! The claim is a name in the abstract space of unix sockets (unix(7)): there is one such space per network namespace, as
//! there is one table of routes, and the name goes with the process that has it.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The name, the same for every engine.
const NAME: &[u8] = b"hoist-subnets";
/// How long to wait for the others. Choosing takes milliseconds: who holds the name longer is no engine of ours.
const PATIENCE: Duration = Duration::from_secs(2);

/// The right to choose subnets; dropping it gives it back.
pub(crate) struct Claim {
    /// Bound to the name; none where somebody would not give it back.
    _socket: Option<OwnedFd>,
}

impl Claim {
    /// Waits for the right. It is there to be polite: without it, after a while, things go on as with a single engine.
    pub(crate) fn take() -> Self {
        let end = Instant::now() + PATIENCE;
        loop {
            match bound() {
                Ok(socket) => {
                    return Self {
                        _socket: Some(socket),
                    };
                }
                Err(rustix::io::Errno::ADDRINUSE) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => {
                    tracing::warn!(%error, "subnets are chosen without asking other engines");
                    return Self { _socket: None };
                }
            }
        }
    }
}

fn bound() -> rustix::io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(NAME)?)?;
    Ok(socket)
}
