//! From a checked wish for a network to what the host makes: options read, defaults filled in. Pure.
//!
//! Options are Docker's (moby: daemon/libnetwork/netlabel/labels.go, drivers/bridge/labels.go, drivers/macvlan, drivers/ipvlan). One that is
//! nobody's is kept and has no effect, as in Docker.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use hoist_model::NetworkId;
use hoist_model::network::{
    GatewayMode, IpvlanFlag, IpvlanMode, MacvlanMode, Segment, SegmentKind, Subnet,
};

use super::NetworkRequest;
use super::check::invalid;
use crate::error::NetworkError;

const BRIDGE: &str = "com.docker.network.bridge.";

type Options = BTreeMap<String, String>;

/// What the host makes of a wish.
pub(super) fn plan(request: &NetworkRequest, id: NetworkId) -> Result<Segment, NetworkError> {
    let options = &request.options;
    let bridge = |name: &str| options.get(&format!("{BRIDGE}{name}")).map(String::as_str);
    let enabled = |asked: Option<bool>, name: &str, default| match asked {
        Some(asked) => Ok(asked),
        None => boolean(options, name, default)
            .map_err(|_| invalid(format!("driver-opt {name:?} is not a valid bool"))),
    };
    let kind = match request.driver.as_str() {
        "macvlan" => macvlan(options)?,
        "ipvlan" => ipvlan(options)?,
        _ => SegmentKind::Bridge,
    };
    let ipv4 = enabled(request.ipv4, "com.docker.network.enable_ipv4", true)?;
    let ipv6 = enabled(request.ipv6, "com.docker.network.enable_ipv6", false)?;
    if !ipv4 && !ipv6 {
        return Err(invalid("IPv4 or IPv6 must be enabled"));
    }
    let internal = request.internal;
    let modes = [
        gateway_mode(bridge("gateway_mode_ipv4"), "gateway_mode_ipv4", internal)?,
        gateway_mode(bridge("gateway_mode_ipv6"), "gateway_mode_ipv6", internal)?,
    ];
    let mut subnets = Vec::new();
    for pool in &request.pools {
        let v6 = pool.subnet.contains(':');
        // A subnet of a family that is off is kept out, as in Docker.
        if if v6 { !ipv6 } else { !ipv4 } {
            continue;
        }
        subnets.push(subnet(pool)?);
    }
    let text = |name: &str| options.get(name).cloned().unwrap_or_default();
    Ok(Segment {
        id,
        name: request.name.clone(),
        interface: match kind {
            SegmentKind::Bridge => bridge("name").unwrap_or_default().to_owned(),
            SegmentKind::Macvlan { .. } | SegmentKind::Ipvlan { .. } => String::new(),
        },
        kind,
        adopted: false,
        ipv4,
        ipv6,
        subnets,
        internal,
        inter_container: boolean(options, &format!("{BRIDGE}enable_icc"), true)?,
        masquerade: boolean(options, &format!("{BRIDGE}enable_ip_masquerade"), true)?,
        inhibit_ipv4: boolean(options, &format!("{BRIDGE}inhibit_ipv4"), false)?,
        mtu: mtu(&text("com.docker.network.driver.mtu"))?,
        host_binding: host_binding(bridge("host_binding_ipv4").unwrap_or_default())?,
        gateway_mode_v4: modes[0],
        gateway_mode_v6: modes[1],
        interface_prefix: prefix(text("com.docker.network.container_iface_prefix"))?,
    })
}

fn subnet(pool: &super::PoolRequest) -> Result<Subnet, NetworkError> {
    let wrong = |text: &str| invalid(format!("invalid network config:\ninvalid address {text}"));
    let address =
        |text: &String| -> Result<IpAddr, NetworkError> { text.parse().map_err(|_| wrong(text)) };
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut auxiliary = BTreeMap::new();
    for (name, text) in &pool.auxiliary {
        auxiliary.insert(name.clone(), address(text)?);
    }
    Ok(Subnet {
        subnet: pool.subnet.parse().map_err(|_| wrong(&pool.subnet))?,
        gateway: some(&pool.gateway).map(|text| address(&text)).transpose()?,
        range: some(&pool.range)
            .map(|text| text.parse().map_err(|_| wrong(&text)))
            .transpose()?,
        auxiliary,
        configured: true,
    })
}

