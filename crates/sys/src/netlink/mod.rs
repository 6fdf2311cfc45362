//! Netlink, the framing: batches of messages with nested attributes, sent in one call, every answer read.
//!
//! The kernel works on a request inside `sendmsg`, so that all acknowledgements of a batch are in the socket's
//! queue when the call returns; reading them never waits. What messages *mean* (links, tables) is for callers.

#![allow(
    clippy::cast_possible_truncation,
    reason = "libc's netlink constants are i32, the wire's fields u16"
)]

use std::borrow::Cow;
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Which part of the kernel a socket speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes.
    Route,
    /// nf_tables and connection tracking.
    Netfilter,
}

/// Ask for an acknowledgement even of success.
pub const ACKNOWLEDGE: u16 = libc::NLM_F_ACK as u16;
/// Make the object.
pub const CREATE: u16 = libc::NLM_F_CREATE as u16;
/// Fail if it exists.
pub const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
/// Replace it if it exists.
pub const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
/// Add at the end of a list.
pub const APPEND: u16 = libc::NLM_F_APPEND as u16;

const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const DUMP: u16 = libc::NLM_F_DUMP as u16;
const HEADER: usize = 16;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// Writes attributes at the end of a message.
pub struct Attributes<'a> {
    out: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    /// An attribute of raw bytes.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.out.extend_from_slice(&length.to_ne_bytes());
        self.out.extend_from_slice(&kind.to_ne_bytes());
        self.out.extend_from_slice(value);
        pad(self.out);
        self
    }

    /// An attribute of one byte.
    pub fn put_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.put(kind, &[value])
    }

    /// An attribute of 32 bits in the machine's order (rtnetlink).
    pub fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// An attribute of 32 bits in network order (nf_tables).
    pub fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// A text with its terminating zero.
    pub fn put_text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.put(kind, &bytes)
    }

    /// An attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        self.nest_after(kind | NESTED, &[], fill)
    }

    /// An attribute that holds a fixed header and then attributes.
    pub fn nest_after(
        &mut self,
        kind: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) -> &mut Self {
        let start = self.out.len();
        self.put(kind, header);
        fill(&mut Attributes { out: self.out });
        let length = u16::try_from(self.out.len() - start).unwrap_or(u16::MAX);
        self.out[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

/// Attributes alone, for a message that holds them as one value.
pub fn attribute_bytes(fill: impl FnOnce(&mut Attributes<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    fill(&mut Attributes { out: &mut out });
    out
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Messages that go out in one `send`, each with the words an error of it is reported in.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    names: Vec<Cow<'static, str>>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one message: its type, flags, fixed header and attributes; `name` says what it does and on what.
    pub fn message(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        kind: u16,
        flags: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(header);
        pad(&mut self.bytes);
        fill(&mut Attributes {
            out: &mut self.bytes,
        });
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.starts.push(start);
        self.names.push(name.into());
        self
    }

    /// How many messages it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The messages as they go out, sequence numbers still zero.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn number(&mut self, first: u32) {
        for (start, sequence) in self.starts.iter().zip(first..) {
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
    }
}

/// A message of a batch that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{name}{}", detail.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
pub struct Refused {
    /// Its place in the batch.
    pub index: usize,
    /// What it does, on what.
    pub name: String,
    /// The kernel's own sentence, where it gave one.
    pub detail: Option<String>,
    /// The error.
    #[source]
    pub source: io::Error,
}

/// One message from the kernel.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its type.
    pub kind: u16,
    /// Port of the socket it answers, or whose request it tells of.
    pub port: u32,
    /// What follows the netlink header.
    pub payload: Vec<u8>,
}

impl Reply {
    /// The attributes after a fixed header of `skip` bytes.
    #[must_use]
    pub fn attributes(&self, skip: usize) -> AttributeIter<'_> {
        attributes(self.payload.get(skip..).unwrap_or_default())
    }

    /// The first attribute of a kind, after a fixed header of `skip` bytes.
    #[must_use]
    pub fn find(&self, skip: usize, kind: u16) -> Option<&[u8]> {
        find(self.payload.get(skip..).unwrap_or_default(), kind)
    }
}

/// The attributes in a piece of a message; a malformed tail ends the iteration.
#[must_use]
pub fn attributes(bytes: &[u8]) -> AttributeIter<'_> {
    AttributeIter { rest: bytes }
}

/// The first attribute of a kind in a piece of a message.
#[must_use]
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// A text attribute without its terminating zero.
#[must_use]
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// Walks attributes as `(kind, value)`.
pub struct AttributeIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for AttributeIter<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.rest.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.rest.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = self.rest.get(4..length)?;
        self.rest = self
            .rest
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some((kind, value))
    }
}

