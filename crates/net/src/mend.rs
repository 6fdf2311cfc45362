//! What somebody took from under a running engine is made again: bridges with their containers, and containers' veths.

use std::os::fd::OwnedFd;

use hoist_model::NetworkId;
use hoist_model::network::SegmentKind;
use hoist_sys::netlink::Batch;

use crate::attach::duplicate;
use crate::attachment::{AttachmentRecord, PlaceRecord};
use crate::build::{Builder, Plug};
use crate::error::NetError;
use crate::plug::plug_again;
use crate::rtnl::{self, Links};
use crate::segment_links::ensure_bridge;
use crate::settings::Settings;
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
        let mended = if name == self.bridge.name {
            self.mend_default()
        } else {
            self.mend_segment(name)
        };
        if let Err(error) = mended {
            tracing::error!(bridge = name, error = %hoist_model::chain(&error), "a network is without its bridge");
        }
    }

    fn mend_default(&self) -> Result<(), NetError> {
        tracing::warn!(
            bridge = self.bridge.name,
            "the default bridge was removed: making it again"
        );
        let links = Links::open()?;
        let settings = Settings {
            bridge_address: Some(self.bridge.address),
            ..self.settings.clone()
        };
        let again = bridge::ensure(&links, &settings)?;
        self.bridge.renumber(again.index());
        let mut places = self.places_on(None);
        let ready = lock(&self.pool);
        places.extend(ready.ready.iter().map(|one| one.place(&self.bridge)));
        drop(ready);
        self.put_on_bridges(&links, &places)
    }

    fn mend_segment(&self, name: &str) -> Result<(), NetError> {
        let (links, id) = {
            let mut state = lock(&self.state);
            let mut made = state.segments.values_mut();
            let Some(made) = made.find(|made| {
                made.segment.interface == name && made.segment.kind == SegmentKind::Bridge
            }) else {
                return Ok(());
            };
            tracing::warn!(
                bridge = name,
                network = made.segment.name,
                "a bridge was removed: making it again"
            );
            let links = Links::open()?;
            let adopted = made.segment.adopted;
            let link = ensure_bridge(&links, &mut made.segment, &self.settings)?;
            made.segment.adopted = adopted;
            made.index = link.index;
            made.mac = link.mac;
            (links, made.segment.id.clone())
        };
        self.put_on_bridges(&links, &self.places_on(Some(&id)))
    }

    /// The places of attached containers on a network.
    fn places_on(&self, network: Option<&NetworkId>) -> Vec<PlaceRecord> {
        let state = lock(&self.state);
        let places = state.live.values().flat_map(|live| &live.record.places);
        places
            .filter(|place| place.network.as_ref() == network)
            .cloned()
            .collect()
    }

    /// The attached container whose veth has this name.
    pub(crate) fn lost(&self, name: &str) -> Option<Lost> {
        let (netns, record, place, sysctls) = {
            let state = lock(&self.state);
            let is_it = |place: &PlaceRecord| place.host_interface == name;
            let found = state.live.values().find_map(|live| {
                let at = live.record.places.iter().position(is_it)?;
                Some((live, at))
            });
            let (live, at) = found?;
            let sysctls = live.wishes.get(at).map(|wish| wish.sysctls.clone());
            let place = live.record.places[at].clone();
            let netns = duplicate(&live.netns).ok()?;
            (netns, live.record.clone(), place, sysctls)
        };
        let plug = Plug {
            sysctls: sysctls.unwrap_or_default(),
            ..plug_again(self, &place)?
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
            let Some(bridge) = self.bridge_index(place.network.as_ref()) else {
                continue;
            };
            // One without a veth has lost its container.
            if let Some(port) = links.link(&place.host_interface)? {
                rtnl::enslave(&mut batch, port.index, bridge, None);
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
        let Some(id) = network else {
            return Some(self.bridge.index());
        };
        let state = lock(&self.state);
        let made = state.segments.get(id)?;
        (made.segment.kind == SegmentKind::Bridge).then_some(made.index)
    }
}
