//! Relayed datagrams: one socket towards the container per asker, forgotten after a silence.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hoist_model::ContainerId;
use hoist_sys::datagram;
use rustix::event::epoll::{self, EventFlags};

use super::{Listener, TICK, TURN};
use crate::event_thread::{Kind, token};
use crate::ports::Reservation;

/// Silence after which an asker is forgotten (moby: UDPConnTrackTimeout).
const SILENCE: Duration = Duration::from_secs(90);
/// Askers kept at most: a flood of made-up senders must not use up the descriptors.
const MOST: usize = 4096;

/// Who asks, through which listener, at which of the host's addresses.
type Asker = (u64, SocketAddr, Option<IpAddr>);

/// All sessions.
#[derive(Default)]
pub(super) struct Sessions {
    next: u64,
    by_number: HashMap<u64, Session>,
    by_asker: HashMap<Asker, u64>,
    looked: Option<Instant>,
}

struct Session {
    owner: ContainerId,
    asker: Asker,
    socket: UdpSocket,
    heard: Instant,
}

impl Sessions {
    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// Takes one datagram from a listener to the container.
    pub(super) fn forward(
        &mut self,
        epoll: &OwnedFd,
        (listener, socket): (u64, &UdpSocket),
        owner: &ContainerId,
        target: SocketAddr,
        scratch: &mut [u8],
    ) -> io::Result<()> {
        let (length, from, to) = datagram::receive(socket, scratch)?;
        let asker = (listener, from, to);
        let number = match self.by_asker.get(&asker) {
            Some(number) => *number,
            None => self.open(epoll, asker, owner, target)?,
        };
        if let Some(session) = self.by_number.get_mut(&number) {
            session.heard = Instant::now();
            // Datagrams may be lost; a full queue or an absent server loses them as a network would.
            let _ = session.socket.send(&scratch[..length]);
        }
        Ok(())
    }

    fn open(
        &mut self,
        epoll: &OwnedFd,
        asker: Asker,
        owner: &ContainerId,
        target: SocketAddr,
    ) -> io::Result<u64> {
        if self.by_number.len() >= MOST {
            let oldest = self
                .by_number
                .iter()
                .min_by_key(|(_, session)| session.heard)
                .map(|(number, _)| *number);
            if let Some(oldest) = oldest {
                self.forget(oldest);
            }
        }
        let any: IpAddr = if target.is_ipv4() {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(target)?;
        let number = self.next;
        self.next += 1;
        epoll::add(epoll, &socket, token(Kind::Session, number), EventFlags::IN)?;
        self.by_asker.insert(asker, number);
        self.by_number.insert(
            number,
            Session {
                owner: owner.clone(),
                asker,
                socket,
                heard: Instant::now(),
            },
        );
        Ok(number)
    }

    /// Takes what the container answered back to the asker, from the address that was asked.
    pub(super) fn answer(
        &mut self,
        number: u64,
        listeners: &HashMap<u64, Listener>,
        scratch: &mut [u8],
    ) {
        let Some(session) = self.by_number.get_mut(&number) else {
            return;
        };
        let (listener, to, from) = session.asker;
        let socket = match listeners.get(&listener).map(|one| &one.socket) {
            Some(Reservation::Udp(socket)) => socket,
            _ => return self.forget(number),
        };
        for _ in 0..TURN {
            match session.socket.recv(scratch) {
                Ok(length) => {
                    session.heard = Instant::now();
                    // As above: lost as on a network.
                    let _ = datagram::send(socket, &scratch[..length], to, from);
                }
                // Nothing more; or the container refused, which the asker learns by silence.
                Err(_) => return,
            }
        }
    }

    /// Forgets who was silent for long.
    pub(super) fn expire(&mut self, now: Instant) {
        if self
            .looked
            .is_some_and(|at| now.saturating_duration_since(at) < TICK)
        {
            return;
        }
        self.looked = Some(now);
        let silent: Vec<u64> = self
            .by_number
            .iter()
            .filter(|(_, session)| now.saturating_duration_since(session.heard) >= SILENCE)
            .map(|(number, _)| *number)
            .collect();
        for number in silent {
            self.forget(number);
        }
    }

    /// Forgets a container's sessions.
    pub(super) fn end(&mut self, owner: &ContainerId) {
        self.by_number.retain(|_, session| session.owner != *owner);
        let by_number = &self.by_number;
        self.by_asker
            .retain(|_, number| by_number.contains_key(number));
    }

    fn forget(&mut self, number: u64) {
        if let Some(session) = self.by_number.remove(&number) {
            self.by_asker.remove(&session.asker);
        }
    }
}