thread_local! {
    /// What is read into: clearing 64 KiB for each look costs more than the look.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A netlink socket; it belongs to the network namespace it was opened in, whichever thread uses it.
pub struct Socket {
    fd: OwnedFd,
    sequence: AtomicU32,
    port: u32,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open(family: Family) -> io::Result<Self> {
        let protocol = match family {
            Family::Route => None,
            Family::Netfilter => Some(netlink::NETFILTER),
        };
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        // Errors without the refused message, and with the kernel's sentence.
        set_option(fd.as_fd(), libc::NETLINK_CAP_ACK, 1)?;
        set_option(fd.as_fd(), libc::NETLINK_EXT_ACK, 1)?;
        rustix::net::sockopt::set_socket_send_buffer_size(&fd, 1 << 20)?;
        let port = SocketAddrNetlink::try_from(rustix::net::getsockname(&fd)?)?.pid();
        Ok(Self {
            fd,
            sequence: AtomicU32::new(1),
            port,
        })
    }

    /// The port id the kernel gave this socket; notifications carry the port of who caused them.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Lets headers of dumps say which objects are wanted (Linux 4.20); before, all come.
    pub fn filter_dumps(&self) {
        let _ = set_option(self.fd.as_fd(), libc::NETLINK_GET_STRICT_CHK, 1);
    }

    /// Joins a multicast group (`RTNLGRP_…`, `NFNLGRP_…`).
    pub fn subscribe(&self, group: i32) -> io::Result<()> {
        set_option(self.fd.as_fd(), libc::NETLINK_ADD_MEMBERSHIP, group)
    }

    /// Lets only notifications of one kind (`RTM_…`) through: whoever waits is not woken for others. Answers to requests
    /// are subject to it, too, so this is for a socket that only listens (socket(7), SO_ATTACH_FILTER).
    pub fn listen_for(&self, kind: u16) -> io::Result<()> {
        // Loads are big-endian; the kind of `struct nlmsghdr` is behind its length.
        let kind = u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
        let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        let mut program = [
            instruction(0x28, 0, 0, 4),
            instruction(0x15, 0, 1, kind),
            instruction(0x06, 0, 0, u32::MAX),
            instruction(0x06, 0, 0, 0),
        ];
        let filter = libc::sock_fprog {
            len: 4,
            filter: program.as_mut_ptr(),
        };
        let size = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or(16);
        // SAFETY: `fd` is open for the call's length; `filter` describes the four instructions of `program`, which live until
        // it returns, and the kernel copies and checks them.
        // JUSTIFICATION: rustix has no socket filters.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const filter).cast(),
                size,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Sends a batch and reads what the kernel answers: the refused messages, in order.
    pub fn execute(&self, batch: &mut Batch) -> io::Result<Vec<Refused>> {
        #[cfg(feature = "testing")]
        crate::fault::before_batch();
        let first = self.send(batch)?;
        let mut refused = Vec::new();
        self.read_queued(|sequence, reply| {
            if let Some((source, detail)) = refusal(reply) {
                let index = sequence.wrapping_sub(first) as usize;
                if index < batch.len() {
                    refused.push(Refused {
                        index,
                        name: batch.names[index].clone().into_owned(),
                        detail,
                        source,
                    });
                }
            }
        })?;
        Ok(refused)
    }

    /// Sends a batch and gives back every message that is no acknowledgement; the first refusal is the error.
    pub fn request(&self, batch: &mut Batch) -> io::Result<Result<Vec<Reply>, Refused>> {
        let first = self.send(batch)?;
        let mut replies = Vec::new();
        let mut refused = None;
        self.read_queued(|sequence, reply| match refusal(reply) {
            Some((source, detail)) => {
                let index = sequence.wrapping_sub(first) as usize;
                if index < batch.len() && refused.is_none() {
                    refused = Some(Refused {
                        index,
                        name: batch.names[index].clone().into_owned(),
                        detail,
                        source,
                    });
                }
            }
            None if i32::from(reply.kind) != libc::NLMSG_ERROR => replies.push(reply.clone()),
            None => {}
        })?;
        Ok(refused.map_or(Ok(replies), Err))
    }

    /// Dumps a kind of object: every message until the kernel says that it is done.
    pub fn dump(
        &self,
        kind: u16,
        header: &[u8],
        fill: impl Fn(&mut Attributes<'_>),
    ) -> io::Result<Vec<Reply>> {
        // A dump that a change interrupted is not consistent: ask again, a few times.
        for _ in 0..5 {
            let mut batch = Batch::new();
            batch.message("dump", kind, DUMP, header, &fill);
            let first = self.send(&mut batch)?;
            if let Some(replies) = self.read_dump(first)? {
                return Ok(replies);
            }
        }
        Err(io::Error::from_raw_os_error(libc::EINTR))
    }

    /// Reads notifications that have arrived, without waiting. An error ENOBUFS says that some were lost.
    pub fn notifications(&self, mut each: impl FnMut(&Reply)) -> io::Result<()> {
        self.read_queued(|_, reply| each(reply))
    }

    fn send(&self, batch: &mut Batch) -> io::Result<u32> {
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let first = self.sequence.fetch_add(count, Ordering::Relaxed);
        batch.number(first);
        loop {
            match rustix::net::send(&self.fd, &batch.bytes, SendFlags::empty()) {
                Ok(sent) if sent == batch.bytes.len() => return Ok(first),
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn read_queued(&self, mut each: impl FnMut(u32, &Reply)) -> io::Result<()> {
        let mut buffer = BUFFER.take();
        buffer.resize(64 << 10, 0);
        let read = self.read_queued_into(&mut buffer, &mut each);
        BUFFER.set(buffer);
        read
    }

    fn read_queued_into(
        &self,
        buffer: &mut [u8],
        each: &mut impl FnMut(u32, &Reply),
    ) -> io::Result<()> {
        loop {
            match rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => messages(&buffer[..length], |sequence, _, reply| {
                    each(sequence, &reply);
                    true
                }),
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn read_dump(&self, expected: u32) -> io::Result<Option<Vec<Reply>>> {
        let mut buffer = vec![0; 64 << 10];
        let mut replies = Vec::new();
        let mut interrupted = false;
        let mut failure = None;
        let mut done = false;
        while !done {
            let length =
                match rustix::net::recv(&self.fd, buffer.as_mut_slice(), RecvFlags::empty()) {
                    Ok((length, _)) => length,
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                };
            messages(&buffer[..length], |sequence, flags, reply| {
                if sequence != expected {
                    return true;
                }
                interrupted |= flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                if i32::from(reply.kind) == libc::NLMSG_DONE {
                    done = true;
                } else if let Some((source, _)) = refusal(&reply) {
                    failure = Some(source);
                    done = true;
                } else {
                    replies.push(reply);
                }
                !done
            });
        }
        match failure {
            Some(error) => Err(error),
            None => Ok((!interrupted).then_some(replies)),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The messages in a datagram as a socket reads them, for fuzzers.
#[must_use]
pub fn replies(datagram: &[u8]) -> Vec<Reply> {
    let mut found = Vec::new();
    messages(datagram, |_, _, reply| {
        let _ = refusal(&reply);
        found.push(reply);
        true
    });
    found
}

/// Calls `each(sequence, flags, message)` for the messages in a datagram until it answers false.
fn messages(mut bytes: &[u8], mut each: impl FnMut(u32, u16, Reply) -> bool) {
    while bytes.len() >= HEADER {
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let length = word(0) as usize;
        if length < HEADER || length > bytes.len() {
            return;
        }
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        let flags = u16::from_ne_bytes([bytes[6], bytes[7]]);
        let reply = Reply {
            kind,
            port: word(12),
            payload: bytes[HEADER..length].to_vec(),
        };
        if !each(word(8), flags, reply) {
            return;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// The error in an error message, with the kernel's sentence; `None` for an acknowledgement or anything else.
fn refusal(reply: &Reply) -> Option<(io::Error, Option<String>)> {
    if i32::from(reply.kind) != libc::NLMSG_ERROR {
        return None;
    }
    let code = i32::from_ne_bytes(reply.payload.get(0..4)?.try_into().ok()?);
    if code == 0 {
        return None;
    }
    // After the code stands the refused message's header, then the kernel's attributes: 1 is its sentence.
    let detail = reply.find(4 + HEADER, 1).map(text);
    Some((io::Error::from_raw_os_error(-code), detail))
}

fn set_option(fd: BorrowedFd<'_>, option: i32, value: i32) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4);
    // SAFETY: `fd` is open for the call's length; the value is an i32 of the stated size, which all netlink
    // options used here take.
    // JUSTIFICATION: rustix has no netlink socket options.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const value).cast(),
            size,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_frames_pads_and_nests() {
        let mut batch = Batch::new();
        batch.message("one", 16, CREATE, &[1, 2], |a| {
            a.put_text(3, "lo").nest(18, |a| {
                a.put_u32(1, 7);
            });
        });
        let expected: Vec<u8> = [
            &[40u8, 0, 0, 0, 16, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[1, 2, 0, 0],
            &[7, 0, 3, 0, b'l', b'o', 0, 0],
            &[12, 0, 18, 0x80, 8, 0, 1, 0, 7, 0, 0, 0],
        ]
        .concat();
        assert_eq!(batch.as_bytes(), expected);
        batch.number(9);
        assert_eq!(batch.as_bytes()[8], 9);
    }

    #[test]
    fn attributes_are_walked_and_a_broken_tail_ends_the_walk() {
        let bytes = [
            8, 0, 1, 0, 7, 0, 0, 0, 5, 0, 2, 0x80, 9, 0, 0, 0, 200, 0, 1, 0,
        ];
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found, [(1, &[7, 0, 0, 0][..]), (2, &[9][..])]);
    }

    #[test]
    fn an_unknown_link_is_refused_by_name() {
        let socket = Socket::open(Family::Route).unwrap();
        let mut batch = Batch::new();
        batch.message("get link nowhere", 18, 0, &[0; 16], |a| {
            a.put_text(3, "nowhere");
        });
        let refused = socket.execute(&mut batch).unwrap();
        assert_eq!(refused[0].name, "get link nowhere");
        assert_eq!(refused[0].source.raw_os_error(), Some(libc::ENODEV));
    }
}
