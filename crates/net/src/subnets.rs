//! Choosing the bridge's subnet: the first of the pools that overlaps nothing the host routes to. Pure.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::NetError;
use crate::settings::{AddressPool, Instance};

/// Docker's own default bridge; a Docker that starts later must find it free.
const DOCKER_BRIDGE: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(172, 17, 0, 0), 16);

/// Docker's pools of IPv4 (moby: ipamutils), minus its own bridge's.
fn default_pools() -> Vec<AddressPool> {
    let pool = |octets: [u8; 4], length, size| AddressPool {
        base: Ipv4Net::new_assert(octets.into(), length).into(),
        size,
    };
    (18..=31)
        .map(|second| pool([172, second, 0, 0], 16, 16))
        .chain([pool([192, 168, 0, 0], 16, 20)])
        .collect()
}

/// The first subnet that pools of a family hold and that overlaps none of `used`; `None` too where no pool is of it.
///
/// A pool may hold 2^64 subnets: one that is used is passed over with all that it covers. Candidates only go up, so that those
/// in use, sorted, are gone through once.
fn cut(pools: &[AddressPool], v6: bool, used: &[IpNet]) -> Option<IpNet> {
    let is_of_family = |net: &IpNet| matches!(net, IpNet::V6(_)) == v6;
    let docker = IpNet::from(DOCKER_BRIDGE);
    let mut taken: Vec<(IpAddr, IpAddr)> = used
        .iter()
        .chain([&docker])
        .filter(|net| is_of_family(net))
        .map(|net| (net.network(), net.broadcast()))
        .collect();
    taken.sort_unstable();
    let mut of_family = pools.iter().filter(|pool| is_of_family(&pool.base));
    of_family.find_map(|pool| {
        let (base, size) = (pool.base.trunc(), pool.size);
        let mut candidate = IpNet::new(base.network(), size).ok()?;
        for (first, last) in &taken {
            if *last < candidate.network() {
                continue;
            }
            if *first > candidate.broadcast() {
                break;
            }
            let last = (*last).max(candidate.broadcast());
            candidate = IpNet::new(following(last)?, size).ok()?.trunc();
        }
        base.contains(&candidate.network()).then_some(candidate)
    })
}

/// The address after another, if there is one.
fn following(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => Some(IpAddr::V4(u32::from(address).checked_add(1)?.into())),
        IpAddr::V6(address) => Some(IpAddr::V6(u128::from(address).checked_add(1)?.into())),
    }
}

/// Checks `default-address-pools`.
pub(crate) fn check_pools(pools: &[AddressPool]) -> Result<(), NetError> {
    match pools.iter().find(|pool| {
        pool.size < pool.base.prefix_len() || pool.size > pool.base.max_prefix_len() - 2
    }) {
        Some(pool) => Err(NetError::InvalidSetting(format!(
            "invalid default-address-pools: size {} does not fit base {}",
            pool.size, pool.base
        ))),
        None => Ok(()),
    }
}

fn has_family(pools: &[AddressPool], v6: bool) -> bool {
    let mut pools = pools.iter();
    pools.any(|pool| matches!(pool.base, IpNet::V6(_)) == v6)
}

/// The first IPv4 subnet of the pools (Docker's if none is of IPv4) that overlaps none of `used`.
pub(crate) fn choose(pools: &[AddressPool], used: &[IpNet]) -> Option<Ipv4Net> {
    let defaults;
    let pools = if has_family(pools, false) {
        pools
    } else {
        defaults = default_pools();
        &defaults
    };
    match cut(pools, false, used)? {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    }
}

