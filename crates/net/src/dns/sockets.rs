//! The sockets of one container's name server, inside its namespace, and the way to them.
//!
//! They are bound to 127.0.0.11 at ports that the kernel chooses; rules in the container's namespace rewrite port 53 of
//! that address to them and back, so that 53 stays free for a server of the container's own. The rewriting keeps no
//! state: connection tracking, which a `nat` chain would switch on for all that the container sends, stays off.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use hoist_sys::netns;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::error::NetError;
use crate::nft::{self, Tables};

/// Where containers find their name server, as Docker's do.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// A container's name server as sockets.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(super) datagrams: UdpSocket,
    pub(super) connections: TcpListener,
}

impl Sockets {
    /// Opens them in the calling thread's namespace, whose `lo` is up, and leads port 53 to them, instead of to any that
    /// were there before.
    pub(crate) fn open_here() -> Result<Self, NetError> {
        let fail = |source: rustix::io::Errno| {
            NetError::kernel(format!("open a name server at {NAME_SERVER}"), source)
        };
        let open = |kind| -> rustix::io::Result<OwnedFd> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
            rustix::net::bind(&socket, &SocketAddrV4::new(NAME_SERVER, 0))?;
            Ok(socket)
        };
        let datagrams = open(SocketType::DGRAM).map_err(fail)?;
        let connections = open(SocketType::STREAM).map_err(fail)?;
        rustix::net::listen(&connections, BACKLOG).map_err(fail)?;
        let sockets = Self {
            datagrams: datagrams.into(),
            connections: connections.into(),
        };
        let port = |address: io::Result<SocketAddr>| {
            let what = "tell the port of a name server";
            Ok(address
                .map_err(|source| NetError::kernel(what, source))?
                .port())
        };
        let (udp, tcp) = (
            port(sockets.datagrams.local_addr())?,
            port(sockets.connections.local_addr())?,
        );
        Tables::open()?.commit(nft::name_server(NAME_SERVER, udp, tcp))?;
        Ok(sockets)
    }

    /// Opens them in another namespace, by a thread of its own, so that the caller's stays where it is.
    pub(crate) fn open_in(netns: impl AsFd) -> Result<Self, NetError> {
        let netns = netns.as_fd();
        std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    netns::enter(netns)
                        .map_err(|source| NetError::kernel("enter a network namespace", source))?;
                    Self::open_here()
                })
                .join()
                .expect("opening sockets does not panic")
        })
    }

    /// Duplicates for whoever keeps them while no engine runs.
    pub(crate) fn duplicate(&self) -> io::Result<[OwnedFd; 2]> {
        Ok([
            self.datagrams.as_fd().try_clone_to_owned()?,
            self.connections.as_fd().try_clone_to_owned()?,
        ])
    }

    /// Finds them among sockets that somebody kept, and leaves the others. Those of a name server are the ones that are
    /// not of the calling thread's namespace: published ports are the host's.
    pub(crate) fn among(kept: &mut Vec<OwnedFd>) -> Option<Self> {
        let here = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)
            .ok()
            .and_then(|socket| netns::cookie_of(socket).ok())?;
        let mut take = |kind| {
            let place = kept.iter().position(|socket| {
                sockopt::socket_type(socket) == Ok(kind)
                    && netns::cookie_of(socket).is_ok_and(|cookie| cookie != here)
            })?;
            Some(kept.swap_remove(place))
        };
        let datagrams = take(SocketType::DGRAM);
        let connections = take(SocketType::STREAM);
        Some(Self {
            datagrams: datagrams?.into(),
            connections: connections?.into(),
        })
    }
}