/// As Go's `strconv.ParseBool` reads it.
fn boolean(options: &Options, name: &str, default: bool) -> Result<bool, NetworkError> {
    match options.get(name).map(String::as_str) {
        None => Ok(default),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(text) => Err(invalid(format!(
            "failed to parse {name} value: {text:?} (not a boolean)"
        ))),
    }
}

/// Linux takes 68 and more (RFC 791); a veth at most 65,535.
fn mtu(text: &str) -> Result<Option<u32>, NetworkError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || invalid(format!("invalid MTU number: {text}"));
    let mtu = text.parse::<u32>().map_err(|_| wrong())?;
    match mtu {
        0 => Ok(None),
        68..=65_535 => Ok(Some(mtu)),
        _ => Err(wrong()),
    }
}

fn host_binding(text: &str) -> Result<Option<IpAddr>, NetworkError> {
    if text.is_empty() {
        return Ok(None);
    }
    let address: Ipv4Addr = text.parse().map_err(|_| {
        invalid(format!(
            "failed to parse {BRIDGE}host_binding_ipv4 value: {text:?} (invalid ip)"
        ))
    })?;
    Ok((!address.is_unspecified()).then_some(address.into()))
}

fn prefix(text: String) -> Result<String, NetworkError> {
    if text.len() > 12 || text.contains(['/', ':']) || text.contains(char::is_whitespace) {
        return Err(invalid(format!(
            "invalid container interface prefix {text:?}"
        )));
    }
    Ok(text)
}

fn gateway_mode(
    text: Option<&str>,
    name: &str,
    internal: bool,
) -> Result<GatewayMode, NetworkError> {
    let mode = match text.unwrap_or_default() {
        "" | "nat" => GatewayMode::Nat,
        "nat-unprotected" => GatewayMode::NatUnprotected,
        "routed" => GatewayMode::Routed,
        "isolated" => GatewayMode::Isolated,
        other => {
            return Err(invalid(format!(
                "unknown gateway mode {other} for {BRIDGE}{name}"
            )));
        }
    };
    if mode == GatewayMode::Isolated && !internal {
        return Err(invalid(
            "gateway mode 'isolated' can only be used for an internal network",
        ));
    }
    Ok(mode)
}

/// The interface of the host that a driver's are on.
fn parent(options: &Options, driver: &str) -> Result<String, NetworkError> {
    let parent = options.get("parent").cloned().unwrap_or_default();
    if parent == "lo" {
        return Err(invalid(format!(
            "loopback interface is not a valid {driver} parent link"
        )));
    }
    Ok(parent)
}

fn macvlan(options: &Options) -> Result<SegmentKind, NetworkError> {
    let mode = match options.get("macvlan_mode").map_or("", String::as_str) {
        "" | "bridge" => MacvlanMode::Bridge,
        "private" => MacvlanMode::Private,
        "vepa" => MacvlanMode::Vepa,
        "passthru" => MacvlanMode::Passthru,
        other => {
            return Err(invalid(format!(
                "requested macvlan mode '{other}' is not valid, 'bridge' mode is the macvlan driver default"
            )));
        }
    };
    let parent = parent(options, "macvlan")?;
    Ok(SegmentKind::Macvlan { parent, mode })
}

