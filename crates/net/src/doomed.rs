//! Links of networks that are gone: they go a moment later.
//!
//! The kernel takes a bridge away in tens of milliseconds: grace periods that it waits through with the lock that every other
//! change of links needs. Whoever removes a network does not wait for that. What is its bridge no longer is put into a group
//! of links of this engine and loses its addresses, and with them its routes; the worker deletes it when nobody is busy with
//! networks, one link at a time, so that whoever comes meanwhile waits for one at most. Only who wants the name of such a link
//! waits for it. At its end the engine deletes the group.
//!
//! ```text
//! unmake ──► doom: group, addresses off ──► worker, soon: delete
//!               │                             ▲
//!               ├── make of the same name ────┤ at once
//!               └── killed: the next start ───┘ finds the group
//! ```

use hoist_sys::netlink::Batch;
use ipnet::IpNet;

use crate::error::NetError;
use crate::rtnl::{self, Links};
use crate::segments::Made;
use crate::shared::{Shared, lock};

impl Shared {
    /// Takes a network's link out of use; it goes with [`Shared::delete_doomed`]. Well under a millisecond.
    pub(crate) fn doom(&self, links: &Links, made: &Made) -> Result<(), NetError> {
        let segment = &made.segment;
        let name = segment.interface.clone();
        lock(&self.state).doomed.insert(name, made.index);
        let mut batch = Batch::new();
        let group = self.settings.instance.doomed_group();
        rtnl::set_group(&mut batch, made.index, group);
        let own = segment.subnets.iter().filter_map(|subnet| {
            let gateway = subnet.gateway?;
            Some(IpNet::new_assert(gateway, subnet.subnet.prefix_len()))
        });
        for address in own {
            rtnl::remove_address(&mut batch, made.index, address);
        }
        links.apply_except(&mut batch, &[libc::ENODEV, libc::EADDRNOTAVAIL])
    }

    /// Finds what an earlier life doomed; how many there are.
    pub(crate) fn find_doomed(&self, links: &Links) -> Result<usize, NetError> {
        let group = self.settings.instance.doomed_group();
        let all = links.links()?.into_iter();
        let found = all.filter(|link| link.group == group);
        let mut state = lock(&self.state);
        state
            .doomed
            .extend(found.map(|link| (link.name, link.index)));
        Ok(state.doomed.len())
    }

    /// One of the links that are about to go, if there is any.
    pub(crate) fn next_doomed(&self) -> Option<String> {
        lock(&self.state).doomed.keys().next().cloned()
    }

    /// How many are about to go.
    pub(crate) fn count_doomed(&self) -> usize {
        lock(&self.state).doomed.len()
    }

    /// Deletes the link of this name if it is about to go. Tens of milliseconds. It is tried once.
    pub(crate) fn delete_doomed(&self, links: &Links, name: &str) -> Result<(), NetError> {
        let Some(index) = lock(&self.state).doomed.get(name).copied() else {
            return Ok(());
        };
        let mut batch = Batch::new();
        rtnl::delete_index(&mut batch, index);
        let deleted = links.apply_except(&mut batch, &[libc::ENODEV]);
        let mut state = lock(&self.state);
        // There may be another of the name by now.
        if state.doomed.get(name) == Some(&index) {
            state.doomed.remove(name);
        }
        deleted
    }

    /// Deletes all that are about to go: in half the time, and nobody else can change a link for all of it.
    pub(crate) fn delete_all_doomed(&self, links: &Links) -> Result<(), NetError> {
        let mut batch = Batch::new();
        rtnl::delete_group(&mut batch, self.settings.instance.doomed_group());
        links.apply_except(&mut batch, &[libc::ENODEV])?;
        lock(&self.state).doomed.clear();
        Ok(())
    }
}
