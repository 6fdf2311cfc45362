//! The handle: one engine's networks on this host.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use hoist_model::{ContainerId, NetworkId};
use hoist_sys::netlink::Batch;
use ipnet::{Ipv4Net, Ipv6Net};

use crate::attachment::{AttachRequest, AttachmentRecord, PlaceRecord};
use crate::build::BridgePlan;
use crate::claim::Claim;
use crate::dns::NameServers;
use crate::error::NetError;
use crate::event_thread::EventThread;
use crate::names::NameBoard;
use crate::nft::{BridgeRules, Entrance, FamilyRules, Ruleset, Tables};
use crate::ports::{Kept, PortTable};
use crate::relay::Relay;
use crate::rtnl::Links;
use crate::settings::Settings;
use crate::shared::{DefaultBridge, Firewall, Live, Pool, Shared, State, elements, lock};
use crate::timings::Timings;
use crate::worker::{Job, Worker};
use crate::{bridge, dns, rtnl};

/// How long `stop` waits for the kernel to finish taking down what it was told to.
const TEARDOWN: Duration = Duration::from_secs(3);

/// The networks of one engine: its bridge, its table, its pool of namespaces and its published ports.
///
/// All functions block (microseconds to a few milliseconds) and may be called from any thread whose network
/// namespace is the one `start` was called in. Cloning gives another handle to the same networks; dropping the last
/// is `stop(true)`.
///
/// ```text
/// start ──► restore* ──► sweep ──► attach / detach / isolated … ──► stop
/// ```
#[derive(Clone)]
pub struct Networks {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    worker: Worker,
    events: Arc<EventThread>,
    relay: Relay,
    name_servers: NameServers,
    forwarding: AtomicBool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.worker.stop();
        self.events.stop();
    }
}

