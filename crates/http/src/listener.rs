//! Where requests come from: unix sockets and TCP, with TLS or without.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;
use tokio_rustls::TlsAcceptor;

use crate::peer::Peer;
use crate::socket::{Socket, SocketIo, register};

const BACKLOG: i32 = 4096;

/// How a unix socket is made.
#[derive(Clone, Copy, Debug)]
pub struct UnixSocket {
    /// Permission bits; Docker's are 0o660.
    pub mode: u32,
    /// Owning group, if not the caller's.
    pub group: Option<u32>,
}

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A live server answers on this socket.
    #[error("a server already answers on {}", path.display())]
    Taken {
        /// The socket's path.
        path: PathBuf,
    },
    /// A file that is no socket is in the way.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The file's path.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("listen on {address}")]
    Io {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ListenError {
    /// Its class.
    #[must_use]
    pub fn class(&self) -> hoist_model::ErrorClass {
        match self {
            Self::Taken { .. } => hoist_model::ErrorClass::Conflict,
            Self::NotASocket { .. } => hoist_model::ErrorClass::InvalidArgument,
            Self::Io { .. } => hoist_model::ErrorClass::Internal,
        }
    }
}

/// A listening socket. A unix socket's file goes away with it, if it is still ours.
#[derive(Debug)]
pub struct Listener {
    fd: AsyncFd<OwnedFd>,
    address: String,
    unix: bool,
    tls: Option<Arc<rustls::ServerConfig>>,
    file: Option<SocketFile>,
}

/// The file of a unix socket we made, as it was then.
#[derive(Debug)]
struct SocketFile {
    directory: OwnedFd,
    name: OsString,
    device: u64,
    inode: u64,
}

/// One new connection.
pub(crate) struct Accepted {
    pub(crate) io: SocketIo,
    pub(crate) peer: Peer,
    pub(crate) tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Listens on a unix socket; a file left by a dead server is replaced.
    ///
    /// Nobody can connect before the file has its mode and group: it listens last. Blocking, briefly; needs a
    /// tokio runtime. Paths longer than the kernel's 107 bytes work.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn unix(path: &Path, options: UnixSocket) -> Result<Self, ListenError> {
        let address = format!("unix://{}", path.display());
        let fail = |source: io::Error| ListenError::Io {
            address: address.clone(),
            source,
        };
        let (directory, name) = open_parent(path).map_err(fail)?;
        let at = through_proc(&directory, &name);
        clear_stale(path, &directory, &name, &at).map_err(|e| match e {
            Stale::Taken => ListenError::Taken { path: path.into() },
            Stale::NotASocket => ListenError::NotASocket { path: path.into() },
            Stale::Io(source) => fail(source),
        })?;
        let listen = || -> io::Result<(OwnedFd, SocketFile)> {
            let fd = unix_socket()?;
            rustix::net::bind(&fd, &SocketAddrUnix::new(&at)?)?;
            let stat = rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let mode = Mode::from_bits_truncate(options.mode);
            rustix::fs::chmodat(&directory, &name, mode, AtFlags::empty())?;
            if let Some(group) = options.group {
                let group = rustix::fs::Gid::from_raw(group);
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(&directory, &name, None, Some(group), flags)?;
            }
            rustix::net::listen(&fd, BACKLOG)?;
            let file = SocketFile {
                directory: directory.try_clone()?,
                name: name.clone(),
                device: stat.st_dev,
                inode: stat.st_ino,
            };
            Ok((fd, file))
        };
        let (fd, file) = listen().map_err(fail)?;
        Self::from_fd(fd, address.clone(), true, None, Some(file)).map_err(fail)
    }

    /// Listens on a TCP address, with TLS if given a configuration (see [`crate::tls`]). Needs a tokio runtime.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn tcp(
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Result<Self, ListenError> {
        let listen = || -> io::Result<(OwnedFd, SocketAddr)> {
            let listener = std::net::TcpListener::bind(address)?;
            let bound = listener.local_addr()?;
            Ok((listener.into(), bound))
        };
        let fail = |source| ListenError::Io {
            address: format!("tcp://{address}"),
            source,
        };
        let (fd, bound) = listen().map_err(fail)?;
        Self::from_fd(fd, format!("tcp://{bound}"), false, tls, None).map_err(fail)
    }

    /// Takes a socket that already listens, unix or TCP (systemd's socket activation). Its file is left alone.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn inherited(fd: OwnedFd) -> Result<Self, ListenError> {
        let number = fd.as_raw_fd();
        let take = || -> io::Result<Self> {
            let name = rustix::net::getsockname(&fd)?;
            let unix = name.address_family() == AddressFamily::UNIX;
            let address = if unix {
                let path = SocketAddrUnix::try_from(name)?;
                let path = path.path_bytes().unwrap_or(b"").to_vec();
                format!("unix://{}", String::from_utf8_lossy(&path))
            } else {
                format!("tcp://{}", SocketAddr::try_from(name)?)
            };
            Self::from_fd(fd, address, unix, None, None)
        };
        take().map_err(|source| ListenError::Io {
            address: format!("fd://{number}"),
            source,
        })
    }

    fn from_fd(
        fd: OwnedFd,
        address: String,
        unix: bool,
        tls: Option<Arc<rustls::ServerConfig>>,
        file: Option<SocketFile>,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self {
            fd: register(fd)?,
            address,
            unix,
            tls,
            file,
        })
    }

    /// `unix:///run/hoist.sock` or `tcp://127.0.0.1:2375`, with the port that was really bound.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The next connection. Cancel-safe.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        let (fd, from) = loop {
            let mut guard = self.fd.readable().await?;
            match rustix::net::acceptfrom_with(self.fd.get_ref(), SocketFlags::CLOEXEC) {
                Err(Errno::AGAIN) => guard.clear_ready(),
                // The client went away between its connect and our accept: the next, please.
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                other => break other?,
            }
        };
        let peer = if self.unix {
            let credentials = rustix::net::sockopt::socket_peercred(&fd)?;
            Peer::Unix {
                pid: credentials.pid.as_raw_nonzero().get(),
                uid: credentials.uid.as_raw(),
                gid: credentials.gid.as_raw(),
            }
        } else {
            rustix::net::sockopt::set_tcp_nodelay(&fd, true)?;
            Peer::Tcp(peer_address(from)?)
        };
        Ok(Accepted {
            io: SocketIo(Socket::new(fd, self.unix)?),
            peer,
            tls: self.tls.clone().map(TlsAcceptor::from),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some(file) = &self.file else { return };
        let now = rustix::fs::statat(&file.directory, &file.name, AtFlags::SYMLINK_NOFOLLOW);
        if now.is_ok_and(|now| now.st_dev == file.device && now.st_ino == file.inode) {
            let _ = rustix::fs::unlinkat(&file.directory, &file.name, AtFlags::empty());
        }
    }
}

