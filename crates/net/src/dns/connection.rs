//! Connections of those who ask for names: one question at a time each, in order, bounded in number and in silence.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventFlags};

use super::{Client, wire};
use crate::event_thread::{Kind, token};

/// Silence after which a connection is closed (RFC 7766 §6.2.3 asks for seconds).
const SILENCE: Duration = Duration::from_secs(10);
/// How often silent ones are looked for.
pub(super) const TICK: Duration = Duration::from_secs(2);
/// Bytes of a question at most: those that anybody asks have less than a hundredth of what a length can say.
const LONGEST: usize = 8 << 10;
/// Bytes taken at once.
const PIECE: usize = 4 << 10;
/// Connections of one container at most: who opens more loses the one that was silent longest.
const MOST_OF_ONE: usize = 64;

/// All connections.
#[derive(Default)]
pub(super) struct Connections {
    next: u64,
    open: HashMap<u64, Connection>,
    looked: Option<Instant>,
}

struct Connection {
    client: Arc<Client>,
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// A question of it is on its way elsewhere; no other is taken meanwhile.
    waiting: bool,
    ended: bool,
    interest: EventFlags,
    heard: Instant,
}

impl Connections {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Accepts one connection.
    pub(super) fn accept(
        &mut self,
        epoll: &OwnedFd,
        client: &Arc<Client>,
        now: Instant,
    ) -> io::Result<()> {
        let (stream, _) = client.sockets.connections.accept()?;
        stream.set_nonblocking(true)?;
        let of_it = || {
            self.open
                .iter()
                .filter(|(_, one)| one.client.number == client.number)
        };
        if of_it().count() >= MOST_OF_ONE
            && let Some((&oldest, _)) = of_it().min_by_key(|(_, one)| one.heard)
        {
            self.open.remove(&oldest);
        }
        let number = self.next;
        self.next += 1;
        let interest = EventFlags::IN;
        epoll::add(epoll, &stream, token(Kind::Connection, number), interest)?;
        self.open.insert(
            number,
            Connection {
                client: Arc::clone(client),
                stream,
                input: Vec::new(),
                output: Vec::new(),
                waiting: false,
                ended: false,
                interest,
                heard: now,
            },
        );
        Ok(())
    }

    /// Whose it is.
    pub(super) fn client(&self, number: u64) -> Option<Arc<Client>> {
        Some(Arc::clone(&self.open.get(&number)?.client))
    }

    /// Carries bytes after an event.
    pub(super) fn event(
        &mut self,
        number: u64,
        flags: EventFlags,
        now: Instant,
        scratch: &mut [u8],
    ) {
        let Some(connection) = self.open.get_mut(&number) else {
            return;
        };
        connection.heard = now;
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        if broken || connection.carry(scratch).is_err() {
            self.open.remove(&number);
        }
    }

    /// The next question, if one is whole and may be answered now.
    pub(super) fn question(&mut self, number: u64) -> Option<Vec<u8>> {
        let connection = self.open.get_mut(&number)?;
        if connection.waiting || !connection.output.is_empty() {
            return None;
        }
        let question = wire::framed(&connection.input)?.to_vec();
        connection.input.drain(..2 + question.len());
        connection.waiting = true;
        Some(question)
    }

    /// Sends the answer to the question; none closes the connection.
    pub(super) fn answer(&mut self, number: u64, answer: Option<&[u8]>, now: Instant) {
        let Some(connection) = self.open.get_mut(&number) else {
            return;
        };
        let framed = answer.and_then(|answer| {
            let length = u16::try_from(answer.len()).ok()?;
            connection.output.extend(length.to_be_bytes());
            connection.output.extend(answer);
            Some(())
        });
        connection.waiting = false;
        connection.heard = now;
        if framed.is_none() || connection.send().is_err() {
            self.open.remove(&number);
        }
    }

    /// Listens for what can come next; closes the connection if nothing can.
    pub(super) fn settle(&mut self, epoll: &OwnedFd, number: u64) {
        let Some(connection) = self.open.get_mut(&number) else {
            return;
        };
        let interest = if !connection.output.is_empty() {
            EventFlags::OUT
        } else if connection.waiting {
            EventFlags::empty()
        } else if connection.ended {
            self.open.remove(&number);
            return;
        } else {
            EventFlags::IN
        };
        if interest != connection.interest {
            connection.interest = interest;
            let number = token(Kind::Connection, number);
            // Fails only where the kernel has no memory: then it is closed as silent.
            let _ = epoll::modify(epoll, &connection.stream, number, interest);
        }
    }

    /// Closes the silent ones.
    pub(super) fn expire(&mut self, now: Instant) {
        let early = |at| now.saturating_duration_since(at) < TICK;
        if self.open.is_empty() || self.looked.is_some_and(early) {
            return;
        }
        self.looked = Some(now);
        self.open
            .retain(|_, one| now.saturating_duration_since(one.heard) < SILENCE);
    }

    /// Closes a client's.
    pub(super) fn end(&mut self, client: u64) {
        self.open.retain(|_, one| one.client.number != client);
    }
}

impl Connection {
    fn carry(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        self.send()?;
        while self.output.is_empty() && !self.waiting && !self.ended {
            match self.stream.read(&mut scratch[..PIECE]) {
                Ok(0) => self.ended = true,
                Ok(_) if wire::framed_length(&self.input) > LONGEST => {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Ok(length) => self.input.extend_from_slice(&scratch[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if wire::framed(&self.input).is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(length) => {
                    self.output.drain(..length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