fn ipvlan(options: &Options) -> Result<SegmentKind, NetworkError> {
    let mode = match options.get("ipvlan_mode").map_or("", String::as_str) {
        "" | "l2" => IpvlanMode::L2,
        "l3" => IpvlanMode::L3,
        "l3s" => IpvlanMode::L3s,
        other => {
            return Err(invalid(format!(
                "requested ipvlan mode '{other}' is not valid, 'l2' mode is the ipvlan driver default"
            )));
        }
    };
    let flag = match options.get("ipvlan_flag").map_or("", String::as_str) {
        "" | "bridge" => IpvlanFlag::Bridge,
        "private" => IpvlanFlag::Private,
        "vepa" => IpvlanFlag::Vepa,
        other => {
            return Err(invalid(format!(
                "requested ipvlan flag '{other}' is not valid, 'bridge' is the ipvlan driver default"
            )));
        }
    };
    let parent = parent(options, "ipvlan")?;
    Ok(SegmentKind::Ipvlan { parent, mode, flag })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(driver: &str, options: &[(&str, &str)]) -> Result<Segment, String> {
        let request = NetworkRequest {
            name: "one".to_owned(),
            driver: driver.to_owned(),
            options: options
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..NetworkRequest::default()
        };
        plan(&request, NetworkId::from_bytes(&[1; 32])).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read() {
        let plain = of("bridge", &[]).unwrap();
        assert!(plain.ipv4 && !plain.ipv6 && plain.inter_container && plain.masquerade);
        let all = of(
            "bridge",
            &[
                ("com.docker.network.bridge.name", "br9"),
                ("com.docker.network.bridge.enable_icc", "false"),
                ("com.docker.network.bridge.enable_ip_masquerade", "0"),
                ("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"),
                ("com.docker.network.bridge.gateway_mode_ipv6", "routed"),
                ("com.docker.network.driver.mtu", "1400"),
                ("com.docker.network.enable_ipv6", "true"),
                ("com.docker.network.container_iface_prefix", "lan"),
                ("anything", "else"),
            ],
        )
        .unwrap();
        assert_eq!((all.interface.as_str(), all.mtu), ("br9", Some(1400)));
        assert!(all.ipv6 && !all.inter_container && !all.masquerade);
        assert_eq!(all.host_binding, Some([127, 0, 0, 1].into()));
        assert_eq!(all.gateway_mode_v6, GatewayMode::Routed);
        assert_eq!(all.interface_prefix, "lan");
        let lan = of("macvlan", &[("parent", "eth0.7"), ("macvlan_mode", "vepa")]).unwrap();
        assert_eq!(
            lan.kind,
            SegmentKind::Macvlan {
                parent: "eth0.7".to_owned(),
                mode: MacvlanMode::Vepa
            }
        );
        let kind = |options| of("ipvlan", options).unwrap().kind;
        assert_eq!(
            kind(&[("ipvlan_mode", "l3s"), ("ipvlan_flag", "private")]),
            SegmentKind::Ipvlan {
                parent: String::new(),
                mode: IpvlanMode::L3s,
                flag: IpvlanFlag::Private
            }
        );
        assert!(!kind(&[("parent", "eth0")]).routes_by_itself());
    }

    #[test]
    fn wrong_options_are_named() {
        for (driver, name, value, expected) in [
            (
                "bridge",
                "com.docker.network.driver.mtu",
                "12",
                "invalid MTU number: 12",
            ),
            (
                "bridge",
                "com.docker.network.driver.mtu",
                "big",
                "invalid MTU number: big",
            ),
            (
                "bridge",
                "com.docker.network.bridge.gateway_mode_ipv4",
                "isolated",
                "gateway mode 'isolated' can only be used for an internal network",
            ),
            (
                "bridge",
                "com.docker.network.bridge.gateway_mode_ipv4",
                "x",
                "unknown gateway mode x for com.docker.network.bridge.gateway_mode_ipv4",
            ),
            (
                "macvlan",
                "macvlan_mode",
                "x",
                "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default",
            ),
            (
                "ipvlan",
                "ipvlan_mode",
                "l4",
                "requested ipvlan mode 'l4' is not valid, 'l2' mode is the ipvlan driver default",
            ),
            (
                "ipvlan",
                "ipvlan_flag",
                "x",
                "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default",
            ),
            (
                "ipvlan",
                "parent",
                "lo",
                "loopback interface is not a valid ipvlan parent link",
            ),
            (
                "macvlan",
                "parent",
                "lo",
                "loopback interface is not a valid macvlan parent link",
            ),
        ] {
            assert_eq!(of(driver, &[(name, value)]).unwrap_err(), expected);
        }
    }
}
