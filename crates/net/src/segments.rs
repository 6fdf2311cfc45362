//! Users' networks: their bridges made, found again and removed, their subnets chosen, their addresses kept.

use std::collections::HashSet;
use std::net::IpAddr;

use hoist_model::NetworkId;
use hoist_model::network::{
    GatewayMode, MacvlanMode, PlaceRequest, Segment, SegmentKind, Subnet, SubnetUsage,
};
use hoist_sys::netlink::Batch;
use ipnet::IpNet;

use crate::attachment::{Address, MacAddress, PlaceRecord};
use crate::claim::Claim;
use crate::error::NetError;
use crate::networks::Networks;
use crate::nft::{BridgeRules, Entrance, FamilyRules};
use crate::rtnl::{self, Link, Links};
use crate::segment_links::{ensure_bridge, ensure_parent};
use crate::shared::{Shared, State, lock};
use crate::space::AddressSpace;
use crate::worker::Job;
use crate::{nft, subnets};

/// A network as it is on the host.
pub(crate) struct Made {
    pub(crate) segment: Segment,
    /// Index of the bridge, or of the parent of a macvlan.
    pub(crate) index: u32,
    /// The bridge's hardware address.
    pub(crate) mac: Option<MacAddress>,
    v4: Option<AddressSpace>,
    v6: Option<AddressSpace>,
}

impl Made {
    fn new(segment: Segment, link: &Link) -> Self {
        let space = |v6| segment.subnet(v6).map(AddressSpace::new);
        Self {
            v4: space(false),
            v6: space(true),
            segment,
            index: link.index,
            mac: link.mac,
        }
    }

    /// Whether an address behind a link is one of this network.
    pub(crate) fn is_at(&self, index: u32, address: IpAddr) -> bool {
        let mut subnets = self.segment.subnets.iter();
        self.index == index && subnets.any(|one| one.subnet.contains(&address))
    }

    /// Gateways that are the bridge itself, with its hardware address.
    pub(crate) fn own_gateways(&self) -> Vec<(IpAddr, MacAddress)> {
        let segment = &self.segment;
        let Some(mac) = self.mac.filter(|_| segment.kind == SegmentKind::Bridge) else {
            return Vec::new();
        };
        let gateways = segment.subnets.iter().filter_map(|subnet| subnet.gateway);
        gateways
            .filter(|gateway| gateway.is_ipv6() || !segment.inhibit_ipv4)
            .map(|gateway| (gateway, mac))
            .collect()
    }

    /// Whether packets may leave by it.
    pub(crate) fn leads_out(&self) -> bool {
        self.segment.leads_out()
    }

    fn space(&mut self, v6: bool) -> Option<&mut AddressSpace> {
        if v6 {
            self.v6.as_mut()
        } else {
            self.v4.as_mut()
        }
    }