impl Networks {
    /// Makes (or finds) the bridge and starts the worker. Call `restore` for every live container, then `sweep`.
    pub fn start(settings: Settings) -> Result<Self, NetError> {
        let links = Links::open()?;
        let choosing = Claim::take();
        let bridge = bridge::ensure(&links, &settings)?;
        drop(choosing);
        let tables = Tables::open()?;
        let table = settings.instance.table();
        let ruleset = Ruleset {
            guard: tables.has_guard(&table)?,
            table,
            bridges: bridge
                .iter()
                .map(|bridge| bridge_rules(bridge, &settings))
                .collect(),
            families: [settings.firewall_v4, settings.firewall_v6],
        };
        let shared = Arc::new(Shared {
            firewall_port: tables.socket().port(),
            state: Mutex::new(State {
                addresses: bridge.as_ref().map(BridgePlan::addresses),
                ports: PortTable::new(),
                live: HashMap::new(),
                leaving: HashMap::new(),
                segments: HashMap::new(),
                doomed: HashMap::new(),
            }),
            making: Mutex::new(()),
            ending: Mutex::new(()),
            timings: Arc::default(),
            names: NameBoard::default(),
            pool: Mutex::new(Pool::default()),
            links: Mutex::new(links),
            tables: Mutex::new(Firewall {
                tables,
                ruleset,
                written: false,
                warnings: Vec::new(),
            }),
            default: Mutex::new(Arc::new(DefaultBridge {
                plan: bridge.map(Arc::new),
                settings: settings.clone(),
            })),
            joining: RwLock::default(),
            changeable: Mutex::new(settings.changeable()),
            settings,
        });
        let doomed = shared.find_doomed(&lock(&shared.links))?;
        let worker = Worker::start(Arc::clone(&shared))?;
        if doomed > 0 {
            worker.send(Job::Doomed);
        }
        let events = Arc::new(EventThread::new(
            shared.names.clone(),
            shared.settings.resolv_conf.clone(),
        ));
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                worker,
                relay: Relay::new(Arc::clone(&events)),
                name_servers: NameServers::new(Arc::clone(&events)),
                events,
                forwarding: AtomicBool::new(false),
            }),
        })
    }

    /// Takes a live container's attachment back after a restart of the daemon: its addresses, names, published ports
    /// and reserving sockets. `request` is what it asked for; `netns` is the container's namespace (`/proc/<pid>/ns/net`),
    /// `kept` what somebody held of [`Attachment::reserving`] meanwhile: who connected to them is served. A port that cannot
    /// be reserved again is logged and still published.
    ///
    /// [`Attachment::reserving`]: crate::Attachment::reserving
    pub fn restore(
        &self,
        mut record: AttachmentRecord,
        request: &AttachRequest,
        netns: OwnedFd,
        mut kept: Vec<OwnedFd>,
    ) -> Result<(), NetError> {
        let name_server = dns::Sockets::among(&mut kept);
        let shared = self.shared();
        let mut kept = Kept::new(kept);
        let mut sockets = Vec::new();
        {
            let mut state = lock(&shared.state);
            if state.live.contains_key(&record.container) {
                return Err(NetError::AlreadyAttached(record.container));
            }
            for place in &mut record.places {
                let taken = state.retake(place);
                if !taken.is_empty() {
                    return Err(NetError::AddressRefused(format!(
                        "address {} of container {} is taken or outside its network {}",
                        taken[0], record.container, place.name
                    )));
                }
                if let Some(own) = place.ipv4
                    && place.network.is_none()
                    && place.host_interface.is_empty()
                {
                    // Its name follows from its address; a caller need not remember it.
                    place.host_interface = shared.bridge()?.veth_name(own.address);
                }
            }
            let target = record
                .published_address(false)
                .or(record.published_address(true));
            for mapping in &record.ports {
                let (socket, problem) = state.ports.restore(mapping, &mut kept);
                if let Some(error) = problem {
                    tracing::warn!(container = %record.container, %error, "a published port is not reserved");
                }
                sockets
                    .extend(target.map(|ip| (socket, SocketAddr::new(ip, mapping.container.port))));
            }
            let of = |place: &PlaceRecord| {
                let mut wishes = request.places.iter();
                let wish = wishes.find(|wish| wish.network == place.network);
                wish.cloned().unwrap_or_default()
            };
            let live = Live {
                wishes: record.places.iter().map(of).collect(),
                servers: request.servers.clone(),
                ndots_set: request.ndots_set,
                record: record.clone(),
                netns,
            };
            shared.change_names(None, Some(&live));
            state.live.insert(record.container.clone(), live);
        }
        // Its bridge may be another than it was on.
        if let Err(error) = shared.put_on_bridges(&lock(&shared.links), &record.places) {
            tracing::warn!(container = %record.container, %error, "a veth is on no bridge");
        }
        self.inner.relay.add(&record.container, sockets)?;
        if let Some(sockets) = name_server {
            let netns = self.netns(&record.container)?;
            self.inner
                .name_servers
                .add(&record.container, netns, sockets)?;
        } else if record.places.iter().any(|place| place.network.is_some()) {
            // Its monitor has none: it joined its first user's network while it ran.
            self.serve_names(&record.container)?;
        }
        if lock(&shared.tables).written {
            shared.publish(&elements(&record))?;
        }
        Ok(())
    }

    /// Tells a container's names anew, after it was renamed: those of its places in the order of `request`.
    pub fn rename(&self, request: &AttachRequest) {
        let shared = self.shared();
        let mut state = lock(&shared.state);
        if let Some(live) = state.live.get_mut(&request.container) {
            for (place, wish) in live.record.places.iter().zip(&mut live.wishes) {
                let mut wishes = request.places.iter();
                if let Some(new) = wishes.find(|new| new.network == place.network) {
                    wish.names.clone_from(&new.names);
                }
            }
            shared.change_names(Some(&live.record), Some(live));
        }
    }

    /// The names of containers on users' networks, for resolvers.
    #[must_use]
    pub fn names(&self) -> &NameBoard {
        &self.inner.shared.names
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.inner.worker
    }

    pub(crate) fn relay(&self) -> &Relay {
        &self.inner.relay
    }

    pub(crate) fn name_servers(&self) -> &NameServers {
        &self.inner.name_servers
    }

    /// Whether forwarding was seen to.
    pub(crate) fn forwarding(&self) -> &AtomicBool {
        &self.inner.forwarding
    }

    /// Writes the table, removes what earlier lives of this instance left behind and nobody restored, and starts
    /// to fill the pool. Call once, after the last `restore`.
    pub fn sweep(&self) -> Result<(), NetError> {
        let shared = &self.inner.shared;
        {
            let mut firewall = lock(&shared.tables);
            firewall.look_around(&shared.settings.instance.bridge());
            shared.write_table(&mut firewall)?;
        }
        let kept: HashSet<String> = lock(&shared.state)
            .live
            .values()
            .flat_map(|live| live.record.places.iter())
            .map(|place| place.host_interface.clone())
            .collect();
        self.remove_veths(&kept)?;
        shared.sweep_neighbours()?;
        let missing = shared.missing(&lock(&shared.links).links()?);
        self.inner.worker.send(Job::Gone(missing));
        self.inner.name_servers.open()?;
        lock(&shared.pool).open = true;
        self.inner.worker.send(Job::Refill);
        Ok(())
    }

    /// A namespace with `lo` alone, up, for `--network none`; dies when its last user closes it.
    pub fn isolated(&self) -> Result<OwnedFd, NetError> {
        let ready = lock(&self.inner.shared.pool).isolated.pop_front();
        match ready {
            Some(netns) => {
                self.inner.worker.send(Job::Refill);
                Ok(netns)
            }
            None => self.inner.worker.call(Job::Isolated),
        }
    }

    /// What is remembered of an attached container.
    #[must_use]
    pub fn attachment(&self, container: &ContainerId) -> Option<AttachmentRecord> {
        lock(&self.inner.shared.state)
            .live
            .get(container)
            .map(|live| live.record.clone())
    }

    /// The default bridge, as inspect shows it, where there is one.
    #[must_use]
    pub fn bridge(&self) -> Option<BridgeFacts> {
        let default = self.inner.shared.default();
        let (bridge, settings) = (default.plan.as_ref()?, &default.settings);
        let changeable = lock(&self.inner.shared.changeable);
        Some(BridgeFacts {
            name: bridge.name.clone(),
            subnet: bridge.address.trunc(),
            gateway: bridge.address.addr(),
            range: settings.range.map(|_| bridge.range),
            default_gateway: settings.gateway.map(|_| bridge.gateway),
            address_v6: bridge.address_v6,
            range_v6: settings.range_v6.and(bridge.range_v6),
            default_gateway_v6: bridge.gateway_v6,
            mtu: bridge.mtu,
            inter_container: bridge.inter_container,
            masquerade: settings.masquerade,
            host_ip: changeable.default_host_ip,
        })
    }

    /// How many namespaces on the bridge are ready now.
    #[must_use]
    pub fn ready(&self) -> usize {
        lock(&self.inner.shared.pool).ready.len()
    }

    /// How long starting containers have waited for their networks.
    #[must_use]
    pub fn timings(&self) -> Arc<Timings> {
        Arc::clone(&self.inner.shared.timings)
    }

    /// How many namespaces for any user's network are ready now.
    #[must_use]
    pub fn spares(&self) -> usize {
        lock(&self.inner.shared.pool).spares.len()
    }

    /// Compares the table with what it should be and writes it again where it differs; true if it did. The worker
    /// does this by itself when another program changes the firewall.
    pub fn verify_and_reapply(&self) -> Result<bool, NetError> {
        self.inner.shared.verify_and_reapply()
    }

    /// What an operator should know: firewalls that drop our traffic, forwarding that is off.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.inner.shared.warnings()
    }

    /// Ends the worker and empties the pool. With `keep`, bridge, table and the veths of attached containers stay,
    /// for containers that outlive the daemon; without, everything of this instance goes. Goes on past failures
    /// and answers the first.
    pub fn stop(&self, keep: bool) -> Result<(), NetError> {
        let shared = &self.inner.shared;
        lock(&shared.pool).open = false;
        self.inner.worker.stop();
        self.inner.events.stop();
        {
            let mut pool = lock(&shared.pool);
            pool.ready.clear();
            pool.spares.clear();
            pool.isolated.clear();
        }
        let live: Vec<Live> = {
            let mut state = lock(&shared.state);
            state.live.drain().map(|(_, live)| live).collect()
        };
        if keep {
            return Ok(());
        }
        drop(live);
        let mut results = vec![self.remove_veths(&HashSet::new())];
        results.push(shared.restore_forwarding());
        {
            let mut firewall = lock(&shared.tables);
            firewall.written = false;
            results.push(firewall.leave_others());
            let table = firewall.ruleset.table.clone();
            results.push(firewall.tables.delete_table(&table));
        }
        results.push(self.remove_segments());
        results.push(shared.delete_all_doomed(&lock(&shared.links)));
        if let Some(bridge) = shared.bridge().ok().filter(|bridge| bridge.own) {
            results.push(bridge::remove(&lock(&shared.links), &bridge.name));
        }
        results.into_iter().collect()
    }

    /// Removes the bridges of users' networks; they are made again by whoever remembers them.
    fn remove_segments(&self) -> Result<(), NetError> {
        let shared = &self.inner.shared;
        let made: Vec<NetworkId> = lock(&shared.state).segments.keys().cloned().collect();
        let mut result = Ok(());
        for id in made {
            result = result.and(self.unmake(&id));
        }
        result
    }

    /// Waits a while for the veths of closed namespaces to go, then removes those that did not; spares `kept`.
    fn remove_veths(&self, kept: &HashSet<String>) -> Result<(), NetError> {
        let prefix = self.inner.shared.settings.instance.veth_prefix();
        let links = lock(&self.inner.shared.links);
        let stale = || -> Result<Vec<String>, NetError> {
            Ok(links
                .links()?
                .into_iter()
                .map(|link| link.name)
                .filter(|name| name.starts_with(prefix.as_str()) && !kept.contains(name))
                .collect())
        };
        let mut names = stale()?;
        // The kernel takes namespaces down in the background, many at once, and each veth with them: cheaper than
        // deleting one by one.
        let end = Instant::now() + TEARDOWN / 6;
        while !names.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
            names = stale()?;
        }
        for name in names {
            let mut batch = Batch::new();
            rtnl::delete_link(&mut batch, &name);
            links.apply_except(&mut batch, &[libc::ENODEV])?;
        }
        Ok(())
    }
}

