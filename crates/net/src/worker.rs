//! The worker thread: builds namespaces, keeps the pool full, and answers what the kernel tells.
//!
//! It alone moves between network namespaces. Requests that miss the pool go before refilling. It sleeps in one
//! `poll` over its wake-up event, nf_tables' notifications (was our table changed?) and rtnetlink's (which veths
//! are gone, so that their addresses are free?).

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hoist_model::NetworkId;
use hoist_sys::netlink::{Family, Socket};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

use crate::attachment::MacAddress;
use crate::build::{Builder, Prepared};
use crate::error::NetError;
use crate::settings::Settings;
use crate::shared::{Shared, lock};
use crate::spare::Spare;
use crate::{nft, rtnl};

/// How long a detached container's veth may outlive it (something else is in its namespace) before it is removed.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long after another program's change of the firewall ours is compared: changes come in bursts.
const SETTLE: Duration = Duration::from_millis(10);
/// How long a used namespace waits for others that are let go: the kernel takes down those that die together in one pass,
/// with one grace period for all (net/core/net_namespace.c, `cleanup_net`).
const GATHER: Duration = Duration::from_millis(100);
/// How long a container's interface that was made again is not made once more.
const RESTORE_AGAIN: Duration = Duration::from_secs(1);
/// So many do not wait any longer.
const GATHERED: usize = 16;
/// Between two links that are deleted, who waits for the kernel's lock has time for all that a start needs.
const PAUSE: Duration = Duration::from_millis(10);
/// So many links that are about to go do not wait until nobody starts containers.
const DOOMED: usize = 64;

/// Work for the thread.
pub(crate) enum Job {
    /// Take a namespace on the bridge from the pool, or build one.
    Next(SyncSender<Result<Prepared, NetError>>),
    /// Build a namespace on the bridge, to order.
    Bridged(
        Ipv4Addr,
        Option<MacAddress>,
        SyncSender<Result<Prepared, NetError>>,
    ),
    /// Take a namespace for any user's network from the pool, or build one.
    Spare(SyncSender<Result<Spare, NetError>>),
    /// Free a port of a network's bridge, of a container that left; false if none did.
    FreePort(Option<NetworkId>, SyncSender<Result<bool, NetError>>),
    /// Build a namespace with `lo` alone.
    Isolated(SyncSender<Result<OwnedFd, NetError>>),
    /// Make the default bridge another.
    Change(Box<Settings>, SyncSender<Result<(), NetError>>),
    /// Anything else that is built.
    Build(Box<dyn FnOnce(&Builder) + Send>),
    /// These links of ours are not there.
    Gone(Vec<String>),
    /// Links are doomed: delete them, soon.
    Doomed,
    /// Close a namespace that was used, soon.
    Close(OwnedFd),
    /// Look at the pool again.
    Refill,
    /// End.
    Stop,
}

/// The queue to the thread: a mutex for the list, an eventfd that `poll` can wait for.
struct Jobs {
    queue: Mutex<VecDeque<Job>>,
    wake: OwnedFd,
}

/// The thread's handle.
pub(crate) struct Worker {
    jobs: Arc<Jobs>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How far the thread stands back.
const BACKGROUND_NICE: i32 = 5;

impl Worker {
    /// Starts the thread in the calling thread's network namespace.
    pub(crate) fn start(shared: Arc<Shared>) -> Result<Self, NetError> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|source| NetError::kernel("create an eventfd", source))?;
        let jobs = Arc::new(Jobs {
            queue: Mutex::default(),
            wake,
        });
        let seat = Seat::new(shared, Arc::clone(&jobs))?;
        let thread = std::thread::Builder::new()
            .name("net-worker".to_owned())
            .spawn(move || seat.run())
            .map_err(|source| NetError::kernel("start the network worker", source))?;
        Ok(Self {
            jobs,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Queues a job.
    pub(crate) fn send(&self, job: Job) {
        lock(&self.jobs.queue).push_back(job);
        // A full counter means that the thread is being woken already.
        let _ = rustix::io::write(&self.jobs.wake, &1u64.to_ne_bytes());
    }

    /// Queues a job that answers, and waits for the answer.
    pub(crate) fn call<T>(
        &self,
        job: impl FnOnce(SyncSender<Result<T, NetError>>) -> Job,
    ) -> Result<T, NetError> {
        let (sender, receiver): (_, Receiver<Result<T, NetError>>) = sync_channel(1);
        self.send(job(sender));
        receiver.recv().unwrap_or(Err(NetError::Stopped))
    }

    /// Builds something on the thread, and waits for it.
    pub(crate) fn build<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Builder) -> Result<T, NetError> + Send + 'static,
    ) -> Result<T, NetError> {
        self.call(|reply| {
            Job::Build(Box::new(move |builder| {
                // Who asked may have gone.
                let _ = reply.send(work(builder));
            }))
        })
    }

