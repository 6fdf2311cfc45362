//! Reading what containers wrote: several files, some compressed, followed without loss; and compressing those that are full.
//!
//! ```text
//! <path>          newest, the monitor appends to it (hoist-runtime, monitor::log, says how entries look)
//! <path>.7        full: its number stays, higher is newer
//! <path>.6.gz     the same, compressed here (compress.rs); <path>.6 is taken away when this is whole
//! <path>.lost     how many lines are in no file
//! ```
//!
//! A follower knows the number of the file it reads, so a rotation neither loses nor repeats a line, whether the next file was
//! compressed meanwhile or not. A follower that lags so far that files it never opened are gone says so in its output; the one
//! it reads it keeps open.
//!
//! `since` is found by time, not by reading from the start. An index beside the file would have to be kept in step with it over
//! crashes and full disks; entries carry their time already, within a file times never go back (or the file is marked), and
//! every entry ends in a newline: so uncompressed files are searched by halving. Compressed files cannot be, so theirs is
//! within: each member's header says its span of time and its number of lines.

mod backward;
mod compress;
mod entry;
mod files;
mod members;
mod reader;
mod search;
mod source;
#[cfg(test)]
mod tests;
mod watches;

use std::path::PathBuf;

use hoist_model::container::{LogFormat, LogOptions};
use tokio::sync::{mpsc, watch};

use self::reader::{Reader, State};
pub(crate) use self::watches::Watches;
use crate::clock::now;
use crate::containers::{LogEntry, LogRequest};
use crate::error::ContainerError;

/// A log: its newest file, and how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) format: LogFormat,
    pub(crate) options: LogOptions,
}

/// What a reader answers: entries, or why it had to stop. Bounded: a reader that does not take them holds only itself up.
pub(crate) type Entries = mpsc::Sender<Result<Vec<LogEntry>, ContainerError>>;

/// Lines of a log that are in none of its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogLost {
    /// Did not fit in the buffer of non-blocking mode.
    pub dropped: u64,
    /// Could not be written, for a full disk.
    pub unwritten: u64,
}

impl LogLost {
    pub(crate) fn read(place: &Place) -> Self {
        let text = std::fs::read_to_string(format!("{}.lost", place.path.display()));
        let text = text.unwrap_or_default();
        let mut numbers = text
            .trim_end_matches('\0')
            .split_whitespace()
            .map(|number| number.parse().unwrap_or(0));
        Self {
            dropped: numbers.next().unwrap_or(0),
            unwritten: numbers.next().unwrap_or(0),
        }
    }
}

/// Reads a log into a channel; ends with the log or, following, when `running` says false and all is read.
pub(crate) async fn read(
    place: Place,
    request: LogRequest,
    mut running: watch::Receiver<bool>,
    watches: Watches,
    out: Entries,
) {
    let context = format!("log {}", place.path.display());
    let failed = |source| ContainerError::Io {
        context: context.clone(),
        source,
    };
    // Before anything is read, so that nothing is written unseen in between.
    let mut changes = request.follow.then(|| watches.follow(&place));
    let mut reader = match blocking(move || Reader::open(place, request)).await {
        Ok(reader) => reader,
        Err(error) => {
            // Nobody left to tell is no error of ours.
            let _ = out.send(Err(failed(error))).await;
            return;
        }
    };
    loop {
        // Asked before the read: what is written before the end is there when the end is known.
        let alive = *running.borrow_and_update();
        let over = request.until.is_some_and(|until| until <= now());
        if let Some(changes) = &mut changes {
            changes.seen();
        }
        let (state, entries);
        (reader, state, entries) = match blocking(move || reader.batch()).await {
            Ok(batch) => batch,
            Err(error) => {
                let _ = out.send(Err(failed(error))).await;
                return;
            }
        };
        if !entries.is_empty() && out.send(Ok(entries)).await.is_err() {
            return;
        }
        let changes = match (state, &mut changes) {
            (State::More, _) => continue,
            (State::AtEnd, Some(changes)) if alive && !over => changes,
            _ => return,
        };
        let left = request.until.map(|until| until.since(now()));
        let passing = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changes.wait() => {}
            changed = running.changed() => if changed.is_err() { return },
            () = passing => {}
            () = out.closed() => return,
        }
    }
}

/// Runs what touches files where it may block. Nothing that waits for a client runs there: the threads are few.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(std::io::Error::other(error)),
    }
}
