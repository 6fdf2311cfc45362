//! What somebody took from under a running engine is made again: bridges with their containers, and containers' veths.

use std::os::fd::OwnedFd;

use hoist_model::NetworkId;
use hoist_model::network::SegmentKind;
use hoist_sys::netlink::Batch;

use crate::attach::duplicate;
use crate::attachment::{AttachmentRecord, PlaceRecord};
use crate::build::{BridgePlan, Builder, Plug};
use crate::error::NetError;
use crate::plug::plug_again;
use crate::rtnl::{self, Links};
use crate::segment_links::ensure_bridge;
use crate::shared::{Shared, lock};
use crate::{bridge, neighbours};

/// A container that lost an interface, and what the interface was.
pub(crate) struct Lost {
    netns: OwnedFd,
    record: AttachmentRecord,
    plug: Plug,
}

impl Lost {
    /// Makes the interface again. Milliseconds.
    pub(crate) fn restore(&self, builder: &Builder) -> Result<(), NetError> {
        builder.plug(&self.netns, &self.plug)?;
        builder.route(&self.netns, &self.record.gateways())
    }
}

impl Shared {
    /// Makes a bridge again, if that is what somebody removed, and puts the containers back on it.
    pub(crate) fn mend(&self, name: &str) {
        let default = self.bridge().ok().filter(|bridge| bridge.name == name);
        let mended = match default {
            Some(bridge) => self.mend_default(&bridge),
            None => self.mend_segment(name),
        };
        if let Err(error) = mended {
            tracing::error!(bridge = name, error = %hoist_model::chain(&error), "a network is without its bridge");
        }
    }

    fn mend_default(&self, plan: &BridgePlan) -> Result<(), NetError> {
        if !plan.own {
            tracing::error!(
                bridge = plan.name,
                "the default bridge was removed, and is its owner's to make again"
            );
            return Ok(());
        }
        let links = Links::open()?;
        // Another had the name, and went before this one came.
        if links
            .link(&plan.name)?
            .is_some_and(|link| link.index == plan.index())
        {
            return Ok(());
        }
        tracing::warn!(
            bridge = plan.name,
            "the default bridge was removed: making it again"
        );
        // As it was: it need not be as the settings say, see `OccupiedBridge`.
        let again = bridge::ensure(&links, &plan.settings(&self.default().settings))?;
        let again = again.ok_or(NetError::NoBridge)?;
        plan.renumber(again.index());
        let mut places = self.places_on(None);
        let ready = lock(&self.pool);
        places.extend(ready.ready.iter().map(|one| one.place(plan)));
        drop(ready);
        self.put_on_bridges(&links, &places)
    }

    fn mend_segment(&self, name: &str) -> Result<(), NetError> {
        let settings = self.default().settings.clone();
        let (links, id) = {
            let mut state = lock(&self.state);
            let mut made = state.segments.values_mut();
            let Some(made) = made.find(|made| {
                made.segment.interface == name && made.segment.kind == SegmentKind::Bridge
            }) else {
                return Ok(());
            };
            let links = Links::open()?;
            // Another had the name, and went before this one came.
            if links
                .link(name)?
                .is_some_and(|link| link.index == made.index)
            {
                return Ok(());
            }
            tracing::warn!(
                bridge = name,
                network = made.segment.name,
                "a bridge was removed: making it again"
            );
            let adopted = made.segment.adopted;
            let link = ensure_bridge(&links, &mut made.segment, &settings)?;
            made.segment.adopted = adopted;
            made.index = link.index;
            made.mac = link.mac;
            (links, made.segment.id.clone())
        };
        self.put_on_bridges(&links, &self.places_on(Some(&id)))
    }

    /// The places of attached containers on a network.
    pub(crate) fn places_on(&self, network: Option<&NetworkId>) -> Vec<PlaceRecord> {
        let state = lock(&self.state);
        let places = state.live.values().flat_map(|live| &live.record.places);
        places
            .filter(|place| place.network.as_ref() == network)
            .cloned()
            .collect()
    }

    /// The attached container whose veth has this name.
    pub(crate) fn lost(&self, name: &str) -> Option<Lost> {
        let (netns, record, place, wish) = {
            let state = lock(&self.state);
            let is_it = |place: &PlaceRecord| place.host_interface == name;
            let found = state.live.values().find_map(|live| {
                let at = live.record.places.iter().position(is_it)?;
                Some((live, at))
            });
            let (live, at) = found?;
            let wish = live.wishes.get(at).cloned().unwrap_or_default();
            let place = live.record.places[at].clone();
            let netns = duplicate(&live.netns).ok()?;
            (netns, live.record.clone(), place, wish)
        };
        let plug = Plug {
            sysctls: wish.sysctls.clone(),
            ..plug_again(self, &place, &wish)?
        };
        Some(Lost {
            netns,
            record,
            plug,
        })
    }

    /// Puts places whose veths are there on their bridges, and says where they are.
    pub(crate) fn put_on_bridges(
        &self,
        links: &Links,
        places: &[PlaceRecord],
    ) -> Result<(), NetError> {
        let mut batch = Batch::new();
        for place in places.iter().filter(|one| !one.host_interface.is_empty()) {
            let Some((bridge, isolated)) = self.bridge_port(place.network.as_ref()) else {
                continue;
            };
            // One without a veth has lost its container.
            if let Some(port) = links.link(&place.host_interface)? {
                rtnl::enslave(&mut batch, port.index, bridge, None);
                rtnl::set_isolated(&mut batch, &place.host_interface, isolated);
                for address in place.addresses() {
                    neighbours::add(&mut batch, bridge, address, place.mac);
                }
                neighbours::add_to_bridge(&mut batch, port.index, place.mac);
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        links.apply_except(&mut batch, &[libc::ENODEV])
    }

    /// The number of the bridge of a network, if it has one; `None` is the default bridge.
    pub(crate) fn bridge_index(&self, network: Option<&NetworkId>) -> Option<u32> {
        self.bridge_port(network).map(|(bridge, _)| bridge)
    }

    /// The same, and whether its ports are kept from each other.
    fn bridge_port(&self, network: Option<&NetworkId>) -> Option<(u32, bool)> {
        let Some(id) = network else {
            let bridge = self.bridge().ok()?;
            return Some((bridge.index(), !bridge.inter_container));
        };
        let state = lock(&self.state);
        let made = state.segments.get(id)?;
        let is_bridge = made.segment.kind == SegmentKind::Bridge;
        is_bridge.then_some((made.index, !made.segment.inter_container))
    }
}