/// What is done with the traffic of the default bridge.
pub(crate) fn bridge_rules(bridge: &BridgePlan, settings: &Settings) -> BridgeRules {
    let subnets = [
        Some(bridge.address.trunc().into()),
        bridge.address_v6.map(|net| net.trunc().into()),
    ];
    let family = |subnet| FamilyRules {
        subnet,
        masquerade: settings.masquerade,
        entrance: Entrance::Translated,
    };
    BridgeRules {
        name: bridge.name.clone(),
        families: subnets.into_iter().flatten().map(family).collect(),
        inter_container: settings.inter_container,
        internal: false,
    }
}

/// The default bridge as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeFacts {
    /// Its name, `hoist0`.
    pub name: String,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// Its own address in the subnet.
    pub gateway: Ipv4Addr,
    /// Where containers' addresses are taken from, if that was said.
    pub range: Option<Ipv4Net>,
    /// The containers' way out, if not itself.
    pub default_gateway: Option<Ipv4Addr>,
    /// Its IPv6 address and prefix, where it has one.
    pub address_v6: Option<Ipv6Net>,
    /// What containers' IPv6 addresses begin with, if that was said.
    pub range_v6: Option<Ipv6Net>,
    /// The containers' way out by IPv6, if not itself.
    pub default_gateway_v6: Option<Ipv6Addr>,
    /// Link MTU in bytes.
    pub mtu: u32,
    /// Whether containers on it reach each other.
    pub inter_container: bool,
    /// Whether what leaves it takes the host's address.
    pub masquerade: bool,
    /// Host address of ports that are published without one.
    pub host_ip: Option<IpAddr>,
}
