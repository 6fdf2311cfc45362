//! What a monitor leaves to its successor, should it die: the daemon keeps duplicates of all that it works with.
//!
//! ```text
//! Started / Succeed: pidfd, then what Carried names: terminal, or outputs and input; the log's directory; what is kept
//! ```
//!
//! The successor is no parent of the process: the zygote, to which it fell, tells it the end through a socket, the line.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::log::Log;
use super::output::Output;
use super::{LogOrder, Monitor, Started};
use crate::exit_record::ExitRecord;
use crate::message::{self, Kind};

/// Between looks for an end that is due.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};
/// How often an end that is due is looked for: about a second. Only a process whose zygote died, too, is not told of at once.
const LOOKS: u32 = 100;
/// The same without a daemon that could look for itself: about a minute, for a host whose init reaps when it likes.
const LONELY_LOOKS: u32 = 6000;

/// Names the descriptors that travel beside [`Started`] and [`Succession`], after the pidfd and in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Carried {
    /// The terminal's master; then there are no outputs, and input goes to it.
    pub(crate) terminal: bool,
    /// Streams whose read ends follow.
    pub(crate) outputs: Vec<u8>,
    /// Whether standard input is open; its write end follows, unless there is a terminal.
    pub(crate) input: bool,
    pub(crate) stdin_once: bool,
    /// How to log; the directory follows.
    pub(crate) log: Option<LogOrder>,
    /// How many descriptors follow that are only kept for later engines.
    #[serde(default)]
    pub(crate) kept: usize,
}

impl Carried {
    /// Place of the input's write end in the list.
    pub(crate) fn input_place(&self) -> Option<usize> {
        (self.input && !self.terminal).then_some(self.outputs.len())
    }

    fn count(&self) -> usize {
        let streams = if self.terminal {
            1
        } else {
            self.outputs.len() + usize::from(self.input)
        };
        streams + usize::from(self.log.is_some()) + self.kept
    }
}

/// Body of [`Kind::Succeed`]. Descriptors beside it: control, listener and record slot where named, pidfd, what is carried.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Succession {
    pub(crate) started: Started,
    /// A listening socket for later daemons.
    pub(crate) has_listener: bool,
    /// The slot for the exit record.
    pub(crate) has_record: bool,
}

/// Runs a successor to its end: the life of a freshly forked child of the zygote, which tells the process' end by `line`.
pub(crate) fn run_successor(succession: Succession, fds: Vec<OwnedFd>, line: OwnedFd) {
    // Whoever ordered it sees the socket close, and watches the process itself.
    if let Ok(mut monitor) = Monitor::succeed(succession, fds.into_iter(), line) {
        monitor.watch();
    }
}

impl Monitor {
    fn succeed(
        succession: Succession,
        mut fds: impl Iterator<Item = OwnedFd>,
        line: OwnedFd,
    ) -> io::Result<Self> {
        let mut next = || {
            fds.next()
                .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
        };
        let control = next()?;
        let listener = succession.has_listener.then(&mut next).transpose()?;
        let record = succession.has_record.then(&mut next).transpose()?;
        let pidfd = next()?;
        let mounts = hoist_sys::process::mount_namespace(pidfd.as_fd()).ok();
        let carried = succession.started.carried.clone();
        let mut outputs = Vec::new();
        let (mut stdin, mut terminal) = (None, None);
        if carried.terminal {
            let master = next()?;
            outputs.push(Output::new(master.try_clone()?, 1)?);
            stdin = carried.input.then(|| master.try_clone()).transpose()?;
            terminal = Some(master);
        } else {
            for stream in &carried.outputs {
                outputs.push(Output::new(next()?, *stream)?);
            }
            if carried.input {
                stdin = Some(next()?);
            }
        }
        let log = match &carried.log {
            Some(log) => Some(Log::open(next()?, log.clone())?),
            None => None,
        };
        Ok(Self {
            control: Some(control),
            listener,
            record,
            started: succession.started,
            pidfd,
            _mounts: mounts,
            is_successor: true,
            line: Some(line),
            ended: None,
            noted: false,
            outputs,
            stdin,
            input: Vec::new(),
            input_ends: false,
            terminal,
            stdin_once: carried.stdin_once,
            attached: Vec::new(),
            spilled: std::rc::Rc::default(),
            log,
            kept: fds.by_ref().take(carried.kept).collect(),
        })
    }

