//! The monitor: one small process per container (or exec) that makes it, carries its streams, writes its log and its end.
//!
//! ```text
//!             ┌────────── control: Started, Failed, Ended ◄─► Attach, Resize, Recorded ── daemon
//! monitor ────┤           (a later daemon connects through the listener)
//!             ├── pidfd   the container's first process
//!             ├── stdout, stderr or terminal ──► log file, attached clients
//!             └── stdin  ◄── attached clients
//! ```
//!
//! It outlives the daemon, and the daemon holds what a successor needs should it be killed. One thread, one poll loop; nothing in it waits for a client, a disk or a daemon for ever.

mod attached;
mod launch;
mod log;
mod output;
mod spill;
mod succession;

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use hoist_model::Timestamp;
use hoist_model::container::LogFormat;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use self::attached::Attached;
pub(crate) use self::launch::{now, rehearse};
use self::log::Log;
use self::output::Output;
use self::spill::Shelf;
pub(crate) use self::succession::{Carried, Succession, run_successor};
use crate::exit_record::{self, ExitRecord};
use crate::message::{self, Kind};
use crate::plan::{ChildFailure, Plan};
use crate::spare::Furniture;
use crate::spec::Streams;

/// What the daemon orders. Descriptors beside it, in this order: control, then those named here, then the plan's.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) plan: Plan,
    /// A listening socket for later daemons.
    pub(crate) has_listener: bool,
    /// The slot for the exit record.
    pub(crate) has_record: bool,
    /// The directory of the log file; its name and limits.
    pub(crate) log: Option<LogOrder>,
    /// Streams attached from the start, one descriptor each.
    pub(crate) attached: Vec<Streams>,
    /// How many descriptors are only kept for later engines.
    #[serde(default)]
    pub(crate) kept: usize,
    pub(crate) terminal: bool,
    pub(crate) open_stdin: bool,
    pub(crate) stdin_once: bool,
}

/// The log file within the directory whose descriptor is beside the order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogOrder {
    pub(crate) name: String,
    pub(crate) max_size: u64,
    pub(crate) max_files: u32,
    #[serde(default)]
    pub(crate) format: LogFormat,
    /// A JSON object that goes with every entry, or nothing.
    #[serde(default)]
    pub(crate) attributes: String,
    /// Bytes that may wait to be written; without, the container waits.
    #[serde(default)]
    pub(crate) buffer: Option<u64>,
}

/// Body of [`Kind::Started`]; the pidfd is beside it, and what is carried.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    pub(crate) started_at: Timestamp,
    /// What the daemon holds for a successor. Monitors of earlier engines leave nothing.
    #[serde(default)]
    pub(crate) carried: Carried,
}

/// Body of [`Kind::Resize`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// Runs a monitor to its end: the life of a freshly forked child of the zygote.
pub(crate) fn run(order: &Order, fds: Vec<OwnedFd>, furniture: Vec<Furniture>) {
    let mut fds = fds.into_iter();
    let Some(control) = fds.next() else { return };
    match Monitor::start(order, fds, furniture) {
        Ok(mut monitor) => {
            monitor.control = Some(control);
            monitor.watch();
        }
        Err(failure) => {
            // The daemon may be gone: then nobody is there to be told.
            let _ = message::send(&control, Kind::Failed, &failure, &[]);
        }
    }
}

/// Tells that an order cannot be read.
pub(crate) fn refuse(fds: &[OwnedFd], error: &io::Error) {
    let failure = ChildFailure::Clone {
        what: format!("read the order: {error}"),
        errno: libc::EBADMSG,
    };
    if let Some(control) = fds.first() {
        let _ = message::send(control, Kind::Failed, &failure, &[]);
    }
}

struct Monitor {
    control: Option<OwnedFd>,
    listener: Option<OwnedFd>,
    record: Option<OwnedFd>,
    started: Started,
    pidfd: OwnedFd,
    /// The process's mount namespace, held so that its end does not wait for it.
    _mounts: Option<OwnedFd>,
    /// Whether the process is not our child, because an earlier monitor made it.
    is_successor: bool,
    /// Of a successor: where the zygote, the process' parent now, tells its end.
    line: Option<OwnedFd>,
    /// How it ended; within, `None` where nobody knows.
    ended: Option<Option<ExitRecord>>,
    /// The daemon has noted the end; only unfinished output keeps us.
    noted: bool,
    outputs: Vec<Output>,
    /// Write side of standard input; a terminal's master serves both ways.
    stdin: Option<OwnedFd>,
    /// Input on its way.
    input: Vec<u8>,
    /// No more input comes: standard input closes once that on its way is written.
    input_ends: bool,
    terminal: Option<OwnedFd>,
    stdin_once: bool,
    attached: Vec<Attached>,
    /// Bytes that are kept on disk for attached clients.
    spilled: Rc<Cell<u64>>,
    log: Option<Log>,
    /// For an engine to come.
    kept: Vec<OwnedFd>,
}

