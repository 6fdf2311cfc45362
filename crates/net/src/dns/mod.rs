//! The name servers of containers on users' networks: 127.0.0.11 in each, all on the engine's event thread.
//!
//! ```text
//! start, connect ─ add ──► clients (lock) ◄── questions ── event thread ── answer (from the board's snapshot)
//! stop, disconnect remove ─┘                                   │
//!                                                  exchange ◄──┘ what is not ours: servers of host or container
//! ```
//!
//! Nothing is remembered between questions but what is on its way; all of it is bounded per container. What an earlier
//! engine left in the sockets, which monitors keep, is answered by the next, once it knows all containers.

mod answer;
mod attempt;
mod connection;
mod exchange;
mod host_servers;
mod sockets;
mod wire;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hoist_model::ContainerId;
use hoist_sys::netns;
use rustix::event::epoll::{self, EventFlags};

use crate::error::NetError;
use crate::event_thread::{EventThread, Kind, Shared, token};
use crate::names::NameBoard;
use crate::shared::lock;

use answer::{Answer, Chance, Servers};
use connection::Connections;
use exchange::{Asker, Exchanges, Order, Reply};
use host_servers::HostServers;

pub use sockets::NAME_SERVER;
pub(crate) use sockets::Sockets;

/// Questions taken from one container before others get their turn.
const TURN: usize = 64;

/// The handle.
pub(crate) struct NameServers {
    thread: Arc<EventThread>,
    /// Whether clients are listened to: not before all containers of an earlier engine are known.
    open: Mutex<bool>,
}

/// The served containers, as handle and thread see them.
#[derive(Default)]
pub(crate) struct Clients {
    next: u64,
    by_number: HashMap<u64, Arc<Client>>,
    numbers: HashMap<ContainerId, u64>,
    /// Those whose questions are to be forgotten.
    ended: Vec<u64>,
}

/// One served container.
#[derive(Debug)]
struct Client {
    number: u64,
    owner: ContainerId,
    netns: OwnedFd,
    sockets: Sockets,
}

impl Client {
    fn listen(&self, epoll: &OwnedFd) -> Result<(), NetError> {
        let add = |fd: &dyn std::os::fd::AsFd, kind| {
            epoll::add(epoll, fd.as_fd(), token(kind, self.number), EventFlags::IN)
                .map_err(|source| NetError::kernel("watch a name server", source))
        };
        add(&self.sockets.datagrams, Kind::Queries)?;
        add(&self.sockets.connections, Kind::Connections)
    }

    /// Closing would not do: somebody keeps duplicates.
    fn ignore(&self, epoll: &OwnedFd) {
        let _ = epoll::delete(epoll, &self.sockets.datagrams);
        let _ = epoll::delete(epoll, &self.sockets.connections);
    }
}

impl NameServers {
    pub(crate) fn new(thread: Arc<EventThread>) -> Self {
        Self {
            thread,
            open: Mutex::new(false),
        }
    }

    /// Serves a container by sockets in `netns`, its namespace, in place of those it was served by.
    pub(crate) fn add(
        &self,
        owner: &ContainerId,
        netns: OwnedFd,
        sockets: Sockets,
    ) -> Result<(), NetError> {
        let shared = self.thread.start()?;
        self.remove(owner);
        let open = lock(&self.open);
        let mut clients = lock(&shared.clients);
        let number = clients.next;
        clients.next += 1;
        let client = Arc::new(Client {
            number,
            owner: owner.clone(),
            netns,
            sockets,
        });
        if *open {
            client.listen(&shared.epoll)?;
        }
        clients.numbers.insert(owner.clone(), number);
        clients.by_number.insert(number, client);
        Ok(())
    }

    /// Begins to listen: the names of all containers are known.
    pub(crate) fn open(&self) -> Result<(), NetError> {
        let mut open = lock(&self.open);
        if !std::mem::replace(&mut *open, true)
            && let Some(shared) = self.thread.shared()
        {
            for client in lock(&shared.clients).by_number.values() {
                client.listen(&shared.epoll)?;
            }
        }
        Ok(())
    }

