//! Places that containers have left: what is taken down when, and when their addresses are free.
//!
//! A veth goes with its namespace, which the kernel takes down in the background, many at once: cheaper than deleting it.
//! Until then its addresses are nobody's, so that no two ever answer to one. Who asks for such an address, or finds that no
//! other is left, has it at once: the old veth is set down for that.
//!
//! ```text
//! live ── let_leave ──► leaving ── its link is gone ──► neighbours forgotten, addresses free
//!                          ├── hurry (somebody wants an address): set down, the same at once
//!                          └── overdue (something else keeps its namespace): deleted
//! ```
//!
//! A veth that goes without having left was taken away: see `mend`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use hoist_model::NetworkId;
use hoist_sys::netlink::Batch;

use crate::attachment::PlaceRecord;
use crate::error::NetError;
use crate::neighbours;
use crate::rtnl::{self, Link, Links};
use crate::shared::{Leaving, Shared, lock};

impl Shared {
    /// Says that the veths of these places will go.
    pub(crate) fn let_leave(&self, places: &[PlaceRecord]) {
        let mut state = lock(&self.state);
        for place in places.iter().filter(|one| !one.host_interface.is_empty()) {
            let leaving = Leaving {
                place: Some(place.clone()),
                network: place.network.clone(),
                since: Instant::now(),
            };
            state.leaving.insert(place.host_interface.clone(), leaving);
        }
    }

    /// The bridge of a network has no port to spare.
    pub(crate) fn crowd(&self, network: Option<&NetworkId>) {
        lock(&self.pool).crowded.insert(network.cloned());
    }

    /// Links are gone, or about to go, without being asked to make room: bridges that they were leaving have ports to spare.
    pub(crate) fn left(&self, names: &[String]) {
        let state = lock(&self.state);
        let leaving = names.iter().filter_map(|name| state.leaving.get(name));
        let networks: Vec<_> = leaving.map(|one| one.network.clone()).collect();
        drop(state);
        let mut pool = lock(&self.pool);
        for network in networks {
            pool.crowded.remove(&network);
        }
    }

    /// Links are gone: of those that were leaving, and of what was held ready, the addresses are free. Answers the others.
    pub(crate) fn links_gone(&self, links: &Links, names: &[String]) -> Vec<String> {
        let _one = lock(&self.ending);
        let (mut places, mut others) = (Vec::new(), Vec::new());
        {
            let mut state = lock(&self.state);
            for name in names {
                match state.leaving.remove(name) {
                    Some(leaving) => places.extend(leaving.place),
                    None => others.push(name.clone()),
                }
            }
        }
        if !others.is_empty() {
            let bridge = self.bridge().ok();
            let mut pool = lock(&self.pool);
            pool.spares
                .retain(|one| !others.contains(&one.host_interface));
            pool.ready.retain(|one| {
                let is_gone = others.contains(&one.host_interface);
                let bridge = bridge.as_ref().filter(|_| is_gone);
                places.extend(bridge.map(|bridge| one.place(bridge)));
                !is_gone
            });
        }
        self.end(links, &places, &[]);
        others
    }

    /// Frees the addresses of the places that are leaving a network.
    pub(crate) fn hurry(&self, network: &NetworkId) {
        let of_network = |leaving: &mut Leaving| {
            let is_it = |place: &mut PlaceRecord| place.network.as_ref() == Some(network);
            leaving.place.take_if(is_it)
        };
        let links = lock(&self.links);
        let _one = lock(&self.ending);
        let places: Vec<PlaceRecord> = {
            let mut state = lock(&self.state);
            state.leaving.values_mut().filter_map(of_network).collect()
        };
        let down: Vec<&str> = places.iter().map(|one| &*one.host_interface).collect();
        self.end(&links, &places, &down);
    }

    /// Deletes the veth that has been leaving a bridge for longest, so that a port is free; false if there is none.
    pub(crate) fn free_port(
        &self,
        links: &Links,
        network: Option<&NetworkId>,
    ) -> Result<bool, NetError> {
        let oldest = {
            let state = lock(&self.state);
            let leaving = state.leaving.iter();
            let of_network = leaving.filter(|(_, leaving)| leaving.network.as_ref() == network);
            let oldest = of_network.min_by_key(|(_, leaving)| leaving.since);
            oldest.map(|(name, _)| name.clone())
        };
        let Some(name) = oldest else {
            return Ok(false);
        };
        self.delete(links, &name)?;
        Ok(true)
    }

