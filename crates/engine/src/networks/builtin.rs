//! The records of the networks every node has. Pure but for new ids and the time.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hoist_model::NetworkId;

use crate::clock::{now, random_bytes};
use crate::ports::BridgeFacts;
use crate::records::NetworkRecord;

/// `bridge` where there is a default bridge, `host` and `none`; those that are known keep their ids.
pub(super) fn wanted(
    known: &[Arc<NetworkRecord>],
    bridge: Option<&BridgeFacts>,
) -> Vec<NetworkRecord> {
    let of = |name: &str, driver: &str, bridge: Option<&BridgeFacts>| {
        let old = known.iter().find(|network| network.name == name);
        NetworkRecord {
            id: old.map_or_else(|| NetworkId::from_bytes(&random_bytes()), |o| o.id.clone()),
            name: name.to_owned(),
            driver: driver.to_owned(),
            created_at: old.map_or_else(now, |o| o.created_at),
            subnets: bridge
                .map(|facts| facts.subnets.clone())
                .unwrap_or_default(),
            segment: None,
            attachable: false,
            ipam_options: None,
            options: bridge.map(options).unwrap_or_default(),
            labels: BTreeMap::new(),
            configuration: None,
            config_from: String::new(),
        }
    };
    let mut wanted = vec![of("host", "host", None), of("none", "null", None)];
    wanted.extend(bridge.map(|facts| of("bridge", "bridge", Some(facts))));
    wanted
}

/// What `docker network inspect bridge` shows (moby `daemon/daemon_unix.go`, `initBridgeDriver`).
fn options(facts: &BridgeFacts) -> BTreeMap<String, String> {
    let host_ip = facts.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let bridge = |name: &str, value: String| (format!("com.docker.network.bridge.{name}"), value);
    BTreeMap::from([
        bridge("default_bridge", "true".to_owned()),
        bridge("enable_icc", facts.inter_container.to_string()),
        bridge("enable_ip_masquerade", facts.masquerade.to_string()),
        bridge("host_binding_ipv4", host_ip.to_string()),
        bridge("name", facts.name.clone()),
        (
            "com.docker.network.driver.mtu".to_owned(),
            facts.mtu.to_string(),
        ),
    ])
}