/// Whether two subnets share an address.
pub(crate) fn overlaps(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Whether two subnets of any family share an address.
pub(crate) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The first IPv6 subnet of the pools, or else the first unique local /64 of the instance, that overlaps none of `used`.
pub(crate) fn choose_v6(
    instance: &Instance,
    pools: &[AddressPool],
    used: &[IpNet],
) -> Option<Ipv6Net> {
    if has_family(pools, true) {
        return match cut(pools, true, used)? {
            IpNet::V6(net) => Some(net),
            IpNet::V4(_) => None,
        };
    }
    let mut candidates = (2..=u16::MAX).map(|number| unique_local(instance, number.to_be_bytes()));
    let equal: HashSet<&IpNet> = used.iter().collect();
    candidates.find(|net| {
        let net = IpNet::from(*net);
        !equal.contains(&net) && !used.iter().any(|other| overlap(net, *other))
    })
}

/// A unique local /64 of an instance (RFC 4193; the subnet stays the same over restarts).
pub(crate) fn unique_local(instance: &Instance, seed: [u8; 2]) -> Ipv6Net {
    let [a, b, c] = instance.bytes();
    let address = Ipv6Addr::from([
        0xfd, 0x68, a, b, c, seed[0], 0, seed[1], 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    Ipv6Net::new_assert(address, 64).trunc()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn automatic_subnets_avoid_docker_and_the_hosts_routes() {
        let check = |used: &[&str], expected: &str| {
            assert_eq!(
                choose(&[], &nets(used)),
                Some(expected.parse().unwrap()),
                "{used:?}"
            );
        };
        check(&[], "172.18.0.0/16");
        check(&["172.18.4.0/24", "172.19.0.1/16"], "172.20.0.0/16");
        check(&["172.16.0.0/12"], "192.168.0.0/20");
        check(&["172.16.0.0/12", "192.168.5.0/24"], "192.168.16.0/20");
        assert_eq!(
            choose(&[], &nets(&["172.16.0.0/12", "192.168.0.0/16"])),
            None
        );
    }

    #[test]
    fn subnets_in_use_may_overlap_each_other_and_come_in_any_order() {
        let pools = [AddressPool {
            base: "10.0.0.0/16".parse().unwrap(),
            size: 24,
        }];
        let check = |used: &[&str], expected: Option<&str>| {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(choose(&pools, &nets(used)), expected, "{used:?}");
        };
        check(&[], Some("10.0.0.0/24"));
        let nested = ["10.0.2.0/24", "10.0.0.7/32", "10.0.0.0/23", "10.0.0.0/30"];
        check(&nested, Some("10.0.3.0/24"));
        check(&["10.0.1.0/24", "fd00::/8"], Some("10.0.0.0/24"));
        check(&["10.0.0.0/17", "10.0.5.0/24"], Some("10.0.128.0/24"));
        check(&["10.0.0.0/8"], None);
        check(&["10.0.0.0/17", "10.0.128.0/17"], None);
        check(&["0.0.0.0/1", "8.0.0.0/7"], None);
    }

    #[test]
    fn unique_local_subnets_differ_by_instance_and_from_each_other() {
        let instance = Instance::of([1, 2, 3]);
        let first = choose_v6(&instance, &[], &[]).unwrap();
        let second = choose_v6(&instance, &[], &[first.into()]).unwrap();
        assert_eq!(first.to_string(), "fd68:102:300:2::/64");
        assert_eq!(second.to_string(), "fd68:102:300:3::/64");
        assert_ne!(first, unique_local(&instance, [0, 1]));
        assert!(overlap("fd68::/16".parse().unwrap(), first.into()));
        assert!(!overlap("10.0.0.0/8".parse().unwrap(), first.into()));
    }

    #[test]
    fn configured_pools_are_cut_as_said() {
        let pool = |base: &str, size| AddressPool {
            base: base.parse().unwrap(),
            size,
        };
        let pools = [
            pool("10.9.0.0/16", 24),
            pool("fd00:9::/48", 64),
            pool("10.8.0.0/24", 25),
        ];
        assert!(check_pools(&pools).is_ok());
        for wrong in [
            pool("10.9.0.0/16", 8),
            pool("10.9.0.0/16", 31),
            pool("fd00::/64", 48),
            pool("fd00::/64", 127),
        ] {
            assert!(check_pools(&[wrong]).is_err(), "{wrong:?}");
        }
        let v4 = |used: &[&str]| choose(&pools, &nets(used)).map(|net| net.to_string());
        assert_eq!(
            v4(&["10.9.0.0/24", "0.0.0.0/32"]).as_deref(),
            Some("10.9.1.0/24")
        );
        // Past what is used as a whole, and on to the next pool of the family.
        assert_eq!(v4(&["10.9.0.0/17"]).as_deref(), Some("10.9.128.0/24"));
        assert_eq!(v4(&["10.9.0.0/16"]).as_deref(), Some("10.8.0.0/25"));
        assert_eq!(v4(&["10.0.0.0/8"]), None);
        let instance = Instance::of([1, 2, 3]);
        let v6 =
            |used: &[&str]| choose_v6(&instance, &pools, &nets(used)).map(|net| net.to_string());
        assert_eq!(v6(&[]).as_deref(), Some("fd00:9::/64"));
        assert_eq!(
            v6(&["fd00:9::/64", "fd00:9:0:1::5/128"]).as_deref(),
            Some("fd00:9:0:2::/64")
        );
        assert_eq!(v6(&["fd00:9::/49"]).as_deref(), Some("fd00:9:0:8000::/64"));
        assert_eq!(v6(&["fd00::/16"]), None);
        // One family says nothing of the other.
        assert_eq!(
            choose(&pools[1..2], &[])
                .map(|net| net.to_string())
                .as_deref(),
            Some("172.18.0.0/16")
        );
    }
}
