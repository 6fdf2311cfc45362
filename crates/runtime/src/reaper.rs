//! The zygote as a parent: monitors are its children, and so becomes a process whose monitor was killed.
//!
//! The ends of those are told to whoever watches them now. An end that comes before its watcher is kept for a while.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use hoist_model::Timestamp;
use hoist_sys::children;
use rustix::event::{PollFd, PollFlags};
use rustix::net::SendFlags;

use crate::message;
use crate::monitor::now;

/// Ends kept for watchers to come; a process that shares the host's PID namespace may leave us many that nobody asks for.
const KEPT: usize = 256;

/// Who wants to know of the end of a process.
struct Watcher {
    pid: i32,
    line: OwnedFd,
}

/// The end of a process that was no monitor.
struct Stray {
    pid: i32,
    code: i32,
    at: Timestamp,
}

/// Waits for children.
pub(crate) struct Reaper {
    ends: Option<OwnedFd>,
    monitors: HashSet<i32>,
    watchers: Vec<Watcher>,
    strays: VecDeque<Stray>,
}

impl Reaper {
    /// From here on children stay zombies until [`Reaper::reap`].
    pub(crate) fn start() -> io::Result<Self> {
        Ok(Self {
            ends: Some(children::descriptor_of_ends()?),
            monitors: HashSet::new(),
            watchers: Vec::new(),
            strays: VecDeque::new(),
        })
    }

    /// What to wait on: ends of children, then watchers that go.
    pub(crate) fn polled(&self) -> impl Iterator<Item = PollFd<'_>> {
        let lines = self.watchers.iter().map(|watcher| watcher.line.as_fd());
        let ends = self.ends.iter();
        ends.map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN))
            .chain(lines.map(|line| PollFd::from_borrowed_fd(line, PollFlags::empty())))
    }

    /// Whether somebody waits for the end of a child of ours.
    pub(crate) fn is_needed(&self) -> bool {
        !self.watchers.is_empty()
    }

    /// Lets go of every descriptor: for a forked child, whose children are others.
    pub(crate) fn disown(&mut self) {
        self.ends = None;
        self.watchers.clear();
    }

    /// Takes note of a monitor that was forked.
    pub(crate) fn forked(&mut self, monitor: i32) {
        self.monitors.insert(monitor);
    }

    /// Tells the end of a process that is, or is about to become, our child: on the socket that this answers, four bytes.
    pub(crate) fn watch(&mut self, pid: i32, started_at: Timestamp) -> io::Result<OwnedFd> {
        self.reap();
        let (ours, theirs) = message::pair()?;
        let stray = self
            .strays
            .iter()
            .rev()
            .find(|stray| stray.pid == pid && stray.at >= started_at);
        self.watchers.retain(|watcher| watcher.pid != pid);
        match stray {
            Some(stray) => tell(&ours, stray.code),
            None => self.watchers.push(Watcher { pid, line: ours }),
        }
        Ok(theirs)
    }

    /// Reaps every child that has ended, and tells whom it concerns.
    pub(crate) fn reap(&mut self) {
        if let Some(ends) = &self.ends {
            children::take_notes(ends);
        }
        while let Some((pid, code)) = children::next_ended() {
            if self.monitors.remove(&pid) {
                continue;
            }
            let place = self.watchers.iter().position(|watcher| watcher.pid == pid);
            if let Some(place) = place {
                tell(&self.watchers.swap_remove(place).line, code);
                continue;
            }
            if self.strays.len() == KEPT {
                self.strays.pop_front();
            }
            let at = now();
            self.strays.push_back(Stray { pid, code, at });
        }
    }

    /// Forgets watchers that are gone.
    pub(crate) fn forget(&mut self) {
        self.watchers.retain(|watcher| {
            let mut polled = [PollFd::new(&watcher.line, PollFlags::empty())];
            let _ = rustix::event::poll(&mut polled, Some(&rustix::event::Timespec::default()));
            !polled[0].revents().contains(PollFlags::HUP)
        });
    }
}

fn tell(line: &OwnedFd, code: i32) {
    // A watcher that is gone does not mind.
    let _ = rustix::net::send(line, &code.to_le_bytes(), SendFlags::NOSIGNAL);
}
