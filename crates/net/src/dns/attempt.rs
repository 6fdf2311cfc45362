//! One question on its way to one server.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::wire::{self, Transport, Verdict};
use crate::event_thread::{Kind, token};

/// What came of an event.
pub(super) enum Progress {
    /// Nothing yet.
    Pending,
    /// This server will not answer.
    Failed,
    /// The answer, with the attempt's id.
    Answer(Vec<u8>),
}

/// What is asked where.
pub(super) struct Question<'a> {
    pub(super) query: &'a [u8],
    pub(super) transport: Transport,
    pub(super) server: SocketAddr,
    /// Number of its events.
    pub(super) token: u64,
}

/// A question on its way.
pub(super) struct Attempt {
    id: u16,
    way: Way,
}

enum Way {
    Datagram(UdpSocket),
    Connection(Connection),
}

struct Connection {
    stream: TcpStream,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
}

impl Attempt {
    /// Sends a question, from the calling thread's namespace.
    pub(super) fn begin(epoll: &OwnedFd, question: &Question<'_>) -> io::Result<Self> {
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        let id = u16::from_ne_bytes(id);
        let query = wire::with_id(question.query, id);
        let server = question.server;
        let (kind, flags) = match question.transport {
            Transport::Udp => (SocketType::DGRAM, EventFlags::IN),
            Transport::Tcp => (SocketType::STREAM, EventFlags::OUT),
        };
        let family = if server.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let socket_flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, kind, socket_flags, None)?;
        match rustix::net::connect(&socket, &server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let way = match question.transport {
            Transport::Udp => {
                let socket = UdpSocket::from(socket);
                socket.send(&query)?;
                Way::Datagram(socket)
            }
            Transport::Tcp => {
                let length = u16::try_from(query.len()).map_err(io::Error::other)?;
                let mut output = length.to_be_bytes().to_vec();
                output.extend(query);
                Way::Connection(Connection {
                    stream: socket.into(),
                    output,
                    written: 0,
                    input: Vec::new(),
                })
            }
        };
        let attempt = Self { id, way };
        let number = token(Kind::Exchange, question.token);
        epoll::add(epoll, attempt.fd(), number, flags)?;
        Ok(attempt)
    }

    fn fd(&self) -> impl AsFd {
        match &self.way {
            Way::Datagram(socket) => socket.as_fd(),
            Way::Connection(connection) => connection.stream.as_fd(),
        }
    }

    /// Takes what came; `asked` is the question's bytes.
    pub(super) fn go_on(
        &mut self,
        epoll: &OwnedFd,
        number: u64,
        asked: &[u8],
        scratch: &mut [u8],
    ) -> Progress {
        let Way::Connection(connection) = &mut self.way else {
            return self.datagram(asked, scratch);
        };
        let done = connection.go_on(epoll, number, scratch);
        let bytes = match done {
            Ok(None) => return Progress::Pending,
            Ok(Some(bytes)) => bytes,
            Err(_) => return Progress::Failed,
        };
        match wire::judge(&bytes, self.id, asked) {
            Verdict::Answer => Progress::Answer(bytes),
            Verdict::Failed | Verdict::Stray => Progress::Failed,
        }
    }

    fn datagram(&self, asked: &[u8], scratch: &mut [u8]) -> Progress {
        let Way::Datagram(socket) = &self.way else {
            return Progress::Failed;
        };
        loop {
            match socket.recv(scratch) {
                Ok(length) => match wire::judge(&scratch[..length], self.id, asked) {
                    Verdict::Stray => {}
                    Verdict::Failed => return Progress::Failed,
                    Verdict::Answer => return Progress::Answer(scratch[..length].to_vec()),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Progress::Pending;
                }
                // Nobody listens there, or there is no way.
                Err(_) => return Progress::Failed,
            }
        }
    }
}

impl Connection {
    /// Sends, then receives; answers a message when one is there.
    fn go_on(
        &mut self,
        epoll: &OwnedFd,
        number: u64,
        scratch: &mut [u8],
    ) -> io::Result<Option<Vec<u8>>> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
            if self.written == self.output.len() {
                let number = token(Kind::Exchange, number);
                epoll::modify(epoll, &self.stream, number, EventFlags::IN)?;
            }
        }
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.input.extend_from_slice(&scratch[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
            if let Some(message) = wire::framed(&self.input) {
                return Ok(Some(message.to_vec()));
            }
        }
    }
}
