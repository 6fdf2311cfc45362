//! The one thread that hears every monitor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use hoist_sys::process;
use rustix::event::{Timespec, epoll};
use tokio::sync::oneshot;

use super::{ExitNotice, Known, LaunchError, Launched, Shared};
use crate::exit_record::ExitRecord;
use crate::message::{self, Kind, Message};
use crate::monitor::Started;
use crate::plan::{self, ChildFailure, Plan};
use crate::spec::ProcessId;

/// Marks, in epoll, the process itself in place of its monitor's socket.
const PROCESS: u64 = 1 << 63;

/// Counts control sockets, so that a late event of an old one is not taken for a new one's.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// How often the thread looks whether anybody still holds the runtime.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Hears until the last handle is dropped.
pub(super) fn run(shared: &Weak<Shared>) {
    let mut events = Vec::with_capacity(64);
    loop {
        let Some(strong) = shared.upgrade() else {
            return;
        };
        events.clear();
        let buffer = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&strong.epoll, buffer, Some(&PATIENCE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "the runtime's thread cannot wait");
                return;
            }
        }
        for event in &events {
            strong.hear(event.data.u64());
        }
    }
}

impl Shared {
    /// Takes note of a process and listens to its monitor.
    pub(super) fn know(
        &self,
        owner: ProcessId,
        control: OwnedFd,
        starting: Option<(oneshot::Sender<Result<Launched, LaunchError>>, Plan)>,
        pid: i32,
    ) {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let control = Arc::new(control);
        let known = Known {
            number,
            control: control.clone(),
            pidfd: None,
            pid,
            starting,
            ended: false,
        };
        self.processes().insert(owner, known);
        let data = epoll::EventData::new_u64(number);
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
                let started: Started = message.body()?;
                let mut processes = self.processes();
                let Some(known) = processes.known.get_mut(owner) else {
                    return Ok(());
                };
                known.pid = started.pid;
                known.pidfd = message.fds.into_iter().next();
                if let Some((reply, _)) = known.starting.take() {
                    let launched = Launched {
                        pid: started.pid,
                        started_at: started.started_at,
                    };
                    let _ = reply.send(Ok(launched));
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
                let record: ExitRecord = message.body()?;
                if let Some(known) = self.processes().known.get_mut(owner) {
                    known.ended = true;
                    known.pidfd = None;
                }
                // Told first: whoever reads the channel may be asked for the streams' end right after.
                let _ = self.exits.send(ExitNotice {
                    of: owner.clone(),
                    record: Some(record),
                });
                // A monitor that is gone has nothing left to be told.
                let _ = message::send(control, Kind::Recorded, &(), &[]);
            }
            Kind::Order | Kind::Recorded | Kind::Attach | Kind::Resize => {
                return Err(io::Error::other(format!("{:?}", message.kind)));
            }
        }
        Ok(())
    }

    /// The monitor is gone: as it should be after the end, or before it. A process that lives on is watched itself.
    fn lost(&self, owner: &ProcessId, control: &OwnedFd) {
        let _ = epoll::delete(&self.epoll, control);
        let mut processes = self.processes();
        let Some(known) = processes.known.get(owner) else {
            return;
        };
        if !known.ended
            && let Some(pidfd) = &known.pidfd
        {
            let data = epoll::EventData::new_u64(known.number | PROCESS);
            let watched = epoll::add(&self.epoll, pidfd, data, epoll::EventFlags::IN);
            tracing::error!(?owner, pid = known.pid, "its monitor died");
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
        let pidfd = known.and_then(|known| known.pidfd);
        if let Some(pidfd) = &pidfd {
            let _ = epoll::delete(&self.epoll, pidfd);
        }
        self.tell_unwatched(&owner, pidfd);
    }

    /// Tells an end that no monitor told: from the record, if it was written after all; else from the kernel, which knows
    /// since 6.15; else as unknown.
    fn tell_unwatched(&self, owner: &ProcessId, pidfd: Option<OwnedFd>) {
        let recorded = match owner {
            ProcessId::Container(id) => self.recorded(id),
            ProcessId::Exec(_) => None,
        };
        let status = pidfd.and_then(|pidfd| process::reaped_status(pidfd.as_fd()).ok()?);
        let record = recorded.or_else(|| {
            status.map(|status| ExitRecord {
                exit_code: match status & 0x7f {
                    0 => status >> 8 & 0xff,
                    signal => 128 + signal,
                },
                finished_at: crate::monitor::now(),
            })
        });
        let _ = self.exits.send(ExitNotice {
            of: owner.clone(),
            record,
        });
    }
}
