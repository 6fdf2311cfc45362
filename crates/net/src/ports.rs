//! Host ports: which are published, and the bound sockets that reserve them.
//!
//! The table answers first, because Docker's words for "another container has it" differ from those for "a process
//! has it"; then a socket is bound, so that `ss` shows the port and every other program finds the conflict.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use hoist_model::container::{PortMapping, PortRequest, Protocol};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::error::{HostAddress, NetError};

/// Ports for requests without one (moby: the start of IANA's dynamic range, the end of Linux's local range).
const EPHEMERAL: (u16, u16) = (49_153, 60_999);

/// A socket that holds a host port.
#[derive(Debug)]
pub(crate) enum Reservation {
    /// Listening, so that a stray connection can be relayed.
    Tcp(TcpListener),
    /// Bound.
    Udp(UdpSocket),
    /// Nothing: the kernel has no such sockets, only translation (SCTP).
    None,
}

impl Reservation {
    /// A duplicate for whoever keeps the port while no engine runs.
    pub(crate) fn duplicate(&self) -> io::Result<Option<OwnedFd>> {
        match self {
            Self::Tcp(socket) => Ok(Some(socket.as_fd().try_clone_to_owned()?)),
            Self::Udp(socket) => Ok(Some(socket.as_fd().try_clone_to_owned()?)),
            Self::None => Ok(None),
        }
    }
}

/// Sockets that somebody kept while no engine ran, by the port they hold.
#[derive(Debug, Default)]
pub(crate) struct Kept(Vec<(Protocol, SocketAddr, OwnedFd)>);

impl Kept {
    /// Finds out what each of these is; strangers are closed.
    pub(crate) fn new(sockets: Vec<OwnedFd>) -> Self {
        let known = sockets.into_iter().filter_map(|socket| {
            let protocol = match sockopt::socket_type(&socket).ok()? {
                SocketType::STREAM => Protocol::Tcp,
                SocketType::DGRAM => Protocol::Udp,
                _ => return None,
            };
            let address = rustix::net::getsockname(&socket).ok()?.try_into().ok()?;
            Some((protocol, address, socket))
        });
        Self(known.collect())
    }

    fn take(&mut self, protocol: Protocol, address: IpAddr, port: u16) -> Option<Reservation> {
        let is_it = |(own, bound, _): &(Protocol, SocketAddr, OwnedFd)| {
            *own == protocol && bound.ip() == address && bound.port() == port
        };
        let place = self.0.iter().position(is_it)?;
        let (_, _, socket) = self.0.swap_remove(place);
        Some(match protocol {
            Protocol::Tcp => Reservation::Tcp(socket.into()),
            Protocol::Udp => Reservation::Udp(socket.into()),
            Protocol::Sctp => Reservation::None,
        })
    }
}

/// A published port and what holds it.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) mapping: PortMapping,
    pub(crate) socket: Reservation,
}

/// The families of host addresses that can lead to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Families {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

impl Families {
    #[cfg(test)]
    const BOTH: Self = Self { v4: true, v6: true };

    fn has(self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.v4 } else { self.v6 }
    }
}

/// The host ports that this engine's containers have.
#[derive(Debug)]
pub(crate) struct PortTable {
    taken: HashMap<(Protocol, u16), Vec<IpAddr>>,
    next: u16,
}

impl PortTable {
    pub(crate) fn new() -> Self {
        Self {
            taken: HashMap::new(),
            next: EPHEMERAL.0,
        }
    }

    /// Reserves what a container asks for: all of it or nothing.
    pub(crate) fn reserve(
        &mut self,
        requests: &[PortRequest],
        default_host_ip: Option<IpAddr>,
        families: Families,
    ) -> Result<Vec<Reserved>, NetError> {
        let mut reserved = Vec::new();
        for request in requests {
            match self.reserve_one(request, default_host_ip, families) {
                Ok(some) => reserved.extend(some),
                Err(error) => {
                    for one in &reserved {
                        self.release(&one.mapping);
                    }
                    return Err(error);
                }
            }
        }
        Ok(reserved)
    }

