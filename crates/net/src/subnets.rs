//! Choosing the bridge's subnet: the first of the pools that overlaps nothing the host routes to. Pure.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::NetError;
use crate::settings::{AddressPool, Instance};

/// Docker's own default bridge; a Docker that starts later must find it free.
const DOCKER_BRIDGE: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(172, 17, 0, 0), 16);

/// Docker's pools (moby: ipamutils), minus its own bridge's.
fn default_pools() -> Vec<AddressPool> {
    let pool = |octets: [u8; 4], length, size| AddressPool {
        base: Ipv4Net::new_assert(octets.into(), length),
        size,
    };
    (18..=31)
        .map(|second| pool([172, second, 0, 0], 16, 16))
        .chain([pool([192, 168, 0, 0], 16, 20)])
        .collect()
}

/// The subnets that the pools hold, in order.
fn candidates(pools: &[AddressPool]) -> impl Iterator<Item = Ipv4Net> {
    pools
        .iter()
        .filter_map(|pool| pool.base.trunc().subnets(pool.size).ok())
        .flatten()
}

/// Checks `default-address-pools`.
pub(crate) fn check_pools(pools: &[AddressPool]) -> Result<(), NetError> {
    match pools
        .iter()
        .find(|pool| pool.size < pool.base.prefix_len() || pool.size > 30)
    {
        Some(pool) => Err(NetError::InvalidSetting(format!(
            "invalid default-address-pools: size {} does not fit base {}",
            pool.size, pool.base
        ))),
        None => Ok(()),
    }
}

/// The first subnet of the pools (Docker's if empty) that overlaps none of `used`.
pub(crate) fn choose(pools: &[AddressPool], used: &[IpNet]) -> Option<Ipv4Net> {
    let defaults;
    let pools = if pools.is_empty() {
        defaults = default_pools();
        &defaults
    } else {
        pools
    };
    let used: Vec<Ipv4Net> = used
        .iter()
        .filter_map(|net| match net {
            IpNet::V4(net) => Some(net.trunc()),
            IpNet::V6(_) => None,
        })
        .collect();
    candidates(pools).find(|candidate| {
        *candidate != DOCKER_BRIDGE && !used.iter().any(|net| overlaps(*candidate, *net))
    })
}

/// Whether two subnets share an address.
pub(crate) fn overlaps(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Whether two subnets of any family share an address.
pub(crate) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The first unique local /64 of the instance that overlaps none of `used`.
pub(crate) fn choose_v6(instance: &Instance, used: &[IpNet]) -> Option<Ipv6Net> {
    let candidates = (2..=u16::MAX).map(|number| unique_local(instance, number.to_be_bytes()));
    candidates
        .into_iter()
        .find(|net| !used.iter().any(|other| overlap((*net).into(), *other)))
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
    fn unique_local_subnets_differ_by_instance_and_from_each_other() {
        let instance = Instance::of([1, 2, 3]);
        let first = choose_v6(&instance, &[]).unwrap();
        let second = choose_v6(&instance, &[first.into()]).unwrap();
        assert_eq!(first.to_string(), "fd68:102:300:2::/64");
        assert_eq!(second.to_string(), "fd68:102:300:3::/64");
        assert_ne!(first, unique_local(&instance, [0, 1]));
        assert!(overlap("fd68::/16".parse().unwrap(), first.into()));
        assert!(!overlap("10.0.0.0/8".parse().unwrap(), first.into()));
    }

    #[test]
    fn configured_pools_are_cut_as_said() {
        let pools = [AddressPool {
            base: "10.9.0.0/16".parse().unwrap(),
            size: 24,
        }];
        assert!(check_pools(&pools).is_ok());
        assert_eq!(
            choose(&pools, &nets(&["10.9.0.0/24", "0.0.0.0/32"])),
            Some("10.9.1.0/24".parse().unwrap())
        );
        assert!(
            check_pools(&[AddressPool {
                base: pools[0].base,
                size: 8
            }])
            .is_err()
        );
    }
}
