//! Where an engine listens, as `DOCKER_HOST` and `-H` write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::ssh::Ssh;

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A socket file.
    Unix(PathBuf),
    /// A name or address and a port, without TLS.
    Tcp {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// Another machine, by ssh.
    Ssh(Ssh),
}

/// A text that names no engine this client can reach.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHost {
    /// A way of connecting that is not there yet.
    #[error("cannot connect to {0:?}: {1} is not supported yet, use unix://, tcp:// or ssh://")]
    Unsupported(String, &'static str),
    /// A machine that ssh cannot be asked for.
    #[error("invalid host {0:?}: {1}")]
    Ssh(String, &'static str),
    /// Not a host at all.
    #[error("invalid host {0:?}: expected unix://PATH, tcp://HOST:PORT or ssh://[USER@]HOST")]
    Malformed(String),
}

impl FromStr for Host {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let malformed = || InvalidHost::Malformed(text.to_owned());
        let (scheme, rest) = match text.split_once("://") {
            Some(parts) => parts,
            None if text.starts_with('/') => ("unix", text),
            None => ("tcp", text),
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "tcp" | "http" => {
                let rest = rest.trim_end_matches('/');
                let (host, port) = match rest.rsplit_once(':') {
                    Some((host, port)) if !port.contains(']') => {
                        (host, port.parse().map_err(|_| malformed())?)
                    }
                    _ => (rest, 2375),
                };
                let host = host.trim_start_matches('[').trim_end_matches(']');
                if host.contains('/') {
                    return Err(malformed());
                }
                let host = if host.is_empty() { "127.0.0.1" } else { host };
                Ok(Self::Tcp {
                    host: host.to_owned(),
                    port,
                })
            }
            "ssh" => rest.parse().map(Self::Ssh),
            "npipe" => Err(InvalidHost::Unsupported(text.to_owned(), "a named pipe")),
            "https" => Err(InvalidHost::Unsupported(text.to_owned(), "TLS")),
            _ => Err(malformed()),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Ssh(ssh) => ssh.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_docker_reads_them() {
        for (text, shown) in [
            ("unix:///run/hoist.sock", "unix:///run/hoist.sock"),
            ("/run/hoist.sock", "unix:///run/hoist.sock"),
            ("tcp://127.0.0.1:2376", "tcp://127.0.0.1:2376"),
            ("tcp://engine", "tcp://engine:2375"),
            (":2375", "tcp://127.0.0.1:2375"),
            ("tcp://[::1]:99", "tcp://[::1]:99"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
            ("ssh://me@host:22", "ssh://me@host:22"),
        ] {
            assert_eq!(text.parse::<Host>().unwrap().to_string(), shown);
        }
        for text in [
            "unix://relative",
            "tcp://h:port",
            "tcp://h:1/x",
            "ssh://",
            "fd://",
        ] {
            let error = text.parse::<Host>().unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
