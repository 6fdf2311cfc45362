//! Learning that logs grow and are rotated: one inotify instance for all followers and for the compressor.
//!
//! ```text
//! directory of a running container ── MOVED_TO (rotation) ──► compressor, one file at a time
//!          … that somebody follows ── MODIFY, CREATE, … ────► its followers
//! ```
//!
//! A machine has few instances (128 for a user) and many watches. Where even those are used up, followers look twice a second.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Place, compress};

/// How often a follower looks that cannot be told.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub(crate) struct Watches {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None` where the machine has no more instances.
    inotify: Option<OwnedFd>,
    /// Held to look directories up, put one in or take one out.
    state: Mutex<State>,
    /// Logs that may have full files.
    full: mpsc::UnboundedSender<Place>,
    /// The other end, until it is worked on.
    fulls: Mutex<Option<mpsc::UnboundedReceiver<Place>>>,
}

#[derive(Default)]
struct State {
    directories: HashMap<PathBuf, Directory>,
    names: HashMap<i32, PathBuf>,
}

struct Directory {
    descriptor: Option<i32>,
    changed: watch::Sender<()>,
    followers: usize,
    /// Of a container that runs: the log whose full files are compressed.
    compressed: Option<Place>,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            descriptor: None,
            changed: watch::Sender::new(()),
            followers: 0,
            compressed: None,
        }
    }
}

/// A follower's side; dropping it ends the watch.
pub(super) struct Changes {
    watches: Watches,
    directory: PathBuf,
    changed: watch::Receiver<()>,
    told: bool,
}

impl Watches {
    pub(crate) fn new() -> Self {
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK);
        let inotify = inotify
            .inspect_err(|error| tracing::warn!(%error, "logs cannot be watched, only looked at"))
            .ok();
        let (full, fulls) = mpsc::unbounded_channel();
        Self {
            inner: Arc::new(Inner {
                inotify,
                state: Mutex::default(),
                full,
                fulls: Mutex::new(Some(fulls)),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = &self.inner.state;
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears of a log's growth from now on.
    pub(super) fn follow(&self, place: &Place) -> Changes {
        let directory = directory(place);
        let mut state = self.state();
        let entry = state.directories.entry(directory.clone()).or_default();
        entry.followers += 1;
        let changed = entry.changed.subscribe();
        let told = self.renew(&mut state, &directory);
        Changes {
            watches: self.clone(),
            directory,
            changed,
            told,
        }
    }

    /// The container runs: its log's full files are to be compressed.
    pub(crate) fn attend(&self, place: Place) {
        if !place.options.compress {
            return;
        }
        let directory = directory(&place);
        let mut state = self.state();
        let entry = state.directories.entry(directory.clone()).or_default();
        entry.compressed = Some(place);
        self.renew(&mut state, &directory);
    }

    /// The container has ended, or is one that an earlier engine left: what is full is compressed, and no more is.
    pub(crate) fn rest(&self, place: Place) {
        let directory = directory(&place);
        let mut state = self.state();
        if let Some(entry) = state.directories.get_mut(&directory) {
            entry.compressed = None;
            self.renew(&mut state, &directory);
        }
        drop(state);
        self.sweep(place);
    }

    /// Has its full files compressed when their turn comes.
    pub(crate) fn sweep(&self, place: Place) {
        if place.options.compress {
            let _ = self.inner.full.send(place);
        }
    }

    /// Watches a directory for what is wanted of it, or no more. Whether followers will be told.
    fn renew(&self, state: &mut State, path: &Path) -> bool {
        let Some(entry) = state.directories.get_mut(path) else {
            return false;
        };
        let Some(inotify) = &self.inner.inotify else {
            return false;
        };
        if entry.followers == 0 && entry.compressed.is_none() {
            if let Some(descriptor) = entry.descriptor {
                let _ = inotify::remove_watch(inotify, descriptor);
                state.names.remove(&descriptor);
            }
            state.directories.remove(path);
            return false;
        }
        let mut flags = WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        if entry.followers > 0 {
            flags |= WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::DELETE;
        }
        match inotify::add_watch(inotify, path, flags) {
            Ok(descriptor) => {
                entry.descriptor = Some(descriptor);
                state.names.insert(descriptor, path.to_owned());
                true
            }
            Err(error) => {
                let directory = path.display();
                tracing::debug!(%directory, %error, "logs cannot be watched, only looked at");
                false
            }
        }
    }

    /// Tells followers and compresses, until the engine stops. To be run once.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        let fulls = &self.inner.fulls;
        let fulls = fulls.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(fulls) = fulls else { return };
        let work = async {
            tokio::join!(self.hear(), compress_all(fulls));
        };
        tokio::select! {
            () = stopping.cancelled() => {}
            () = work => {}
        }
    }

    async fn hear(&self) {
        let Some(inotify) = &self.inner.inotify else {
            return;
        };
        let Ok(inotify) = inotify.try_clone().and_then(watched) else {
            return;
        };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        while let Ok(mut guard) = inotify.readable().await {
            let mut reader = inotify::Reader::new(inotify.get_ref(), &mut buffer);
            while let Ok(event) = reader.next() {
                self.tell(event.wd(), event.events());
            }
            guard.clear_ready();
        }
    }

    fn tell(&self, descriptor: i32, events: ReadFlags) {
        let state = self.state();
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            // Whatever it was: everybody looks.
            for entry in state.directories.values() {
                entry.changed.send_replace(());
                if let Some(place) = &entry.compressed {
                    self.sweep(place.clone());
                }
            }
            return;
        }
        let Some(entry) = state
            .names
            .get(&descriptor)
            .and_then(|path| state.directories.get(path))
        else {
            return;
        };
        entry.changed.send_replace(());
        if events.contains(ReadFlags::MOVED_TO)
            && let Some(place) = &entry.compressed
        {
            self.sweep(place.clone());
        }
    }
}

impl Changes {
    /// What happened up to now is known.
    pub(super) fn seen(&mut self) {
        self.changed.mark_unchanged();
    }

    /// Ends when something happened since. Cancel-safe.
    pub(super) async fn wait(&mut self) {
        if !self.told {
            tokio::time::sleep(PAUSE).await;
        } else if self.changed.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        let mut state = self.watches.state();
        if let Some(entry) = state.directories.get_mut(&self.directory) {
            entry.followers -= 1;
            self.watches.renew(&mut state, &self.directory);
        }
    }
}

fn directory(place: &Place) -> PathBuf {
    place.path.parent().map(Path::to_owned).unwrap_or_default()
}

#[expect(
    deprecated,
    reason = "sound for an OwnedFd, which closes only with the AsyncFd; its successor is unsafe"
)]
fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

/// One log after the other: it shares the machine with the containers.
async fn compress_all(mut fulls: mpsc::UnboundedReceiver<Place>) {
    let mut batch = Vec::new();
    while fulls.recv_many(&mut batch, 1024).await > 0 {
        let mut done: HashSet<OsString> = HashSet::new();
        for place in batch.drain(..) {
            if !done.insert(place.path.clone().into_os_string()) {
                continue;
            }
            let log = place.path.display().to_string();
            let swept = super::blocking(move || compress::sweep(&place)).await;
            if let Err(error) = swept {
                tracing::warn!(log, %error, "a full log file is not compressed");
            }
        }
    }
}
