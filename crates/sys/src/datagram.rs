//! Datagrams with the local address they came to, so that an answer can leave from it.
//!
//! A socket bound to every address would answer from whichever address the route prefers; the asker, who called
//! another, would not know it.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes of C structures and families fit the C types that hold them"
)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

/// Room for one control message with an address of either family, aligned as the kernel writes it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Asks the kernel to tell the local address of each datagram of this socket.
pub fn tell_local_address(socket: impl AsFd, v6: bool) -> io::Result<()> {
    let (level, option) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    };
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the call; the value is a c_int of the stated size, as both options take.
    // JUSTIFICATION: rustix has no packet information options.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    check(result as isize).map(|_| ())
}

/// Receives one datagram: its length, where it is from, and the local address it came to.
pub fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddr, Option<IpAddr>)> {
    // SAFETY: all-zero is a valid value of these plain C structures.
    let mut name: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut control = Control([0; 64]);
    let mut slice = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: as above.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: every pointer in `message` leads to a live local or to `buffer`, with its true length.
    // JUSTIFICATION: rustix's recvmsg does not know packet information.
    let length = check(unsafe {
        libc::recvmsg(
            socket.as_fd().as_raw_fd(),
            &raw mut message,
            libc::MSG_DONTWAIT,
        )
    })?;
    let from = socket_address(&name)?;
    Ok((length, from, local_address(&message)))
}

/// Sends one datagram, from a given local address where one is given.
pub fn send(
    socket: impl AsFd,
    bytes: &[u8],
    to: SocketAddr,
    from: Option<IpAddr>,
) -> io::Result<usize> {
    let (mut name, length) = raw_address(to);
    let mut control = Control([0; 64]);
    let mut slice = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all-zero is a valid value of this plain C structure.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = length;
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    if let Some(from) = from {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len() as _;
        message.msg_controllen = put_local_address(&mut message, from) as _;
    }
    // SAFETY: every pointer in `message` leads to a live local or to `bytes` (which the kernel only reads), with
    // its true length.
    // JUSTIFICATION: rustix's sendmsg does not know packet information.
    check(unsafe {
        libc::sendmsg(
            socket.as_fd().as_raw_fd(),
            &raw const message,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    })
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The address in the control message, if the kernel gave one.
fn local_address(message: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: `message` was filled by recvmsg; CMSG_FIRSTHDR answers null or a header inside its control buffer,
    // which lives as long as `message` is borrowed.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    // SAFETY: the data follows the header inside the buffer.
    let data = unsafe { libc::CMSG_DATA(header) };
    match (header.cmsg_level, header.cmsg_type) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // SAFETY: for this level and type the kernel wrote an in_pktinfo; its alignment is not promised.
            let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            // SAFETY: for this level and type the kernel wrote an in6_pktinfo; its alignment is not promised.
            let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
            Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// Writes the address into the control buffer of `message`; answers how much of it is used.
fn put_local_address(message: &mut libc::msghdr, from: IpAddr) -> usize {
    fn put<T>(message: &mut libc::msghdr, level: i32, kind: i32, info: &T) -> usize {
        let size = mem::size_of::<T>() as u32;
        // SAFETY: the caller's control buffer has 64 zeroed, aligned bytes: more than CMSG_SPACE of the largest
        // structure used here, so that the first header and its data lie inside.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(message);
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = libc::CMSG_LEN(size) as _;
            libc::CMSG_DATA(header)
                .cast::<T>()
                .write_unaligned(std::ptr::read(info));
            libc::CMSG_SPACE(size) as usize
        }
    }
    match from {
        IpAddr::V4(address) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from(address).to_be(),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            put(message, libc::IPPROTO_IP, libc::IP_PKTINFO, &info)
        }
        IpAddr::V6(address) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: address.octets(),
                },
                ipi6_ifindex: 0,
            };
            put(message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info)
        }
    }
}

fn socket_address(name: &libc::sockaddr_storage) -> io::Result<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which structure the storage holds; the storage is larger and aligned for all.
            let name = unsafe { (&raw const *name).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Ok(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { (&raw const *name).cast::<libc::sockaddr_in6>().read() };
            Ok(SocketAddrV6::new(
                name.sin6_addr.s6_addr.into(),
                u16::from_be(name.sin6_port),
                name.sin6_flowinfo,
                name.sin6_scope_id,
            )
            .into())
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn raw_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let length = match address {
        SocketAddr::V4(address) => {
            // SAFETY: the storage is larger than and aligned for every socket address.
            unsafe {
                storage
                    .as_mut_ptr()
                    .cast::<libc::sockaddr_in>()
                    .write(libc::sockaddr_in {
                        sin_family: libc::AF_INET as libc::sa_family_t,
                        sin_port: address.port().to_be(),
                        sin_addr: libc::in_addr {
                            s_addr: u32::from(*address.ip()).to_be(),
                        },
                        sin_zero: [0; 8],
                    });
            }
            mem::size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            // SAFETY: as above.
            unsafe {
                storage
                    .as_mut_ptr()
                    .cast::<libc::sockaddr_in6>()
                    .write(libc::sockaddr_in6 {
                        sin6_family: libc::AF_INET6 as libc::sa_family_t,
                        sin6_port: address.port().to_be(),
                        sin6_flowinfo: address.flowinfo(),
                        sin6_addr: libc::in6_addr {
                            s6_addr: address.ip().octets(),
                        },
                        sin6_scope_id: address.scope_id(),
                    });
            }
            mem::size_of::<libc::sockaddr_in6>()
        }
    };
    // SAFETY: zeroed, then partly overwritten with plain data: initialised throughout.
    (unsafe { storage.assume_init() }, length as libc::socklen_t)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_answer_leaves_from_the_address_that_was_asked() {
        for (any, asked, v6) in [("0.0.0.0:0", "127.0.0.5", false), ("[::]:0", "::1", true)] {
            let Ok(server) = UdpSocket::bind(any) else {
                continue;
            };
            tell_local_address(&server, v6).unwrap();
            let client = UdpSocket::bind(any).unwrap();
            let port = server.local_addr().unwrap().port();
            let asked: IpAddr = asked.parse().unwrap();
            client.connect((asked, port)).unwrap();
            client.send(b"who").unwrap();
            client
                .set_read_timeout(Some(std::time::Duration::from_secs(2)))
                .unwrap();
            let mut buffer = [0; 16];
            let (length, from, to) = receive(&server, &mut buffer).unwrap();
            assert_eq!((&buffer[..length], to), (&b"who"[..], Some(asked)));
            send(&server, b"me", from, to).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 2);
        }
    }
}