    /// Takes the addresses that a place needs, those asked for or any.
    pub(crate) fn take(&mut self, wish: &PlaceRequest) -> Result<Vec<IpAddr>, NetError> {
        let mut taken = Vec::new();
        let wishes = [wish.ipv4.map(IpAddr::V4), wish.ipv6.map(IpAddr::V6)];
        for (v6, wished) in [false, true].into_iter().zip(wishes) {
            let got = self.take_one(v6, wished);
            match got {
                Ok(address) => taken.extend(address),
                Err(error) => {
                    self.release(&taken);
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    fn take_one(&mut self, v6: bool, wished: Option<IpAddr>) -> Result<Option<IpAddr>, NetError> {
        let name = self.segment.name.clone();
        let subnet = self.segment.subnet(v6).map(|one| one.subnet.to_string());
        let Some(space) = self.space(v6) else {
            return match wished {
                Some(address) => Err(NetError::AddressRefused(format!(
                    "invalid address {address}: network {name} has no {} subnet",
                    family(v6)
                ))),
                None => Ok(None),
            };
        };
        match wished {
            Some(address) if space.take(address) => Ok(Some(address)),
            Some(address) => Err(NetError::AddressRefused(
                if subnet
                    .as_deref()
                    .and_then(|text| text.parse::<IpNet>().ok())
                    .is_some_and(|net| net.contains(&address))
                {
                    "Address already in use".to_owned()
                } else {
                    format!("no configured subnet or ip-range contain the IP address {address}")
                },
            )),
            None => {
                let next = space.take_next().ok_or_else(|| {
                    NetError::AddressesExhausted(format!("{name} ({})", subnet.unwrap_or_default()))
                })?;
                Ok(Some(next))
            }
        }
    }

    /// Takes addresses back that a container has from an earlier life; those that are taken are the answer.
    pub(crate) fn retake(&mut self, place: &mut PlaceRecord) -> Vec<IpAddr> {
        // Nobody else remembers that the parent routes.
        if self.segment.kind.routes_by_itself() && self.leads_out() {
            if let Some(own) = &mut place.ipv4 {
                own.gateway = Some([0; 4].into());
            }
            if let Some(own) = &mut place.ipv6 {
                own.gateway = Some([0; 16].into());
            }
        }
        let addresses = place.addresses();
        let refused = |address: &&IpAddr| {
            let v6 = address.is_ipv6();
            !self.space(v6).is_some_and(|space| space.take(**address))
        };
        addresses.iter().filter(refused).copied().collect()
    }

    /// Gives addresses back.
    pub(crate) fn release(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            if let Some(space) = self.space(address.is_ipv6()) {
                space.release(*address);
            }
        }
    }

    /// An address of a place with what goes with it.
    pub(crate) fn placed<A>(
        &self,
        address: IpAddr,
        own: impl Fn(IpAddr) -> Option<A>,
    ) -> Option<Address<A>> {
        let subnet = self.segment.subnet(address.is_ipv6())?;
        Some(Address {
            address: own(address)?,
            prefix_length: subnet.subnet.prefix_len(),
            gateway: self.gateway(subnet).and_then(own),
        })
    }

    /// The way out of a subnet; unspecified where the parent routes.
    fn gateway(&self, subnet: &Subnet) -> Option<IpAddr> {
        let by_itself = self.segment.kind.routes_by_itself() && self.leads_out();
        let unspecified = match subnet.subnet {
            IpNet::V4(_) => IpAddr::from([0; 4]),
            IpNet::V6(_) => IpAddr::from([0; 16]),
        };
        subnet.gateway.or(by_itself.then_some(unspecified))
    }

    /// What is done with the traffic of its bridge.
    fn rules(&self) -> Option<BridgeRules> {
        let segment = &self.segment;
        if segment.kind != SegmentKind::Bridge {
            return None;
        }
        let family = |subnet: &Subnet| {
            let mode = match subnet.subnet {
                IpNet::V4(_) => segment.gateway_mode_v4,
                IpNet::V6(_) => segment.gateway_mode_v6,
            };
            let (translates, entrance) = match mode {
                GatewayMode::Nat | GatewayMode::Isolated => (true, Entrance::Translated),
                GatewayMode::NatUnprotected => (true, Entrance::Open),
                GatewayMode::Routed => (false, Entrance::Routed),
            };
            FamilyRules {
                subnet: subnet.subnet,
                masquerade: segment.masquerade && translates,
                entrance,
            }
        };
        Some(BridgeRules {
            name: segment.interface.clone(),
            families: segment.subnets.iter().map(family).collect(),
            inter_container: segment.inter_container,
            internal: segment.internal,
        })
    }
}

/// The name of a network's link on the host; empty is chosen later.
fn link_name(segment: &Segment) -> &str {
    segment.kind.parent().unwrap_or(&segment.interface)
}

fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

impl Networks {
    /// Makes a network, or finds it again after a restart: chooses what it leaves open, makes the bridge and its rules, and
    /// answers the network as it is, to be remembered. Some milliseconds. Making one that is made answers it as it is.
    pub fn make(&self, mut segment: Segment) -> Result<Segment, NetError> {
        let shared = self.shared();
        let _one = lock(&shared.making);
        if let Some(made) = lock(&shared.state).segments.get(&segment.id) {
            return Ok(made.segment.clone());
        }
        let links = Links::open()?;
        let choosing = Claim::take();
        shared.choose_interface(&links, &mut segment)?;
        shared.delete_doomed(&links, link_name(&segment))?;
        shared.choose_subnets(&links, &mut segment)?;
        let link = match &segment.kind {
            SegmentKind::Bridge => ensure_bridge(&links, &mut segment, &shared.default().settings)?,
            SegmentKind::Macvlan { .. } | SegmentKind::Ipvlan { .. } => {
                shared.share_parent(&segment)?;
                ensure_parent(&links, &mut segment, &shared.settings)?
            }
        };
        drop(choosing);
        let made = Made::new(segment.clone(), &link);
        let rules = made.rules();
        lock(&shared.state)
            .segments
            .insert(segment.id.clone(), made);
        let ruled = rules.map_or(Ok(()), |rules| shared.add_bridge(rules));
        let ruled = ruled.and_then(|()| {
            if segment.internal {
                return Ok(());
            }
            shared.ensure_forwarding(segment.ipv6)
        });
        if let Err(error) = ruled {
            let _ = self.unmake_made(&segment.id, &links);
            return Err(error);
        }
        shared.names.change(|names| {
            let table = names.networks.entry(segment.id.clone()).or_default();
            std::sync::Arc::make_mut(table).network = segment.name.clone();
        });
        // The first brings namespaces for users' networks.
        self.worker().send(Job::Refill);
        Ok(segment)
    }

    /// How much of the subnets of a user's network is in use; nothing for one that is not made.
    #[must_use]
    pub fn usage(&self, id: &NetworkId) -> Vec<SubnetUsage> {
        let mut state = lock(&self.shared().state);
        let made = state.made(id).ok();
        let spaces = made.map(|made| [made.v4.as_ref(), made.v6.as_ref()]);
        let spaces = spaces.into_iter().flatten().flatten();
        spaces.map(AddressSpace::usage).collect()
    }

    /// Removes a network that no container is on: its rules and, unless it was there before, its bridge. One that is not
    /// there is no error.
    pub fn unmake(&self, id: &NetworkId) -> Result<(), NetError> {
        let shared = self.shared();
        let _one = lock(&shared.making);
        let used = lock(&shared.state).live.values().any(|live| {
            let mut places = live.record.places.iter();
            places.any(|place| place.network.as_ref() == Some(id))
        });
        if used {
            return Err(NetError::InUse(id.clone()));
        }
        self.unmake_made(id, &Links::open()?)
    }

    fn unmake_made(&self, id: &NetworkId, links: &Links) -> Result<(), NetError> {
        let shared = self.shared();
        let Some(made) = lock(&shared.state).segments.remove(id) else {
            return Ok(());
        };
        shared.names.change(|names| {
            names.networks.remove(id);
        });
        let ruled = match made.rules() {
            Some(rules) => shared.remove_bridge(&rules),
            None => Ok(()),
        };
        let segment = &made.segment;
        // Those of a bridge that stays would stay on it.
        {
            let mut pool = lock(&shared.pool);
            pool.spares.retain(|spare| spare.home() != Some(made.index));
            pool.crowded.remove(&Some(id.clone()));
        }
        if segment.adopted {
            // The bridge stays, and what it knows of containers would stay with it.
            return links
                .forget_neighbours(|index, address| made.is_at(index, address))
                .and(ruled);
        }
        let shares = lock(&shared.state)
            .segments
            .values()
            .any(|other| other.segment.interface == segment.interface);
        if segment.interface.is_empty() || shares {
            return ruled;
        }
        let doomed = shared.doom(links, &made);
        self.worker().send(Job::Doomed);
        doomed.and(ruled)
    }

    /// Removes bridges of this instance that belong to no network: what a life left that was ended while it made or removed
    /// one. Call once, after the last `make` at the start.
    pub fn sweep_bridges(&self) -> Result<(), NetError> {
        let shared = self.shared();
        let _one = lock(&shared.making);
        let known: Vec<String> = lock(&shared.state)
            .segments
            .values()
            .map(|made| made.segment.interface.clone())
            .collect();
        let links = Links::open()?;
        for link in links.links()? {
            let instance = &shared.settings.instance;
            let is_ours = link.group == instance.group() || instance.is_segment(&link.name);
            if is_ours && !known.contains(&link.name) {
                tracing::info!(bridge = link.name, "a bridge of no network goes");
                let mut batch = Batch::new();
                rtnl::delete_link(&mut batch, &link.name);
                links.apply_except(&mut batch, &[libc::ENODEV])?;
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Names the bridge, and refuses one that another network has.
    fn choose_interface(&self, links: &Links, segment: &mut Segment) -> Result<(), NetError> {
        let state = lock(&self.state);
        if segment.interface.is_empty() && segment.kind == SegmentKind::Bridge {
            let taken = |name: &str| {
                state
                    .segments
                    .values()
                    .any(|made| made.segment.interface == name)
            };
            let mut names = self.settings.instance.segments(&segment.id);
            segment.interface = names
                .find(|name| !taken(name))
                .ok_or_else(|| NetError::InvalidSetting("no free name for a bridge".to_owned()))?;
            return Ok(());
        }
        drop(state);
        if segment.kind != SegmentKind::Bridge {
            return Ok(());
        }
        let name = segment.interface.as_str();
        if name.len() > 15 || name.contains(['/', ':']) || name.contains(char::is_whitespace) {
            return Err(NetError::InvalidSetting(format!(
                "invalid bridge name {name:?}: at most 15 characters, without '/', ':' and blanks"
            )));
        }
        let other = lock(&self.state)
            .segments
            .values()
            .find(|made| made.segment.interface == name)
            .map(|made| (made.segment.id.clone(), name.to_owned()));
        let is_default = self.bridge().is_ok_and(|own| own.name == name);
        let is_default = is_default || name == self.settings.instance.bridge();
        let own = is_default.then(|| (segment.id.clone(), name.to_owned()));
        if let Some((other, bridge)) = other.or(own) {
            return Err(NetError::Conflicting(format!(
                "cannot create network {} ({name}): conflicts with network {} ({bridge}): networks have same bridge name",
                segment.id.as_str(),
                other.as_str()
            )));
        }
        match links.link(name)? {
            Some(link) if link.kind.as_deref() != Some("bridge") => Err(NetError::Conflicting(
                format!("interface {name} is there already and is no bridge"),
            )),
            _ => Ok(()),
        }
    }

    /// Refuses a parent that another network has for itself: who has one in passthru, and of ipvlans only one can be on
    /// it, because all of one parent have one mode (moby: daemon/libnetwork/drivers/macvlan, ipvlan).
    fn share_parent(&self, segment: &Segment) -> Result<(), NetError> {
        let state = lock(&self.state);
        let parent = segment.kind.parent().filter(|parent| !parent.is_empty());
        for other in state.segments.values().map(|made| &made.segment) {
            if parent.is_none() || other.kind.parent() != parent {
                continue;
            }
            let (id, parent) = (other.id.as_str(), parent.unwrap_or_default());
            let is_alone = |kind: &SegmentKind| matches!(kind, SegmentKind::Macvlan { mode, .. } if *mode == MacvlanMode::Passthru);
            let refused = match (&segment.kind, &other.kind) {
                (SegmentKind::Ipvlan { .. }, SegmentKind::Ipvlan { .. }) => {
                    format!(
                        "network di-{} is already using parent interface {parent}",
                        other.id.short()
                    )
                }
                (own, SegmentKind::Macvlan { .. }) if is_alone(own) => format!(
                    "cannot use mode passthru, macvlan network {id} is already using parent interface {parent}"
                ),
                (SegmentKind::Macvlan { .. }, theirs) if is_alone(theirs) => format!(
                    "macvlan network {id} is already using parent interface {parent} in mode passthru"
                ),
                _ => continue,
            };
            return Err(NetError::Conflicting(refused));
        }
        Ok(())
    }

    /// Chooses subnets that are missing, and refuses those that are somebody's.
    fn choose_subnets(&self, links: &Links, segment: &mut Segment) -> Result<(), NetError> {
        let default = self.default();
        let ours: Vec<IpNet> = {
            let state = lock(&self.state);
            let made = state.segments.values();
            let of_users = made.flat_map(|made| made.segment.subnets.iter().map(|one| one.subnet));
            let own = default.plan.iter().flat_map(|bridge| bridge.subnets());
            of_users.chain(own).collect()
        };
        for subnet in &segment.subnets {
            if ours.iter().any(|net| subnets::overlap(*net, subnet.subnet)) {
                return Err(NetError::Conflicting(
                    "invalid pool request: Pool overlaps with other one on this address space"
                        .to_owned(),
                ));
            }
        }
        let own = links.link(&segment.interface)?.map_or(0, |link| link.index);
        let doomed: HashSet<u32> = lock(&self.state).doomed.values().copied().collect();
        let theirs: Vec<(u32, IpNet)> = links
            .routes()?
            .into_iter()
            .chain(links.addresses()?)
            .filter(|(index, _)| own == 0 || *index != own)
            .filter(|(index, _)| !doomed.contains(index))
            .collect();
        if segment.kind == SegmentKind::Bridge {
            for subnet in &segment.subnets {
                // A route that is more general goes on beside ours; one within would be ours from now on.
                let stolen = theirs
                    .iter()
                    .find(|(_, net)| subnet.subnet.contains(&net.trunc()));
                if let Some((index, net)) = stolen {
                    let name = links.name(*index)?;
                    return Err(NetError::Conflicting(format!(
                        "invalid pool request: subnet {} overlaps with {net} on the host's interface {name}",
                        subnet.subnet
                    )));
                }
            }
        }
        let mut used = ours;
        used.extend(theirs.into_iter().map(|(_, net)| net));
        let pools = lock(&self.changeable).pools.clone();
        for (v6, wanted) in [(false, segment.ipv4), (true, segment.ipv6)] {
            if !wanted || segment.subnet(v6).is_some() {
                continue;
            }
            let chosen = if v6 {
                subnets::choose_v6(&self.settings.instance, &pools, &used).map(IpNet::V6)
            } else {
                subnets::choose(&pools, &used).map(IpNet::V4)
            };
            let subnet = chosen.ok_or(NetError::Subnetted)?;
            segment.subnets.push(Subnet {
                subnet,
                gateway: None,
                range: None,
                auxiliary: [].into(),
                configured: false,
            });
        }
        let isolated = [segment.gateway_mode_v4, segment.gateway_mode_v6]
            .map(|mode| mode == GatewayMode::Isolated);
        // On somebody else's interface the host has no address; one that nobody said is the first all the same, as in Docker.
        let none = segment.kind != SegmentKind::Bridge
            && (!segment.leads_out() || segment.kind.routes_by_itself());
        for subnet in &mut segment.subnets {
            let isolated = isolated[usize::from(matches!(subnet.subnet, IpNet::V6(_)))];
            if subnet.gateway.is_none() && !isolated && !none {
                subnet.gateway = AddressSpace::new(subnet).take_next();
            }
        }
        segment
            .subnets
            .sort_by_key(|one| matches!(one.subnet, IpNet::V6(_)));
        Ok(())
    }

    /// Adds a bridge to the table.
    fn add_bridge(&self, rules: BridgeRules) -> Result<(), NetError> {
        let mut firewall = lock(&self.tables);
        let (elements, name) = (rules.elements(), rules.name.clone());
        firewall.ruleset.bridges.push(rules);
        if !firewall.written {
            return Ok(());
        }
        let ours = self.settings.instance.bridge();
        if !name.starts_with(&ours) {
            // One of our naming is covered by the rules that are there.
            firewall.look_around(&ours);
        }
        self.change(&mut firewall, |transaction, table| {
            transaction.add(table, &elements);
        })
    }

    /// Takes a bridge out of the table.
    fn remove_bridge(&self, rules: &BridgeRules) -> Result<(), NetError> {
        let mut firewall = lock(&self.tables);
        firewall.ruleset.bridges.retain(|other| other != rules);
        if !firewall.written {
            return Ok(());
        }
        let ours = self.settings.instance.bridge();
        if !rules.name.starts_with(&ours) {
            firewall.look_around(&ours);
        }
        let elements = rules.elements();
        self.change(&mut firewall, |transaction, table| {
            transaction.remove(table, &elements);
        })
    }

    /// Changes the table, or writes all of it where somebody took a part away.
    pub(crate) fn change(
        &self,
        firewall: &mut crate::shared::Firewall,
        fill: impl FnOnce(&mut nft::Transaction, &str),
    ) -> Result<(), NetError> {
        let mut transaction = nft::Transaction::new();
        fill(&mut transaction, &firewall.ruleset.table);
        match firewall.tables.commit(transaction) {
            Err(error) if rtnl::is_errno(&error, libc::ENOENT) => self.write_table(firewall),
            other => other,
        }
    }
}

impl State {
    /// A network that is made.
    pub(crate) fn made(&mut self, id: &NetworkId) -> Result<&mut Made, NetError> {
        self.segments
            .get_mut(id)
            .ok_or_else(|| NetError::NoNetwork(id.clone()))
    }
}
