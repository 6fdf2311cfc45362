//! Where the engine listens, and what its TCP sockets prove themselves with.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};

use hoist_model::Digest;
use sha2::{Digest as _, Sha256};

use super::DOCKER_SOCKET;
use super::values::absolute;

/// What TCP sockets prove themselves with, and whom they believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Whoever wants in shows a certificate of this authority.
    pub(crate) client_authority: Option<PathBuf>,
    /// sha256 of what was in them: a reload finds those that were renewed in place.
    pub(crate) contents: Digest,
}

impl fmt::Display for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.certificate.display(), self.key.display())?;
        if let Some(authority) = &self.client_authority {
            write!(f, " {}", authority.display())?;
        }
        write!(f, " (contents {})", &self.contents.hex()[..12])
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    Unix(PathBuf),
    Tcp(SocketAddr),
    /// The sockets that whoever started us had opened (systemd.socket(5)).
    Inherited,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Inherited => f.write_str("fd://"),
        }
    }
}

pub(super) fn parse_host(text: &str) -> anyhow::Result<Host> {
    if let Some(path) = text.strip_prefix("unix://") {
        let path = if path.is_empty() { DOCKER_SOCKET } else { path };
        return Ok(Host::Unix(absolute("host", path.into())?));
    }
    if let Some(address) = text.strip_prefix("tcp://") {
        let address = address
            .trim_end_matches('/')
            .replace("localhost:", "127.0.0.1:");
        return address
            .parse()
            .map(Host::Tcp)
            .with_context(|| format!("invalid host {text:?}: expected tcp://address:port"));
    }
    if text == "fd://" {
        return Ok(Host::Inherited);
    }
    bail!("invalid host {text:?}: expected unix:///path, tcp://address:port or fd://")
}

/// Files as dockerd looks for them: those named, else those of the usual names in `$DOCKER_CERT_PATH` or `~/.docker`.
pub(super) fn tls_files(
    tls: bool,
    verify: bool,
    files: [(&str, Option<PathBuf>, &str); 3],
) -> anyhow::Result<Option<TlsFiles>> {
    if !tls && !verify {
        return Ok(None);
    }
    let usual = std::env::var_os("DOCKER_CERT_PATH").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".docker"),
        PathBuf::from,
    );
    let [authority, certificate, key] = files.map(|(flag, named, name)| {
        let path = named.unwrap_or_else(|| usual.join(name));
        (flag, path)
    });
    let there = |(flag, path): (&str, PathBuf)| {
        if path.is_file() {
            Ok(path)
        } else {
            bail!(
                "could not load TLS files: {flag} {}: no such file",
                path.display()
            )
        }
    };
    let (certificate, key) = (there(certificate)?, there(key)?);
    let client_authority = verify.then(|| there(authority)).transpose()?;
    let mut contents = Sha256::new();
    for path in [Some(&certificate), Some(&key), client_authority.as_ref()] {
        let Some(path) = path else { continue };
        let bytes = std::fs::read(path)
            .with_context(|| format!("could not load TLS files: {}", path.display()))?;
        contents.update(Sha256::digest(bytes));
    }
    Ok(Some(TlsFiles {
        certificate,
        key,
        client_authority,
        contents: Digest::from_sha256(&contents.finalize().into()),
    }))
}
