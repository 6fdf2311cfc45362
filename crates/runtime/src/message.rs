//! The words between daemon, zygote and monitors: packets over SOCK_SEQPACKET with descriptors beside them.
//!
//! ```text
//! offset  size  field (little-endian)
//!      0     4  magic "HST1"
//!      4     2  protocol version
//!      6     2  kind
//!      8     4  body length in bytes
//!     12     2  descriptors in all, over every packet of the message
//!     14     2  flags: bit 0, the body is in a sealed memfd, the first descriptor; bit 1, a follow-up packet
//!     16        the body, unless in a memfd
//! ```
//!
//! A message of more than 64 descriptors goes on in follow-up packets. A truncated packet is fatal: the peer is
//! another version or hostile. Bodies are JSON of the types here; a new daemon speaks to old monitors.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

const MAGIC: &[u8; 4] = b"HST1";
const VERSION: u16 = 1;
const HEADER: usize = 16;
/// Bodies up to here travel in the packet; a memfd costs more than the copy.
const INLINE: usize = 24 * 1024;
/// Descriptors per packet; the kernel takes 253.
const FDS: usize = 64;
/// A body that is longer comes from nobody we know.
const LONGEST: usize = 4 << 20;
const IN_MEMFD: u16 = 1;
const FOLLOW_UP: u16 = 2;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Kind {
    /// Daemon to zygote: make a monitor of this order. Daemon to a spare: be the monitor of it.
    Order = 1,
    /// Monitor to daemon: the program runs.
    Started = 2,
    /// Monitor to daemon: it could not be started.
    Failed = 3,
    /// Monitor to daemon: it ended.
    Ended = 4,
    /// Daemon to monitor: the end was recorded, go.
    Recorded = 5,
    /// Daemon to monitor: carry the streams to this descriptor.
    Attach = 6,
    /// Daemon to monitor: set the terminal's size.
    Resize = 7,
    /// Daemon to zygote: make a monitor in place of one that died.
    Succeed = 8,
    /// Monitor to daemon: standard input is closed, its duplicate has to go too.
    InputClosed = 9,
    /// Daemon to the keeper of a user namespace: make a namespace; and its answer. See [`crate::user_namespace`].
    Namespace = 10,
    /// Child to monitor: another process, the one beside this, goes on with the plan.
    Descended = 11,
    /// Daemon to zygote: make a monitor that waits for its order.
    Spare = 12,
}

impl Kind {
    fn from_number(number: u16) -> Option<Self> {
        [
            Self::Order,
            Self::Started,
            Self::Failed,
            Self::Ended,
            Self::Recorded,
            Self::Attach,
            Self::Resize,
            Self::Succeed,
            Self::InputClosed,
            Self::Namespace,
            Self::Descended,
            Self::Spare,
        ]
        .into_iter()
        .find(|kind| *kind as u16 == number)
    }
}

/// One message as it came.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    body: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Message {
    /// Forgets the body: it may hold another container's secrets, and the init of a later one is a fork of this process.
    pub(crate) fn wipe(&mut self) {
        wipe(&mut self.body);
    }

    /// The body as the type that goes with the kind.
    pub(crate) fn body<T: DeserializeOwned>(&self) -> io::Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|error| invalid(&format!("message body: {error}")))
    }
}

/// Leaves nothing of these bytes in freed memory, which later forks copy.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Keeps the writes: nobody reads them.
    std::hint::black_box(bytes);
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn header(kind: Kind, body: usize, fds: usize, flags: u16) -> io::Result<[u8; HEADER]> {
    let too_long = || invalid("message too long");
    let mut bytes = [0; HEADER];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
    bytes[6..8].copy_from_slice(&(kind as u16).to_le_bytes());
    bytes[8..12].copy_from_slice(&u32::try_from(body).map_err(|_| too_long())?.to_le_bytes());
    bytes[12..14].copy_from_slice(&u16::try_from(fds).map_err(|_| too_long())?.to_le_bytes());
    bytes[14..16].copy_from_slice(&flags.to_le_bytes());
    Ok(bytes)
}

/// Sends one message. Blocks while the peer's buffer is full, unless the socket is non-blocking.
pub(crate) fn send<T: Serialize>(
    socket: impl AsFd,
    kind: Kind,
    body: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let socket = socket.as_fd();
    let body = serde_json::to_vec(body).map_err(io::Error::other)?;
    let memfd = if body.len() > INLINE {
        Some(sealed(&body)?)
    } else {
        None
    };
    let mut all: Vec<BorrowedFd<'_>> = Vec::with_capacity(fds.len() + 1);
    all.extend(memfd.as_ref().map(AsFd::as_fd));
    all.extend_from_slice(fds);
    let flags = if memfd.is_some() { IN_MEMFD } else { 0 };
    let mut packets = all.chunks(FDS);
    let first = packets.next().unwrap_or(&[]);
    let head = header(kind, body.len(), all.len(), flags)?;
    let inline: &[u8] = if memfd.is_some() { &[] } else { &body };
    send_packet(socket, &head, inline, first)?;
    for packet in packets {
        let head = header(kind, 0, all.len(), FOLLOW_UP)?;
        send_packet(socket, &head, &[], packet)?;
    }
    Ok(())
}

