//! Giving containers their places on networks, and taking them back.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hoist_model::container::{PortKey, PortRequest};
use hoist_model::network::PlaceRequest;
use hoist_model::{ContainerId, EndpointId, SandboxId};
use hoist_sys::netlink::Batch;

use crate::attachment::PlaceRecord;
use crate::attachment::{Address, AttachRequest, Attachment, AttachmentRecord, MacAddress};
use crate::build::Prepared;
use crate::error::NetError;
use crate::networks::Networks;
use crate::ports::{Families, Reservation, Reserved};
use crate::rtnl;
use crate::shared::{Live, elements, lock};
use crate::worker::Job;

/// A place that is made, and by which wish.
pub(crate) struct Placed {
    pub(crate) record: PlaceRecord,
    pub(crate) wish: PlaceRequest,
}

impl Networks {
    /// Gives a container a namespace with its places on networks and publishes its ports. From the pool (the default bridge
    /// alone, no wishes) this takes microseconds; an empty pool and each place made to order cost 1 to 2 ms.
    pub fn attach(&self, request: &AttachRequest) -> Result<Attachment, NetError> {
        let shared = self.shared();
        if !self.forwarding().swap(true, Ordering::Relaxed)
            && let Err(error) = shared.ensure_forwarding(shared.bridge.address_v6.is_some())
        {
            self.forwarding().store(false, Ordering::Relaxed);
            return Err(error);
        }
        if lock(&shared.state).live.contains_key(&request.container) {
            return Err(NetError::AlreadyAttached(request.container.clone()));
        }
        let (netns, places) = self.places(request)?;
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
        let published = self
            .relay()
            .add(&request.container, sockets)
            .and_then(|()| shared.publish(&elements(&record)))
            .and_then(|()| {
                if record.places.iter().any(|place| place.network.is_some()) {
                    reserving.extend(self.serve_names(&request.container)?);
                }
                Ok(())
            });
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

    /// A namespace with all places that are asked for: of the first from the pool, if that has it.
    fn places(&self, request: &AttachRequest) -> Result<(OwnedFd, Vec<Placed>), NetError> {
        let mut places = Vec::with_capacity(request.places.len());
        let mut wishes = request.places.iter();
        let pooled = is_pooled(&request.places);
        let netns = if pooled {
            let wish = wishes.next().cloned().unwrap_or_default();
            let (netns, record) = self.pooled(&wish)?;
            places.push(Placed { record, wish });
            netns
        } else {
            self.isolated()?
        };
        for wish in wishes {
            match self.plug(&netns, wish, &places) {
                Ok(record) => places.push(Placed {
                    record,
                    wish: wish.clone(),
                }),
                Err(error) => {
                    let records: Vec<_> = places.into_iter().map(|one| one.record).collect();
                    self.let_go(&records, netns);
                    return Err(error);
                }
            }
        }
        if places.len() > 1 || !pooled {
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
        Ok((netns, places))
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
        Ok((prepared.netns, record))
    }

    /// A place on the default bridge, whose interfaces are still to be named.
    pub(crate) fn bridge_place(
        &self,
        ip: Ipv4Addr,
        mac: MacAddress,
        wish: &PlaceRequest,
    ) -> Result<PlaceRecord, NetError> {
        let bridge = &self.shared().bridge;
        Ok(PlaceRecord {
            network: None,
            name: BRIDGE.to_owned(),
            endpoint: EndpointId::from_bytes(&random_ids()?),
            interface: String::new(),
            host_interface: String::new(),
            mac,
            ipv4: Some(Address {
                address: ip,
                prefix_length: bridge.address.prefix_len(),
                gateway: Some(bridge.address.addr()),
            }),
            ipv6: bridge.ipv6(ip),
            gateway_priority: wish.gateway_priority,
            leads_out: true,
            routed_v4: false,
            routed_v6: false,
        })
    }

    pub(crate) fn bridge_address(&self, wish: &PlaceRequest) -> Result<Ipv4Addr, NetError> {
        let shared = self.shared();
        match wish.ipv4 {
            None => shared.take_address(),
            Some(ip) if lock(&shared.state).addresses.take(ip) => Ok(ip),
            Some(ip) if shared.bridge.address.contains(&ip) => Err(NetError::AddressRefused(
                "Address already in use".to_owned(),
            )),
            Some(ip) => Err(NetError::AddressRefused(format!(
                "no configured subnet contains IP address {ip}"
            ))),
        }
    }

    /// Sets the default routes of a namespace as its places say.
    pub(crate) fn route(&self, netns: &OwnedFd, record: &AttachmentRecord) -> Result<(), NetError> {
        let gateways: Vec<_> = [false, true]
            .into_iter()
            .filter_map(|v6| record.gateway(v6))
            .map(|(place, gateway)| (place.interface.clone(), gateway))
            .collect();
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
        let binding = way_out
            .and_then(|place| place.network.clone())
            .and_then(|id| lock(&shared.state).made(&id).ok()?.segment.host_binding)
            .or(shared.settings.default_host_ip);
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
            ([wish], [place]) if is_pooled(wishes) && !is_to_order(wish) => {
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

    /// Closes a namespace and gives its addresses back; those of the default bridge once their veth is gone.
    fn let_go(&self, places: &[PlaceRecord], netns: OwnedFd) {
        let shared = self.shared();
        {
            let mut state = lock(&shared.state);
            for place in places.iter().filter(|one| !one.host_interface.is_empty()) {
                let own = place.ipv4.filter(|_| place.network.is_none());
                let leaving = (own.map(|own| own.address), Instant::now());
                state.leaving.insert(place.host_interface.clone(), leaving);
            }
        }
        let of_users: Vec<_> = places
            .iter()
            .filter(|place| place.network.is_some())
            .collect();
        if !of_users.is_empty() {
            // An address may be asked for again at once: who had it must not answer any more.
            let mut batch = Batch::new();
            for place in &of_users {
                if place.host_interface.is_empty() {
                    warn(self.unplug(&netns, place));
                } else {
                    rtnl::set_down(&mut batch, &place.host_interface);
                }
            }
            if !batch.is_empty() {
                warn(lock(&shared.links).apply_except(&mut batch, &[libc::ENODEV]));
            }
            let of_users: Vec<_> = of_users.into_iter().cloned().collect();
            shared.release_places(&of_users);
        }
        self.worker().send(Job::Close(netns));
    }

    /// Takes a container off: its ports are free when this returns, its namespace, veths and addresses soon after.
    pub fn detach(&self, container: &ContainerId) -> Result<(), NetError> {
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

/// Name of the default bridge's network.
const BRIDGE: &str = "bridge";

/// Whether the first place is one that the pool's namespaces have.
fn is_pooled(places: &[PlaceRequest]) -> bool {
    places.first().is_some_and(|place| {
        place.network.is_none() && place.interface.is_none() && place.sysctls.is_empty()
    })
}

/// Whether a place on the default bridge is not one that the pool has.
fn is_to_order(wish: &PlaceRequest) -> bool {
    wish.ipv4.is_some() || wish.mac.is_some()
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
