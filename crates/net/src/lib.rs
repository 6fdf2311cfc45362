//! Networks on this host: the bridge, a pool of ready network namespaces, published ports and the firewall table.
//!
//! rtnetlink and nf_tables are spoken natively; no helper program runs. One worker thread owns the making of
//! namespaces and answers kernel notifications; one relay thread serves what NAT cannot (`[::1]`, IPv6 to
//! IPv4-only containers), and answers names inside containers. Neither blocks a request. Nothing here knows images, processes or a wire protocol.

#![allow(
    clippy::cast_possible_truncation,
    reason = "netlink's lengths and register numbers are narrow by format"
)]

mod attach;
mod attachment;
mod bridge;
mod build;
mod claim;
mod connect;
mod demand;
mod dns;
mod doomed;
mod error;
mod event_thread;
mod explain;
mod firewall;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
mod inner_resolv_conf;
mod ipam;
mod leaving;
mod mend;
mod names;
mod neighbours;
mod networks;
mod nft;
mod plug;
mod ports;
mod relay;
mod renew;
mod resolver_files;
mod rtnl;
mod segment_links;
mod segments;
mod settings;
mod shared;
mod space;
mod spare;
mod subnets;
mod sysctl;
mod timings;
mod worker;

pub use attachment::{
    Address, AttachRequest, Attachment, AttachmentRecord, MacAddress, PlaceRecord,
};
pub use connect::netns_of;
pub use dns::NAME_SERVER;
pub use error::{HostAddress, NetError};
pub use inner_resolv_conf::{has_ndots, render_inner_resolv_conf};
pub use ipam::Addresses;
pub use names::{NameBoard, Names, NetworkNames, ResolverView};
pub use networks::{BridgeFacts, Networks};
pub use resolver_files::{
    RESOLVED_FILE, ResolverOptions, needs_resolved_file, render_hostname, render_hosts,
    render_resolv_conf,
};
pub use settings::{
    AddressPool, BridgeChoice, Changeable, Instance, MakeNamespace, OccupiedBridge, Settings,
};
pub use timings::{Timing, Timings};
