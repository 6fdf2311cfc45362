//! The addresses of a subnet of a user's network, of either family: which are taken, and which is next. Pure.
//!
//! As on the default bridge (`ipam`), an address that was given back is used again only after all others were.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hoist_model::network::{Subnet, SubnetUsage};
use ipnet::IpNet;

/// The addresses of one subnet.
#[derive(Clone, Debug)]
pub(crate) struct AddressSpace {
    subnet: IpNet,
    /// First and last of those that are given to who asks for none in particular.
    range: (u128, u128),
    taken: BTreeSet<u128>,
    next: u128,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => address.into(),
    }
}

/// The first and the last address of a subnet that an interface can have: not the network's own (which with IPv6 is every
/// router's), nor the broadcast address.
fn usable(subnet: IpNet) -> (u128, u128) {
    let (first, last) = (number(subnet.network()), number(subnet.broadcast()));
    match subnet {
        IpNet::V4(net) if net.prefix_len() >= 31 => (first, last),
        IpNet::V4(_) => (first + 1, last - 1),
        IpNet::V6(net) if net.prefix_len() >= 127 => (first, last),
        IpNet::V6(_) => (first + 1, last),
    }
}

impl AddressSpace {
    /// All free but the auxiliary addresses and the gateway, which is the first address where nobody chose it.
    pub(crate) fn new(subnet: &Subnet) -> Self {
        let (first, last) = usable(subnet.subnet);
        let range = match subnet.range {
            Some(range) => (
                number(range.network()).max(first),
                number(range.broadcast()).min(last),
            ),
            None => (first, last),
        };
        let mut space = Self {
            subnet: subnet.subnet,
            range,
            taken: subnet.auxiliary.values().copied().map(number).collect(),
            next: range.0,
        };
        if let Some(gateway) = subnet.gateway {
            space.taken.insert(number(gateway));
        }
        space
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.subnet {
            IpNet::V4(_) => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            IpNet::V6(_) => Ipv6Addr::from(number).into(),
        }
    }

    /// Takes one address; false if it is taken or not of this subnet.
    pub(crate) fn take(&mut self, address: IpAddr) -> bool {
        let (first, last) = usable(self.subnet);
        let number = number(address);
        self.subnet.contains(&address)
            && (first..=last).contains(&number)
            && self.taken.insert(number)
    }

    /// Takes the next free address of the range; `None` if all are taken.
    pub(crate) fn take_next(&mut self) -> Option<IpAddr> {
        let (first, last) = self.range;
        let free = |from: u128, to: u128| {
            let mut candidate = from;
            // Only what is taken is walked over, so that a range of 2^64 costs nothing.
            for taken in self.taken.range(from..) {
                if *taken != candidate || candidate > to {
                    break;
                }
                candidate = candidate.checked_add(1)?;
            }
            (candidate <= to).then_some(candidate)
        };
        let start = if (first..=last).contains(&self.next) {
            self.next
        } else {
            first
        };
        let found = free(start, last).or_else(|| free(first, last))?;
        self.taken.insert(found);
        self.next = found.wrapping_add(1);
        Some(self.address(found))
    }

    /// How much of it is in use.
    pub(crate) fn usage(&self) -> SubnetUsage {
        let (first, last) = usable(self.subnet);
        let whole = number(self.subnet.broadcast()) - number(self.subnet.network());
        let never = whole - (last - first);
        let among = |range: (u128, u128)| self.taken.range(range.0..=range.1).count() as u128;
        let (from, to) = self.range;
        SubnetUsage {
            subnet: self.subnet,
            in_use: never + among((first, last)),
            available: (to - from).saturating_add(1) - among(self.range),
        }
    }

