//! Ports: what a container listens on and where that is published.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A transport protocol.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The name in `80/tcp`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A container's port, `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortKey {
    /// 1 to 65535.
    pub port: u16,
    /// TCP where none is written.
    pub protocol: Protocol,
}

/// A text was not a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid port {0:?}: expected a number from 1 to 65535 and optionally /tcp, /udp or /sctp")]
pub struct InvalidPort(pub String);

impl fmt::Display for PortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol.as_str())
    }
}

impl FromStr for PortKey {
    type Err = InvalidPort;

    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        let invalid = || InvalidPort(text.to_owned());
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" | "" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(invalid()),
        };
        match port.parse() {
            Ok(port) if port > 0 => Ok(Self { port, protocol }),
            _ => Err(invalid()),
        }
    }
}

impl TryFrom<String> for PortKey {
    type Error = InvalidPort;

    fn try_from(text: String) -> Result<Self, InvalidPort> {
        text.parse()
    }
}

impl From<PortKey> for String {
    fn from(key: PortKey) -> Self {
        key.to_string()
    }
}

/// A wish to publish a container's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortRequest {
    /// The container's port.
    pub container: PortKey,
    /// The host's address; `None` is every address of both families.
    pub host_ip: Option<IpAddr>,
    /// First and last host port allowed, inclusive; `(0, 0)` is any ephemeral one.
    pub host_ports: (u16, u16),
}

/// A port as it is published.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The container's port.
    pub container: PortKey,
    /// The host's address; unspecified (`0.0.0.0`, `::`) is every one of its family.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_parse_and_show_alike() {
        assert_eq!("80".parse::<PortKey>().unwrap().to_string(), "80/tcp");
        assert_eq!("53/UDP".parse::<PortKey>().unwrap().to_string(), "53/udp");
        for bad in ["", "0", "65536", "80/icmp", "a/tcp", "-1"] {
            assert!(bad.parse::<PortKey>().is_err(), "{bad}");
        }
    }
}
