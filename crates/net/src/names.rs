//! The names of containers on users' networks, as a resolver answers from them: one immutable snapshot, swapped at
//! each change.
//!
//! Who attaches containers writes (`NameBoard::change`), resolvers read (`NameBoard::snapshot`, a lock held for as
//! long as cloning an `Arc`). A change copies only the tables it touches. Names are kept in lower case; who asks
//! compares in lower case (RFC 4343). Rules as Docker's (moby: daemon/libnetwork/sandbox_dns_unix.go,
//! libnetwork_internal_test.go): a container's names are its name, its short id and its aliases, a PTR answer is
//! `name.network`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use hoist_model::{ContainerId, NetworkId};

use crate::shared::lock;

/// All names of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The tables of users' networks.
    pub networks: HashMap<NetworkId, Arc<NetworkNames>>,
    /// What the resolver of each running container needs, by container; those on no user's network have none.
    pub containers: HashMap<ContainerId, Arc<ResolverView>>,
}

/// The names on one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkNames {
    /// The network's own name: `name.network` names a container, too, and is what PTR answers end with.
    pub network: String,
    /// Addresses of both families by name in lower case, one per container that has the name.
    addresses: HashMap<String, Vec<IpAddr>>,
    /// The name that a PTR question is answered with, without the network's.
    owners: HashMap<IpAddr, String>,
}

/// What a container's resolver needs to know beside the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolverView {
    /// The networks it is on, in the order they are asked.
    pub networks: Vec<NetworkId>,
    /// Names that it alone sees (`--link other:alias` on a user's network): alias in lower case → the other's name.
    pub links: HashMap<String, String>,
    /// Servers for every other name (`--dns`); empty takes the host's.
    pub servers: Vec<IpAddr>,
    /// Whether all its networks are internal: nothing is forwarded.
    pub internal: bool,
    /// Whether somebody set `ndots`: names of one label are not forwarded, since who asks will ask again with a domain.
    pub ndots_set: bool,
}

impl NetworkNames {
    /// The addresses that have a name, in no particular order; the name in lower case.
    #[must_use]
    pub fn addresses(&self, name: &str) -> &[IpAddr] {
        self.addresses.get(name).map_or(&[], Vec::as_slice)
    }

    /// The name of the container at an address.
    #[must_use]
    pub fn owner(&self, address: IpAddr) -> Option<&str> {
        self.owners.get(&address).map(String::as_str)
    }

    /// Gives a container's addresses its names; the first is what PTR questions are answered with.
    pub fn add(&mut self, names: &[String], addresses: &[IpAddr]) {
        for address in addresses {
            if let Some(first) = names.first() {
                self.owners.insert(*address, first.clone());
            }
            for name in names {
                let holders = self.addresses.entry(name.to_lowercase()).or_default();
                if !holders.contains(address) {
                    holders.push(*address);
                }
            }
        }
    }

    /// Takes every name from these addresses.
    pub fn remove(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            self.owners.remove(address);
        }
        self.addresses.retain(|_, holders| {
            holders.retain(|holder| !addresses.contains(holder));
            !holders.is_empty()
        });
    }
}

/// Where the newest snapshot hangs.
#[derive(Clone, Debug, Default)]
pub struct NameBoard {
    current: Arc<Mutex<Arc<Names>>>,
}

impl NameBoard {
    /// The names of this moment.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Names> {
        lock(&self.current).clone()
    }

    /// Changes the names; readers see all of it or nothing.
    pub fn change(&self, change: impl FnOnce(&mut Names)) {
        let mut current = lock(&self.current);
        change(Arc::make_mut(&mut current));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn names_are_shared_by_all_who_have_them_and_go_with_their_addresses() {
        let mut names = NetworkNames::default();
        names.add(&words("web-1 0123456789ab Web"), &[ip("10.0.0.2")]);
        names.add(
            &words("web-2 ba9876543210 web"),
            &[ip("10.0.0.3"), ip("fd00::3")],
        );
        assert_eq!(names.addresses("web-1"), [ip("10.0.0.2")]);
        assert_eq!(
            names.addresses("web"),
            [ip("10.0.0.2"), ip("10.0.0.3"), ip("fd00::3")]
        );
        assert_eq!(names.owner(ip("fd00::3")), Some("web-2"));
        names.remove(&[ip("10.0.0.3"), ip("fd00::3")]);
        assert_eq!(names.addresses("web"), [ip("10.0.0.2")]);
        assert_eq!(names.addresses("web-2"), [] as [IpAddr; 0]);
        assert_eq!(names.owner(ip("10.0.0.3")), None);
    }

    #[test]
    fn a_snapshot_stays_what_it_was() {
        let board = NameBoard::default();
        let network = NetworkId::from_bytes(&[1; 32]);
        let add = |name: &str, address: &str| {
            board.change(|names| {
                let table = names.networks.entry(network.clone()).or_default();
                Arc::make_mut(table).add(&words(name), &[ip(address)]);
            });
        };
        add("a", "10.0.0.2");
        let before = board.snapshot();
        add("b", "10.0.0.3");
        assert!(before.networks[&network].addresses("b").is_empty());
        assert_eq!(board.snapshot().networks[&network].addresses("b").len(), 1);
    }
}
