//! The relay: carries what translation cannot, on the sockets that reserve the host's ports.
//!
//! `[::1]`, and IPv6 to a container without IPv6, cannot be translated by the kernel; and should the firewall table
//! be gone for a moment, IPv4 comes here too instead of meeting a dead port. One thread per engine, with one epoll,
//! started with the first published port.
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
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hoist_model::ContainerId;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec};

use crate::error::NetError;
use crate::ports::Reservation;
use crate::shared::lock;

use datagrams::Sessions;
use streams::Streams;

/// How often idle datagram sessions are looked for.
const TICK: Duration = Duration::from_secs(5);
/// Connections or datagrams taken from one listener before others get their turn.
const TURN: usize = 64;

/// What an event is about: the low two bits of its token; the rest is a number of that kind.
const WAKE: u64 = 0;
const LISTENER: u64 = 1;
const STREAM: u64 = 2;
const SESSION: u64 = 3;

fn token(kind: u64, number: u64) -> EventData {
    EventData::new_u64(number << 2 | kind)
}

/// The handle.
#[derive(Default)]
pub(crate) struct Relay {
    running: Mutex<Option<Running>>,
}

struct Running {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// What both sides see. The epoll instance needs no lock; the kernel has its own.
struct Shared {
    epoll: OwnedFd,
    wake: OwnedFd,
    listeners: Mutex<Listeners>,
}

#[derive(Default)]
struct Listeners {
    next: u64,
    by_number: HashMap<u64, Listener>,
    /// Containers whose connections are to be dropped.
    ended: Vec<ContainerId>,
    stop: bool,
}

/// One reserved port.
struct Listener {
    owner: ContainerId,
    socket: Reservation,
    target: SocketAddr,
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

impl Relay {
    /// Takes a container's reserving sockets, each with where its traffic goes.
    pub(crate) fn add(
        &self,
        owner: &ContainerId,
        sockets: Vec<(Reservation, SocketAddr)>,
    ) -> Result<(), NetError> {
        if sockets.is_empty() {
            return Ok(());
        }
        let mut running = lock(&self.running);
        let shared = match &*running {
            Some(running) => &running.shared,
            None => &running.insert(start()?).shared,
        };
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
                target,
            };
            if let Some(fd) = listener.fd() {
                epoll::add(&shared.epoll, fd, token(LISTENER, number), EventFlags::IN)
                    .map_err(|source| NetError::kernel("watch a published port", source))?;
            }
            listeners.by_number.insert(number, listener);
        }
        Ok(())
    }

    /// Closes a container's reserving sockets; its relayed connections end soon after.
    pub(crate) fn remove(&self, owner: &ContainerId) {
        let running = lock(&self.running);
        if let Some(running) = &*running {
            let mut listeners = lock(&running.shared.listeners);
            let before = listeners.by_number.len();
            listeners.by_number.retain(|_, one| one.owner != *owner);
            if listeners.by_number.len() != before {
                listeners.ended.push(owner.clone());
                running.shared.wake();
            }
        }
    }

    /// Closes everything and ends the thread.
    pub(crate) fn stop(&self) {
        let running = lock(&self.running).take();
        if let Some(running) = running {
            {
                let mut listeners = lock(&running.shared.listeners);
                listeners.by_number.clear();
                listeners.stop = true;
            }
            running.shared.wake();
            if running.thread.join().is_err() {
                tracing::error!("the port relay panicked");
            }
        }
    }
}

impl Shared {
    fn wake(&self) {
        // A full counter means that the thread is being woken already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

fn start() -> Result<Running, NetError> {
    let fail = |source: rustix::io::Errno| NetError::kernel("start the port relay", source);
    let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(fail)?;
    let wake =
        rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(fail)?;
    epoll::add(&epoll, &wake, token(WAKE, 0), EventFlags::IN).map_err(fail)?;
    let shared = Arc::new(Shared {
        epoll,
        wake,
        listeners: Mutex::default(),
    });
    let seat = Seat {
        shared: Arc::clone(&shared),
        streams: Streams::default(),
        sessions: Sessions::default(),
        scratch: vec![0; 64 << 10],
    };
    let thread = std::thread::Builder::new()
        .name("net-relay".to_owned())
        .spawn(move || seat.run())
        .map_err(|source| NetError::kernel("start the port relay", source))?;
    Ok(Running { shared, thread })
}

/// What the thread owns.
struct Seat {
    shared: Arc<Shared>,
    streams: Streams,
    sessions: Sessions,
    /// Every byte relayed passes through here; only what the other side cannot take at once is kept elsewhere.
    scratch: Vec<u8>,
}

impl Seat {
    fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            let wait = if self.streams.has_more() {
                Some(Duration::ZERO)
            } else {
                (!self.sessions.is_empty()).then_some(TICK)
            };
            let timeout = wait.map(|wait| Timespec {
                tv_sec: wait.as_secs().cast_signed(),
                tv_nsec: 0,
            });
            events.clear();
            let waited = epoll::wait(
                &self.shared.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            );
            if let Err(error) = waited
                && error != rustix::io::Errno::INTR
            {
                tracing::error!(%error, "the port relay cannot wait");
                return;
            }
            for event in events.drain(..) {
                let data = event.data.u64();
                let (kind, number) = (data & 3, data >> 2);
                match kind {
                    LISTENER => self.listener(number),
                    STREAM => self.streams.event(number, event.flags, &mut self.scratch),
                    SESSION => {
                        let listeners = lock(&self.shared.listeners);
                        self.sessions
                            .answer(number, &listeners.by_number, &mut self.scratch);
                    }
                    _ => {
                        let mut counter = [0; 8];
                        let _ = rustix::io::read(&self.shared.wake, &mut counter);
                    }
                }
            }
            self.streams.go_on(&mut self.scratch);
            self.sessions.expire(Instant::now());
            let (ended, stop) = {
                let mut listeners = lock(&self.shared.listeners);
                (std::mem::take(&mut listeners.ended), listeners.stop)
            };
            for owner in ended {
                self.streams.end(&owner);
                self.sessions.end(&owner);
            }
            if stop {
                return;
            }
        }
    }

    fn listener(&mut self, number: u64) {
        let listeners = lock(&self.shared.listeners);
        let Some(listener) = listeners.by_number.get(&number) else {
            return;
        };
        for _ in 0..TURN {
            let done = match &listener.socket {
                Reservation::Tcp(socket) => self.streams.accept(
                    &self.shared.epoll,
                    socket,
                    &listener.owner,
                    listener.target,
                ),
                Reservation::Udp(socket) => self.sessions.forward(
                    &self.shared.epoll,
                    (number, socket),
                    &listener.owner,
                    listener.target,
                    &mut self.scratch,
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
