//! What a wish for a network must not be, in Docker's words (moby `daemon/network.go`, `api/types/network/ipam.go`). Pure.

use std::net::IpAddr;

use hoist_model::ErrorClass;
use ipnet::IpNet;

use super::{NetworkRequest, PoolRequest, configuration};
use crate::error::NetworkError;

pub(super) fn refused(class: ErrorClass, message: impl Into<String>) -> NetworkError {
    NetworkError::Refused {
        message: message.into(),
        class,
    }
}

pub(super) fn invalid(message: impl Into<String>) -> NetworkError {
    refused(ErrorClass::InvalidArgument, message)
}

/// Refuses names, drivers and address pools that make no sense.
pub(super) fn check(request: &NetworkRequest) -> Result<(), NetworkError> {
    let name = request.name.as_str();
    if matches!(name, "bridge" | "host" | "none" | "default") {
        return Err(NetworkError::Predefined(name.to_owned()));
    }
    if name.trim().is_empty() {
        return Err(invalid("invalid network name: name is empty"));
    }
    let sound = name
        .bytes()
        .enumerate()
        .all(|(at, b)| b.is_ascii_alphanumeric() || (at > 0 && matches!(b, b'_' | b'.' | b'-')));
    if !sound {
        return Err(invalid(format!(
            "invalid network name {name:?}, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    configuration::check(request)?;
    match request.scope.as_str() {
        "" | "local" => {}
        "swarm" => {
            return Err(refused(
                ErrorClass::Forbidden,
                "cannot create a swarm scoped network when swarm is not active",
            ));
        }
        other => {
            return Err(invalid(format!(
                "invalid network scope {other:?}: expected \"local\" or \"swarm\""
            )));
        }
    }
    if !request.config_only {
        check_driver(&request.driver)?;
    }
    if request.ingress {
        return Err(refused(
            ErrorClass::Forbidden,
            "Ingress network can only be global scope network",
        ));
    }
    if !matches!(request.ipam_driver.as_str(), "" | "default" | "null") {
        return Err(refused(
            ErrorClass::NotFound,
            format!(
                "could not find plugin {0} in v1 plugin registry: plugin {0:?} not found",
                request.ipam_driver
            ),
        ));
    }
    let wrong: Vec<String> = request.pools.iter().flat_map(check_pool).collect();
    match wrong.as_slice() {
        [] => {}
        [one] => return Err(invalid(format!("invalid network config:\n{one}"))),
        many => {
            return Err(invalid(format!(
                "invalid network config:\n* {}",
                many.join("\n* ")
            )));
        }
    }
    for v6 in [false, true] {
        let family = request
            .pools
            .iter()
            .filter(|pool| pool.subnet.contains(':') == v6);
        if family.count() > 1 {
            return Err(refused(
                ErrorClass::Forbidden,
                format!("{} driver doesn't support multiple subnets", request.driver),
            ));
        }
    }
    Ok(())
}

fn check_driver(driver: &str) -> Result<(), NetworkError> {
    match driver {
        "bridge" | "macvlan" | "ipvlan" => {}
        "host" | "null" => {
            return Err(refused(
                ErrorClass::Forbidden,
                format!("only one instance of \"{}\" network is allowed", driver),
            ));
        }
        "overlay" => {
            return Err(refused(
                ErrorClass::Forbidden,
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
            ));
        }
        other => {
            return Err(refused(
                ErrorClass::NotFound,
                format!(
                    "could not find plugin {other} in v1 plugin registry: plugin \"{other}\" not found"
                ),
            ));
        }
    }
    Ok(())
}

fn check_pool(pool: &PoolRequest) -> Vec<String> {
    let mut wrong = Vec::new();
    let Ok(subnet) = pool.subnet.parse::<IpNet>() else {
        wrong.push(if pool.subnet.is_empty() {
            "invalid subnet: a subnet is required".to_owned()
        } else {
            format!(
                "invalid subnet {}: invalid CIDR block notation",
                pool.subnet
            )
        });
        return wrong;
    };
    if subnet.trunc() != subnet {
        wrong.push(format!(
            "invalid subnet {subnet}: it should be {}",
            subnet.trunc()
        ));
    }
    let family = |v4| if v4 { "IPv4" } else { "IPv6" };
    let v4 = subnet.addr().is_ipv4();
    if !pool.range.is_empty() {
        let range = pool.range.as_str();
        match range.parse::<IpNet>() {
            Err(_) => wrong.push(format!(
                "invalid ip-range {range}: invalid CIDR block notation"
            )),
            Ok(net) if net.addr().is_ipv4() != v4 => wrong.push(format!(
                "invalid ip-range {range}: parent subnet is an {} block",
                family(v4)
            )),
            Ok(net) if net.trunc() != net => wrong.push(format!(
                "invalid ip-range {range}: it should be {}",
                net.trunc()
            )),
            Ok(net) if net.prefix_len() < subnet.prefix_len() => wrong.push(format!(
                "invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}"
            )),
            Ok(net) if !subnet.contains(&net) => wrong.push(format!(
                "invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"
            )),
            Ok(_) => {}
        }
    }
    let mut address = |what: String, text: &str| match text.parse::<IpAddr>() {
        Err(_) => wrong.push(format!("invalid {what}: invalid address")),
        Ok(ip) if ip.is_ipv4() != v4 => wrong.push(format!(
            "invalid {what}: parent subnet is an {} block",
            family(v4)
        )),
        Ok(ip) if !subnet.contains(&ip) => wrong.push(format!(
            "invalid {what}: parent subnet {subnet} doesn't contain this address"
        )),
        Ok(_) => {}
    };
    if !pool.gateway.is_empty() {
        address(format!("gateway {}", pool.gateway), &pool.gateway);
    }
    for (name, text) in &pool.auxiliary {
        address(format!("auxiliary address {name}"), text);
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pools: &[(&str, &str, &str)]) -> NetworkRequest {
        NetworkRequest {
            name: "one".to_owned(),
            driver: "bridge".to_owned(),
            pools: pools
                .iter()
                .map(|(subnet, range, gateway)| PoolRequest {
                    subnet: (*subnet).to_owned(),
                    range: (*range).to_owned(),
                    gateway: (*gateway).to_owned(),
                    auxiliary: [].into(),
                })
                .collect(),
            ..NetworkRequest::default()
        }
    }

    fn refusal(request: &NetworkRequest) -> String {
        check(request)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn pools_are_checked_in_dockers_words() {
        for (subnet, range, gateway, expected) in [
            ("10.0.0.0/24", "10.0.0.128/25", "10.0.0.1", ""),
            ("fd00::/64", "", "", ""),
            (
                "nope",
                "",
                "",
                "invalid subnet nope: invalid CIDR block notation",
            ),
            (
                "10.0.0.1/24",
                "",
                "",
                "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24",
            ),
            (
                "10.0.0.0/24",
                "10.0.0.0/16",
                "",
                "invalid ip-range 10.0.0.0/16: CIDR block is bigger than its parent subnet 10.0.0.0/24",
            ),
            (
                "10.0.0.0/24",
                "10.1.0.0/25",
                "",
                "invalid ip-range 10.1.0.0/25: parent subnet 10.0.0.0/24 doesn't contain ip-range",
            ),
            (
                "10.0.0.0/24",
                "",
                "10.1.0.1",
                "invalid gateway 10.1.0.1: parent subnet 10.0.0.0/24 doesn't contain this address",
            ),
            (
                "10.0.0.0/24",
                "",
                "fd00::1",
                "invalid gateway fd00::1: parent subnet is an IPv4 block",
            ),
        ] {
            let refused = refusal(&request(&[(subnet, range, gateway)]));
            let refused = refused.trim_start_matches("invalid network config:\n");
            assert_eq!(refused, expected);
        }
        assert_eq!(
            refusal(&request(&[
                ("10.0.0.0/24", "", ""),
                ("10.1.0.0/24", "", "")
            ])),
            "bridge driver doesn't support multiple subnets"
        );
    }

    #[test]
    fn names_and_drivers_are_checked() {
        let named = |name: &str, driver: &str| {
            refusal(&NetworkRequest {
                name: name.to_owned(),
                driver: driver.to_owned(),
                ..request(&[])
            })
        };
        assert_eq!(
            named("host", "bridge"),
            "operation is not permitted on predefined host network "
        );
        assert_eq!(
            named("x", "host"),
            "only one instance of \"host\" network is allowed"
        );
        assert!(named(" ", "bridge").contains("name is empty"));
        assert!(named("a/b", "bridge").starts_with("invalid network name \"a/b\""));
        assert!(named("x", "weave").contains("plugin \"weave\" not found"));
        assert_eq!(named("x", "macvlan") + &named("x", "ipvlan"), "");
    }
}
