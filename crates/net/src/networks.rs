//! The handle: one engine's networks on this host.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use hoist_model::ContainerId;
use ipnet::{Ipv4Net, Ipv6Net};

use crate::attachment::{AttachRequest, Attachment, AttachmentRecord};
use crate::error::NetError;
use crate::settings::Settings;

/// The networks of one engine: its bridge, its table, its pool of namespaces and its published ports.
///
/// All functions block (microseconds to a few milliseconds) and may be called from any thread whose network
/// namespace is the one `start` was called in. Cloning gives another handle to the same networks.
///
/// ```text
/// start ──► restore* ──► sweep ──► attach / detach / isolated … ──► stop
/// ```
#[derive(Clone)]
pub struct Networks {
    _inner: Arc<()>,
}

impl Networks {
    /// Makes (or finds) the bridge and starts the worker. Call `restore` for every live container, then `sweep`.
    pub fn start(_settings: Settings) -> Result<Self, NetError> {
        unimplemented!()
    }

    /// Takes a live container's attachment back after a restart of the daemon: its addresses, published ports
    /// and reserving sockets. `netns` is the container's namespace (`/proc/<pid>/ns/net`).
    pub fn restore(&self, _record: AttachmentRecord, _netns: OwnedFd) -> Result<(), NetError> {
        unimplemented!()
    }

    /// Writes the table, removes what earlier lives of this instance left behind and nobody restored, and starts
    /// to fill the pool. Call once, after the last `restore`.
    pub fn sweep(&self) -> Result<(), NetError> {
        unimplemented!()
    }

    /// Gives a container a namespace on the default bridge and publishes its ports. From the pool this takes
    /// microseconds; a MAC or IP of one's own, or an empty pool, costs 1 to 2 ms.
    pub fn attach(&self, _request: &AttachRequest) -> Result<Attachment, NetError> {
        unimplemented!()
    }

    /// Takes a container off: its ports are free when this returns, its namespace, veth and address soon after.
    pub fn detach(&self, _container: &ContainerId) -> Result<(), NetError> {
        unimplemented!()
    }

    /// A namespace with `lo` alone, up, for `--network none`; dies when its last user closes it.
    pub fn isolated(&self) -> Result<OwnedFd, NetError> {
        unimplemented!()
    }

    /// Another descriptor of an attached container's namespace, for `--network container:X`.
    pub fn netns(&self, _container: &ContainerId) -> Result<OwnedFd, NetError> {
        unimplemented!()
    }

    /// What is remembered of an attached container.
    #[must_use]
    pub fn attachment(&self, _container: &ContainerId) -> Option<AttachmentRecord> {
        unimplemented!()
    }

    /// The default bridge, as inspect shows it.
    #[must_use]
    pub fn bridge(&self) -> BridgeFacts {
        unimplemented!()
    }

    /// Compares the table with what it should be and writes it again where it differs; true if it did.
    pub fn verify_and_reapply(&self) -> Result<bool, NetError> {
        unimplemented!()
    }

    /// What an operator should know: firewalls that drop our traffic, forwarding that is off.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        unimplemented!()
    }

    /// Ends the worker and empties the pool. With `keep`, bridge, table and the veths of attached containers stay,
    /// for containers that outlive the daemon; without, everything of this instance goes.
    pub fn stop(&self, _keep: bool) -> Result<(), NetError> {
        unimplemented!()
    }
}

/// The default bridge as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeFacts {
    /// Its name, `hoist0`.
    pub name: String,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// Its own address in the subnet: the containers' gateway.
    pub gateway: Ipv4Addr,
    /// Its IPv6 subnet, where it has one.
    pub subnet_v6: Option<Ipv6Net>,
    /// Link MTU in bytes.
    pub mtu: u32,
}