    /// Deletes a namespace's veth that is ready on the default bridge; false if there is none.
    pub(crate) fn give_up_ready(&self, links: &Links) -> Result<bool, NetError> {
        let Some(ready) = lock(&self.pool).ready.pop_back() else {
            return Ok(false);
        };
        let bridge = self.bridge()?;
        self.let_leave(&[ready.place(&bridge)]);
        self.delete(links, &ready.host_interface)?;
        Ok(true)
    }

    /// Deletes a namespace's veth that is ready on a user's network; false if there is none.
    pub(crate) fn give_up_spare(
        &self,
        links: &Links,
        network: &NetworkId,
    ) -> Result<bool, NetError> {
        let Some(bridge) = self.bridge_index(Some(network)) else {
            return Ok(false);
        };
        let spare = {
            let mut pool = lock(&self.pool);
            let mut spares = pool.spares.iter();
            let at = spares.position(|spare| spare.home() == Some(bridge));
            at.and_then(|at| pool.spares.remove(at))
        };
        match spare {
            Some(spare) => self.delete(links, &spare.host_interface).map(|()| true),
            None => Ok(false),
        }
    }

    /// Deletes a veth that is leaving; one that is gone is no error.
    pub(crate) fn delete(&self, links: &Links, name: &str) -> Result<(), NetError> {
        let mut batch = Batch::new();
        rtnl::delete_link(&mut batch, name);
        links.apply_except(&mut batch, &[libc::ENODEV])?;
        self.links_gone(links, &[name.to_owned()]);
        Ok(())
    }

    /// Sets links down, forgets neighbours, and then frees addresses: nobody has one while it still leads elsewhere.
    pub(crate) fn end(&self, links: &Links, places: &[PlaceRecord], down: &[&str]) {
        let mut batch = Batch::new();
        for name in down {
            rtnl::set_down(&mut batch, name);
        }
        self.forget(&mut batch, places);
        if !batch.is_empty()
            && let Err(error) = links.apply_except(&mut batch, &[libc::ENOENT, libc::ENODEV])
        {
            tracing::warn!(%error, "cannot take a container off its network");
        }
        self.release_places(places);
    }

    /// Takes the neighbour entries of places from their bridges.
    pub(crate) fn forget(&self, batch: &mut Batch, places: &[PlaceRecord]) {
        for place in places.iter().filter(|one| !one.host_interface.is_empty()) {
            if let Some(bridge) = self.bridge_index(place.network.as_ref()) {
                for address in place.addresses() {
                    neighbours::remove(batch, bridge, address);
                }
            }
        }
    }

    /// Forgets the neighbours on our bridges that an earlier life left and nobody restored.
    pub(crate) fn sweep_neighbours(&self) -> Result<(), NetError> {
        let bridge = self.bridge().ok();
        lock(&self.links).forget_neighbours(|index, address| {
            let state = lock(&self.state);
            let own = bridge.as_ref();
            let own = own.is_some_and(|own| own.has(address) && index == own.index());
            let is_ours = own
                || state
                    .segments
                    .values()
                    .any(|made| made.is_at(index, address));
            let mut places = state.live.values().flat_map(|live| &live.record.places);
            is_ours && !places.any(|place| place.addresses().contains(&address))
        })
    }

    /// Of the links that are ours, those that are not among these: bridges, and veths of containers and of those that left.
    pub(crate) fn missing(&self, links: &[Link]) -> Vec<String> {
        let there: HashSet<&str> = links.iter().map(|link| &*link.name).collect();
        let default = self.default();
        let state = lock(&self.state);
        let bridges = state.segments.values().map(|made| &made.segment.interface);
        let places = state.live.values().flat_map(|live| &live.record.places);
        bridges
            .chain(default.plan.iter().map(|bridge| &bridge.name))
            .chain(places.map(|place| &place.host_interface))
            .chain(state.leaving.keys())
            .filter(|name| !name.is_empty() && !there.contains(name.as_str()))
            .cloned()
            .collect()
    }

    /// Veths that have been leaving for longer than this.
    pub(crate) fn overdue(&self, now: Instant, patience: Duration) -> Vec<String> {
        lock(&self.state)
            .leaving
            .iter()
            .filter(|(_, leaving)| now.saturating_duration_since(leaving.since) >= patience)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Since when the first of those has been leaving.
    pub(crate) fn first_leaving(&self) -> Option<Instant> {
        let state = lock(&self.state);
        state.leaving.values().map(|leaving| leaving.since).min()
    }
}
