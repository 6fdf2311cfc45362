//! Hearing every monitor: by whoever has a loop to wait in, or by a thread of its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Weak;
use std::sync::atomic::AtomicU64;

use hoist_sys::{children, process};
use rustix::event::{Timespec, epoll};

use super::{ExitNotice, Known, LaunchError, Shared};
use crate::exit_record::ExitRecord;
use crate::message::{self, Kind, Message};
use crate::plan::{self, ChildFailure};
use crate::spec::ProcessId;

/// Marks, in epoll, the process itself in place of its monitor's socket.
const PROCESS: u64 = 1 << 63;

/// Counts control sockets, so that a late event of an old one is not taken for a new one's.
pub(super) static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// How often a thread of its own looks whether anybody still holds the runtime.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// What monitors say is waited for with this: readable when there is something to [`Ears::hear`].
///
/// What was heard goes on from the thread that hears, so the engine's own loop does: a thread between would be one more
/// change of processor for every start and every end.
pub struct Ears {
    shared: Weak<Shared>,
    epoll: OwnedFd,
}

impl AsFd for Ears {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Ears {
    pub(super) fn new(shared: Weak<Shared>, epoll: OwnedFd) -> Self {
        Self { shared, epoll }
    }

    /// Takes everything that was said. A few system calls each, never a wait. `false` once nobody holds the runtime.
    ///
    /// # Errors
    /// Those of `epoll_wait`, which leave nothing to be waited for.
    pub fn hear(&self) -> io::Result<bool> {
        let now = Timespec::default();
        while self.hear_some(Some(&now))? {
            if self.shared.strong_count() == 0 {
                return Ok(false);
            }
        }
        Ok(self.shared.strong_count() > 0)
    }

    /// Whether something can be prepared for the next starts: best a little later, when the last is answered.
    #[must_use]
    pub fn wants_to_prepare(&self) -> bool {
        let shared = self.shared.upgrade();
        shared.is_some_and(|shared| shared.spares().are_wanted())
    }

    /// Whether that moment is now: a process that was started beside a container has ended, and the next may follow on its heels.
    #[must_use]
    pub fn has_time_to_prepare(&self) -> bool {
        let shared = self.shared.upgrade();
        shared.is_some_and(|shared| shared.spares().are_wanted_now())
    }

    /// Prepares for the next starts. A few system calls.
    pub fn prepare(&self) {
        if let Some(shared) = self.shared.upgrade()
            && shared.spares().are_wanted()
        {
            shared.make_spares();
        }
    }

    /// Hears until the last handle is dropped, on a thread of its own.
    ///
    /// # Errors
    /// Where no thread can be made.
    pub fn listen(self) -> io::Result<()> {
        let run = move || {
            while self.shared.strong_count() > 0 {
                if let Err(error) = self.hear_some(Some(&PATIENCE)) {
                    tracing::error!(%error, "the runtime's thread cannot wait");
                    return;
                }
                self.prepare();
            }
        };
        let thread = std::thread::Builder::new().name("hoist-runtime".to_owned());
        thread.spawn(run).map(drop)
    }

    /// Whether there was anything.
    fn hear_some(&self, patience: Option<&Timespec>) -> io::Result<bool> {
        let mut events = Vec::with_capacity(64);
        let buffer = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, buffer, patience) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(shared) = self.shared.upgrade() {
            for event in &events {
                shared.hear(event.data.u64());
            }
        }
        Ok(!events.is_empty())
    }
}

impl Shared {
    /// Takes note of a process and listens to its monitor.
    pub(super) fn know(&self, owner: ProcessId, known: Known) {
        let control = known.control.clone();
        let data = epoll::EventData::new_u64(known.number);
        self.processes().insert(owner, known);
        if let Err(error) = epoll::add(&self.epoll, &*control, data, epoll::EventFlags::IN) {
            tracing::error!(%error, "a monitor will not be heard");
        }
    }

    fn hear(&self, number: u64) {
        if number & PROCESS != 0 {
            self.process_ended(number & !PROCESS);
            return;
        }
        let Some((owner, control)) = self.processes().by_number(number) else {
            return;
        };
        match message::receive(control.as_fd()) {
            Ok(Some(message)) => {
                if let Err(error) = self.take(&owner, &control, message) {
                    tracing::error!(?owner, %error, "a monitor said what we do not understand");
                }
            }
            Ok(None) => self.lost(&owner, &control),
            Err(error) => {
                tracing::error!(?owner, %error, "a monitor cannot be heard");
                self.lost(&owner, &control);
            }
        }
    }

