//! The relay: carries what translation cannot, on the sockets that reserve the host's ports.
//!
//! `[::1]`, and IPv6 to a container without IPv6, cannot be translated by the kernel; and should the firewall table
//! be gone for a moment, IPv4 comes here too instead of meeting a dead port. It works on the engine's event thread.
//!
//! ```text
//! attach ── add ──► listeners (lock) ◄── accept, receive ── thread ── streams, sessions (its own)
//! detach ── remove ─┘ ports are free when it returns; `ended` tells the thread to drop connections
//! ```

mod datagrams;
mod streams;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hoist_model::ContainerId;
use rustix::event::epoll::{self, EventFlags};

use crate::error::NetError;
use crate::event_thread::{EventThread, Kind, Shared, token};
use crate::ports::Reservation;
use crate::shared::lock;

use datagrams::Sessions;
use streams::Streams;

/// How often idle datagram sessions are looked for.
const TICK: Duration = Duration::from_secs(5);
/// Connections or datagrams taken from one listener before others get their turn.
const TURN: usize = 64;

/// The handle.
pub(crate) struct Relay {
    thread: Arc<EventThread>,
}

/// The reserved ports, as handle and thread see them.
#[derive(Default)]
pub(crate) struct Listeners {
    next: u64,
    by_number: HashMap<u64, Listener>,
    /// Containers whose connections are to be dropped.
    ended: Vec<ContainerId>,
}

/// One reserved port.
struct Listener {
    owner: ContainerId,
    socket: Reservation,
    /// The container's port.
    port: u16,
    /// The container's address; `None` while it is on no network that leads out.
    ip: Option<std::net::IpAddr>,
}

impl Listener {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.socket {
            Reservation::Tcp(socket) => Some(socket.as_fd()),
            Reservation::Udp(socket) => Some(socket.as_fd()),
            Reservation::None => None,
        }
    }
}

impl Listener {
    /// Takes one connection or datagram and lets it go; an error says that there is none.
    fn refuse(&self, scratch: &mut [u8]) -> io::Result<()> {
        match &self.socket {
            Reservation::Tcp(socket) => socket.accept().map(drop),
            Reservation::Udp(socket) => socket.recv_from(scratch).map(drop),
            Reservation::None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Relay {
    pub(crate) fn new(thread: Arc<EventThread>) -> Self {
        Self { thread }
    }

    /// Takes a container's reserving sockets, each with where its traffic goes.
    pub(crate) fn add(
        &self,
        owner: &ContainerId,
        sockets: Vec<(Reservation, SocketAddr)>,
    ) -> Result<(), NetError> {
        if sockets.is_empty() {
            return Ok(());
        }
        let shared = self.thread.start()?;
        let mut listeners = lock(&shared.listeners);
        for (socket, target) in sockets {
            if let Reservation::Udp(socket) = &socket {
                let v6 = socket.local_addr().is_ok_and(|address| address.is_ipv6());
                hoist_sys::datagram::tell_local_address(socket, v6)
                    .map_err(|source| NetError::kernel("prepare a relaying socket", source))?;
            }
            let number = listeners.next;
            listeners.next += 1;
            let listener = Listener {
                owner: owner.clone(),
                socket,
                port: target.port(),
                ip: Some(target.ip()),
            };
            if let Some(fd) = listener.fd() {
                epoll::add(
                    &shared.epoll,
                    fd,
                    token(Kind::Listener, number),
                    EventFlags::IN,
                )
                .map_err(|source| NetError::kernel("watch a published port", source))?;
            }
            listeners.by_number.insert(number, listener);
        }
        Ok(())
    }

    /// Duplicates of a container's reserving sockets, but those that cannot be duplicated.
    pub(crate) fn reserving(&self, owner: &ContainerId) -> Vec<OwnedFd> {
        let Some(shared) = self.thread.shared() else {
            return Vec::new();
        };
        let listeners = lock(&shared.listeners);
        let own = listeners.by_number.values();
        own.filter(|one| one.owner == *owner)
            .filter_map(|one| one.socket.duplicate().ok()?)
            .collect()
    }

    /// Sends what comes to a container's reserving sockets from now on to another address of it, or nowhere.
    pub(crate) fn lead_to(&self, owner: &ContainerId, ip: Option<std::net::IpAddr>) {
        if let Some(shared) = self.thread.shared() {
            let mut listeners = lock(&shared.listeners);
            let own = listeners.by_number.values_mut();
            for listener in own.filter(|one| one.owner == *owner) {
                listener.ip = ip;
            }
        }
    }

    /// Closes a container's reserving sockets; its relayed connections end soon after.
    pub(crate) fn remove(&self, owner: &ContainerId) {
        if let Some(shared) = self.thread.shared() {
            let mut listeners = lock(&shared.listeners);
            let before = listeners.by_number.len();
            listeners.by_number.retain(|_, one| one.owner != *owner);
            if listeners.by_number.len() != before {
                listeners.ended.push(owner.clone());
                shared.wake();
            }
        }
    }
}

impl Listeners {
    /// Closes every port.
    pub(crate) fn clear(&mut self) {
        self.by_number.clear();
    }
}

/// What the thread has of the relay.
#[derive(Default)]
pub(crate) struct Relaying {
    streams: Streams,
    sessions: Sessions,
}

impl Relaying {
    /// How long the thread may sleep.
    pub(crate) fn wait(&self) -> Option<Duration> {
        if self.streams.has_more() {
            Some(Duration::ZERO)
        } else {
            (!self.sessions.is_empty()).then_some(TICK)
        }
    }

    /// Every byte relayed passes through `scratch`; only what the other side cannot take at once is kept elsewhere.
    pub(crate) fn event(
        &mut self,
        shared: &Shared,
        kind: Kind,
        number: u64,
        flags: EventFlags,
        scratch: &mut [u8],
    ) {
        match kind {
            Kind::Stream => self.streams.event(number, flags, scratch),
            Kind::Session => {
                let listeners = lock(&shared.listeners);
                self.sessions.answer(number, &listeners.by_number, scratch);
            }
            _ => self.listener(shared, number, scratch),
        }
    }

    /// What is to be done between two waits.
    pub(crate) fn turn(&mut self, shared: &Shared, now: Instant, scratch: &mut [u8]) {
        self.streams.go_on(scratch);
        self.sessions.expire(now);
        let ended = std::mem::take(&mut lock(&shared.listeners).ended);
        for owner in ended {
            self.streams.end(&owner);
            self.sessions.end(&owner);
        }
    }

    fn listener(&mut self, shared: &Shared, number: u64, scratch: &mut [u8]) {
        let listeners = lock(&shared.listeners);
        let Some(listener) = listeners.by_number.get(&number) else {
            return;
        };
        for _ in 0..TURN {
            let Some(ip) = listener.ip else {
                if listener.refuse(scratch).is_err() {
                    return;
                }
                continue;
            };
            let target = SocketAddr::new(ip, listener.port);
            let done = match &listener.socket {
                Reservation::Tcp(socket) => {
                    self.streams
                        .accept(&shared.epoll, socket, &listener.owner, target)
                }
                Reservation::Udp(socket) => self.sessions.forward(
                    &shared.epoll,
                    (number, socket),
                    &listener.owner,
                    target,
                    scratch,
                ),
                Reservation::None => return,
            };
            match done {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(container = %listener.owner, %error, "cannot relay");
                    return;
                }
            }
        }
    }
}
