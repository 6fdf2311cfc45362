//! Relayed TCP connections: bytes both ways, half-closes kept, a slow reader slows the writer.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use hoist_model::ContainerId;
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::event_thread::{Kind, token};

/// Bytes one connection may carry before others get their turn.
const TURN: usize = 1 << 20;

/// All relayed connections.
#[derive(Default)]
pub(super) struct Streams {
    next: u64,
    by_number: HashMap<u64, Connection>,
    /// Connections that had more to carry when their turn ended.
    more: VecDeque<u64>,
}

struct Connection {
    owner: ContainerId,
    client: TcpStream,
    server: TcpStream,
    /// Whether the connection to the container stands; nothing is carried before.
    connected: bool,
    up: Half,
    down: Half,
}

/// One direction.
#[derive(Default)]
struct Half {
    /// What was read and could not be written yet.
    pending: Vec<u8>,
    written: usize,
    /// The source has ended.
    ended: bool,
    /// The end was passed on.
    closed: bool,
}

impl Streams {
    /// Accepts one connection and starts the one to the container.
    pub(super) fn accept(
        &mut self,
        epoll: &OwnedFd,
        listener: &TcpListener,
        owner: &ContainerId,
        target: SocketAddr,
    ) -> io::Result<()> {
        let (client, _) = listener.accept()?;
        client.set_nonblocking(true)?;
        let server = connect(target)?;
        // A relay must not wait for more: its peers decide what belongs together.
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let number = self.next;
        // Two tokens per connection: even is the client's socket.
        self.next += 2;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &client, token(Kind::Stream, number), flags)?;
        epoll::add(epoll, &server, token(Kind::Stream, number + 1), flags)?;
        self.by_number.insert(
            number,
            Connection {
                owner: owner.clone(),
                client,
                server,
                connected: false,
                up: Half::default(),
                down: Half::default(),
            },
        );
        Ok(())
    }

    /// Heeds an event of one of a connection's sockets.
    pub(super) fn event(&mut self, number: u64, flags: EventFlags, scratch: &mut [u8]) {
        let is_server = number & 1 == 1;
        let number = number & !1;
        let Some(connection) = self.by_number.get_mut(&number) else {
            return;
        };
        if is_server && !connection.connected {
            let ready = flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP);
            if !ready {
                return;
            }
            if !matches!(connection.server.take_error(), Ok(None)) {
                self.by_number.remove(&number);
                return;
            }
            connection.connected = true;
        }
        if connection.connected {
            self.carry(number, scratch);
        }
    }

    /// Whether a connection waits for another turn.
    pub(super) fn has_more(&self) -> bool {
        !self.more.is_empty()
    }

    /// Gives those that had more a turn.
    pub(super) fn go_on(&mut self, scratch: &mut [u8]) {
        for number in std::mem::take(&mut self.more) {
            self.carry(number, scratch);
        }
    }

    /// Drops a container's connections.
    pub(super) fn end(&mut self, owner: &ContainerId) {
        self.by_number
            .retain(|_, connection| connection.owner != *owner);
    }

    fn carry(&mut self, number: u64, scratch: &mut [u8]) {
        let Some(connection) = self.by_number.get_mut(&number) else {
            return;
        };
        let Connection {
            client,
            server,
            up,
            down,
            ..
        } = connection;
        let carried = up
            .carry(client, server, scratch)
            .and_then(|more| Ok(more | down.carry(server, client, scratch)?));
        match carried {
            Ok(_) if up.closed && down.closed => {
                self.by_number.remove(&number);
            }
            Ok(true) => {
                if !self.more.contains(&number) {
                    self.more.push_back(number);
                }
            }
            Ok(false) => {}
            // One side is broken: closing both passes that on.
            Err(_) => {
                self.by_number.remove(&number);
            }
        }
    }
}

impl Half {
    /// Carries what there is, until a socket would wait; true if the turn ended before.
    fn carry(
        &mut self,
        mut from: &TcpStream,
        mut to: &TcpStream,
        scratch: &mut [u8],
    ) -> io::Result<bool> {
        let mut carried = 0;
        while carried < TURN {
            if self.written < self.pending.len() {
                match would_wait(|| to.write(&self.pending[self.written..]))? {
                    Some(count) => self.written += count,
                    None => return Ok(false),
                }
                continue;
            }
            if !self.pending.is_empty() {
                // Idle connections keep no buffer.
                self.pending = Vec::new();
                self.written = 0;
            }
            if self.ended {
                if !self.closed {
                    self.closed = true;
                    to.shutdown(Shutdown::Write)?;
                }
                return Ok(false);
            }
            match would_wait(|| from.read(scratch))? {
                None => return Ok(false),
                Some(0) => self.ended = true,
                Some(count) => {
                    carried += count;
                    let written = would_wait(|| to.write(&scratch[..count]))?.unwrap_or(0);
                    self.pending.extend_from_slice(&scratch[written..count]);
                }
            }
        }
        Ok(true)
    }
}

/// Does a read or write again if a signal interrupts it; `None` where the socket would make the caller wait.
fn would_wait(mut work: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match work() {
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Starts a connection without waiting for it.
fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let family = match target {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}
