//! What the handle and the worker share, each part behind a lock of its own.
//!
//! Order where two are needed: `tables`, then `state`. The kernel is never spoken to under `state` or `pool`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use hoist_model::network::{PlaceRequest, SegmentKind};
use hoist_model::{ContainerId, NetworkId};

use crate::attachment::{AttachmentRecord, PlaceRecord};
use crate::build::{BridgePlan, Prepared};
use crate::demand::Demand;
use crate::error::NetError;
use crate::ipam::Addresses;
use crate::names::{NameBoard, Names, ResolverView};
use crate::nft::{self, Element, Ruleset, Tables};
use crate::ports::PortTable;
use crate::rtnl::Links;
use crate::segments::Made;
use crate::settings::{Changeable, Settings};
use crate::spare::Spare;
use crate::timings::Timings;
use crate::worker::unpoison;

/// Namespaces with `lo` alone that are kept ready.
const ISOLATED: usize = 2;

/// Takes a lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    unpoison(mutex.lock())
}

/// Everything that outlives one call.
pub(crate) struct Shared {
    /// As they were at the start; what of them may change is in `changeable` and `bridge`.
    pub(crate) settings: Settings,
    /// Of those that may change, how they are now. Locked for single looks and changes.
    pub(crate) changeable: Mutex<Changeable>,
    /// The default bridge. Locked for single looks and changes.
    pub(crate) default: Mutex<Arc<DefaultBridge>>,
    /// Read-held while a container comes to the default bridge: who changes the bridge sees them all, or is before them.
    pub(crate) joining: RwLock<()>,
    /// Port id of `tables`' socket: tells our own changes from others'.
    pub(crate) firewall_port: u32,
    /// The nf_tables socket, and with it the right to change our table.
    pub(crate) tables: Mutex<Firewall>,
    /// The rtnetlink socket of the host's namespace.
    pub(crate) links: Mutex<Links>,
    /// Held while a network is made or removed: one at a time.
    pub(crate) making: Mutex<()>,
    /// Held, after `links`, while places end: who takes it sees their addresses free.
    pub(crate) ending: Mutex<()>,
    /// How long starts have waited for this.
    pub(crate) timings: Arc<Timings>,
    /// The names on users' networks.
    pub(crate) names: NameBoard,
    /// Addresses, ports and attachments.
    pub(crate) state: Mutex<State>,
    /// What is ready.
    pub(crate) pool: Mutex<Pool>,
}

/// The default bridge, and the settings that say what it is.
pub(crate) struct DefaultBridge {
    /// `None` where there is none.
    pub(crate) plan: Option<Arc<BridgePlan>>,
    pub(crate) settings: Settings,
}

/// Our table as it should be, and the socket to make it so.
pub(crate) struct Firewall {
    pub(crate) tables: Tables,
    pub(crate) ruleset: Ruleset,
    /// Whether the table was written by this process; until then an earlier life's stands.
    pub(crate) written: bool,
    pub(crate) warnings: Vec<String>,
}

/// Addresses, ports and attachments.
pub(crate) struct State {
    /// Those of the default bridge; none where there is none.
    pub(crate) addresses: Option<Addresses>,
    pub(crate) ports: PortTable,
    pub(crate) live: HashMap<ContainerId, Live>,
    /// Veths that are on their way out, by name.
    pub(crate) leaving: HashMap<String, Leaving>,
    /// Users' networks.
    pub(crate) segments: HashMap<NetworkId, Made>,
    /// Links that are no network's any more, by name with their numbers.
    pub(crate) doomed: HashMap<String, u32>,
}

/// A veth whose namespace was let go.
pub(crate) struct Leaving {
    /// Whose addresses are free once it is gone; `None` where they are already.
    pub(crate) place: Option<PlaceRecord>,
    /// The network whose bridge it is on.
    pub(crate) network: Option<NetworkId>,
    pub(crate) since: Instant,
}

