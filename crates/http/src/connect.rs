//! From an endpoint to an open connection.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use http::HeaderValue;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::client::ClientError;
use crate::listener::{open_parent, through_proc};
use crate::proxy::{Proxy, ProxyProtocol};
use crate::resolve::Resolve;

/// The kernel's own limit on a socket address's path, less its final zero.
const LONGEST_PATH: usize = 107;

/// Where a server is.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A socket file.
    Unix(PathBuf),
    /// A host and port, with TLS if configured.
    Tcp {
        /// Name or address; an IPv6 address with or without brackets.
        host: String,
        /// Port.
        port: u16,
        /// TLS, if any.
        tls: Option<Arc<rustls::ClientConfig>>,
        /// The server that is asked to connect in our place, if any.
        proxy: Option<Proxy>,
    },
    /// A program whose standard input and output are the connection, such as ssh. Its standard error is the caller's.
    Program {
        /// The program, looked for in `PATH`.
        program: OsString,
        /// Its arguments.
        arguments: Vec<OsString>,
    },
}

impl Endpoint {
    /// Whether a proxy is sent requests as they are, which therefore name the server, and what it wants to be told by each.
    pub(crate) fn forwarded(&self) -> Option<Option<&HeaderValue>> {
        match self {
            Self::Tcp {
                tls: None,
                proxy: Some(proxy),
                ..
            } => proxy.forwards(),
            _ => None,
        }
    }

    /// `/run/hoist.sock` or `host:port`, as error messages name it.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Self::Unix(path) => path.display().to_string(),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
            Self::Program { program, arguments } => {
                let words = std::iter::once(program).chain(arguments);
                let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
                words.join(" ")
            }
        }
    }

    /// What the `Host` header says: the port only where it is not the scheme's own.
    pub(crate) fn host_header(&self) -> String {
        match self {
            Self::Unix(_) | Self::Program { .. } => "localhost".to_owned(),
            Self::Tcp {
                host, port, tls, ..
            } => {
                let usual = if tls.is_some() { 443 } else { 80 };
                let host = match host.parse::<IpAddr>() {
                    Ok(IpAddr::V6(address)) => format!("[{address}]"),
                    _ => host.clone(),
                };
                if *port == usual {
                    host
                } else {
                    format!("{host}:{port}")
                }
            }
        }
    }
}

pub(crate) trait ClientIo: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ClientIo for T {}

/// Connects; the caller sets the deadline. Cancel-safe.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    resolve: &dyn Resolve,
) -> Result<Box<dyn ClientIo>, ClientError> {
    match endpoint {
        Endpoint::Unix(path) => {
            let stream = connect_unix(path)
                .await
                .map_err(|source| ClientError::Dial {
                    address: endpoint.address(),
                    source,
                })?;
            Ok(Box::new(stream))
        }
        Endpoint::Tcp {
            host,
            port,
            tls,
            proxy,
        } => {
            let stream = match proxy {
                None => Box::new(connect_tcp(host, *port, resolve).await?),
                Some(proxy) => {
                    let mut stream = connect_proxy(proxy, resolve).await?;
                    if tls.is_some() || proxy.forwards().is_none() {
                        proxy.tunnel(&mut stream, host, *port).await?;
                    }
                    stream
                }
            };
            match tls {
                Some(tls) => encrypted(stream, host, tls).await,
                None => Ok(stream),
            }
        }
        Endpoint::Program { program, arguments } => {
            let stream = spawn(program, arguments).map_err(|source| ClientError::Dial {
                address: endpoint.address(),
                source,
            })?;
            Ok(Box::new(stream))
        }
    }
}

/// A connection to a proxy, not yet through it.
async fn connect_proxy(
    proxy: &Proxy,
    resolve: &dyn Resolve,
) -> Result<Box<dyn ClientIo>, ClientError> {
    let stream = connect_tcp(&proxy.host, proxy.port, resolve).await?;
    match &proxy.protocol {
        ProxyProtocol::Http { tls: Some(tls), .. } => encrypted(stream, &proxy.host, tls).await,
        _ => Ok(Box::new(stream)),
    }
}

async fn encrypted(
    stream: impl ClientIo,
    host: &str,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Box<dyn ClientIo>, ClientError> {
    let handshake = |source| ClientError::Handshake {
        host: host.to_owned(),
        source,
    };
    let name = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name)
        .map_err(|e| handshake(io::Error::new(io::ErrorKind::InvalidInput, e)))?;
    let stream = TlsConnector::from(Arc::clone(tls))
        .connect(name, stream)
        .await
        .map_err(handshake)?;
    Ok(Box::new(stream))
}

/// Starts a program on one end of a pair of sockets: unlike two pipes it is one stream, and half of it can be closed.
fn spawn(program: &OsString, arguments: &[OsString]) -> io::Result<UnixStream> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let theirs: std::os::fd::OwnedFd = theirs.into();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(theirs.try_clone()?)
        .stdout(theirs)
        .spawn()?;
    // Ends when the connection does; nobody waits for it but this thread, so that no zombie stays.
    std::thread::Builder::new()
        .name("program".to_owned())
        .spawn(move || child.wait())?;
    UnixStream::from_std(ours)
}

async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().len() <= LONGEST_PATH {
        return UnixStream::connect(path).await;
    }
    let (directory, name) = open_parent(path)?;
    UnixStream::connect(through_proc(&directory, &name)).await
}

async fn connect_tcp(
    host: &str,
    port: u16,
    resolve: &dyn Resolve,
) -> Result<TcpStream, ClientError> {
    let addresses = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => resolve
            .resolve(host, port)
            .await
            .map_err(|source| ClientError::Lookup {
                host: host.to_owned(),
                source,
            })?,
    };
    let mut failed = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Best effort: a connection without it is slower, not wrong.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(source) => {
                failed = Some(ClientError::Dial {
                    address: address.to_string(),
                    source,
                });
            }
        }
    }
    Err(failed.unwrap_or_else(|| ClientError::Lookup {
        host: host.to_owned(),
        source: io::Error::new(io::ErrorKind::NotFound, "no such host"),
    }))
}
