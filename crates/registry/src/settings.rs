//! What a registry client is told by the configuration.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::proxy::Proxies;

/// Plain values; files are read when a host is first spoken to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses for hosts (`host` or `host:port`), before any lookup. The names in TLS stay.
    pub hosts: HashMap<String, SocketAddr>,
    /// Registries that may be spoken to without TLS or with a certificate nobody vouches for. `127.0.0.0/8` and
    /// `::1` always may.
    pub insecure: Vec<InsecureRegistry>,
    /// Servers that are asked for Docker Hub's images before it, in this order: `scheme://host[:port]` (daemon.json
    /// `registry-mirrors`). They are given no credentials.
    pub mirrors: Vec<String>,
    /// `<directory>/<host[:port]>/*.crt` are authorities for that host, `*.cert` and `*.key` our identity there
    /// (Docker: `/etc/docker/certs.d`).
    pub certificates: Option<PathBuf>,
    /// The servers by which registries are asked.
    pub proxies: Proxies,
    /// Layers downloaded at a time, over all pulls (daemon.json `max-concurrent-downloads`).
    pub max_concurrent_downloads: usize,
    /// Bytes of one part of a large layer: layers of thirty-two parts and more come in parts, several at a time, where the registry
    /// gives parts. Over all pulls as many are under way beside the first as layers may be downloaded at a time; with one at a
    /// time, none.
    pub part_bytes: u64,
    /// Layers uploaded at a time, over all pushes (daemon.json `max-concurrent-uploads`).
    pub max_concurrent_uploads: usize,
    /// Attempts for each thing before giving up (daemon.json `max-download-attempts`).
    pub max_attempts: u32,
    /// The first pause between attempts; it doubles.
    pub backoff: Duration,
    /// Lookup, connection and TLS handshake together.
    pub connect_deadline: Duration,
    /// From a request to its response's head.
    pub head_deadline: Duration,
    /// Between two pieces of a body.
    pub idle_deadline: Duration,
    /// What we call ourselves.
    pub user_agent: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hosts: HashMap::new(),
            insecure: Vec::new(),
            mirrors: Vec::new(),
            proxies: Proxies::default(),
            certificates: Some(Path::new("/etc/docker/certs.d").to_owned()),
            max_concurrent_downloads: 3,
            part_bytes: 2 << 20,
            max_concurrent_uploads: 5,
            max_attempts: 5,
            backoff: Duration::from_millis(250),
            connect_deadline: Duration::from_secs(30),
            head_deadline: Duration::from_secs(60),
            idle_deadline: Duration::from_secs(60),
            user_agent: concat!("hoist/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// One entry of daemon.json's `insecure-registries`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsecureRegistry {
    /// `host` (any port) or `host:port`.
    Host(String),
    /// All registries whose address is in this network.
    Network {
        /// Its address.
        address: IpAddr,
        /// Its prefix length in bits.
        prefix: u8,
    },
}

/// A text was not an insecure registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("insecure registry {0} is not valid: expected host, host:port or network/prefix")]
pub struct InvalidInsecureRegistry(pub String);

impl FromStr for InsecureRegistry {
    type Err = InvalidInsecureRegistry;

    fn from_str(text: &str) -> Result<Self, InvalidInsecureRegistry> {
        let invalid = || InvalidInsecureRegistry(text.to_owned());
        if text.contains("://") || text.is_empty() {
            return Err(invalid());
        }
        let Some((address, prefix)) = text.split_once('/') else {
            return Ok(Self::Host(text.to_ascii_lowercase()));
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let prefix: u8 = prefix.parse().map_err(|_| invalid())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix > most {
            return Err(invalid());
        }
        Ok(Self::Network { address, prefix })
    }
}

impl InsecureRegistry {
    /// Whether it means this host, by name or by one of the addresses it has.
    pub(crate) fn covers(&self, host: &str, port: Option<u16>, addresses: &[IpAddr]) -> bool {
        match self {
            Self::Host(name) => {
                *name == host || port.is_some_and(|port| *name == format!("{host}:{port}"))
            }
            Self::Network { address, prefix } => addresses
                .iter()
                .any(|candidate| contains(*address, *prefix, *candidate)),
        }
    }
}

pub(crate) fn contains(network: IpAddr, prefix: u8, address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let ((a, width), (b, other)) = (bits(network), bits(address));
    width == other && (prefix == 0 || (a ^ b) >> (128 - u32::from(prefix)) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(entry: &str, host: &str, port: Option<u16>, address: &str) -> bool {
        let addresses = [address.parse().unwrap()];
        entry
            .parse::<InsecureRegistry>()
            .unwrap()
            .covers(host, port, &addresses)
    }

    #[test]
    fn insecure_registries_are_hosts_or_networks() {
        assert!(covers("reg.local", "reg.local", Some(5000), "10.0.0.1"));
        assert!(covers(
            "reg.local:5000",
            "reg.local",
            Some(5000),
            "10.0.0.1"
        ));
        assert!(!covers(
            "reg.local:5001",
            "reg.local",
            Some(5000),
            "10.0.0.1"
        ));
        assert!(covers("10.0.0.0/8", "any", None, "10.255.0.1"));
        assert!(!covers("10.0.0.0/8", "any", None, "11.0.0.1"));
        assert!(covers("::1/128", "any", None, "::1"));
        assert!(covers("0.0.0.0/0", "any", None, "1.2.3.4"));
        assert!(!covers("0.0.0.0/0", "any", None, "::1"));
        for bad in ["", "http://a", "a/8", "10.0.0.0/33", "10.0.0.0/x"] {
            assert!(bad.parse::<InsecureRegistry>().is_err(), "{bad}");
        }
    }
}