    /// Tells the daemon what runs, with all that a successor would need; and a later daemon, which did not give it, what is
    /// kept for it.
    pub(super) fn introduce(&mut self, control: &OwnedFd, later: bool) -> io::Result<()> {
        let mut fds: Vec<BorrowedFd<'_>> = vec![self.pidfd.as_fd()];
        // An exec is over with its streams; only its end must not be lost.
        let carried = if self.record.is_some() && self.ended.is_none() {
            let outputs = self.outputs.iter().filter(|_| self.terminal.is_none());
            let open: Vec<_> = outputs
                .filter_map(|output| Some((output.stream(), output.fd()?)))
                .collect();
            let carried = Carried {
                terminal: self.terminal.is_some(),
                outputs: open.iter().map(|(stream, _)| *stream).collect(),
                input: self.stdin.is_some(),
                stdin_once: self.stdin_once,
                log: self.log.as_ref().map(|log| log.order().clone()),
                kept: if later { self.kept.len() } else { 0 },
            };
            fds.extend(self.terminal.as_ref().map(AsFd::as_fd));
            fds.extend(open.iter().map(|(_, fd)| *fd));
            if self.terminal.is_none() {
                fds.extend(self.stdin.as_ref().map(AsFd::as_fd));
            }
            fds.extend(self.log.as_ref().map(Log::directory));
            fds.extend(self.kept.iter().take(carried.kept).map(AsFd::as_fd));
            carried
        } else {
            Carried::default()
        };
        debug_assert_eq!(fds.len(), 1 + carried.count());
        self.started.carried = carried;
        message::send(control, Kind::Started, &self.started, &fds)
    }

    /// Closes standard input; the daemon's duplicate would keep the reader from seeing the end.
    pub(super) fn close_input(&mut self) {
        if self.stdin.take().is_some()
            && let Some(control) = &self.control
        {
            let _ = message::send(control, Kind::InputClosed, &(), &[]);
        }
    }

    /// How a process ended that is not our child: from the zygote, else from a kernel that still knows. Called when it
    /// has ended; waits for a bounded while, in which daemons are still answered: one that comes now finds the process
    /// ending, not unknown, and may learn from /proc what we cannot.
    pub(super) fn learn_end(&mut self) -> Option<i32> {
        let mut looks = 0;
        loop {
            if let Some(line) = &self.line {
                match read_line(line) {
                    Ok(Some(code)) => return Some(code),
                    Ok(None) => {}
                    Err(_) => self.line = None,
                }
            }
            if let Ok(Some(status)) = hoist_sys::process::reaped_status(self.pidfd.as_fd()) {
                return Some(ExitRecord::code_of(status));
            }
            let enough = if self.control.is_some() {
                LOOKS
            } else {
                LONELY_LOOKS
            };
            if looks >= enough {
                return None;
            }
            looks += 1;
            self.pause();
        }
    }

    /// Waits a moment for the zygote's word, and serves daemons meanwhile.
    fn pause(&mut self) {
        let ready = {
            let fds = [&self.line, &self.listener, &self.control];
            let mut polled: Vec<PollFd<'_>> = fds
                .iter()
                .filter_map(|fd| fd.as_ref())
                .map(|fd| PollFd::new(fd, PollFlags::IN))
                .collect();
            let _ = poll(&mut polled, Some(&PAUSE));
            let mut revents = polled.iter().map(|fd| !fd.revents().is_empty());
            fds.map(|fd| fd.is_some() && revents.next().unwrap_or_default())
        };
        if ready[1] {
            self.accept();
        } else if ready[2] {
            self.hear();
        }
    }
}

/// The code the zygote told; `None` if it has not yet, an error if it never will.
fn read_line(line: &OwnedFd) -> io::Result<Option<i32>> {
    let mut bytes = [0; 4];
    match rustix::net::recv(line, &mut bytes[..], rustix::net::RecvFlags::DONTWAIT) {
        Ok((4, _)) => Ok(Some(i32::from_le_bytes(bytes))),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
