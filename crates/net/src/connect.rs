//! Containers that are attached already: more networks, fewer, and the ports that follow.

use std::os::fd::OwnedFd;

use hoist_model::container::PortRequest;
use hoist_model::network::PlaceRequest;
use hoist_model::{ContainerId, NetworkId, SandboxId};

use crate::attach::{Placed, duplicate, random_ids, warn};
use crate::attachment::{AttachRequest, AttachmentRecord, PlaceRecord};
use crate::dns;
use crate::error::NetError;
use crate::networks::Networks;
use crate::shared::{Live, elements, lock};
use crate::worker::unpoison;

/// The network namespace of a process.
pub fn netns_of(pid: i32) -> Result<OwnedFd, NetError> {
    hoist_sys::netns::of_process(pid.cast_unsigned()).map_err(|source| {
        NetError::kernel(
            format!("open the network namespace of process {pid}"),
            source,
        )
    })
}

impl Networks {
    /// The driver of a network: `bridge` of one that is not made.
    #[must_use]
    pub fn driver(&self, id: &NetworkId) -> &'static str {
        let mut state = lock(&self.shared().state);
        state
            .made(id)
            .map_or("bridge", |made| made.segment.kind.driver())
    }

    /// Takes note of a running container that is on no network, so that it can be put on one.
    pub fn adopt(&self, request: &AttachRequest, netns: OwnedFd) -> Result<(), NetError> {
        let record = AttachmentRecord {
            container: request.container.clone(),
            sandbox: SandboxId::from_bytes(&random_ids()?),
            places: Vec::new(),
            ports: Vec::new(),
            open: Vec::new(),
        };
        let live = Live {
            record,
            wishes: Vec::new(),
            servers: request.servers.clone(),
            ndots_set: request.ndots_set,
            netns,
        };
        let mut state = lock(&self.shared().state);
        state.live.entry(request.container.clone()).or_insert(live);
        Ok(())
    }

    /// Puts a running container on one more network; answers all its places. Ports that had no way to be published are
    /// published now, and where the new network is the way out from now on, ports lead there.
    pub fn connect(
        &self,
        container: &ContainerId,
        wish: &PlaceRequest,
        ports: &[PortRequest],
    ) -> Result<AttachmentRecord, NetError> {
        let _joining = self.joins_default(std::slice::from_ref(wish));
        let (netns, before, others) = self.of(container)?;
        if let Some(place) = before
            .places
            .iter()
            .find(|place| place.network == wish.network)
        {
            return Err(NetError::AlreadyConnected {
                container: container.clone(),
                network: place.name.clone(),
            });
        }
        let place = self.plug(&netns, wish, &others)?;
        let mut after = before.clone();
        after.places.push(place.clone());
        let routed = self.route(&netns, &after).and_then(|()| {
            if after.ports.is_empty() {
                self.reserve(&mut after, ports)
            } else {
                Ok(Vec::new())
            }
        });
        let sockets = match routed {
            Ok(sockets) => sockets,
            Err(error) => {
                warn(self.leave(&netns, &place));
                warn(self.route(&netns, &before));
                return Err(error);
            }
        };
        self.settle(&before, after.clone(), |live| {
            live.wishes.push(wish.clone())
        })?;
        self.relay().add(container, sockets)?;
        let first = before.places.iter().all(|other| other.network.is_none());
        if first && wish.network.is_some() {
            self.serve_names(container)?;
        }
        Ok(after)
    }

    /// Opens a container's name server (see [`crate::NAME_SERVER`]): the ports in its namespace and the way to them. Answers
    /// duplicates of its sockets, for a process that outlives the daemon, which hands them to `restore` with those that
    /// reserve ports.
    pub fn serve_names(&self, container: &ContainerId) -> Result<[OwnedFd; 2], NetError> {
        let sockets = dns::Sockets::open_in(self.netns(container)?)?;
        self.serve_names_by(container, sockets)
    }

    /// The same by sockets that are open there.
    pub(crate) fn serve_names_by(
        &self,
        container: &ContainerId,
        sockets: dns::Sockets,
    ) -> Result<[OwnedFd; 2], NetError> {
        let netns = self.netns(container)?;
        let kept = sockets
            .duplicate()
            .map_err(|source| NetError::kernel("duplicate a name server's socket", source))?;
        self.name_servers().add(container, netns, sockets)?;
        Ok(kept)
    }

    /// Takes a running container from a network; answers the places that are left. Ports lead to the next way out, or
    /// nowhere if there is none; they stay the container's, whose monitor holds them, too.
    pub fn disconnect(
        &self,
        container: &ContainerId,
        network: Option<&NetworkId>,
    ) -> Result<AttachmentRecord, NetError> {
        let _joining = unpoison(self.shared().joining.read());
        let (netns, before, _) = self.of(container)?;
        let Some(at) = before
            .places
            .iter()
            .position(|place| place.network.as_ref() == network)
        else {
            return Err(NetError::NotAttached(container.clone()));
        };
        let mut after = before.clone();
        let place = after.places.remove(at);
        self.leave(&netns, &place)?;
        warn(self.route(&netns, &after));
        let settled = self.settle(&before, after.clone(), |live| {
            live.wishes.remove(at);
        });
        settled.map(|()| after)
    }

    /// Takes a place's interface out of its namespace; its addresses are free once its veth is gone, or when somebody asks
    /// for them.
    fn leave(&self, netns: &OwnedFd, place: &PlaceRecord) -> Result<(), NetError> {
        let shared = self.shared();
        let places = std::slice::from_ref(place);
        if place.host_interface.is_empty() {
            self.unplug(netns, place)?;
            shared.release_places(places);
            return Ok(());
        }
        // Before it goes: who sees it go knows that it was to.
        shared.let_leave(places);
        self.unplug(netns, place).inspect_err(|_| {
            lock(&shared.state).leaving.remove(&place.host_interface);
        })
    }

    /// Takes a place's interface out of its namespace.
    pub(crate) fn unplug(&self, netns: &OwnedFd, place: &PlaceRecord) -> Result<(), NetError> {
        let copy = duplicate(netns)?;
        let interface = place.interface.clone();
        self.worker()
            .build(move |builder| builder.unplug(&copy, &interface))
    }

    /// An attached container: its namespace, its places, and the same with their wishes.
    fn of(
        &self,
        container: &ContainerId,
    ) -> Result<(OwnedFd, AttachmentRecord, Vec<Placed>), NetError> {
        let state = lock(&self.shared().state);
        let live = state
            .live
            .get(container)
            .ok_or_else(|| NetError::NotAttached(container.clone()))?;
        let netns = duplicate(&live.netns)?;
        let places = live.record.places.iter().zip(&live.wishes);
        let places = places.map(|(record, wish)| Placed {
            record: record.clone(),
            wish: wish.clone(),
        });
        Ok((netns, live.record.clone(), places.collect()))
    }

    /// Makes it so that a container has other places than before: names, ports, relay.
    fn settle(
        &self,
        before: &AttachmentRecord,
        after: AttachmentRecord,
        change: impl FnOnce(&mut Live),
    ) -> Result<(), NetError> {
        let shared = self.shared();
        let container = &after.container;
        let target = after
            .published_address(false)
            .or(after.published_address(true));
        self.relay().lead_to(container, target);
        let (old, new) = (elements(before), elements(&after));
        {
            let mut state = lock(&shared.state);
            let live = state
                .live
                .get_mut(container)
                .ok_or_else(|| NetError::NotAttached(container.clone()))?;
            live.record = after.clone();
            change(live);
            shared.change_names(Some(before), Some(live));
        }
        let mut firewall = lock(&shared.tables);
        if old == new || !firewall.written {
            return Ok(());
        }
        shared.change(&mut firewall, |transaction, table| {
            transaction.remove(table, &old);
            transaction.add(table, &new);
        })
    }

    /// Duplicates of the sockets that hold an attached container's ports and serve it names: what
    /// [`crate::Attachment::reserving`] has, as it is now.
    #[must_use]
    pub fn reserving(&self, container: &ContainerId) -> Vec<OwnedFd> {
        let mut reserving = self.relay().reserving(container);
        reserving.extend(self.name_servers().sockets(container).into_iter().flatten());
        reserving
    }

    /// Another descriptor of an attached container's namespace, for `--network container:X`.
    pub fn netns(&self, container: &ContainerId) -> Result<OwnedFd, NetError> {
        let state = lock(&self.shared().state);
        let live = state.live.get(container);
        let live = live.ok_or_else(|| NetError::NotAttached(container.clone()))?;
        duplicate(&live.netns)
    }
}
