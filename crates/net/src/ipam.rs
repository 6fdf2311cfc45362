//! Which addresses of a subnet are taken: a bitmap with a cursor. Pure.
//!
//! The cursor moves on past every address given, so that an address given back is used again only after all others
//! were: a peer that remembers a dead container's address does not meet a stranger.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The addresses of one IPv4 subnet.
#[derive(Clone, Debug)]
pub struct Addresses {
    subnet: Ipv4Net,
    taken: Vec<u64>,
    /// First and last offset of those that are given to who asks for none in particular.
    range: (u32, u32),
    cursor: u32,
    /// How many of the range are free.
    free: u32,
}

impl Addresses {
    /// All free but the network's own, the broadcast address and the gateway.
    #[must_use]
    pub fn new(subnet: Ipv4Net, gateway: Ipv4Addr) -> Self {
        Self::within(subnet, gateway, subnet)
    }

    /// The same, of which a range within the subnet is given to who asks for none in particular.
    #[must_use]
    pub fn within(subnet: Ipv4Net, gateway: Ipv4Addr, range: Ipv4Net) -> Self {
        let size = 1u64 << (32 - u32::from(subnet.prefix_len()));
        let words = usize::try_from(size.div_ceil(64)).unwrap_or(usize::MAX);
        let offset = |address| u32::from(address) - u32::from(subnet.network());
        let range = (offset(range.network()), offset(range.broadcast()));
        let mut addresses = Self {
            subnet: subnet.trunc(),
            taken: vec![0; words],
            range,
            cursor: range.0,
            free: (range.1 - range.0).saturating_add(1),
        };
        for reserved in [subnet.network(), subnet.broadcast(), gateway] {
            addresses.take(reserved);
        }
        addresses
    }

    fn offset(&self, address: Ipv4Addr) -> Option<u32> {
        self.subnet
            .contains(&address)
            .then(|| u32::from(address) - u32::from(self.subnet.network()))
    }

    fn bit(offset: u32) -> (usize, u64) {
        ((offset / 64) as usize, 1 << (offset % 64))
    }

    /// Takes one address; false if it is taken or not of this subnet.
    pub fn take(&mut self, address: Ipv4Addr) -> bool {
        let Some(offset) = self.offset(address) else {
            return false;
        };
        let (word, bit) = Self::bit(offset);
        if self.taken[word] & bit != 0 {
            return false;
        }
        self.taken[word] |= bit;
        self.free -= u32::from(self.is_given(offset));
        true
    }

    fn is_given(&self, offset: u32) -> bool {
        (self.range.0..=self.range.1).contains(&offset)
    }

    /// Takes the next free address; `None` if all are taken.
    pub fn take_next(&mut self) -> Option<Ipv4Addr> {
        if self.free == 0 {
            return None;
        }
        let (first, last) = self.range;
        let after = |offset: u32| if offset >= last { first } else { offset + 1 };
        let mut offset = self.cursor;
        loop {
            let (word, bit) = Self::bit(offset);
            if self.taken[word] == u64::MAX {
                // Skip the rest of a full word.
                offset = after(offset | 63);
                continue;
            }
            if self.taken[word] & bit == 0 {
                self.taken[word] |= bit;
                self.free -= 1;
                self.cursor = after(offset);
                return Some((u32::from(self.subnet.network()) + offset).into());
            }
            offset = after(offset);
        }
    }

    /// Gives an address back; false if it was not taken.
    pub fn release(&mut self, address: Ipv4Addr) -> bool {
        let Some(offset) = self.offset(address) else {
            return false;
        };
        let (word, bit) = Self::bit(offset);
        if self.taken[word] & bit == 0 {
            return false;
        }
        self.taken[word] &= !bit;
        self.free += u32::from(self.is_given(offset));
        true
    }

    /// How many of the range are free.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.free
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn subnet(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_container_gets_the_second_address() {
        let mut addresses = Addresses::new(subnet("172.18.0.0/16"), [172, 18, 0, 1].into());
        assert_eq!(addresses.take_next(), Some([172, 18, 0, 2].into()));
        assert_eq!(addresses.take_next(), Some([172, 18, 0, 3].into()));
        assert!(!addresses.take([172, 18, 0, 3].into()));
        assert!(!addresses.take([172, 19, 0, 3].into()));
    }

    #[test]
    fn a_small_subnet_is_used_up_and_starts_over() {
        let mut addresses = Addresses::new(subnet("10.0.0.0/29"), [10, 0, 0, 1].into());
        let all: Vec<_> = std::iter::from_fn(|| addresses.take_next()).collect();
        assert_eq!(all.len(), 5);
        assert_eq!(addresses.free(), 0);
        assert!(addresses.release([10, 0, 0, 4].into()));
        assert!(!addresses.release([10, 0, 0, 4].into()));
        assert_eq!(addresses.take_next(), Some([10, 0, 0, 4].into()));
    }

    #[test]
    fn a_range_is_what_is_given_and_others_may_be_asked_for() {
        let mut addresses = Addresses::within(
            subnet("10.0.0.0/16"),
            [10, 0, 0, 1].into(),
            subnet("10.0.3.64/26"),
        );
        let all: Vec<_> = std::iter::from_fn(|| addresses.take_next()).collect();
        assert_eq!(all.len(), 64);
        assert_eq!(all.first(), Some(&[10, 0, 3, 64].into()));
        assert_eq!(all.last(), Some(&[10, 0, 3, 127].into()));
        assert!(addresses.take([10, 0, 9, 9].into()) && addresses.release([10, 0, 9, 9].into()));
        assert_eq!(addresses.take_next(), None);
        assert!(addresses.release([10, 0, 3, 70].into()));
        assert_eq!(addresses.take_next(), Some([10, 0, 3, 70].into()));
        // One that begins with the network's own address and holds the gateway.
        let mut low = Addresses::within(
            subnet("10.0.0.0/16"),
            [10, 0, 0, 1].into(),
            subnet("10.0.0.0/30"),
        );
        let all: Vec<_> = std::iter::from_fn(|| low.take_next()).collect();
        assert_eq!(all, [Ipv4Addr::from([10, 0, 0, 2]), [10, 0, 0, 3].into()]);
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice_and_the_released_are_used_last(
            prefix in 22u8..=30,
            steps in prop::collection::vec(any::<(bool, prop::sample::Index)>(), 0..400),
        ) {
            let net = Ipv4Net::new([10, 1, 0, 0].into(), prefix).unwrap();
            let gateway = net.hosts().next().unwrap();
            let mut addresses = Addresses::new(net, gateway);
            let mut held: Vec<Ipv4Addr> = Vec::new();
            let mut never: HashSet<Ipv4Addr> = net.hosts().filter(|a| *a != gateway).collect();
            for (release, index) in steps {
                if release && !held.is_empty() {
                    let address = held.swap_remove(index.index(held.len()));
                    prop_assert!(addresses.release(address));
                } else if let Some(address) = addresses.take_next() {
                    prop_assert!(!held.contains(&address));
                    prop_assert!(net.contains(&address) && address != gateway);
                    prop_assert!(never.remove(&address) || never.is_empty());
                    held.push(address);
                } else {
                    prop_assert_eq!(held.len(), net.hosts().count() - 1);
                }
            }
        }
    }
}