    fn reserve_one(
        &mut self,
        request: &PortRequest,
        default_host_ip: Option<IpAddr>,
        families: Families,
    ) -> Result<Vec<Reserved>, NetError> {
        let mut addresses: Vec<IpAddr> = match request.host_ip.or(default_host_ip) {
            Some(address) => vec![address],
            None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        };
        addresses.retain(|address| families.has(*address));
        if addresses.is_empty() {
            return Ok(Vec::new());
        }
        let optional_v6 = addresses.len() == 2;
        let (first, last) = match request.host_ports {
            (0, 0) => EPHEMERAL,
            (first, last) if first > 0 && first <= last => (first, last),
            (first, last) => {
                return Err(NetError::InvalidPort {
                    container: request.container,
                    reason: format!("host port range {first}-{last}"),
                });
            }
        };
        let count = u32::from(last - first) + 1;
        let start = if request.host_ports == (0, 0) {
            u32::from(self.next - first)
        } else {
            0
        };
        let mut refused = None;
        for step in 0..count {
            let port = first + ((start + step) % count) as u16;
            match self.reserve_at(request, &addresses, port, optional_v6) {
                Ok(reserved) => {
                    if request.host_ports == (0, 0) {
                        self.next = if port == last { first } else { port + 1 };
                    }
                    return Ok(reserved);
                }
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if count == 1 => Err(error),
            _ => Err(NetError::PortsExhausted {
                container: request.container,
                first,
                last,
            }),
        }
    }

    fn reserve_at(
        &mut self,
        request: &PortRequest,
        addresses: &[IpAddr],
        port: u16,
        optional_v6: bool,
    ) -> Result<Vec<Reserved>, NetError> {
        let protocol = request.container.protocol;
        let mut reserved = Vec::with_capacity(addresses.len());
        for address in addresses {
            if self.is_taken(protocol, *address, port) {
                return Err(NetError::PortAllocated {
                    host_ip: HostAddress(*address),
                    port,
                });
            }
            match bind(protocol, *address, port) {
                Ok(socket) => reserved.push(Reserved {
                    mapping: PortMapping {
                        container: request.container,
                        host_ip: *address,
                        host_port: port,
                    },
                    socket,
                }),
                // A host without IPv6 publishes on IPv4 alone.
                Err(error)
                    if optional_v6
                        && address.is_ipv6()
                        && matches!(
                            error.raw_os_error(),
                            Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
                        ) => {}
                Err(error) => return Err(busy(protocol, *address, port, &error)),
            }
        }
        for one in &reserved {
            self.take(&one.mapping);
        }
        Ok(reserved)
    }

    /// Takes a port back after a restart, with the socket that was kept if there is one. A missing socket is no failure:
    /// translation goes on without it.
    pub(crate) fn restore(
        &mut self,
        mapping: &PortMapping,
        kept: &mut Kept,
    ) -> (Reservation, Option<NetError>) {
        self.take(mapping);
        let (protocol, address) = (mapping.container.protocol, mapping.host_ip);
        if let Some(socket) = kept.take(protocol, address, mapping.host_port) {
            return (socket, None);
        }
        match bind(protocol, address, mapping.host_port) {
            Ok(socket) => (socket, None),
            Err(error) => (
                Reservation::None,
                Some(busy(protocol, address, mapping.host_port, &error)),
            ),
        }
    }

    fn is_taken(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.taken
            .get(&(protocol, port))
            .is_some_and(|holders| holders.iter().any(|other| collide(*other, address)))
    }

    fn take(&mut self, mapping: &PortMapping) {
        self.taken
            .entry((mapping.container.protocol, mapping.host_port))
            .or_default()
            .push(mapping.host_ip);
    }

    /// Frees a port.
    pub(crate) fn release(&mut self, mapping: &PortMapping) {
        let key = (mapping.container.protocol, mapping.host_port);
        if let Some(holders) = self.taken.get_mut(&key) {
            if let Some(at) = holders.iter().position(|ip| *ip == mapping.host_ip) {
                holders.swap_remove(at);
            }
            if holders.is_empty() {
                self.taken.remove(&key);
            }
        }
    }
}

/// Whether two host addresses cannot have the same port: equal, or one is every address of the family.
fn collide(a: IpAddr, b: IpAddr) -> bool {
    a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
}

fn busy(protocol: Protocol, address: IpAddr, port: u16, error: &io::Error) -> NetError {
    let reason = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => "address already in use".to_owned(),
        Some(libc::EADDRNOTAVAIL) => "cannot assign requested address".to_owned(),
        Some(libc::EACCES) => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    NetError::PortBusy {
        protocol,
        host_ip: HostAddress(address),
        port,
        reason,
    }
}

fn bind(protocol: Protocol, address: IpAddr, port: u16) -> io::Result<Reservation> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
        Protocol::Sctp => return Ok(Reservation::None),
    };
    let family = match address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(address, port))?;
    if protocol == Protocol::Tcp {
        rustix::net::listen(&socket, 4096)?;
        Ok(Reservation::Tcp(socket.into()))
    } else {
        Ok(Reservation::Udp(socket.into()))
    }
}

