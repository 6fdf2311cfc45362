//! A container's place on the default bridge, as asked for, as given, and as remembered.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use hoist_model::container::{PortMapping, PortRequest};
use hoist_model::{ContainerId, EndpointId, SandboxId};
use serde::{Deserialize, Serialize};

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MacAddress(pub [u8; 6]);

impl std::fmt::Display for MacAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What a container asks of the default bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachRequest {
    /// Who asks.
    pub container: ContainerId,
    /// Ports to publish; all or none are.
    pub ports: Vec<PortRequest>,
    /// A hardware address of its own (`--mac-address`); misses the pool.
    pub mac: Option<MacAddress>,
    /// An address of its own (`--ip`); misses the pool.
    pub ip: Option<Ipv4Addr>,
}

/// A network namespace ready for a container, and what it is known by.
#[derive(Debug)]
pub struct Attachment {
    /// The namespace, with `lo` and `eth0` up; close it once the container is in it (`Networks` keeps its own).
    pub netns: OwnedFd,
    /// Everything to remember over a restart of the daemon.
    pub record: AttachmentRecord,
    /// Duplicates of the sockets that reserve its published ports, for a process that outlives the daemon. They hold the
    /// ports: close them when the container ends.
    pub reserving: Vec<OwnedFd>,
}

/// What is remembered of an attachment; the engine stores it and hands it to `Networks::restore`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentRecord {
    /// Whose it is.
    pub container: ContainerId,
    /// The namespace.
    pub sandbox: SandboxId,
    /// The membership of the network.
    pub endpoint: EndpointId,
    /// The container's address.
    pub ipv4: Ipv4Addr,
    /// Prefix length of the subnet.
    pub prefix_length: u8,
    /// The default gateway: the bridge's address.
    pub gateway: Ipv4Addr,
    /// The container's IPv6 address, where the bridge has IPv6.
    pub ipv6: Option<Ipv6Attachment>,
    /// Hardware address of `eth0`.
    pub mac: MacAddress,
    /// The host's end of the veth pair.
    pub host_interface: String,
    /// Published ports, in the order they were asked for, IPv4 before IPv6.
    pub ports: Vec<PortMapping>,
}

/// The IPv6 half of an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Attachment {
    /// The container's address.
    pub address: Ipv6Addr,
    /// Prefix length of the subnet.
    pub prefix_length: u8,
    /// The default gateway: the bridge's address.
    pub gateway: Ipv6Addr,
}
