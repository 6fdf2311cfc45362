//! The event thread: one per engine, one epoll, for every socket that somebody outside may speak to.
//!
//! It serves the relay's published ports and the name servers inside containers, and is started with the first of
//! either. Handles put sockets in under a lock of their own; what a conversation needs beside is the thread's alone.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData};
use rustix::event::{EventfdFlags, Timespec};

use crate::dns::{Clients, Responding};
use crate::error::NetError;
use crate::names::NameBoard;
use crate::relay::{Listeners, Relaying};
use crate::shared::lock;

/// Bytes that pass through the thread at once: the largest datagram fits.
const SCRATCH: usize = 64 << 10;

/// What an event is about; the rest of its token is a number of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Somebody changed what the thread works on.
    Wake,
    /// A reserved port.
    Listener,
    /// One half of a relayed connection.
    Stream,
    /// The container's side of a relayed datagram session.
    Session,
    /// A name server's datagram socket.
    Queries,
    /// A name server's listening socket.
    Connections,
    /// A connection of somebody who asks for names.
    Connection,
    /// A question that was forwarded.
    Exchange,
}

const KINDS: [Kind; 8] = [
    Kind::Wake,
    Kind::Listener,
    Kind::Stream,
    Kind::Session,
    Kind::Queries,
    Kind::Connections,
    Kind::Connection,
    Kind::Exchange,
];

/// The token of an event: three bits of kind, then the number.
pub(crate) fn token(kind: Kind, number: u64) -> EventData {
    EventData::new_u64(number << 3 | kind as u64)
}

/// The handle.
pub(crate) struct EventThread {
    names: NameBoard,
    host_file: PathBuf,
    running: Mutex<Option<Running>>,
}

struct Running {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// What both sides see. The epoll instance needs no lock; the kernel has its own.
pub(crate) struct Shared {
    pub(crate) epoll: OwnedFd,
    wake: OwnedFd,
    /// The relay's.
    pub(crate) listeners: Mutex<Listeners>,
    /// The name servers'.
    pub(crate) clients: Mutex<Clients>,
    stop: AtomicBool,
}

impl Shared {
    pub(crate) fn wake(&self) {
        // A full counter means that the thread is being woken already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl EventThread {
    /// The thread will answer names from this board, and find the host's name servers in this file.
    pub(crate) fn new(names: NameBoard, host_file: PathBuf) -> Self {
        Self {
            names,
            host_file,
            running: Mutex::default(),
        }
    }

    /// What both sides see, if the thread runs.
    pub(crate) fn shared(&self) -> Option<Arc<Shared>> {
        lock(&self.running)
            .as_ref()
            .map(|running| Arc::clone(&running.shared))
    }

    /// The same, after starting the thread, in the calling thread's network namespace, if it does not run.
    pub(crate) fn start(&self) -> Result<Arc<Shared>, NetError> {
        let mut running = lock(&self.running);
        let running = match &mut *running {
            Some(running) => running,
            none => none.insert(start(Responding::new(
                self.names.clone(),
                self.host_file.clone(),
            )?)?),
        };
        Ok(Arc::clone(&running.shared))
    }

    /// Closes everything and ends the thread.
    pub(crate) fn stop(&self) {
        let running = lock(&self.running).take();
        if let Some(Running { shared, thread }) = running {
            lock(&shared.listeners).clear();
            shared.stop.store(true, Ordering::Relaxed);
            shared.wake();
            if thread.join().is_err() {
                tracing::error!("the network's event thread panicked");
            }
        }
    }
}

fn start(responding: Responding) -> Result<Running, NetError> {
    let what = "start the network's event thread";
    let fail = |source: rustix::io::Errno| NetError::kernel(what, source);
    let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(fail)?;
    let wake =
        rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(fail)?;
    let flags = epoll::EventFlags::IN;
    epoll::add(&epoll, &wake, token(Kind::Wake, 0), flags).map_err(fail)?;
    let shared = Arc::new(Shared {
        epoll,
        wake,
        listeners: Mutex::default(),
        clients: Mutex::default(),
        stop: AtomicBool::new(false),
    });
    let seat = Seat {
        relaying: Relaying::default(),
        responding,
        shared: Arc::clone(&shared),
        scratch: vec![0; SCRATCH],
    };
    let thread = std::thread::Builder::new()
        .name("net-events".to_owned())
        .spawn(move || seat.run())
        .map_err(|source| NetError::kernel(what, source))?;
    Ok(Running { shared, thread })
}

/// What the thread owns.
struct Seat {
    shared: Arc<Shared>,
    relaying: Relaying,
    responding: Responding,
    scratch: Vec<u8>,
}

impl Seat {
    fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            let waits = [self.relaying.wait(), self.responding.wait(Instant::now())];
            let timeout = waits.into_iter().flatten().min().map(timespec);
            events.clear();
            let waited = epoll::wait(
                &self.shared.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            );
            if let Err(error) = waited
                && error != rustix::io::Errno::INTR
            {
                tracing::error!(%error, "the network's event thread cannot wait");
                return;
            }
            for event in events.drain(..) {
                let data = event.data.u64();
                let (kind, number) = (KINDS[(data & 7) as usize], data >> 3);
                let (shared, flags, scratch) = (&self.shared, event.flags, &mut self.scratch[..]);
                match kind {
                    Kind::Wake => {
                        let mut counter = [0; 8];
                        let _ = rustix::io::read(&shared.wake, &mut counter);
                    }
                    Kind::Listener | Kind::Stream | Kind::Session => {
                        self.relaying.event(shared, kind, number, flags, scratch);
                    }
                    _ => self.responding.event(shared, kind, number, flags, scratch),
                }
            }
            let now = Instant::now();
            self.relaying.turn(&self.shared, now, &mut self.scratch);
            self.responding.turn(&self.shared, now);
            if self.shared.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

fn timespec(wait: Duration) -> Timespec {
    Timespec {
        tv_sec: wait.as_secs().cast_signed(),
        tv_nsec: i64::from(wait.subsec_nanos()),
    }
}
