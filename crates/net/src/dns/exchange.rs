//! Questions that are asked elsewhere: who asked, whom we asked, and until when.
//!
//! ```text
//! begin ──► attempt at the first server ── answer ──────────────────────► reply
//!              │ refused, failed: at once; silent for a while: beside it
//!              └──► the next server, … ── all failed, or too long ──────► reply: SERVFAIL
//! ```
//!
//! Every attempt has a socket of its own, connected, from a port that the kernel chooses at random, and an id of its
//! own: who wants to forge an answer has to guess both. The host's servers are asked from the host, a container's own
//! from inside the container. What came by datagram is asked by datagram, and an answer that says it was cut goes back
//! as it is: who needs the whole asks again on a connection, and so do we then.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Client;
use super::attempt::{Attempt, Progress, Question};
use super::wire::{self, Transport};
use hoist_sys::netns;

/// How long one server may be silent before the next is asked, too. Clients wait five seconds (resolv.conf(5)).
const STEP: Duration = Duration::from_millis(1500);
/// How long all of them may be.
const PATIENCE: Duration = Duration::from_millis(4500);
/// Servers that are asked at most, as in resolv.conf(5), and datagrams that are sent at most.
const ATTEMPTS: usize = 3;
/// Questions of one container that are on their way at most.
const MOST_OF_ONE: usize = 256;
/// Questions that are on their way at most.
const MOST: usize = 4096;
const DNS: u16 = 53;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    /// Who sent a datagram from this address.
    Datagram(SocketAddr),
    /// Who is connected.
    Connection(u64),
}

impl Asker {
    pub(super) fn transport(self) -> Transport {
        match self {
            Self::Datagram(_) => Transport::Udp,
            Self::Connection(_) => Transport::Tcp,
        }
    }
}

/// What is to be sent to whom.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) client: Arc<Client>,
    pub(super) asker: Asker,
    pub(super) bytes: Vec<u8>,
}

/// A question to be forwarded.
pub(super) struct Order<'a> {
    pub(super) client: &'a Arc<Client>,
    pub(super) asker: Asker,
    pub(super) query: &'a [u8],
    /// Where the question ends in it.
    pub(super) end: usize,
    pub(super) servers: Vec<IpAddr>,
    /// Whether they are asked from inside the container.
    pub(super) inside: bool,
}

/// All questions on their way.
pub(super) struct Exchanges {
    /// The namespace of the thread.
    home: OwnedFd,
    next: u64,
    open: HashMap<u64, Exchange>,
    due: BTreeSet<(Instant, u64)>,
    /// By client, asker and id: who asks again while we ask is not forwarded twice.
    askers: HashMap<(u64, Asker, u16), u64>,
    /// How many of each client.
    load: HashMap<u64, usize>,
}

struct Exchange {
    client: Arc<Client>,
    asker: Asker,
    query: Vec<u8>,
    end: usize,
    servers: Vec<IpAddr>,
    inside: bool,
    /// What became of each attempt: `None` where it failed.
    attempts: Vec<Option<Attempt>>,
    due: Instant,
    deadline: Instant,
}

impl Exchange {
    fn key(&self) -> (u64, Asker, u16) {
        (self.client.number, self.asker, wire::id(&self.query))
    }

    /// The server to ask next, if one is left; `again` where the same may be asked again.
    fn next_server(&self, again: bool) -> Option<IpAddr> {
        let begun = self.attempts.len();
        let most = match (self.asker.transport(), again) {
            (Transport::Udp, true) => ATTEMPTS,
            _ => self.servers.len(),
        };
        (begun < most).then(|| self.servers[begun % self.servers.len()])
    }
}

impl Exchanges {
    /// For the calling thread's namespace.
    pub(super) fn new(home: OwnedFd) -> Self {
        Self {
            home,
            next: 0,
            open: HashMap::new(),
            due: BTreeSet::new(),
            askers: HashMap::new(),
            load: HashMap::new(),
        }
    }

    /// When the next of them is due.
    pub(super) fn first_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Asks; answers a reply if there is one at once.
    pub(super) fn begin(
        &mut self,
        epoll: &OwnedFd,
        order: Order<'_>,
        now: Instant,
    ) -> Option<Reply> {
        let Order { client, asker, .. } = order;
        let load = self.load.get(&client.number).copied().unwrap_or_default();
        let mut exchange = Exchange {
            client: Arc::clone(client),
            asker,
            query: order.query.to_vec(),
            end: order.end,
            servers: order.servers,
            inside: order.inside,
            attempts: Vec::new(),
            due: now,
            deadline: now + PATIENCE,
        };
        // Ourselves we do not ask, as Docker does not.
        exchange
            .servers
            .retain(|server| *server != super::NAME_SERVER);
        exchange.servers.truncate(ATTEMPTS);
        if self.askers.contains_key(&exchange.key()) {
            return None;
        }
        if exchange.servers.is_empty() || load >= MOST_OF_ONE || self.open.len() >= MOST {
            return failed(&exchange);
        }
        let number = self.next;
        self.next += 1;
        self.askers.insert(exchange.key(), number);
        self.due.insert((exchange.due, number));
        *self.load.entry(client.number).or_default() += 1;
        self.open.insert(number, exchange);
        self.advance(epoll, number, now, false)
    }

