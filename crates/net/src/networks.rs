//! The handle: one engine's networks on this host.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hoist_model::{ContainerId, EndpointId, SandboxId};
use hoist_sys::netlink::Batch;
use ipnet::{Ipv4Net, Ipv6Net};

use crate::attachment::{AttachRequest, Attachment, AttachmentRecord};
use crate::build::Prepared;
use crate::dns::NameServers;
use crate::error::NetError;
use crate::event_thread::EventThread;
use crate::ipam::Addresses;
use crate::names::NameBoard;
use crate::nft::{BridgeRules, Ruleset, Tables};
use crate::ports::{Kept, PortTable, Reservation, Reserved};
use crate::relay::Relay;
use crate::rtnl::Links;
use crate::settings::Settings;
use crate::shared::{Firewall, Live, Pool, Shared, State, elements, lock};
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
        let bridge = bridge::ensure(&links, &settings)?;
        let tables = Tables::open()?;
        let table = settings.instance.table();
        let ruleset = Ruleset {
            guard: tables.has_guard(&table)?,
            table,
            bridge: BridgeRules {
                name: bridge.name.clone(),
                subnet: bridge.address.trunc(),
                subnet_v6: bridge.address_v6.map(|net| net.trunc()),
                masquerade: settings.masquerade,
                inter_container: settings.inter_container,
            },
        };
        let shared = Arc::new(Shared {
            firewall_port: tables.socket().port(),
            state: Mutex::new(State {
                addresses: Addresses::new(bridge.address, bridge.address.addr()),
                ports: PortTable::new(),
                live: HashMap::new(),
                leaving: HashMap::new(),
            }),
            pool: Mutex::new(Pool::default()),
            names: NameBoard::default(),
            links: Mutex::new(links),
            tables: Mutex::new(Firewall {
                tables,
                ruleset,
                written: false,
                warnings: Vec::new(),
            }),
            bridge,
            settings,
        });
        let worker = Worker::start(Arc::clone(&shared))?;
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

    /// Takes a live container's attachment back after a restart of the daemon: its addresses, published ports
    /// and reserving sockets. `netns` is the container's namespace (`/proc/<pid>/ns/net`), `kept` what somebody held of
    /// [`Attachment::reserving`] meanwhile: who connected to them is served. A port that cannot be reserved again is
    /// logged and still published.
    pub fn restore(
        &self,
        mut record: AttachmentRecord,
        netns: OwnedFd,
        mut kept: Vec<OwnedFd>,
    ) -> Result<(), NetError> {
        let name_server = dns::Sockets::among(&mut kept);
        let mut kept = Kept::new(kept);
        let mut sockets = Vec::new();
        {
            let mut state = lock(&self.inner.shared.state);
            if state.live.contains_key(&record.container) {
                return Err(NetError::AlreadyAttached(record.container));
            }
            if !state.addresses.take(record.ipv4) {
                return Err(NetError::AddressRefused(format!(
                    "address {} of container {} is taken or outside {}",
                    record.ipv4,
                    record.container,
                    self.inner.shared.bridge.address.trunc()
                )));
            }
            if record.host_interface.is_empty() {
                // Its name follows from its address; a caller need not remember it.
                record.host_interface = self.inner.shared.bridge.veth_name(record.ipv4);
            }
            for mapping in &record.ports {
                let (socket, problem) = state.ports.restore(mapping, &mut kept);
                if let Some(error) = problem {
                    tracing::warn!(container = %record.container, %error, "a published port is not reserved");
                }
                let target = SocketAddr::new(record.ipv4.into(), mapping.container.port);
                sockets.push((socket, target));
            }
            state.live.insert(
                record.container.clone(),
                Live {
                    record: record.clone(),
                    netns,
                },
            );
        }
        self.inner.relay.add(&record.container, sockets)?;
        if let Some(sockets) = name_server {
            let netns = self.netns(&record.container)?;
            self.inner
                .name_servers
                .add(&record.container, netns, sockets)?;
        }
        if lock(&self.inner.shared.tables).written {
            self.inner.shared.publish(&elements(&record))?;
        }
        Ok(())
    }

    /// Writes the table, removes what earlier lives of this instance left behind and nobody restored, and starts
    /// to fill the pool. Call once, after the last `restore`.
    pub fn sweep(&self) -> Result<(), NetError> {
        let shared = &self.inner.shared;
        {
            let mut firewall = lock(&shared.tables);
            firewall.look_around(&shared.bridge.name);
            shared.write_table(&mut firewall)?;
        }
        let kept: HashSet<String> = lock(&shared.state)
            .live
            .values()
            .map(|live| live.record.host_interface.clone())
            .collect();
        self.remove_veths(&kept)?;
        self.inner.name_servers.open()?;
        lock(&shared.pool).open = true;
        self.inner.worker.send(Job::Refill);
        Ok(())
    }

    /// Gives a container a namespace on the default bridge and publishes its ports. From the pool this takes
    /// microseconds; a MAC or IP of one's own, or an empty pool, costs 1 to 2 ms.
    pub fn attach(&self, request: &AttachRequest) -> Result<Attachment, NetError> {
        let shared = &self.inner.shared;
        if !self.inner.forwarding.swap(true, Ordering::Relaxed)
            && let Err(error) = shared.ensure_forwarding()
        {
            self.inner.forwarding.store(false, Ordering::Relaxed);
            return Err(error);
        }
        if lock(&shared.state).live.contains_key(&request.container) {
            return Err(NetError::AlreadyAttached(request.container.clone()));
        }
        let prepared = self.prepared(request)?;
        let reserved = lock(&shared.state)
            .ports
            .reserve(&request.ports, shared.settings.default_host_ip);
        let reserved = match reserved {
            Ok(reserved) => reserved,
            Err(error) => {
                self.give_back(request, prepared);
                return Err(error);
            }
        };
        let netns = match prepared.netns.try_clone() {
            Ok(netns) => netns,
            Err(source) => {
                let mut state = lock(&shared.state);
                reserved
                    .iter()
                    .for_each(|one| state.ports.release(&one.mapping));
                drop(state);
                self.give_back(request, prepared);
                return Err(NetError::kernel("duplicate a network namespace", source));
            }
        };
        let (record, sockets) = self.record(request, &prepared, reserved)?;
        // One that cannot be duplicated is only not kept.
        let reserving = sockets
            .iter()
            .filter_map(|(socket, _)| socket.duplicate().ok()?)
            .collect();
        lock(&shared.state).live.insert(
            request.container.clone(),
            Live {
                record: record.clone(),
                netns: prepared.netns,
            },
        );
        let published = self
            .inner
            .relay
            .add(&request.container, sockets)
            .and_then(|()| shared.publish(&elements(&record)));
        if let Err(error) = published {
            // The attachment is whole but for the firewall: take it down the ordinary way.
            let _ = self.detach(&request.container);
            return Err(error);
        }
        Ok(Attachment {
            netns,
            record,
            reserving,
        })
    }

    fn prepared(&self, request: &AttachRequest) -> Result<Prepared, NetError> {
        let shared = &self.inner.shared;
        let to_order = request.ip.is_some() || request.mac.is_some();
        let ready = {
            let mut pool = lock(&shared.pool);
            pool.demand.count(Instant::now());
            if to_order {
                None
            } else {
                pool.ready.pop_front()
            }
        };
        if let Some(prepared) = ready {
            self.inner.worker.send(Job::Refill);
            return Ok(prepared);
        }
        if !to_order {
            return self.inner.worker.call(Job::Next);
        }
        let ip = match request.ip {
            None => shared.take_address()?,
            Some(ip) if lock(&shared.state).addresses.take(ip) => ip,
            Some(ip) => {
                return Err(NetError::AddressRefused(
                    if shared.bridge.address.contains(&ip) {
                        "Address already in use".to_owned()
                    } else {
                        format!("no configured subnet contains IP address {ip}")
                    },
                ));
            }
        };
        self.inner
            .worker
            .call(|reply| Job::Bridged(ip, request.mac, reply))
            .inspect_err(|_| shared.release_address(ip))
    }

    /// An unused namespace goes back to the pool, one with a wish of its own goes.
    fn give_back(&self, request: &AttachRequest, prepared: Prepared) {
        if request.ip.is_none() && request.mac.is_none() {
            lock(&self.inner.shared.pool).ready.push_front(prepared);
        } else {
            self.let_go(prepared.host_interface, prepared.ip, prepared.netns);
        }
    }

    /// Closes a namespace; its address is free once its veth is gone.
    fn let_go(&self, host_interface: String, ip: Ipv4Addr, netns: OwnedFd) {
        lock(&self.inner.shared.state)
            .leaving
            .insert(host_interface, (ip, Instant::now()));
        self.inner.worker.send(Job::Close(netns));
    }

    fn record(
        &self,
        request: &AttachRequest,
        prepared: &Prepared,
        reserved: Vec<Reserved>,
    ) -> Result<(AttachmentRecord, Vec<(Reservation, SocketAddr)>), NetError> {
        let bridge = &self.inner.shared.bridge;
        let mut random = [0; 64];
        getrandom::fill(&mut random)
            .map_err(|error| NetError::kernel("get random bytes", error))?;
        let (sandbox, endpoint) = random.split_at(32);
        let id = |half: &[u8]| <[u8; 32]>::try_from(half).expect("half of 64 bytes");
        let record = AttachmentRecord {
            container: request.container.clone(),
            sandbox: SandboxId::from_bytes(&id(sandbox)),
            endpoint: EndpointId::from_bytes(&id(endpoint)),
            ipv4: prepared.ip,
            prefix_length: bridge.address.prefix_len(),
            gateway: bridge.address.addr(),
            ipv6: bridge.ipv6(prepared.ip),
            mac: prepared.mac,
            host_interface: prepared.host_interface.clone(),
            ports: reserved.iter().map(|one| one.mapping.clone()).collect(),
        };
        let sockets = reserved
            .into_iter()
            .map(|one| {
                let port = one.mapping.container.port;
                (one.socket, SocketAddr::new(IpAddr::V4(prepared.ip), port))
            })
            .collect();
        Ok((record, sockets))
    }

    /// Takes a container off: its ports are free when this returns, its namespace, veth and address soon after.
    pub fn detach(&self, container: &ContainerId) -> Result<(), NetError> {
        let shared = &self.inner.shared;
        let live = lock(&shared.state)
            .live
            .remove(container)
            .ok_or_else(|| NetError::NotAttached(container.clone()))?;
        self.inner.relay.remove(container);
        self.inner.name_servers.remove(container);
        let unpublished = shared.unpublish(&elements(&live.record));
        {
            let mut state = lock(&shared.state);
            for mapping in &live.record.ports {
                state.ports.release(mapping);
            }
        }
        self.let_go(live.record.host_interface, live.record.ipv4, live.netns);
        unpublished
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

    /// Another descriptor of an attached container's namespace, for `--network container:X`.
    pub fn netns(&self, container: &ContainerId) -> Result<OwnedFd, NetError> {
        lock(&self.inner.shared.state)
            .live
            .get(container)
            .ok_or_else(|| NetError::NotAttached(container.clone()))?
            .netns
            .try_clone()
            .map_err(|source| NetError::kernel("duplicate a network namespace", source))
    }

    /// Whom containers find by name; changes count at once.
    #[must_use]
    pub fn names(&self) -> &NameBoard {
        &self.inner.shared.names
    }

    /// Serves names to an attached container at [`dns::NAME_SERVER`], as the board tells. The duplicates of its sockets
    /// are for who keeps [`Attachment::reserving`]: the next engine finds them there in `restore`. A container that was
    /// restored without them is served anew.
    pub fn serve_names(&self, container: &ContainerId) -> Result<[OwnedFd; 2], NetError> {
        let netns = self.netns(container)?;
        let sockets = dns::Sockets::open_in(&netns)?;
        let kept = sockets
            .duplicate()
            .map_err(|source| NetError::kernel("duplicate a name server's socket", source))?;
        self.inner.name_servers.add(container, netns, sockets)?;
        Ok(kept)
    }

    /// What is remembered of an attached container.
    #[must_use]
    pub fn attachment(&self, container: &ContainerId) -> Option<AttachmentRecord> {
        lock(&self.inner.shared.state)
            .live
            .get(container)
            .map(|live| live.record.clone())
    }

    /// The default bridge, as inspect shows it.
    #[must_use]
    pub fn bridge(&self) -> BridgeFacts {
        let bridge = &self.inner.shared.bridge;
        BridgeFacts {
            name: bridge.name.clone(),
            subnet: bridge.address.trunc(),
            gateway: bridge.address.addr(),
            subnet_v6: bridge.address_v6.map(|net| net.trunc()),
            mtu: bridge.mtu,
        }
    }

    /// How many namespaces on the bridge are ready now.
    #[must_use]
    pub fn ready(&self) -> usize {
        lock(&self.inner.shared.pool).ready.len()
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
            results.push(firewall.leave_others(&shared.bridge.name));
            let table = firewall.ruleset.table.clone();
            results.push(firewall.tables.delete_table(&table));
        }
        results.push(bridge::remove(&lock(&shared.links), &shared.bridge.name));
        results.into_iter().collect()
    }

    /// Waits a while for the veths of closed namespaces to go, then removes those that did not; spares `kept`.
    fn remove_veths(&self, kept: &HashSet<String>) -> Result<(), NetError> {
        let prefix = &self.inner.shared.bridge.veth_prefix;
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

/// The default bridge as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeFacts {
    /// Its name, `hoist0`.
    pub name: String,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// Its own address in the subnet: the containers' gateway.
    pub gateway: Ipv4Addr,
    /// Its IPv6 subnet, where it has one.
    pub subnet_v6: Option<Ipv6Net>,
    /// Link MTU in bytes.
    pub mtu: u32,
}
