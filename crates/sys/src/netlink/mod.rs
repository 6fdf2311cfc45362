//! Netlink: batches of messages with nested attributes, sent in one call, every answer read.
//!
//! The kernel works on a request inside `sendmsg`, so that all acknowledgements of a batch are in the socket's
//! queue when the call returns; reading them never waits. What messages *mean* (links, tables) is for callers.

#![allow(
    clippy::cast_possible_truncation,
    reason = "libc's netlink constants are i32, the wire's fields u16"
)]

mod message;

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

pub use message::{
    ACKNOWLEDGE, APPEND, AttributeIter, Attributes, Batch, CREATE, EXCLUSIVE, REPLACE, Reply,
    attribute_bytes, attributes, find, replies, text,
};

use message::{DUMP, messages, refusal};
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
                        name: batch.name(index),
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
                        name: batch.name(index),
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
            match rustix::net::send(&self.fd, batch.as_bytes(), SendFlags::empty()) {
                Ok(sent) if sent == batch.as_bytes().len() => return Ok(first),
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
