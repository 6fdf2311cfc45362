//! Finding monitors again, and putting new ones in the place of those that were killed.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hoist_model::ContainerId;
use rustix::event::epoll;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::hear::NUMBERS;
use super::places::{connect_monitor, listener, open_slot};
use super::{Adoption, Known, Launched, Processes, Runtime, Shared};
use crate::message::{self, Kind, Message};
use crate::monitor::{Carried, Started, Succession, now};
use crate::spec::ProcessId;

/// A monitor that lives shorter than this gets no successor but once: something kills every one of them.
const PROVEN: Duration = Duration::from_secs(1);
/// Successors in a row that may live short.
const ATTEMPTS: u32 = 5;

/// Answers duplicates of what the monitor of a container keeps for later engines ([`crate::spec::LaunchSpec::kept`]), for its
/// successor. Whoever gave it has it open, and a second copy held here would count twice against the limit of open files.
#[derive(Clone)]
pub struct Keeper(pub Arc<Answer>);

type Answer = dyn Fn(&ContainerId) -> Vec<OwnedFd> + Send + Sync;

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

/// What the daemon holds for the successor of a monitor: duplicates of all that it works with.
pub(super) struct Held {
    started: Option<Started>,
    fds: Vec<OwnedFd>,
    /// What a monitor of an earlier engine keeps, until somebody takes it.
    kept: Vec<OwnedFd>,
    /// When the monitor came, and how many before it lived short.
    since: Instant,
    short: u32,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            started: None,
            fds: Vec::new(),
            kept: Vec::new(),
            since: Instant::now(),
            short: 0,
        }
    }
}

impl Held {
    /// Takes what came beside [`Started`], after the pidfd.
    pub(super) fn take(&mut self, mut started: Started, mut fds: Vec<OwnedFd>) {
        let kept = std::mem::take(&mut started.carried.kept);
        self.kept = fds.split_off(fds.len().saturating_sub(kept));
        self.started = Some(started);
        self.fds = fds;
    }

    /// Lets go of the input, whose reader waits for its end.
    pub(super) fn close_input(&mut self) {
        if let Some(started) = &mut self.started
            && let Some(place) = started.carried.input_place()
            && place < self.fds.len()
        {
            drop(self.fds.remove(place));
            started.carried.input = false;
        }
    }

    /// Lets go of all.
    pub(super) fn clear(&mut self) {
        self.started = None;
        self.fds.clear();
        self.kept.clear();
    }
}

impl Runtime {
    /// Finds out what became of a container that an earlier engine started. Blocking, as long as a monitor takes to answer.
    ///
    /// `survivor` is its process, if the caller knows that it still is one of that container: should its monitor be gone,
    /// too, it goes on without streams.
    #[must_use]
    pub fn adopt(&self, id: &ContainerId, survivor: Option<i32>) -> Adoption {
        let owner = ProcessId::Container(id.clone());
        if let Some((control, started, fds)) = self.ask_monitor(id) {
            return Adoption::Running(self.shared.adopted(
                owner,
                Known::new(control),
                started,
                fds,
            ));
        }
        if let Some(record) = self.shared.recorded(id) {
            return Adoption::Exited(record);
        }
        let survivor = survivor.and_then(|pid| {
            let pid = rustix::process::Pid::from_raw(pid)?;
            let flags = rustix::process::PidfdFlags::empty();
            let pidfd = rustix::process::pidfd_open(pid, flags).ok()?;
            Some((pid.as_raw_nonzero().get(), pidfd))
        });
        let Some((pid, pidfd)) = survivor else {
            return Adoption::Unknown;
        };
        // A pair whose other end is closed stands for the monitor that is gone.
        let Ok((control, _)) = message::pair() else {
            return Adoption::Unknown;
        };
        let started = Started {
            pid,
            started_at: now(),
            carried: Carried::default(),
        };
        let known = Known::new(control);
        let launched = self.shared.adopted(owner, known, started, vec![pidfd]);
        Adoption::Running(launched)
    }

    /// Takes what the monitor of an adopted container kept since an earlier engine ([`crate::spec::LaunchSpec::kept`]); from
    /// now on, [`Keeper`] answers for it.
    #[must_use]
    pub fn take_kept(&self, id: &ContainerId) -> Vec<OwnedFd> {
        let mut processes = self.shared.processes();
        let known = processes.known.get_mut(&ProcessId::Container(id.clone()));
        known.map_or_else(Vec::new, |known| std::mem::take(&mut known.held.kept))
    }

    fn ask_monitor(&self, id: &ContainerId) -> Option<(OwnedFd, Started, Vec<OwnedFd>)> {
        // A monitor answers at once; a second is for a machine that is very busy.
        let patience = Some(Duration::from_secs(1));
        let control = connect_monitor(&self.directory(id)).ok()?;
        set_socket_timeout(&control, Timeout::Recv, patience).ok()?;
        let message = message::receive(&control).ok().flatten()?;
        if message.kind != Kind::Started {
            return None;
        }
        let started: Started = message.body().ok()?;
        set_socket_timeout(&control, Timeout::Recv, None).ok()?;
        Some((control, started, message.fds))
    }
}