/// An attached container.
pub(crate) struct Live {
    pub(crate) record: AttachmentRecord,
    /// What was asked for each of its places.
    pub(crate) wishes: Vec<PlaceRequest>,
    /// Its own name servers.
    pub(crate) servers: Vec<IpAddr>,
    /// Whether somebody set `ndots` for it.
    pub(crate) ndots_set: bool,
    pub(crate) netns: OwnedFd,
}

impl State {
    /// Takes back the addresses that a place has from an earlier life; those that are taken are the answer.
    pub(crate) fn retake(&mut self, place: &mut PlaceRecord) -> Vec<IpAddr> {
        match &place.network {
            Some(id) => match self.made(id) {
                Ok(made) => made.retake(place),
                Err(_) => place.addresses(),
            },
            None => {
                let own = place.ipv4.map(|own| own.address);
                let taken = own.filter(|ip| !self.take(*ip));
                taken.into_iter().map(IpAddr::V4).collect()
            }
        }
    }

    /// Takes an address of the default bridge; false if it is taken or not one.
    pub(crate) fn take(&mut self, ip: Ipv4Addr) -> bool {
        self.addresses.as_mut().is_some_and(|all| all.take(ip))
    }

    /// Gives an address of the default bridge back.
    pub(crate) fn release(&mut self, ip: Ipv4Addr) {
        if let Some(addresses) = &mut self.addresses {
            addresses.release(ip);
        }
    }
}

/// Namespaces that are ready.
#[derive(Default)]
pub(crate) struct Pool {
    pub(crate) ready: VecDeque<Prepared>,
    pub(crate) isolated: VecDeque<OwnedFd>,
    /// Those that could be on any user's network.
    pub(crate) spares: VecDeque<Spare>,
    pub(crate) demand: Demand,
    pub(crate) spare_demand: Demand,
    /// The user's network that was joined last.
    pub(crate) busy: Option<NetworkId>,
    /// Networks whose bridges were full: until a container has left one, what is ready takes no port of it, for whoever
    /// found it full may be about to.
    pub(crate) crowded: HashSet<Option<NetworkId>>,
    /// Whether the worker fills it: not before leftovers were swept, nor after the end.
    pub(crate) open: bool,
}

impl Pool {
    /// Takes a namespace for a network with this bridge: one that is there already, else one that is nowhere.
    pub(crate) fn take_spare(&mut self, bridge: Option<u32>) -> Option<Spare> {
        let at = |home| self.spares.iter().position(|spare| spare.home() == home);
        let found = at(bridge).or_else(|| at(None)).unwrap_or_default();
        self.spares.remove(found)
    }
}

/// What the pool lacks.
#[derive(Default)]
pub(crate) struct PoolWish {
    /// When to build the next namespace on the bridge.
    pub(crate) bridged: Option<Duration>,
    /// When to build the next for a user's network.
    pub(crate) spare: Option<Duration>,
    /// Whether to build one with `lo` alone.
    pub(crate) isolated: bool,
}

impl Shared {
    pub(crate) fn pool_wish(&self, now: Instant) -> PoolWish {
        let is_bridge = |made: &Made| made.segment.kind == SegmentKind::Bridge;
        let users = lock(&self.state).segments.values().any(is_bridge);
        let has_bridge = self.bridge().is_ok();
        let pool = lock(&self.pool);
        let size = self.settings.pool_size;
        if !pool.open || size == 0 {
            return PoolWish::default();
        }
        PoolWish {
            // Whoever has no network of a user's pays for none.
            spare: pool
                .spare_demand
                .wait(now, pool.spares.len(), size)
                .filter(|_| users),
            bridged: pool
                .demand
                .wait(now, pool.ready.len(), size)
                .filter(|_| has_bridge && !pool.crowded.contains(&None)),
            isolated: pool.isolated.len() < ISOLATED,
        }
    }

    /// Whether a container was attached within this span.
    pub(crate) fn attached_within(&self, now: Instant, span: Duration) -> bool {
        let pool = lock(&self.pool);
        pool.demand.was_within(now, span) || pool.spare_demand.was_within(now, span)
    }

