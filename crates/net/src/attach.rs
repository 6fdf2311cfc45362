//! Giving containers their places on networks, and taking them back.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::RwLockReadGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hoist_model::container::{PortKey, PortRequest};
use hoist_model::network::PlaceRequest;
use hoist_model::{ContainerId, EndpointId, SandboxId};
use ipnet::IpNet;

use crate::attachment::PlaceRecord;
use crate::attachment::{AttachRequest, Attachment, AttachmentRecord, MacAddress};
use crate::build::Prepared;
use crate::dns::Sockets;
use crate::error::NetError;
use crate::networks::Networks;
use crate::plug::{free_name, link_local_nets};
use crate::ports::{Families, Reservation, Reserved};
use crate::shared::{Live, elements, lock};
use crate::spare::Spare;
use crate::worker::{Job, unpoison};

/// A place that is made, and by which wish.
pub(crate) struct Placed {
    pub(crate) record: PlaceRecord,
    pub(crate) wish: PlaceRequest,
}

/// A namespace that is made, with its places.
struct Made {
    netns: OwnedFd,
    places: Vec<Placed>,
    /// The name server in it, if it has one already.
    names: Option<Sockets>,
}

fn placed(record: PlaceRecord, wish: &PlaceRequest) -> Placed {
    Placed {
        record,
        wish: wish.clone(),
    }
}

impl Networks {
    /// Gives a container a namespace with its places on networks and publishes its ports. From the pool
    /// this takes microseconds on the default bridge (without wishes), and 0.2 ms on a user's network; an empty pool and each
    /// further place cost 1 to 2 ms.
    pub fn attach(&self, request: &AttachRequest) -> Result<Attachment, NetError> {
        let shared = self.shared();
        if !self.forwarding().swap(true, Ordering::Relaxed)
            && let Err(error) = shared.ensure_forwarding(shared.has_ipv6())
        {
            self.forwarding().store(false, Ordering::Relaxed);
            return Err(error);
        }
        if lock(&shared.state).live.contains_key(&request.container) {
            return Err(NetError::AlreadyAttached(request.container.clone()));
        }
        let _joining = self.joins_default(&request.places);
        let begun = Instant::now();
        let Made {
            netns,
            places,
            names,
        } = self.places(request)?;
        let ids = random_ids()?;
        let (records, wishes): (Vec<_>, Vec<_>) = places
            .into_iter()
            .map(|placed| (placed.record, placed.wish))
            .unzip();
        let mut record = AttachmentRecord {
            container: request.container.clone(),
            sandbox: SandboxId::from_bytes(&ids),
            places: records,
            ports: Vec::new(),
            open: Vec::new(),
        };
        let placed = begun.elapsed();
        let sockets = match self.reserve(&mut record, &request.ports) {
            Ok(sockets) => sockets,
            Err(error) => {
                self.put_back(&request.places, netns, &record.places);
                return Err(error);
            }
        };
        // One that cannot be duplicated is only not kept.
        let mut reserving: Vec<OwnedFd> = sockets
            .iter()
            .filter_map(|(socket, _)| socket.duplicate().ok()?)
            .collect();
        let reserved = begun.elapsed();
        let own = match duplicate(&netns) {
            Ok(own) => own,
            Err(error) => {
                self.release_ports(&record);
                self.let_go(&record.places, netns);
                return Err(error);
            }
        };
        let live = Live {
            record: record.clone(),
            wishes,
            servers: request.servers.clone(),
            ndots_set: request.ndots_set,
            netns: own,
        };
        shared.change_names(None, Some(&live));
        lock(&shared.state)
            .live
            .insert(request.container.clone(), live);
        let recorded = begun.elapsed();
        let mut publishing = Duration::ZERO;
        let published = self
            .relay()
            .add(&request.container, sockets)
            .and_then(|()| shared.publish(&elements(&record)))
            .and_then(|()| {
                publishing = (reserved - placed) + (begun.elapsed() - recorded);
                if record.places.iter().any(|place| place.network.is_some()) {
                    reserving.extend(match names {
                        Some(sockets) => self.serve_names_by(&request.container, sockets)?,
                        None => self.serve_names(&request.container)?,
                    });
                }
                Ok(())
            });
        if let Err(error) = published {
            // The attachment is whole but for the firewall: take it down the ordinary way.
            let _ = self.take_off(&request.container);
            return Err(error);
        }
        shared.timings.connect.add(begun.elapsed() - publishing);
        if !request.ports.is_empty() {
            shared.timings.publish.add(publishing);
        }
        Ok(Attachment {
            netns,
            record,
            reserving,
        })
    }