impl Known {
    /// A process of which nothing is known but its monitor's socket.
    pub(super) fn new(control: OwnedFd) -> Self {
        Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            control: Arc::new(control),
            pidfd: None,
            pid: 0,
            starting: None,
            ended: false,
            held: Held::default(),
        }
    }

    /// Takes what a monitor tells of itself.
    pub(super) fn introduce(&mut self, started: Started, mut fds: Vec<OwnedFd>) {
        self.pid = started.pid;
        if !fds.is_empty() {
            self.pidfd = Some(fds.remove(0));
        }
        self.held.take(started, fds);
    }
}

impl Processes {
    /// Puts the socket of a new monitor in the place of the old one's.
    fn renew(&mut self, owner: &ProcessId, new: Known, short: u32) {
        if let Some(known) = self.known.get_mut(owner) {
            self.numbers.remove(&known.number);
            self.numbers.insert(new.number, owner.clone());
            known.number = new.number;
            known.control = new.control;
            known.held.since = new.held.since;
            known.held.short = short;
        }
    }
}

impl Shared {
    fn adopted(
        &self,
        owner: ProcessId,
        mut known: Known,
        started: Started,
        fds: Vec<OwnedFd>,
    ) -> Launched {
        let launched = Launched {
            pid: started.pid,
            started_at: started.started_at,
        };
        known.introduce(started, fds);
        self.know(owner, known);
        launched
    }

    /// Takes what a monitor tells of a process that runs.
    pub(super) fn introduced(&self, owner: &ProcessId, message: Message) -> io::Result<()> {
        let started: Started = message.body()?;
        let launched = Launched {
            pid: started.pid,
            started_at: started.started_at,
        };
        let starting = {
            let mut processes = self.processes();
            let Some(known) = processes.known.get_mut(owner) else {
                return Ok(());
            };
            known.introduce(started, message.fds);
            known.starting.take()
        };
        if let Some((reply, _)) = starting {
            let _ = reply.send(Ok(launched));
        }
        Ok(())
    }

    /// Puts a new monitor in the place of one that died before its process; false if that cannot be.
    pub(super) fn succeed(&self, owner: &ProcessId) -> bool {
        match self.order_successor(owner) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(?owner, %error, "its monitor died and has no successor");
                false
            }
        }
    }

    fn order_successor(&self, owner: &ProcessId) -> io::Result<()> {
        let (ours, theirs) = message::pair()?;
        let (listener, record, kept) = match owner {
            ProcessId::Container(id) => {
                let directory = self.directory(id);
                let keeper = self.settings.keeper.as_ref();
                let kept = keeper.map_or_else(Vec::new, |keeper| keeper.0(id));
                (
                    Some(listener(&directory)?),
                    Some(open_slot(&directory)?),
                    kept,
                )
            }
            ProcessId::Exec(_) => (None, None, Vec::new()),
        };
        let mut processes = self.processes();
        let known = processes.known.get(owner).ok_or(io::ErrorKind::NotFound)?;
        let held = &known.held;
        let short = match held.since.elapsed() < PROVEN {
            true => held.short + 1,
            false => 0,
        };
        if short > ATTEMPTS {
            return Err(io::Error::other("each of its monitors died at once"));
        }
        let (Some(pidfd), Some(started)) = (&known.pidfd, &held.started) else {
            return Err(io::Error::other("its monitor left nothing to a successor"));
        };
        tracing::warn!(
            ?owner,
            pid = known.pid,
            "its monitor died and gets a successor"
        );
        // Nobody has taken yet what an earlier engine gave.
        let kept = if held.kept.is_empty() {
            &kept
        } else {
            &held.kept
        };
        let mut started = started.clone();
        started.carried.kept = kept.len();
        let succession = Succession {
            started,
            has_listener: listener.is_some(),
            has_record: record.is_some(),
        };
        let mut fds: Vec<BorrowedFd<'_>> = vec![theirs.as_fd()];
        fds.extend(listener.as_ref().map(AsFd::as_fd));
        fds.extend(record.as_ref().map(AsFd::as_fd));
        fds.push(pidfd.as_fd());
        fds.extend(held.fds.iter().chain(kept).map(AsFd::as_fd));
        self.send_order(Kind::Succeed, &succession, &fds)?;
        let new = Known::new(ours);
        let control = new.control.clone();
        let data = epoll::EventData::new_u64(new.number);
        processes.renew(owner, new, short);
        drop(processes);
        epoll::add(&self.epoll, &*control, data, epoll::EventFlags::IN)?;
        Ok(())
    }
}
