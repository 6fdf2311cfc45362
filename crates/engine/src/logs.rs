//! Reading what containers wrote: Docker's json-file format, rotated files included, followed without loss.
//!
//! ```text
//! <path>        newest, the monitor appends to it       {"log":"text\n","stream":"stdout","time":"RFC 3339"}
//! <path>.1      the one before; <path>.2 older still; the monitor renames on rotation
//! ```
//!
//! Following reads the open file to its end, then waits for inotify: a change wakes the reader, a rename makes it
//! finish the old file and open the new one, so rotation neither loses nor repeats a line.

mod backward;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify;
use serde::Deserialize;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

use crate::containers::{LogEntry, LogRequest};
use crate::error::ContainerError;

/// One line of the file.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    stream: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    time: std::borrow::Cow<'a, str>,
}

/// What a reader answers: entries, or why it had to stop.
pub(crate) type Entries = mpsc::Sender<Result<LogEntry, ContainerError>>;

fn parse(line: &[u8]) -> Option<LogEntry> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    Some(LogEntry {
        stream: if line.stream == "stderr" { 2 } else { 1 },
        at: line.time.parse().ok()?,
        bytes: line.log.into_owned().into_bytes(),
    })
}

fn wanted(request: &LogRequest, entry: &LogEntry) -> bool {
    let stream = if entry.stream == 2 {
        request.stderr
    } else {
        request.stdout
    };
    stream && request.since.is_none_or(|since| entry.at >= since)
}

/// Whether everything from this entry on is later than was asked for.
fn past_end(request: &LogRequest, entry: &LogEntry) -> bool {
    request.until.is_some_and(|until| entry.at > until)
}

/// The files of one log, oldest first.
fn files(path: &Path) -> Vec<PathBuf> {
    let rotated = |n: u32| PathBuf::from(format!("{}.{n}", path.display()));
    let mut files: Vec<PathBuf> = (1..)
        .map(rotated)
        .take_while(|file| file.exists())
        .collect();
    files.reverse();
    files.push(path.to_owned());
    files
}

/// Reads a log into a channel; ends with the log or, following, when `running` says false and all is read.
pub(crate) async fn read(
    path: PathBuf,
    request: LogRequest,
    mut running: watch::Receiver<bool>,
    out: Entries,
) {
    let inotify = if request.follow {
        watch_file(&path).ok()
    } else {
        None
    };
    let Some(mut reader) = history(path.clone(), request, out.clone()).await else {
        return;
    };
    if !request.follow
        || request
            .until
            .is_some_and(|until| until <= crate::clock::now())
    {
        return;
    }
    let Some(mut inotify) = inotify else { return };
    loop {
        let alive = *running.borrow_and_update();
        match drain(&mut reader, &request, &out).await {
            Drained::AtEnd => {}
            Drained::Over => return,
        }
        if is_renamed(&reader, &path) {
            // What was written between our last read and the rename is still in the old file: read it out first.
            if matches!(drain(&mut reader, &request, &out).await, Drained::Over) {
                return;
            }
            match (File::open(&path), watch_file(&path)) {
                (Ok(file), Ok(watch)) => {
                    reader = Tail::new(file);
                    inotify = watch;
                    continue;
                }
                _ if !alive => return,
                _ => {}
            }
        }
        if !alive {
            return;
        }
        tokio::select! {
            ready = inotify.readable() => match ready {
                Ok(mut guard) => {
                    discard(inotify.get_ref());
                    guard.clear_ready();
                }
                Err(_) => return,
            },
            changed = running.changed() => if changed.is_err() { return },
            () = out.closed() => return,
        }
    }
}

/// Reads what is there already. `None` when the reader went away or the end asked for was reached.
async fn history(path: PathBuf, request: LogRequest, out: Entries) -> Option<Tail> {
    let errors = out.clone();
    let work = move || -> Result<Option<Tail>, ContainerError> {
        let files = files(&path);
        let start = match request.tail {
            Some(lines) => backward::nth_last_line(&files, lines),
            None => Ok((0, 0)),
        };
        let failed = |source| ContainerError::Io {
            context: format!("log {}", path.display()),
            source,
        };
        let (first, offset) = start.map_err(failed)?;
        let mut last = None;
        for (index, file) in files.iter().enumerate().skip(first) {
            let mut file = match File::open(file) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            if index == first {
                file.seek(SeekFrom::Start(offset)).map_err(failed)?;
            }
            let mut tail = Tail::new(file);
            while let Some(entry) = tail.next().map_err(failed)? {
                if past_end(&request, &entry) {
                    return Ok(None);
                }
                if wanted(&request, &entry) && out.blocking_send(Ok(entry)).is_err() {
                    return Ok(None);
                }
            }
            last = Some(tail);
        }
        Ok(last)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(tail)) => tail,
        Ok(Err(error)) => {
            // Nobody left to tell is no error of ours.
            let _ = errors.send(Err(error)).await;
            None
        }
        Err(_) => None,
    }
}

enum Drained {
    AtEnd,
    Over,
}

async fn drain(reader: &mut Tail, request: &LogRequest, out: &Entries) -> Drained {
    loop {
        match reader.next() {
            Ok(Some(entry)) if past_end(request, &entry) => return Drained::Over,
            Ok(Some(entry)) if wanted(request, &entry) => {
                if out.send(Ok(entry)).await.is_err() {
                    return Drained::Over;
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => return Drained::AtEnd,
            Err(_) => return Drained::Over,
        }
    }
}

/// A file read line by line, which keeps an unfinished last line until it is whole.
struct Tail {
    file: BufReader<File>,
    line: Vec<u8>,
}

impl Tail {
    fn new(file: File) -> Self {
        Self {
            file: BufReader::new(file),
            line: Vec::new(),
        }
    }

    /// The next whole entry; `None` at the end for now. Lines that are not entries are passed over.
    fn next(&mut self) -> io::Result<Option<LogEntry>> {
        loop {
            self.file.read_until(b'\n', &mut self.line)?;
            if self.line.last() != Some(&b'\n') {
                return Ok(None);
            }
            let entry = parse(&self.line);
            self.line.clear();
            if entry.is_some() {
                return Ok(entry);
            }
        }
    }
}

/// Whether the path names another file by now than the one being read.
fn is_renamed(reader: &Tail, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (reader.file.get_ref().metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => open.ino() != named.ino() || open.dev() != named.dev(),
        _ => false,
    }
}

#[expect(
    deprecated,
    reason = "sound for an OwnedFd, which closes only with the AsyncFd; its successor is unsafe"
)]
fn watch_file(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(
        &fd,
        path,
        inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVE_SELF,
    )?;
    AsyncFd::new(fd)
}

fn discard(fd: &OwnedFd) {
    let mut buffer = [0_u8; 4096];
    while rustix::io::read(fd, &mut buffer).is_ok_and(|n| n > 0) {}
}