    /// Gives an address back; false if it was not taken.
    pub(crate) fn release(&mut self, address: IpAddr) -> bool {
        self.taken.remove(&number(address))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn space(subnet: &str, range: Option<&str>, gateway: Option<&str>) -> AddressSpace {
        AddressSpace::new(&Subnet {
            subnet: subnet.parse().unwrap(),
            gateway: gateway.map(|text| text.parse().unwrap()),
            range: range.map(|text| text.parse().unwrap()),
            auxiliary: [("router".to_owned(), "10.0.0.3".parse().unwrap())].into(),
            configured: true,
        })
    }

    fn next(space: &mut AddressSpace) -> String {
        space
            .take_next()
            .map_or("none".to_owned(), |ip| ip.to_string())
    }

    #[test]
    fn the_gateway_is_the_first_and_reserved_ones_are_passed_over() {
        let mut plain = space("10.0.0.0/29", None, None);
        let all: Vec<_> = std::iter::repeat_with(|| next(&mut plain))
            .take(6)
            .collect();
        assert_eq!(
            all,
            [
                "10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6", "none"
            ]
        );
        assert!(!plain.take("10.0.0.0".parse().unwrap()));
        assert!(!plain.take("10.0.0.3".parse().unwrap()));
        assert!(!plain.take("10.0.1.3".parse().unwrap()));
        assert!(plain.release("10.0.0.2".parse().unwrap()));
        assert_eq!(next(&mut plain), "10.0.0.2");
    }

    #[test]
    fn a_range_narrows_what_is_given_but_not_what_may_be_asked_for() {
        let mut ranged = space("172.28.0.0/16", Some("172.28.5.0/30"), Some("172.28.5.1"));
        assert_eq!(next(&mut ranged), "172.28.5.0");
        assert_eq!(next(&mut ranged), "172.28.5.2");
        assert_eq!(next(&mut ranged), "172.28.5.3");
        assert_eq!(next(&mut ranged), "none");
        assert!(ranged.take("172.28.9.9".parse().unwrap()));
        let mut six = space("fd00::/64", None, Some("fd00::1"));
        assert_eq!(next(&mut six), "fd00::2");
        assert!(six.take("fd00::3".parse().unwrap()));
        assert_eq!(next(&mut six), "fd00::4");
    }

    #[test]
    fn usage_counts_what_nobody_else_can_get() {
        let usage = |space: &AddressSpace| {
            let usage = space.usage();
            (usage.in_use, usage.available)
        };
        // The network's, the broadcast address, the gateway and the router.
        let mut plain = space("10.0.0.0/24", None, Some("10.0.0.1"));
        assert_eq!(usage(&plain), (4, 252));
        plain.take_next();
        assert_eq!(usage(&plain), (5, 251));
        let mut ranged = space("10.0.0.0/24", Some("10.0.0.128/25"), Some("10.0.0.129"));
        assert_eq!(usage(&ranged), (4, 126));
        ranged.take("10.0.0.9".parse().unwrap());
        assert_eq!(usage(&ranged), (5, 126));
        let six = AddressSpace::new(&Subnet {
            subnet: "fd00::/64".parse().unwrap(),
            gateway: Some("fd00::1".parse().unwrap()),
            range: None,
            auxiliary: [].into(),
            configured: true,
        });
        assert_eq!(usage(&six), (2, (1 << 64) - 2));
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice_and_none_is_lost(
            prefix in 24u8..=30,
            steps in prop::collection::vec(any::<(bool, prop::sample::Index)>(), 0..400),
        ) {
            let net = format!("10.0.0.0/{prefix}");
            let mut space = space(&net, None, Some("10.0.0.1"));
            // The network's, the broadcast address, the gateway, and an auxiliary one, which in the smallest is the last.
            let room = (1usize << (32 - prefix)) - if prefix == 30 { 3 } else { 4 };
            let mut held: Vec<IpAddr> = Vec::new();
            let mut seen = HashSet::new();
            for (release, index) in steps {
                if release && !held.is_empty() {
                    let address = held.swap_remove(index.index(held.len()));
                    prop_assert!(space.release(address));
                } else if let Some(address) = space.take_next() {
                    prop_assert!(!held.contains(&address));
                    prop_assert!(seen.insert(address) || seen.len() == room);
                    held.push(address);
                } else {
                    prop_assert_eq!(held.len(), room);
                }
            }
        }
    }
}