    /// Duplicates of the sockets that a container is served by.
    pub(crate) fn sockets(&self, owner: &ContainerId) -> Option<[OwnedFd; 2]> {
        let shared = self.thread.shared()?;
        let clients = lock(&shared.clients);
        let client = clients.by_number.get(clients.numbers.get(owner)?)?;
        client.sockets.duplicate().ok()
    }

    /// Serves a container no longer.
    pub(crate) fn remove(&self, owner: &ContainerId) {
        if let Some(shared) = self.thread.shared() {
            let mut clients = lock(&shared.clients);
            if let Some(number) = clients.numbers.remove(owner)
                && let Some(client) = clients.by_number.remove(&number)
            {
                client.ignore(&shared.epoll);
                clients.ended.push(number);
                shared.wake();
            }
        }
    }
}

/// Reads bytes as a question of a container that finds `web` on `lan`, and as the answer of a server to it.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn examine(bytes: &[u8]) {
    use answer::answer;
    use wire::{Transport, Verdict};

    let network = hoist_model::NetworkId::from_bytes(&[1; 32]);
    let owner = ContainerId::from_bytes(&[2; 32]);
    let mut table = crate::names::NetworkNames::default();
    table.network = "lan".to_owned();
    let addresses: Vec<std::net::IpAddr> = (0..100).map(|last| [10, 0, 1, last].into()).collect();
    table.add(&["web".to_owned()], &addresses);
    let view = crate::names::ResolverView {
        networks: vec![network.clone()],
        ..crate::names::ResolverView::default()
    };
    let mut names = crate::names::Names::default();
    names.networks.insert(network, Arc::new(table));
    names.containers.insert(owner.clone(), Arc::new(view));
    for transport in [Transport::Udp, Transport::Tcp] {
        match answer(bytes, transport, &names, &owner, &mut Chance::new(1)) {
            Answer::Silence => {}
            Answer::Reply(reply) => {
                assert!(reply.len() >= 12, "an answer has a header");
                assert_eq!(wire::id(&reply), wire::id(bytes));
            }
            Answer::Forward(asked, _) => {
                // What it is answered with is known by its question.
                let mut response = bytes.to_vec();
                response[2] |= 0x80;
                response[3] = 0;
                let question = wire::question(bytes, asked.end);
                let verdict = wire::judge(&response, wire::id(bytes), question);
                assert_eq!(verdict, Verdict::Answer);
                assert!(asked.failure().len() >= 12);
            }
        }
    }
    let _ = wire::judge(bytes, 0x1234, b"\x03web\0\0\x01\0\x01");
    let _ = wire::framed(bytes);
}

/// What the thread has of the name servers.
pub(crate) struct Responding {
    names: NameBoard,
    chance: Chance,
    host: HostServers,
    exchanges: Exchanges,
    connections: Connections,
}