    /// A namespace that is on no bridge, and the bridge that it would better be on: half of them belong to the network that
    /// was joined last.
    pub(crate) fn unsettled_spare(&self) -> Option<(Spare, NetworkId, u32)> {
        let busy = lock(&self.pool).busy.clone()?;
        let bridge = self.bridge_index(Some(&busy))?;
        let busy = Some(busy);
        let mut pool = lock(&self.pool);
        if pool.crowded.contains(&busy) {
            return None;
        }
        let there = |spare: &&Spare| spare.home() == Some(bridge);
        if pool.spares.iter().filter(there).count() * 2 >= pool.spares.len() {
            return None;
        }
        let at = pool.spares.iter().position(|one| one.home().is_none())?;
        Some((pool.spares.remove(at)?, busy?, bridge))
    }

    /// Whether the default bridge has IPv6.
    pub(crate) fn has_ipv6(&self) -> bool {
        let bridge = self.bridge();
        bridge.is_ok_and(|bridge| bridge.address_v6.is_some())
    }

    /// The default bridge as it is now, and the settings that it follows.
    pub(crate) fn default(&self) -> Arc<DefaultBridge> {
        Arc::clone(&lock(&self.default))
    }

    /// The default bridge.
    pub(crate) fn bridge(&self) -> Result<Arc<BridgePlan>, NetError> {
        self.default().plan.clone().ok_or(NetError::NoBridge)
    }

    pub(crate) fn take_address(&self) -> Result<Ipv4Addr, NetError> {
        let bridge = self.bridge()?;
        let mut state = lock(&self.state);
        let next = state.addresses.as_mut().and_then(Addresses::take_next);
        next.ok_or_else(|| NetError::AddressesExhausted(bridge.range.trunc().to_string()))
    }

    pub(crate) fn release_address(&self, ip: Ipv4Addr) {
        lock(&self.state).release(ip);
    }

    /// Takes the names that a container had and gives it those that it has now; who asks sees all of it or nothing. `None`
    /// is a container that was not attached before, or is not any more.
    pub(crate) fn change_names(&self, before: Option<&AttachmentRecord>, now: Option<&Live>) {
        let on_users = |record: &AttachmentRecord| {
            let mut places = record.places.iter();
            places.any(|place| place.network.is_some())
        };
        let served = before.is_some_and(|record| {
            let names = self.names.snapshot();
            names.containers.contains_key(&record.container)
        });
        if !served && !now.is_some_and(|live| on_users(&live.record)) {
            return;
        }
        self.names.change(|names| {
            if let Some(record) = before {
                forget(names, record);
            }
            // Who has left every user's network still asks the server that it was told of.
            if let Some(live) = now {
                tell(names, live);
            }
        });
    }

    /// Gives back the addresses of places that are gone.
    pub(crate) fn release_places(&self, places: &[PlaceRecord]) {
        let mut state = lock(&self.state);
        for place in places {
            match &place.network {
                Some(id) => {
                    // The network may be gone, and its addresses with it.
                    if let Ok(made) = state.made(id) {
                        made.release(&place.addresses());
                    }
                }
                None => {
                    if let Some(own) = place.ipv4 {
                        state.release(own.address);
                    }
                }
            }
        }
    }

    /// The elements that every attached container's ports need.
    pub(crate) fn wanted(&self) -> Vec<Element> {
        lock(&self.state)
            .live
            .values()
            .flat_map(|live| elements(&live.record))
            .collect()
    }

    /// Compares the table with what it should be and writes it again where it differs; true if it did.
    pub(crate) fn verify_and_reapply(&self) -> Result<bool, NetError> {
        let mut firewall = lock(&self.tables);
        if !firewall.written {
            return Ok(false);
        }
        firewall.look_around(&self.settings.instance.bridge());
        if firewall
            .ruleset
            .is_intact(&firewall.tables, &self.wanted())?
        {
            return Ok(false);
        }
        tracing::warn!(
            table = firewall.ruleset.table,
            "the firewall table was changed: writing it again"
        );
        self.write_table(&mut firewall)?;
        Ok(true)
    }