#[cfg(test)]
mod tests {
    use hoist_model::container::PortKey;

    use super::*;

    fn request(text: &str, ip: Option<&str>, ports: (u16, u16)) -> PortRequest {
        PortRequest {
            container: text.parse::<PortKey>().unwrap(),
            host_ip: ip.map(|ip| ip.parse().unwrap()),
            host_ports: ports,
        }
    }

    #[test]
    fn ephemeral_ports_differ_and_both_families_share_one() {
        let mut table = PortTable::new();
        let wishes = [request("80", None, (0, 0)), request("81", None, (0, 0))];
        let reserved = table.reserve(&wishes, None, Families::BOTH).unwrap();
        let ports: Vec<_> = reserved.iter().map(|one| one.mapping.host_port).collect();
        assert_eq!(ports[0], ports[1]);
        assert_ne!(ports[0], ports[2]);
        assert!(reserved[1].mapping.host_ip.is_ipv6());
    }

    #[test]
    fn conflicts_are_told_in_dockers_words() {
        let mut table = PortTable::new();
        let wish = [request("80", Some("127.0.0.1"), (0, 0))];
        let held = table.reserve(&wish, None, Families::BOTH).unwrap();
        let port = held[0].mapping.host_port;
        let again = [request("80", Some("0.0.0.0"), (port, port))];
        assert_eq!(
            table
                .reserve(&again, None, Families::BOTH)
                .unwrap_err()
                .to_string(),
            format!("Bind for 0.0.0.0:{port} failed: port is already allocated")
        );
        let busy = PortTable::new()
            .reserve(&again, None, Families::BOTH)
            .unwrap_err();
        assert_eq!(
            busy.to_string(),
            format!("failed to bind host port 0.0.0.0:{port}/tcp: address already in use")
        );
        table.release(&held[0].mapping);
        drop(held);
        assert!(table.reserve(&again, None, Families::BOTH).is_ok());
    }

    #[test]
    fn a_range_gives_the_next_free_and_then_says_it_is_used_up() {
        let mut table = PortTable::new();
        let holder = table
            .reserve(
                &[request("80", Some("127.0.0.1"), (0, 0))],
                None,
                Families::BOTH,
            )
            .unwrap();
        let port = holder[0].mapping.host_port;
        let wish = request("80/udp", Some("127.0.0.1"), (port, port + 1));
        let two = table
            .reserve(&[wish.clone(), wish.clone()], None, Families::BOTH)
            .unwrap();
        assert_eq!(two[0].mapping.host_port, port);
        assert_eq!(two[1].mapping.host_port, port + 1);
        assert!(matches!(
            table.reserve(&[wish], None, Families::BOTH),
            Err(NetError::PortsExhausted { .. })
        ));
    }
}