/// Which of the polled descriptors is which.
#[derive(Clone, Copy)]
enum Source {
    Process,
    Control,
    Listener,
    Output(usize),
    Input,
    Client(usize),
}

impl Monitor {
    fn watch(&mut self) {
        if let Some(control) = self.control.take() {
            let _ = self.introduce(&control, false);
            self.control = Some(control);
        }
        while !self.is_done() {
            let ready = match self.poll() {
                Ok(ready) => ready,
                // Nothing sensible can be done about a failing poll but to try for the end of the process.
                Err(_) => vec![(Source::Process, PollFlags::IN)],
            };
            for (source, flags) in ready {
                self.serve(source, flags);
            }
            self.flush();
            self.attached.retain(|client| !client.is_gone());
        }
    }

    /// Nothing is left to carry: the process ended, its output is with its readers, and the end is noted or kept on file.
    fn is_done(&self) -> bool {
        self.ended.is_some()
            && self.attached.iter().all(Attached::is_flushed)
            && (self.noted || self.control.is_none())
    }

    fn poll(&mut self) -> io::Result<Vec<(Source, PollFlags)>> {
        let patience = self
            .attached
            .iter_mut()
            .filter_map(Attached::patience)
            .min();
        let crowded = patience.is_some();
        let patience = patience.and_then(|left| Timespec::try_from(left).ok());
        let mut sources = Vec::new();
        let mut polled = Vec::new();
        let mut add = |source, fd, flags| {
            sources.push(source);
            polled.push(PollFd::from_borrowed_fd(fd, flags));
        };
        if self.ended.is_none() {
            add(Source::Process, self.pidfd.as_fd(), PollFlags::IN);
        }
        if let Some(control) = &self.control {
            add(Source::Control, control.as_fd(), PollFlags::IN);
        }
        if let Some(listener) = &self.listener {
            add(Source::Listener, listener.as_fd(), PollFlags::IN);
        }
        for (index, output) in self.outputs.iter().enumerate() {
            // A client that does not read holds the output up for a while; it does not hold up its end.
            if let Some(fd) = output.fd()
                && !crowded
            {
                add(Source::Output(index), fd, PollFlags::IN);
            }
        }
        if let Some(stdin) = &self.stdin
            && !self.input.is_empty()
        {
            add(Source::Input, stdin.as_fd(), PollFlags::OUT);
        }
        for (index, client) in self.attached.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(
                PollFlags::IN,
                client.is_read() && self.input.len() < attached::FULL,
            );
            flags.set(PollFlags::OUT, !client.is_flushed());
            if flags.is_empty() && client.is_hung_up() {
                continue;
            }
            add(Source::Client(index), client.fd(), flags);
        }
        loop {
            match poll(&mut polled, patience.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        let ready = sources
            .into_iter()
            .zip(&polled)
            .map(|(source, fd)| (source, fd.revents()));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn serve(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::Process => self.process_ended(),
            Source::Control => self.hear(),
            Source::Listener => self.accept(),
            Source::Output(index) => self.carry_outputs(index),
            Source::Input => self.write_input(),
            Source::Client(index) => self.serve_client(index, flags),
        }
    }

    fn process_ended(&mut self) {
        let exit_code = if self.is_successor {
            self.learn_end()
        } else {
            match launch::reap(&self.pidfd) {
                None => return,
                code => code,
            }
        };
        for index in 0..self.outputs.len() {
            // Everything the process wrote is in the pipe by now. Descendants outside its PID namespace may keep it
            // open: what they write later is nobody's.
            self.drain_output(index);
        }
        if let Some(log) = &mut self.log {
            log.finish();
        }
        self.outputs.clear();
        // The daemon lets go of its duplicates when it hears of the end; a port is free for the next start then.
        self.kept.clear();
        self.stdin = None;
        self.terminal = None;
        for client in &mut self.attached {
            client.end();
        }
        let record = exit_code.map(|exit_code| ExitRecord {
            exit_code,
            finished_at: launch::now(),
        });
        // Left empty the slot says that nobody knows.
        if let (Some(slot), Some(record)) = (&self.record, &record) {
            exit_record::write(slot, record);
        }
        self.ended = Some(record);
        self.tell_end();
    }

    fn tell_end(&mut self) {
        if let (Some(control), Some(record)) = (&self.control, &self.ended)
            && message::send(control, Kind::Ended, record, &[]).is_err()
        {
            self.control = None;
        }
    }

    pub(super) fn hear(&mut self) {
        let Some(control) = &self.control else { return };
        match message::receive(control) {
            Ok(Some(message)) => match message.kind {
                Kind::Recorded => self.noted = true,
                Kind::Attach => self.attach(message),
                Kind::Resize => {
                    if let (Ok(size), Some(terminal)) = (message.body::<Size>(), &self.terminal) {
                        launch::resize(terminal, &size);
                    }
                }
                _ => {}
            },
            // The daemon is gone, or speaks another language: a later one may connect.
            Ok(None) | Err(_) => self.control = None,
        }
    }

    fn attach(&mut self, message: message::Message) {
        let Ok(streams) = message.body::<Streams>() else {
            return;
        };
        if let Some(fd) = message.fds.into_iter().next() {
            let mut client = Attached::new(fd, streams, self.terminal.is_some());
            if self.ended.is_some() {
                client.end();
            }
            self.attached.push(client);
        }
    }

    /// A later daemon: it replaces the earlier one and is told what there is to know.
    pub(super) fn accept(&mut self) {
        use rustix::net::{SocketFlags, accept_with};
        let Some(listener) = &self.listener else {
            return;
        };
        let Ok(control) = accept_with(listener, SocketFlags::CLOEXEC) else {
            return;
        };
        if self.introduce(&control, true).is_ok() {
            self.control = Some(control);
            self.tell_end();
        }
    }

    /// Carries what there is, up to as much as a pipe holds: one look at everything else for several chunks.
    fn carry_outputs(&mut self, index: usize) {
        for _ in 0..output::CHUNKS {
            if !self.carry_output(index) || self.attached.iter().any(Attached::is_full) {
                return;
            }
        }
    }

    fn carry_output(&mut self, index: usize) -> bool {
        let Some(output) = self.outputs.get_mut(index) else {
            return false;
        };
        let mut buffer = [0; output::CHUNK];
        match output.read(&mut buffer) {
            output::Read::Some(length) => {
                let (stream, bytes) = (output.stream(), &buffer[..length]);
                if let Some(log) = &mut self.log {
                    log.write(stream, bytes);
                }
                let kept = &self.spilled;
                let disk = self.log.as_ref().and_then(Log::spills);
                let disk = disk.map(|directory| Shelf { directory, kept });
                for client in &mut self.attached {
                    client.give(stream, bytes, disk);
                }
                true
            }
            output::Read::Later => false,
            output::Read::End => {
                output.close();
                false
            }
        }
    }

    fn drain_output(&mut self, index: usize) {
        // Bounded: a descendant that goes on writing does not keep us from reporting the end.
        for _ in 0..output::LAST_CHUNKS {
            if !self.carry_output(index) {
                return;
            }
        }
    }

    fn serve_client(&mut self, index: usize, flags: PollFlags) {
        let Some(client) = self.attached.get_mut(index) else {
            return;
        };
        if flags.contains(PollFlags::IN) {
            let mut buffer = [0; output::CHUNK];
            match client.take(&mut buffer) {
                attached::Taken::Some(length) => {
                    if self.stdin.is_some() {
                        self.input.extend_from_slice(&buffer[..length]);
                    }
                }
                attached::Taken::Later => {}
                attached::Taken::End => {
                    self.input_ends |= client.gives() && self.stdin_once && self.terminal.is_none();
                }
            }
        } else if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
            client.hang_up();
        }
    }

    fn write_input(&mut self) {
        let Some(stdin) = &self.stdin else {
            self.input.clear();
            return;
        };
        match rustix::io::write(stdin, &self.input) {
            Ok(written) => drop(self.input.drain(..written)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => {
                self.input.clear();
                if self.terminal.is_none() {
                    self.close_input();
                }
            }
        }
    }

    fn flush(&mut self) {
        if !self.input.is_empty() {
            self.write_input();
        }
        if self.input_ends && self.input.is_empty() {
            self.close_input();
        }
        for client in &mut self.attached {
            client.flush();
        }
    }
}