fn send_packet(
    socket: BorrowedFd<'_>,
    head: &[u8],
    body: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(invalid("too many descriptors in a packet"));
    }
    let parts = [IoSlice::new(head), IoSlice::new(body)];
    loop {
        match sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// The next message; `None` when the peer is gone.
pub(crate) fn receive(socket: impl AsFd) -> io::Result<Option<Message>> {
    let socket = socket.as_fd();
    // Most are short, and in a fork every page that is touched is a new one.
    let Some(waiting) = length_of_next(socket)? else {
        return Ok(None);
    };
    let mut buffer = vec![0; waiting.min(HEADER + INLINE)];
    let mut fds = Vec::new();
    let Some(length) = receive_packet(socket, &mut buffer, &mut fds)? else {
        return Ok(None);
    };
    if length < HEADER || &buffer[..4] != MAGIC {
        return Err(invalid("not a message of ours"));
    }
    let half = |at: usize| u16::from_le_bytes([buffer[at], buffer[at + 1]]);
    if half(4) != VERSION {
        return Err(invalid("a message of another protocol version"));
    }
    let kind = Kind::from_number(half(6)).ok_or_else(|| invalid("a message of unknown kind"))?;
    let (total, flags) = (usize::from(half(12)), half(14));
    let size = u32::from_le_bytes([buffer[8], buffer[9], buffer[10], buffer[11]]) as usize;
    if size > LONGEST {
        return Err(invalid("message too long"));
    }
    while fds.len() < total {
        let mut follow_up = [0; HEADER];
        match receive_packet(socket, &mut follow_up, &mut fds)? {
            Some(HEADER) if follow_up[14] & 2 == 2 => {}
            _ => return Err(invalid("a message that ends in the middle")),
        }
    }
    let body = if flags & IN_MEMFD == IN_MEMFD {
        if fds.is_empty() {
            return Err(invalid("a message without its body"));
        }
        let memfd = fds.remove(0);
        let mut body = vec![0; size];
        let mut filled = 0;
        while filled < size {
            match rustix::io::pread(&memfd, &mut body[filled..], filled as u64)? {
                0 => return Err(invalid("a message body shorter than told")),
                n => filled += n,
            }
        }
        body
    } else {
        if length != HEADER + size {
            return Err(invalid("a message of another length than told"));
        }
        let body = buffer[HEADER..length].to_vec();
        wipe(&mut buffer);
        body
    };
    Ok(Some(Message { kind, body, fds }))
}

/// How many bytes the next packet has. Waits for it.
fn length_of_next(socket: BorrowedFd<'_>) -> io::Result<Option<usize>> {
    loop {
        // Told whole, whatever room there is.
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
        match rustix::net::recv(socket, &mut [0_u8; HEADER][..], flags) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok((_, 0)) => return Ok(None),
            Ok((_, length)) => return Ok(Some(length)),
        }
    }
}

fn receive_packet(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<Option<usize>> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(received) => break received,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(invalid("a truncated message"));
    }
    Ok((received.bytes > 0).then_some(received.bytes))
}

/// A memfd with these bytes that nobody can change any more.
fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = match rustix::fs::memfd_create("hoist-message", flags | MemfdFlags::NOEXEC_SEAL) {
        // Before 6.3 the kernel does not know the flag.
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create("hoist-message", flags)?,
        result => result?,
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&memfd, rest)?;
        rest = &rest[written..];
    }
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memfd, seals)?;
    Ok(memfd)
}

/// A connected pair of packet sockets, close-on-exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_these_bytes() {
        let bytes = header(Kind::Attach, 0x0102, 3, IN_MEMFD).unwrap();
        assert_eq!(
            &bytes,
            b"HST1\x01\x00\x06\x00\x02\x01\x00\x00\x03\x00\x01\x00"
        );
    }

    #[test]
    fn messages_arrive_whole_with_their_descriptors() {
        let (a, b) = pair().unwrap();
        for (length, count) in [
            (3, 0),
            (3, 2),
            (INLINE + 1, 1),
            (10, FDS + 5),
            (INLINE + 1, 2 * FDS),
        ] {
            let body = "x".repeat(length);
            let fds = vec![a.as_fd(); count];
            send(&a, Kind::Order, &body, &fds).unwrap();
            let message = receive(&b).unwrap().unwrap();
            assert_eq!(message.kind, Kind::Order);
            assert_eq!(message.fds.len(), count);
            assert_eq!(message.body::<String>().unwrap(), body);
        }
        drop(a);
        assert!(receive(&b).unwrap().is_none());
    }

    #[test]
    fn strangers_are_refused() {
        let (a, b) = pair().unwrap();
        for bytes in [
            &b"x"[..],
            b"HSTX0123456789ab",
            b"HST1\x02\x00\x01\x00\0\0\0\0\0\0\0\0",
            b"HST1\x01\x00\x63\x00\0\0\0\0\0\0\0\0",
        ] {
            rustix::io::write(&a, bytes).unwrap();
            assert!(receive(&b).is_err());
        }
        rustix::io::write(&a, &vec![0; HEADER + INLINE + 1]).unwrap();
        assert!(receive(&b).unwrap_err().to_string().contains("truncated"));
    }
}