    /// Ends the thread and waits for its end.
    pub(crate) fn stop(&self) {
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            self.send(Job::Stop);
            if thread.join().is_err() {
                tracing::error!("the network worker panicked");
            }
        }
    }
}

/// What the thread owns.
struct Seat {
    shared: Arc<Shared>,
    jobs: Arc<Jobs>,
    builder: Builder,
    firewall: Socket,
    links: Socket,
    verify_at: Option<Instant>,
    failed_at: Option<Instant>,
    /// Containers' veths that somebody took away.
    lost: Vec<String>,
    /// Those that were made again a short while ago, and when.
    restored: Vec<(String, Instant)>,
    /// Used namespaces, to be closed together, and when.
    closing: Vec<OwnedFd>,
    close_at: Option<Instant>,
    /// When doomed links are deleted, together.
    delete_at: Option<Instant>,
}

impl Seat {
    fn new(shared: Arc<Shared>, jobs: Arc<Jobs>) -> Result<Self, NetError> {
        let make = shared.settings.make_namespace.clone();
        let subscribed = |family, group| -> std::io::Result<Socket> {
            let socket = Socket::open(family)?;
            socket.subscribe(group)?;
            Ok(socket)
        };
        Ok(Self {
            shared,
            jobs,
            builder: Builder::new(make)?,
            firewall: subscribed(Family::Netfilter, nft::GROUP)
                .map_err(|source| NetError::kernel("listen to nf_tables", source))?,
            links: subscribed(Family::Route, rtnl::GROUP_LINK)
                .and_then(|links| links.listen_for(rtnl::LINK_DELETED).map(|()| links))
                .map_err(|source| NetError::kernel("listen to rtnetlink", source))?,
            verify_at: None,
            failed_at: None,
            lost: Vec::new(),
            restored: Vec::new(),
            closing: Vec::new(),
            close_at: None,
            delete_at: None,
        })
    }

    fn run(mut self) {
        // Whoever took a ready namespace goes on starting a container: making the next one must not push it from its
        // processor. On Linux this is the calling thread's alone.
        let _ = rustix::process::nice(BACKGROUND_NICE);
        let mut wait = Some(Duration::ZERO);
        loop {
            self.sleep(wait);
            self.heed_links();
            self.heed_firewall();
            loop {
                let job = lock(&self.jobs.queue).pop_front();
                match job {
                    Some(Job::Stop) => {
                        lock(&self.jobs.queue).clear();
                        return;
                    }
                    Some(job) => self.work(job),
                    None => break,
                }
            }
            let now = Instant::now();
            if self.verify_at.is_some_and(|at| at <= now) {
                self.verify_at = None;
                if let Err(error) = self.shared.verify_and_reapply() {
                    tracing::warn!(%error, "cannot check the firewall table");
                }
            }
            if self.close_at.is_some_and(|at| at <= now) || self.closing.len() >= GATHERED {
                self.close_at = None;
                self.closing.clear();
            }
            if self.delete_at.is_some_and(|at| at <= now) {
                self.delete_at = self.delete_doomed(now);
            }
            wait = self.refill_one(now);
            let overdue_at = self.shared.first_leaving().map(|since| since + PATIENCE);
            let first = self.restored.first().filter(|_| !self.lost.is_empty());
            let restore_at = first.map(|(_, at)| *at + RESTORE_AGAIN);
            let others = [
                self.verify_at,
                self.close_at,
                self.delete_at,
                overdue_at,
                restore_at,
            ];
            for other in others.into_iter().flatten() {
                let other = other.saturating_duration_since(now);
                wait = Some(wait.map_or(other, |wait| wait.min(other)));
            }
        }
    }

