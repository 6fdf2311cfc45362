//! Why an operation on the network failed.

use std::io;
use std::net::IpAddr;

use hoist_model::container::{PortKey, Protocol};
use hoist_model::{ContainerId, EndpointId, ErrorClass, NetworkId};

/// An operation on this host's networks failed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The kernel refused an operation; the text names it and its object.
    #[error("{operation}")]
    Kernel {
        /// What was tried, on what: `create link hoist0`.
        operation: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// No free address is left in a subnet.
    #[error("no available IPv4 addresses on this network's address pools: {0}")]
    AddressesExhausted(String),
    /// The requested address is in use or outside the subnet.
    #[error("{0}")]
    AddressRefused(String),
    /// No subnet is free for the bridge.
    #[error(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network {0}"
    )]
    PoolsExhausted(String),
    /// No subnet of the pools is free for a network.
    #[error("all predefined address pools have been fully subnetted")]
    Subnetted,
    /// Another network has the subnet or the bridge.
    #[error("{0}")]
    Conflicting(String),
    /// There is no default bridge.
    #[error("network bridge not found: the engine was started with --bridge=none")]
    NoBridge,
    /// No such network was made.
    #[error("network {} not found", .0.as_str())]
    NoNetwork(NetworkId),
    /// Containers are on the network.
    #[error("network {} has active endpoints", .0.as_str())]
    InUse(NetworkId),
    /// A network's bridge takes no more interfaces (`BR_MAX_PORTS`, net/bridge/br_private.h).
    #[error("network {0} is full: its bridge takes 1,023 interfaces")]
    BridgeFull(String),
    /// The kernel has no interfaces of a kind.
    #[error("this kernel has no {0} interfaces: its module {module} is not there", module = module_of(.0))]
    NoSuchKind(String),
    /// The container is on the network already.
    #[error("endpoint with name {container} already exists in network {network}")]
    AlreadyConnected {
        /// The container.
        container: ContainerId,
        /// The network's name.
        network: String,
    },
    /// Another container of this engine has published the port.
    #[error("Bind for {host_ip}:{port} failed: port is already allocated")]
    PortAllocated {
        /// Host address asked for.
        host_ip: HostAddress,
        /// Host port asked for.
        port: u16,
    },
    /// A process of the host has the port, or the address is not the host's. The text is Docker 29's.
    #[error("failed to bind host port {host_ip}:{port}/{protocol}: {reason}", protocol = protocol.as_str())]
    PortBusy {
        /// TCP, UDP.
        protocol: Protocol,
        /// Host address asked for.
        host_ip: HostAddress,
        /// Host port asked for.
        port: u16,
        /// `address already in use`.
        reason: String,
    },
    /// Every port of a range, or of the ephemeral ports, is taken.
    #[error("all ports are allocated: no free {protocol} port of {first}-{last} for {container}", protocol = container.protocol.as_str())]
    PortsExhausted {
        /// The container's port.
        container: PortKey,
        /// First port tried.
        first: u16,
        /// Last port tried.
        last: u16,
    },
    /// A container's ports cannot be published on the network that leads out.
    #[error("{cause}")]
    Unpublished {
        /// Its place there, as it was to be.
        endpoint: EndpointId,
        /// Which port, and why.
        cause: Box<NetError>,
    },
    /// The container is already attached.
    #[error("container {0} is already attached")]
    AlreadyAttached(ContainerId),
    /// The container is not attached.
    #[error("container {0} is not attached to a network")]
    NotAttached(ContainerId),
    /// A setting makes no sense.
    #[error("{0}")]
    InvalidSetting(String),
    /// A port request makes no sense.
    #[error("invalid port request for {container}: {reason}")]
    InvalidPort {
        /// The container's port.
        container: PortKey,
        /// Why.
        reason: String,
    },
    /// The thread that builds namespaces has ended.
    #[error("the network worker has stopped")]
    Stopped,
}

/// The kernel's module for links of a kind: `IFLA_INFO_KIND`'s names are theirs, but for one.
fn module_of(kind: &str) -> &str {
    match kind {
        "vlan" => "8021q",
        kind => kind,
    }
}

impl NetError {
    /// What kind of failure this is.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unpublished { cause, .. } => cause.class(),
            Self::Kernel { .. } | Self::PortBusy { .. } | Self::PortAllocated { .. } => {
                ErrorClass::Internal
            }
            Self::Conflicting(_) | Self::InUse(_) | Self::AlreadyConnected { .. } => {
                ErrorClass::Forbidden
            }
            Self::NoSuchKind(_) => ErrorClass::NotImplemented,
            Self::BridgeFull(_)
            | Self::PortsExhausted { .. }
            | Self::AddressesExhausted(_)
            | Self::PoolsExhausted(_)
            | Self::Stopped => ErrorClass::Unavailable,
            Self::AddressRefused(_) | Self::AlreadyAttached(_) => ErrorClass::Conflict,
            Self::NotAttached(_) | Self::NoNetwork(_) | Self::NoBridge => ErrorClass::NotFound,
            Self::InvalidSetting(_) | Self::InvalidPort { .. } | Self::Subnetted => {
                ErrorClass::InvalidArgument
            }
        }
    }

    pub(crate) fn kernel(operation: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Kernel {
            operation: operation.into(),
            source: source.into(),
        }
    }
}

/// A host address as it stands before `:port`: IPv6 in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress(pub IpAddr);

impl std::fmt::Display for HostAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "[{address}]"),
        }
    }
}