    /// Held by who comes to the default bridge, if these are places on it.
    pub(crate) fn joins_default(&self, places: &[PlaceRequest]) -> Option<RwLockReadGuard<'_, ()>> {
        let mut places = places.iter();
        let joins = places.any(|place| place.network.is_none());
        joins.then(|| unpoison(self.shared().joining.read()))
    }

    /// A namespace with all places that are asked for: the first from a pool, if it is on a bridge.
    fn places(&self, request: &AttachRequest) -> Result<Made, NetError> {
        let mut places = Vec::with_capacity(request.places.len());
        let mut wishes = request.places.iter();
        let mut names = None;
        let (netns, is_routed) = match wishes.next() {
            Some(wish) if is_pooled(&request.places) && wish.network.is_none() => {
                let (netns, record) = self.pooled(wish)?;
                places.push(placed(record, wish));
                (netns, true)
            }
            Some(wish) if is_pooled(&request.places) && self.is_on_bridge(wish) => {
                let (spare, record) = self.spared(wish)?;
                places.push(placed(record, wish));
                names = Some(spare.names);
                (spare.netns, true)
            }
            other => {
                let netns = self.isolated()?;
                if let Some(wish) = other {
                    self.add_place(&netns, wish, &mut places)?;
                }
                (netns, false)
            }
        };
        for wish in wishes {
            self.add_place(&netns, wish, &mut places)?;
        }
        if places.len() > 1 || !is_routed {
            let record = AttachmentRecord {
                container: request.container.clone(),
                sandbox: SandboxId::from_bytes(&[0; 32]),
                places: places.iter().map(|one| one.record.clone()).collect(),
                ports: Vec::new(),
                open: Vec::new(),
            };
            if let Err(error) = self.route(&netns, &record) {
                self.let_go(&record.places, netns);
                return Err(error);
            }
        }
        Ok(Made {
            netns,
            places,
            names,
        })
    }

    /// Gives a namespace one more place; if that cannot be, lets all of it go.
    fn add_place(
        &self,
        netns: &OwnedFd,
        wish: &PlaceRequest,
        places: &mut Vec<Placed>,
    ) -> Result<(), NetError> {
        match self.plug(netns, wish, places) {
            Ok(record) => places.push(placed(record, wish)),
            Err(error) => {
                let records: Vec<_> = places.drain(..).map(|one| one.record).collect();
                self.let_go(&records, duplicate(netns)?);
                return Err(error);
            }
        }
        Ok(())
    }

    fn is_on_bridge(&self, wish: &PlaceRequest) -> bool {
        let network = wish.network.as_ref();
        network.is_none_or(|id| self.driver(id) == "bridge")
    }

    /// A namespace that has its first place on a user's network with a bridge.
    fn spared(&self, wish: &PlaceRequest) -> Result<(Spare, PlaceRecord), NetError> {
        let shared = self.shared();
        let id = wish.network.as_ref();
        let (mut record, mut plug) = self.user_plug(id.ok_or(NetError::Stopped)?, wish)?;
        plug.interface = free_name(&plug.interface, &[]);
        record.interface.clone_from(&plug.interface);
        let ready = {
            let mut pool = lock(&shared.pool);
            pool.spare_demand.count(Instant::now());
            pool.busy.clone_from(&wish.network);
            pool.take_spare(plug.bridge())
        };
        let spare = match ready {
            Some(spare) => Ok(spare),
            None => self.worker().call(Job::Spare),
        };
        let mut spare =
            spare.inspect_err(|_| shared.release_places(std::slice::from_ref(&record)))?;
        record.host_interface.clone_from(&spare.host_interface);
        let routes: Vec<_> = [false, true]
            .into_iter()
            .filter_map(|v6| record.way(v6))
            .map(|(_, gateway)| gateway)
            .collect();
        let joined = spare.join(&plug, &routes).and_then(|()| {
            let take = || spare.take_port(&lock(&shared.links), &plug);
            self.on_bridge(&record, take)
        });
        // Not before: the worker would be woken, and hold what this waits for.
        self.worker().send(Job::Refill);
        match joined {
            Ok(()) => Ok((spare, record)),
            Err(error) => {
                self.let_go(&[record], spare.netns);
                Err(error)
            }
        }
    }

    /// A namespace with `eth0` on the default bridge.
    fn pooled(&self, wish: &PlaceRequest) -> Result<(OwnedFd, PlaceRecord), NetError> {
        let shared = self.shared();
        let to_order = is_to_order(wish);
        let ready = {
            let mut pool = lock(&shared.pool);
            pool.demand.count(Instant::now());
            if to_order {
                None
            } else {
                pool.ready.pop_front()
            }
        };
        let prepared = if let Some(prepared) = ready {
            self.worker().send(Job::Refill);
            prepared
        } else if to_order {
            let ip = self.bridge_address(wish)?;
            let mac = wish.mac.map(MacAddress);
            self.worker()
                .call(|reply| Job::Bridged(ip, mac, reply))
                .inspect_err(|_| shared.release_address(ip))?
        } else {
            self.worker().call(Job::Next)?
        };
        let mut record = self.bridge_place(prepared.ip, prepared.mac, wish)?;
        "eth0".clone_into(&mut record.interface);
        record.host_interface = prepared.host_interface;
        let more: Vec<IpNet> = link_local_nets(wish).collect();
        if !more.is_empty() {
            let added = duplicate(&prepared.netns).and_then(|copy| {
                self.worker()
                    .build(move |builder| builder.add_addresses(&copy, "eth0", &more))
            });
            if let Err(error) = added {
                self.let_go(&[record], prepared.netns);
                return Err(error);
            }
        }
        Ok((prepared.netns, record))
    }

    /// A place on the default bridge, whose interfaces are still to be named.
    pub(crate) fn bridge_place(
        &self,
        ip: Ipv4Addr,
        mac: MacAddress,
        wish: &PlaceRequest,
    ) -> Result<PlaceRecord, NetError> {
        let bridge = self.shared().bridge()?;
        Ok(PlaceRecord {
            endpoint: EndpointId::from_bytes(&random_ids()?),
            gateway_priority: wish.gateway_priority,
            ..bridge.place(ip, mac)
        })
    }

    pub(crate) fn bridge_address(&self, wish: &PlaceRequest) -> Result<Ipv4Addr, NetError> {
        let shared = self.shared();
        let bridge = shared.bridge()?;
        match wish.ipv4 {
            None => shared.take_address(),
            Some(ip) if lock(&shared.state).take(ip) => Ok(ip),
            Some(ip) if bridge.address.contains(&ip) => Err(NetError::AddressRefused(
                "Address already in use".to_owned(),
            )),
            Some(ip) => Err(NetError::AddressRefused(format!(
                "no configured subnet contains IP address {ip}"
            ))),
        }
    }

    /// Sets the default routes of a namespace as its places say.
    pub(crate) fn route(&self, netns: &OwnedFd, record: &AttachmentRecord) -> Result<(), NetError> {
        let gateways = record.gateways();
        if gateways.is_empty() {
            return Ok(());
        }
        let copy = duplicate(netns)?;
        self.worker()
            .build(move |builder| builder.route(&copy, &gateways))
    }

    /// Reserves the host's ports for what a container publishes, if a network of it leads out.
    pub(crate) fn reserve(
        &self,
        record: &mut AttachmentRecord,
        requests: &[PortRequest],
    ) -> Result<Vec<(Reservation, SocketAddr)>, NetError> {
        let shared = self.shared();
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let (v4, v6) = (
            record.published_address(false),
            record.published_address(true),
        );
        if [false, true]
            .into_iter()
            .any(|v6| record.way_out(v6).is_some_and(|place| place.is_routed(v6)))
        {
            let mut open: Vec<PortKey> = requests.iter().map(|one| one.container).collect();
            open.dedup();
            record.open = open;
        }
        // What the kernel does not translate, and the relay serves, goes to the IPv4 address.
        let Some(target) = v4.or(v6) else {
            return Ok(Vec::new());
        };
        let families = Families {
            v4: v4.is_some(),
            v6: true,
        };
        let way_out = record.way_out(v4.is_none());
        let binding = match way_out.and_then(|place| place.network.clone()) {
            Some(id) => {
                let mut state = lock(&shared.state);
                state
                    .made(&id)
                    .ok()
                    .and_then(|made| made.segment.host_binding)
            }
            None => lock(&shared.changeable).default_host_ip,
        };
        let reserved = lock(&shared.state)
            .ports
            .reserve(requests, binding, families)
            .map_err(|cause| match way_out {
                Some(place) => NetError::Unpublished {
                    endpoint: place.endpoint.clone(),
                    cause: Box::new(cause),
                },
                None => cause,
            })?;
        record.ports = reserved.iter().map(|one| one.mapping.clone()).collect();
        let relayed = |one: Reserved| {
            let port = one.mapping.container.port;
            (one.socket, SocketAddr::new(target, port))
        };
        Ok(reserved.into_iter().map(relayed).collect())
    }

    fn release_ports(&self, record: &AttachmentRecord) {
        let mut state = lock(&self.shared().state);
        record
            .ports
            .iter()
            .for_each(|port| state.ports.release(port));
    }

    /// An unused namespace goes back to the pool if it could have come from there, any other goes.
    fn put_back(&self, wishes: &[PlaceRequest], netns: OwnedFd, places: &[PlaceRecord]) {
        match (wishes, places) {
            ([wish], [place])
                if is_pooled(wishes) && place.network.is_none() && !is_to_order(wish) =>
            {
                if let Some(own) = place.ipv4 {
                    lock(&self.shared().pool).ready.push_front(Prepared {
                        netns,
                        ip: own.address,
                        mac: place.mac,
                        host_interface: place.host_interface.clone(),
                    });
                }
            }
            _ => self.let_go(places, netns),
        }
    }

    /// Closes a namespace; its addresses are free once their veths are gone, or when somebody asks for them.
    fn let_go(&self, places: &[PlaceRecord], netns: OwnedFd) {
        let shared = self.shared();
        shared.let_leave(places);
        for place in places.iter().filter(|one| one.host_interface.is_empty()) {
            // A macvlan or ipvlan: an address may be asked for again at once, and who had it must not answer any more.
            warn(self.unplug(&netns, place));
            shared.release_places(std::slice::from_ref(place));
        }
        self.worker().send(Job::Close(netns));
    }

    /// Takes a container off: its ports are free when this returns, its namespace, veths and addresses soon after.
    pub fn detach(&self, container: &ContainerId) -> Result<(), NetError> {
        let _joining = unpoison(self.shared().joining.read());
        self.take_off(container)
    }

    /// The same for who is counted as joining already.
    fn take_off(&self, container: &ContainerId) -> Result<(), NetError> {
        let shared = self.shared();
        let live = lock(&shared.state)
            .live
            .remove(container)
            .ok_or_else(|| NetError::NotAttached(container.clone()))?;
        self.relay().remove(container);
        self.name_servers().remove(container);
        shared.change_names(Some(&live.record), None);
        let unpublished = shared.unpublish(&elements(&live.record));
        self.release_ports(&live.record);
        self.let_go(&live.record.places, live.netns);
        unpublished
    }
}

/// Whether the first place's interface is as those in the pools' namespaces are.
fn is_pooled(places: &[PlaceRequest]) -> bool {
    places
        .first()
        .is_some_and(|place| place.interface.is_none() && place.sysctls.is_empty())
}

/// Whether a place on the default bridge is not one that the pool has.
fn is_to_order(wish: &PlaceRequest) -> bool {
    wish.ipv4.is_some() || wish.mac.is_some() || !wish.link_local.is_empty()
}

pub(crate) fn random_ids() -> Result<[u8; 32], NetError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| NetError::kernel("get random bytes", error))?;
    Ok(random)
}

/// Another descriptor of a network namespace.
pub(crate) fn duplicate(netns: &OwnedFd) -> Result<OwnedFd, NetError> {
    netns
        .try_clone()
        .map_err(|source| NetError::kernel("duplicate a network namespace", source))
}

pub(crate) fn warn(result: Result<(), NetError>) {
    if let Err(error) = result {
        tracing::warn!(error = %hoist_model::chain(&error), "on the way back from a network");
    }
}