    fn sleep(&self, wait: Option<Duration>) {
        let timeout = wait.map(|wait| Timespec {
            tv_sec: wait.as_secs().cast_signed(),
            tv_nsec: i64::from(wait.subsec_nanos()),
        });
        let mut fds = [
            PollFd::new(&self.jobs.wake, PollFlags::IN),
            PollFd::from_borrowed_fd(self.firewall.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.links.as_fd(), PollFlags::IN),
        ];
        // An interrupted wait is a short one.
        let _ = rustix::event::poll(&mut fds, timeout.as_ref());
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.jobs.wake, &mut counter);
    }

    fn work(&mut self, job: Job) {
        match job {
            // Who asked may have gone: then the answer, a namespace, is closed with it.
            Job::Next(reply) => {
                let ready = lock(&self.shared.pool).ready.pop_front();
                let _ = reply.send(ready.map_or_else(|| self.next_bridged(), Ok));
            }
            Job::Bridged(ip, mac, reply) => {
                let _ = reply.send(self.bridged(ip, mac));
            }
            Job::Spare(reply) => {
                let ready = lock(&self.shared.pool).spares.pop_front();
                let _ = reply.send(ready.map_or_else(|| self.spare(), Ok));
            }
            Job::FreePort(network, reply) => {
                let _ = reply.send(self.free_port(network.as_ref()));
            }
            Job::Isolated(reply) => {
                let _ = reply.send(self.builder.isolated());
            }
            Job::Build(work) => work(&self.builder),
            Job::Change(settings, reply) => {
                let cleared = self.shared.clear_default(&self.builder.links);
                // Of what was on it nothing is heard any more when others bear the names.
                self.heed_links();
                let shared = &self.shared;
                self.lost.retain(|name| shared.lost(name).is_some());
                let links = &self.builder.links;
                let changed = cleared.and_then(|()| shared.change_default(links, *settings));
                let _ = reply.send(changed);
            }
            Job::Doomed => {
                // Whoever removes one often removes another.
                self.delete_at = Some(Instant::now() + GATHER);
            }
            Job::Close(netns) => {
                self.close_at.get_or_insert_with(|| Instant::now() + GATHER);
                self.closing.push(netns);
            }
            Job::Gone(names) => {
                self.heed_gone(&names);
                self.restore_lost(Instant::now());
            }
            Job::Refill | Job::Stop => {}
        }
    }

    /// Builds at most one namespace; answers how long to sleep before the next look.
    fn refill_one(&mut self, now: Instant) -> Option<Duration> {
        // After a failure (no addresses, no memory) once a second is enough.
        if let Some(at) = self.failed_at {
            let pause = Duration::from_secs(1).saturating_sub(now.saturating_duration_since(at));
            if !pause.is_zero() {
                return Some(pause);
            }
        }
        let wish = self.shared.pool_wish(now);
        let built = match wish.bridged {
            Some(Duration::ZERO) => self.add_bridged(),
            _ if wish.spare == Some(Duration::ZERO) => self.spare().map(|spare| {
                lock(&self.shared.pool).spares.push_back(spare);
            }),
            _ if wish.isolated => self.builder.isolated().map(|netns| {
                lock(&self.shared.pool).isolated.push_back(netns);
            }),
            None if wish.spare.is_none() && self.settle_spare() => Ok(()),
            other => return other.into_iter().chain(wish.spare).min(),
        };
        let full = matches!(built, Err(NetError::BridgeFull(_)));
        self.failed_at = (built.is_err() && !full).then_some(now);
        match built {
            Ok(()) => {}
            // What is ready has the last ports: that is as it should be.
            Err(NetError::BridgeFull(bridge)) => tracing::debug!(bridge, "no port is left"),
            Err(error) => tracing::warn!(%error, "cannot prepare a network namespace"),
        }
        Some(Duration::ZERO)
    }

    /// Deletes one of the links that are about to go, unless containers are being started; answers when to look again.
    fn delete_doomed(&self, now: Instant) -> Option<Instant> {
        let name = self.shared.next_doomed()?;
        let busy = self.shared.attached_within(now, GATHER);
        if busy && self.shared.count_doomed() < DOOMED {
            return Some(now + GATHER);
        }
        if let Err(error) = self.shared.delete_doomed(&self.builder.links, &name) {
            let error = hoist_model::chain(&error);
            tracing::warn!(link = name, error, "a link of a network that is gone stays");
        }
        Some(Instant::now() + PAUSE)
    }

    fn spare(&self) -> Result<Spare, NetError> {
        self.builder.spare(&self.shared.settings.instance)
    }

    /// A namespace on the default bridge, to order: if need be, in the place of one that is ready for whoever comes.
    fn bridged(&self, ip: Ipv4Addr, mac: Option<MacAddress>) -> Result<Prepared, NetError> {
        let bridge = self.shared.bridge()?;
        let build = || self.builder.bridged(&bridge, ip, mac);
        let built = build();
        if !matches!(built, Err(NetError::BridgeFull(_))) {
            return built;
        }
        if self.free_port(None)? {
            return build();
        }
        Err(NetError::BridgeFull("bridge".to_owned()))
    }

    /// Frees a port of a network's bridge, for who asks: of a container that left, else of what is ready for the next.
    fn free_port(&self, network: Option<&NetworkId>) -> Result<bool, NetError> {
        let links = &self.builder.links;
        self.shared.crowd(network);
        if self.shared.free_port(links, network)? {
            return Ok(true);
        }
        match network {
            None => self.shared.give_up_ready(links),
            Some(network) => self.shared.give_up_spare(links, network),
        }
    }

    /// Puts one more of those that are ready on the bridge of the network that was joined last, up to half of them; false if
    /// they are there.
    fn settle_spare(&self) -> bool {
        let Some((mut spare, network, bridge)) = self.shared.unsettled_spare() else {
            return false;
        };
        let settled = spare.settle(&self.builder.links, bridge);
        if matches!(settled, Err(NetError::BridgeFull(_))) {
            self.shared.crowd(Some(&network));
        }
        // On a bridge that is gone or full it is as ready as before.
        lock(&self.shared.pool).spares.push_back(spare);
        settled.is_ok()
    }

    /// Only where a port is free: those that are ready are as good as another.
    fn add_bridged(&self) -> Result<(), NetError> {
        let bridge = self.shared.bridge()?;
        let ip = self.shared.take_address()?;
        let prepared = self
            .builder
            .bridged(&bridge, ip, None)
            .inspect_err(|error| {
                self.shared.release_address(ip);
                if matches!(error, NetError::BridgeFull(_)) {
                    self.shared.crowd(None);
                }
            })?;
        lock(&self.shared.pool).ready.push_back(prepared);
        Ok(())
    }

    fn next_bridged(&self) -> Result<Prepared, NetError> {
        let ip = self.shared.take_address()?;
        self.bridged(ip, None)
            .inspect_err(|_| self.shared.release_address(ip))
    }

    /// Makes containers' interfaces again that somebody took away: each at most once in a while, because who is inside may do
    /// it all the time.
    fn restore_lost(&mut self, now: Instant) {
        self.restored
            .retain(|(_, at)| now.saturating_duration_since(*at) < RESTORE_AGAIN);
        let restored = &self.restored;
        let is_due = |name: &mut String| !restored.iter().any(|(other, _)| other == name);
        let due: Vec<_> = self.lost.extract_if(.., is_due).collect();
        for name in due {
            // Most are of containers that have ended, or of nobody.
            let Some(lost) = self.shared.lost(&name) else {
                continue;
            };
            tracing::warn!(
                veth = name,
                "a container's interface was removed: making it again"
            );
            if let Err(error) = lost.restore(&self.builder) {
                let error = hoist_model::chain(&error);
                tracing::error!(veth = name, error, "a container is without its interface");
            }
            self.restored.push((name, now));
        }
    }

    /// Links of ours are gone: some were to go, and some were taken away.
    fn heed_gone(&mut self, gone: &[String]) {
        self.shared.left(gone);
        let prefix = self.shared.settings.instance.veth_prefix();
        for name in self.shared.links_gone(&self.builder.links, gone) {
            self.shared.mend(&name);
            if name.starts_with(&prefix) {
                self.lost.push(name);
            }
        }
    }

    fn heed_links(&mut self) {
        let now = Instant::now();
        let mut gone = Vec::new();
        let told = self
            .links
            .notifications(|reply| gone.extend(rtnl::deleted_link(reply)));
        if told.is_err()
            && let Ok(links) = self.builder.links.links()
        {
            // Some were lost: see which links are left.
            gone = self.shared.missing(&links);
        }
        if !gone.is_empty() {
            self.heed_gone(&gone);
        }
        self.restore_lost(now);
        // A namespace that something else keeps alive keeps its veth: take it away.
        for name in self.shared.overdue(Instant::now(), PATIENCE) {
            self.shared.left(std::slice::from_ref(&name));
            if let Err(error) = self.shared.delete(&self.builder.links, &name) {
                tracing::warn!(%error, "cannot remove a veth");
                self.shared.links_gone(&self.builder.links, &[name]);
            }
        }
    }

    fn heed_firewall(&mut self) {
        let mut changed = false;
        let own = self.shared.firewall_port;
        let told = self
            .firewall
            .notifications(|reply| changed |= nft::is_foreign_commit(reply, own));
        if (changed || told.is_err()) && self.verify_at.is_none() {
            self.verify_at = Some(Instant::now() + SETTLE);
        }
    }
}

/// A poisoned lock is only one whose holder panicked; the panic was reported where it happened.
pub(crate) fn unpoison<T>(result: Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}