    /// Something happened to the socket of an attempt.
    pub(super) fn event(
        &mut self,
        epoll: &OwnedFd,
        token: u64,
        now: Instant,
        scratch: &mut [u8],
    ) -> Option<Reply> {
        let (number, place) = (token >> 2, (token & 3) as usize);
        // One that is over may have left an event.
        let exchange = self.open.get_mut(&number)?;
        let question = wire::question(&exchange.query, exchange.end);
        let attempt = exchange.attempts.get_mut(place)?.as_mut()?;
        match attempt.go_on(epoll, token, question, scratch) {
            Progress::Pending => None,
            Progress::Failed => {
                exchange.attempts[place] = None;
                self.advance(epoll, number, now, false)
            }
            Progress::Answer(bytes) => {
                let exchange = self.close(number)?;
                Some(Reply {
                    bytes: wire::with_id(&bytes, wire::id(&exchange.query)),
                    client: exchange.client,
                    asker: exchange.asker,
                })
            }
        }
    }

    /// Goes on with what is due; answers one reply, and is to be called again until it does not.
    pub(super) fn due(&mut self, epoll: &OwnedFd, now: Instant) -> Option<Reply> {
        while let Some((at, number)) = self.due.first().copied() {
            if at > now {
                return None;
            }
            let over = self
                .open
                .get(&number)
                .is_none_or(|exchange| exchange.deadline <= now);
            let reply = if over {
                self.due.remove(&(at, number));
                self.close(number).and_then(|exchange| failed(&exchange))
            } else {
                self.advance(epoll, number, now, true)
            };
            if reply.is_some() {
                return reply;
            }
        }
        None
    }

    /// Asks the next server; `again` where silence is the reason, so that others may still answer.
    fn advance(
        &mut self,
        epoll: &OwnedFd,
        number: u64,
        now: Instant,
        again: bool,
    ) -> Option<Reply> {
        let exchange = self.open.get_mut(&number)?;
        while let Some(server) = exchange.next_server(again) {
            let question = Question {
                query: &exchange.query,
                transport: exchange.asker.transport(),
                server: SocketAddr::new(server, DNS),
                token: number << 2 | exchange.attempts.len() as u64,
            };
            let attempt = if exchange.inside {
                inside(&exchange.client.netns, &self.home, || {
                    Attempt::begin(epoll, &question)
                })
            } else {
                Attempt::begin(epoll, &question)
            };
            if let Err(error) = &attempt {
                tracing::debug!(container = %exchange.client.owner, %server, %error, "cannot ask a name server");
            }
            let begun = attempt.is_ok();
            exchange.attempts.push(attempt.ok());
            if begun {
                break;
            }
        }
        if exchange.attempts.iter().all(Option::is_none) {
            return self.close(number).and_then(|exchange| failed(&exchange));
        }
        self.due.remove(&(exchange.due, number));
        exchange.due = exchange.deadline.min(now + STEP);
        self.due.insert((exchange.due, number));
        None
    }

    /// Forgets a client's questions.
    pub(super) fn end(&mut self, client: u64) {
        let of_it: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, exchange)| exchange.client.number == client)
            .map(|(number, _)| *number)
            .collect();
        for number in of_it {
            self.close(number);
        }
    }

    fn close(&mut self, number: u64) -> Option<Exchange> {
        let exchange = self.open.remove(&number)?;
        self.due.remove(&(exchange.due, number));
        self.askers.remove(&exchange.key());
        if let Some(load) = self.load.get_mut(&exchange.client.number) {
            *load -= 1;
            if *load == 0 {
                self.load.remove(&exchange.client.number);
            }
        }
        Some(exchange)
    }
}

/// The reply of an exchange that nobody answered.
fn failed(exchange: &Exchange) -> Option<Reply> {
    let asked = wire::read(&exchange.query).ok()?;
    Some(Reply {
        client: Arc::clone(&exchange.client),
        asker: exchange.asker,
        bytes: asked.failure(),
    })
}

/// Does something in another namespace and comes back.
fn inside<T>(
    netns: &OwnedFd,
    home: &OwnedFd,
    work: impl FnOnce() -> std::io::Result<T>,
) -> std::io::Result<T> {
    netns::enter(netns)?;
    let done = work();
    netns::enter(home).expect("the way back to the host's namespace is held open");
    done
}