impl Responding {
    /// Answers from `names`; others are asked from the calling thread's namespace, at the servers of `host_file`.
    pub(crate) fn new(names: NameBoard, host_file: PathBuf) -> Result<Self, NetError> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| NetError::kernel("get random bytes", error))?;
        let home = netns::current()
            .map_err(|source| NetError::kernel("open the host's network namespace", source))?;
        Ok(Self {
            names,
            chance: Chance::new(u64::from_ne_bytes(seed)),
            host: HostServers::new(host_file),
            exchanges: Exchanges::new(home),
            connections: Connections::default(),
        })
    }

    /// How long the thread may sleep.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        let due = self.exchanges.first_due();
        let due = due.map(|at| at.saturating_duration_since(now));
        let tick = (!self.connections.is_empty()).then_some(connection::TICK);
        due.into_iter().chain(tick).min()
    }

    pub(crate) fn event(
        &mut self,
        shared: &Shared,
        kind: Kind,
        number: u64,
        flags: EventFlags,
        scratch: &mut [u8],
    ) {
        let now = Instant::now();
        match kind {
            Kind::Queries | Kind::Connections => {
                let client = lock(&shared.clients).by_number.get(&number).cloned();
                match client {
                    Some(client) if kind == Kind::Queries => {
                        self.datagrams(shared, &client, now, scratch);
                    }
                    Some(client) => self.accept(shared, &client, now),
                    None => {}
                }
            }
            Kind::Connection => {
                self.connections.event(number, flags, now, scratch);
                self.questions(shared, number, now);
            }
            _ => {
                let reply = self.exchanges.event(&shared.epoll, number, now, scratch);
                if let Some(reply) = reply {
                    self.send(shared, reply, now);
                }
            }
        }
    }

    /// What is to be done between two waits.
    pub(crate) fn turn(&mut self, shared: &Shared, now: Instant) {
        while let Some(reply) = self.exchanges.due(&shared.epoll, now) {
            self.send(shared, reply, now);
        }
        self.connections.expire(now);
        let ended = std::mem::take(&mut lock(&shared.clients).ended);
        for client in ended {
            self.exchanges.end(client);
            self.connections.end(client);
        }
    }

    fn datagrams(
        &mut self,
        shared: &Shared,
        client: &Arc<Client>,
        now: Instant,
        scratch: &mut [u8],
    ) {
        for _ in 0..TURN {
            match client.sockets.datagrams.recv_from(scratch) {
                Ok((length, from)) => {
                    let asker = Asker::Datagram(from);
                    let reply = self.answer(shared, client, asker, &scratch[..length], now);
                    if let Some(Some(bytes)) = reply {
                        datagram(client, asker, &bytes);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(container = %client.owner, %error, "cannot take a question");
                    return;
                }
            }
        }
    }

    fn accept(&mut self, shared: &Shared, client: &Arc<Client>, now: Instant) {
        for _ in 0..TURN {
            match self.connections.accept(&shared.epoll, client, now) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(container = %client.owner, %error, "cannot accept a question");
                    return;
                }
            }
        }
    }

    /// Answers what a connection asks, as far as that is possible now.
    fn questions(&mut self, shared: &Shared, number: u64, now: Instant) {
        while let Some(client) = self.connections.client(number)
            && let Some(question) = self.connections.question(number)
        {
            let asker = Asker::Connection(number);
            if let Some(bytes) = self.answer(shared, &client, asker, &question, now) {
                self.connections.answer(number, bytes.as_deref(), now);
            }
        }
        self.connections.settle(&shared.epoll, number);
    }

    /// Answers a question, if need be with nothing, or forwards it: then `None`.
    fn answer(
        &mut self,
        shared: &Shared,
        client: &Arc<Client>,
        asker: Asker,
        bytes: &[u8],
        now: Instant,
    ) -> Option<Option<Vec<u8>>> {
        let names = self.names.snapshot();
        let transport = asker.transport();
        let answer = answer::answer(bytes, transport, &names, &client.owner, &mut self.chance);
        let (asked, servers) = match answer {
            Answer::Silence => return Some(None),
            Answer::Reply(bytes) => return Some(Some(bytes)),
            Answer::Forward(asked, servers) => (asked, servers),
        };
        let (servers, inside) = match servers {
            Servers::Own(servers) => (servers, true),
            Servers::Host => (self.host.servers(now).to_vec(), false),
        };
        let order = Order {
            client,
            asker,
            query: bytes,
            end: asked.end,
            servers,
            inside,
        };
        let reply = self.exchanges.begin(&shared.epoll, order, now);
        reply.map(|reply| Some(reply.bytes))
    }

    /// Sends what an exchange came to.
    fn send(&mut self, shared: &Shared, reply: Reply, now: Instant) {
        match reply.asker {
            Asker::Datagram(_) => datagram(&reply.client, reply.asker, &reply.bytes),
            Asker::Connection(number) => {
                self.connections.answer(number, Some(&reply.bytes), now);
                self.questions(shared, number, now);
            }
        }
    }
}

/// Sends a datagram. It may be lost, as on a network.
fn datagram(client: &Client, asker: Asker, bytes: &[u8]) {
    if let Asker::Datagram(to) = asker {
        let _ = client.sockets.datagrams.send_to(bytes, to);
    }
}