fn peer_address(from: Option<SocketAddrAny>) -> io::Result<SocketAddr> {
    let from = from.ok_or(io::ErrorKind::NotConnected)?;
    Ok(SocketAddr::try_from(from)?)
}

pub(crate) fn unix_socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// The directory a socket lives in, opened, and the socket's name there.
pub(crate) fn open_parent(path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, parent, flags, Mode::empty())?;
    Ok((directory, name.to_owned()))
}

/// A short name for a file in an open directory: socket addresses end at 107 bytes.
pub(crate) fn through_proc(directory: &OwnedFd, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(name)
}

enum Stale {
    Taken,
    NotASocket,
    Io(io::Error),
}

impl From<Errno> for Stale {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Removes a socket file that nobody answers on.
fn clear_stale(path: &Path, directory: &OwnedFd, name: &OsStr, at: &Path) -> Result<(), Stale> {
    let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Socket {
        return Err(Stale::NotASocket);
    }
    let probe = unix_socket().map_err(Stale::Io)?;
    rustix::io::ioctl_fionbio(&probe, true)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(at)?) {
        Err(Errno::CONNREFUSED) => {}
        // A full backlog, a foreign socket type, no permission: somebody is there.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE | Errno::ACCESS) => return Err(Stale::Taken),
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e.into()),
    }
    let now = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (now.st_dev, now.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(Stale::Taken);
    }
    tracing::info!(path = %path.display(), "taking over a socket that nobody answers on");
    rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
    Ok(())
}