    fn take(&self, owner: &ProcessId, control: &OwnedFd, message: Message) -> io::Result<()> {
        match message.kind {
            Kind::Started => {
                self.introduced(owner, message)?;
                self.spares().want_more();
            }
            Kind::InputClosed => {
                if let Some(known) = self.processes().known.get_mut(owner) {
                    known.held.close_input();
                }
            }
            Kind::Failed => {
                let failure: ChildFailure = message.body()?;
                let starting = self
                    .processes()
                    .known
                    .get_mut(owner)
                    .and_then(|known| known.starting.take());
                if let Some((reply, plan)) = starting {
                    let (message, exit_code) = plan::render(&plan, &failure);
                    let _ = reply.send(Err(LaunchError { message, exit_code }));
                }
            }
            Kind::Ended => {
                // Of a process that was not its child a monitor may not know how it ended.
                let mut record: Option<ExitRecord> = message.body()?;
                if let Some(known) = self.processes().known.get_mut(owner) {
                    record = record.or_else(|| known.kernel_record());
                    known.ended = true;
                    known.pidfd = None;
                    known.held.clear();
                }
                // Told first: whoever reads the channel may be asked for the streams' end right after.
                let _ = self.exits.send(ExitNotice {
                    of: owner.clone(),
                    record,
                });
                if matches!(owner, ProcessId::Exec(_)) {
                    self.spares().have_time();
                }
                // A monitor that is gone has nothing left to be told.
                let _ = message::send(control, Kind::Recorded, &(), &[]);
            }
            Kind::Order
            | Kind::Succeed
            | Kind::Recorded
            | Kind::Attach
            | Kind::Resize
            | Kind::Namespace
            | Kind::Descended
            | Kind::Spare => {
                return Err(io::Error::other(format!("{:?}", message.kind)));
            }
        }
        Ok(())
    }

    /// The monitor is gone: as it should be after the end, or before it. Then it gets a successor; where that cannot be,
    /// the process is watched itself.
    fn lost(&self, owner: &ProcessId, control: &OwnedFd) {
        let _ = epoll::delete(&self.epoll, control);
        let lives = |known: &Known| !known.ended && known.pidfd.is_some();
        let outlived = self.processes().known.get(owner).is_some_and(lives);
        if outlived && self.succeed(owner) {
            return;
        }
        let mut processes = self.processes();
        let Some(known) = processes.known.get_mut(owner) else {
            return;
        };
        if outlived && let Some(pidfd) = &known.pidfd {
            let data = epoll::EventData::new_u64(known.number | PROCESS);
            let watched = epoll::add(&self.epoll, pidfd, data, epoll::EventFlags::IN);
            known.held.clear();
            if watched.is_ok() {
                return;
            }
        }
        let Some(known) = processes.remove(owner) else {
            return;
        };
        drop(processes);
        if let Some((reply, _)) = known.starting {
            let message = "the monitor ended before the start was done".to_owned();
            let _ = reply.send(Err(LaunchError {
                message,
                exit_code: 128,
            }));
        } else if !known.ended && known.pid != 0 {
            self.tell_unwatched(owner, None);
        }
    }

    /// A process whose monitor died has ended itself.
    fn process_ended(&self, number: u64) {
        let mut processes = self.processes();
        let found = processes.by_number(number).map(|(owner, _)| owner);
        let Some(owner) = found else { return };
        let known = processes.remove(&owner);
        drop(processes);
        if let Some(pidfd) = known.as_ref().and_then(|known| known.pidfd.as_ref()) {
            let _ = epoll::delete(&self.epoll, pidfd);
        }
        self.tell_unwatched(&owner, known);
    }

    /// Tells an end that no monitor told: from the record, if it was written after all; else from the kernel; else as
    /// unknown.
    fn tell_unwatched(&self, owner: &ProcessId, known: Option<Known>) {
        let recorded = match owner {
            ProcessId::Container(id) => self.recorded(id),
            ProcessId::Exec(_) => None,
        };
        let record = recorded.or_else(|| known.as_ref().and_then(Known::kernel_record));
        let _ = self.exits.send(ExitNotice {
            of: owner.clone(),
            record,
        });
    }
}

impl Known {
    /// How it ended, as far as the kernel tells others than its parent: before it is reaped by /proc, afterwards by its
    /// descriptor since 6.15.
    fn kernel_record(&self) -> Option<ExitRecord> {
        let pidfd = self.pidfd.as_ref()?;
        let reaped = || process::reaped_status(pidfd.as_fd()).ok().flatten();
        let status = reaped().or_else(|| {
            let status = children::zombie_status(self.pid)?;
            // The id is still its own: one that was reaped meanwhile cannot be signalled.
            process::signal_pidfd(pidfd.as_fd(), 0).ok()?;
            Some(status)
        });
        Some(ExitRecord {
            exit_code: ExitRecord::code_of(status.or_else(reaped)?),
            finished_at: crate::monitor::now(),
        })
    }
}