    /// Writes the whole table; the caller holds it, so that no publishing falls between.
    pub(crate) fn write_table(&self, firewall: &mut Firewall) -> Result<(), NetError> {
        if firewall.ruleset.is_off() {
            return firewall.tables.delete_table(&firewall.ruleset.table);
        }
        let transaction = firewall.ruleset.write(&self.wanted());
        firewall.tables.commit(transaction)?;
        firewall.written = true;
        Ok(())
    }

    /// Publishes ports whose container is in `state` already.
    pub(crate) fn publish(&self, elements: &[Element]) -> Result<(), NetError> {
        if elements.is_empty() {
            return Ok(());
        }
        let mut firewall = lock(&self.tables);
        if firewall.ruleset.is_off() {
            return Ok(());
        }
        let mut transaction = nft::Transaction::new();
        transaction.add(&firewall.ruleset.table, elements);
        match firewall.tables.commit(transaction) {
            Ok(()) => Ok(()),
            // Somebody removed table or map: all of it is wanted back.
            Err(error) if crate::rtnl::is_errno(&error, libc::ENOENT) => {
                self.write_table(&mut firewall)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes ports back whose container is in `state` no longer.
    pub(crate) fn unpublish(&self, elements: &[Element]) -> Result<(), NetError> {
        if elements.is_empty() {
            return Ok(());
        }
        let mut firewall = lock(&self.tables);
        if firewall.ruleset.is_off() {
            return Ok(());
        }
        let mut transaction = nft::Transaction::new();
        transaction.remove(&firewall.ruleset.table, elements);
        match firewall.tables.commit(transaction) {
            // One of them is missing, so none was removed: write what should be.
            Err(error) if crate::rtnl::is_errno(&error, libc::ENOENT) => {
                self.write_table(&mut firewall)
            }
            other => other,
        }
    }
}

/// The elements that a container's ports need: of those the kernel can translate, and of those it lets pass.
pub(crate) fn elements(record: &AttachmentRecord) -> Vec<Element> {
    let published = record.ports.iter().filter_map(|port| {
        if port.host_ip.is_ipv6() && port.host_ip.is_loopback() {
            return None;
        }
        let ip = record.published_address(port.host_ip.is_ipv6())?;
        Some(Element::published(
            port.host_ip,
            port.container.protocol,
            port.host_port,
            SocketAddr::new(ip, port.container.port),
        ))
    });
    let opened = [false, true].into_iter().flat_map(|v6| {
        let place = record.way_out(v6).filter(|place| place.is_routed(v6));
        let addresses = place.map(PlaceRecord::addresses).unwrap_or_default();
        let address = addresses.into_iter().find(|ip| ip.is_ipv6() == v6);
        let ports = record.open.iter();
        ports.filter_map(move |port| Some(Element::open(address?, port.protocol, port.port)))
    });
    published.chain(opened).collect()
}

/// Takes a container's names from its addresses.
fn forget(names: &mut Names, record: &AttachmentRecord) {
    for place in &record.places {
        let network = place.network.as_ref();
        if let Some(table) = network.and_then(|id| names.networks.get_mut(id)) {
            Arc::make_mut(table).remove(&place.addresses());
        }
    }
    names.containers.remove(&record.container);
}

/// Gives a container's addresses its names, and its resolver what that needs to know.
fn tell(names: &mut Names, live: &Live) {
    let mut view = ResolverView {
        servers: live.servers.clone(),
        ndots_set: live.ndots_set,
        internal: !live.record.places.iter().any(|place| place.leads_out),
        ..ResolverView::default()
    };
    for (place, wish) in live.record.places.iter().zip(&live.wishes) {
        let Some(network) = &place.network else {
            continue;
        };
        let table = names.networks.entry(network.clone()).or_default();
        Arc::make_mut(table).add(&wish.names, &place.addresses());
        let links = wish.links.iter().cloned();
        view.links
            .extend(links.map(|(alias, name)| (alias.to_lowercase(), name)));
        view.networks.push(network.clone());
    }
    names
        .containers
        .insert(live.record.container.clone(), Arc::new(view));
}
