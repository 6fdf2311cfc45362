//! Non-blocking mode: lines wait in a buffer of bounded size for a thread that writes them.
//!
//! ```text
//! monitor's loop ── whole lines ──► buffer (max-buffer-size) ──► thread ── Writer ──► file
//!                └─ does not fit: dropped, counted, said in the log when there is room again
//! ```
//!
//! Nothing the file system does (a disk that hangs, a file system that is frozen, a slow network mount) reaches the loop. The
//! one lock is held to add to the buffer or to take it away whole, never while anything is written.
//!
//! ```text
//! record: stream (1 byte; 0: so many lines were dropped here), time or number (8), length (4), bytes
//! ```

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::writer::{LONGEST_LINE, Writer, go_on};

/// Bytes before the text of a record.
const HEAD: usize = 13;
/// The longest that the end of a process is kept back for what still waits to be written.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// Memory that is kept when nothing waits.
const IDLE: usize = 64 * 1024;
/// What the thread's stack has: it formats and writes, nothing deep.
const STACK: usize = 128 * 1024;

#[derive(Default)]
struct Waiting {
    records: Vec<u8>,
    /// Bytes that the thread has taken and not yet written.
    in_flight: usize,
    /// No more comes.
    closed: bool,
    /// The thread wrote all and ended.
    done: bool,
}

#[derive(Default)]
struct Shared {
    /// Held to add or take records, never across a write.
    waiting: Mutex<Waiting>,
    /// Something was added, or no more comes.
    added: Condvar,
    /// All is written.
    done: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loop's side.
pub(super) struct Ring {
    shared: Arc<Shared>,
    capacity: usize,
    /// Per stream, what came after the last newline.
    partial: [Vec<u8>; 2],
    /// Per stream, whether the rest of a line whose first part was dropped is dropped too.
    skipping: [bool; 2],
    /// Per stream, whether a part of the line on its way was taken already.
    open: [bool; 2],
    dropped: u64,
}

impl Ring {
    /// Starts the thread; gives the writer back where there can be none.
    pub(super) fn start(writer: Writer, capacity: u64) -> Result<Self, Box<Writer>> {
        let shared = Arc::new(Shared::default());
        // Handed over in a slot, so that it is not lost with a thread that cannot be made.
        let slot = Arc::new(Mutex::new(Some(Box::new(writer))));
        let (theirs, its_slot) = (shared.clone(), slot.clone());
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let writer = its_slot
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                if let Some(mut writer) = writer {
                    carry(&theirs, &mut writer, capacity);
                }
            });
        if thread.is_err()
            && let Some(writer) = slot.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            return Err(writer);
        }
        Ok(Self {
            shared,
            capacity: usize::try_from(capacity).unwrap_or(usize::MAX),
            partial: Default::default(),
            skipping: [false; 2],
            open: [false; 2],
            dropped: 0,
        })
    }

    /// Takes what a stream gave, or drops what does not fit. Never waits for the disk.
    pub(super) fn write(&mut self, stream: u8, bytes: &[u8], at: i64) {
        let slot = usize::from(stream == 2);
        let mut line = std::mem::take(&mut self.partial[slot]);
        let (is_whole, rest) = go_on(&mut line, bytes);
        if is_whole {
            self.push(stream, &line, at);
            line.clear();
        }
        self.partial[slot] = line;
        // Whole lines in one piece; what is longer than a part goes part by part.
        let whole = memchr::memrchr(b'\n', rest).map_or(0, |at| at + 1);
        self.push(stream, &rest[..whole], at);
        let mut rest = &rest[whole..];
        while rest.len() >= LONGEST_LINE {
            let (part, later) = rest.split_at(LONGEST_LINE);
            self.push(stream, part, at);
            rest = later;
        }
        self.partial[slot].extend_from_slice(rest);
    }

    /// Takes the last that there is and waits, a bounded while, until all is written.
    pub(super) fn finish(&mut self, at: i64) {
        for stream in [1, 2] {
            let partial = std::mem::take(&mut self.partial[usize::from(stream == 2)]);
            self.push(stream, &partial, at);
        }
        let mut waiting = self.shared.lock();
        note_dropped(&mut waiting, &mut self.dropped);
        waiting.closed = true;
        self.shared.added.notify_one();
        let _ = self
            .shared
            .done
            .wait_timeout_while(waiting, LAST_WAIT, |waiting| !waiting.done);
    }

    /// Takes of these lines as many as fit.
    fn push(&mut self, stream: u8, bytes: &[u8], at: i64) {
        let slot = usize::from(stream == 2);
        let mut bytes = bytes;
        if self.skipping[slot] {
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                return;
            };
            bytes = &bytes[end + 1..];
            self.skipping[slot] = false;
        }
        if bytes.is_empty() {
            return;
        }
        let mut waiting = self.shared.lock();
        let used = waiting.records.len() + waiting.in_flight;
        // Room for the notice of what was dropped, and for the newline of a line that was cut.
        let overhead = HEAD * 3 + 1;
        let room = self.capacity.saturating_sub(used + overhead);
        let fits = if bytes.len() <= room {
            bytes.len()
        } else {
            memchr::memrchr(b'\n', &bytes[..room.min(bytes.len())]).map_or(0, |at| at + 1)
        };
        let (taken, lost) = bytes.split_at(fits);
        if !taken.is_empty() {
            note_dropped(&mut waiting, &mut self.dropped);
            put(&mut waiting.records, stream, at, taken);
            self.open[slot] = !taken.ends_with(b"\n");
            self.shared.added.notify_one();
        }
        if !lost.is_empty() {
            if std::mem::take(&mut self.open[slot]) {
                // The line's first part is taken: it ends here, so that what comes later is not glued to it.
                put(&mut waiting.records, stream, at, b"\n");
            }
            let torn = !lost.ends_with(b"\n");
            self.dropped += memchr::memchr_iter(b'\n', lost).count() as u64 + u64::from(torn);
            self.skipping[slot] = torn;
        }
    }
}

fn note_dropped(waiting: &mut Waiting, dropped: &mut u64) {
    if *dropped > 0 {
        let lines = i64::try_from(*dropped).unwrap_or(i64::MAX);
        put(&mut waiting.records, 0, lines, b"");
        *dropped = 0;
    }
}

fn put(records: &mut Vec<u8>, stream: u8, number: i64, bytes: &[u8]) {
    records.push(stream);
    records.extend_from_slice(&number.to_le_bytes());
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    records.extend_from_slice(&length.to_le_bytes());
    records.extend_from_slice(bytes);
}

/// The thread: takes all there is, writes it, and so on to the end.
fn carry(shared: &Shared, writer: &mut Writer, capacity: u64) {
    let mut records = Vec::new();
    loop {
        let mut waiting = shared.lock();
        waiting.in_flight = 0;
        while waiting.records.is_empty() && !waiting.closed {
            waiting = shared
                .added
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let is_last = waiting.closed;
        std::mem::swap(&mut records, &mut waiting.records);
        waiting.in_flight = records.len();
        drop(waiting);
        let mut rest = records.as_slice();
        let mut at = 0;
        while let Some((head, later)) = rest.split_first_chunk::<HEAD>() {
            let number = i64::from_le_bytes(head[1..9].try_into().unwrap_or_default());
            let length = u32::from_le_bytes(head[9..].try_into().unwrap_or_default()) as usize;
            let (bytes, later) = later.split_at(length.min(later.len()));
            rest = later;
            if head[0] == 0 {
                writer.dropped(u64::try_from(number).unwrap_or(0), capacity, at);
            } else {
                at = number;
                writer.write(head[0], bytes, at);
            }
        }
        records.clear();
        if records.capacity() > IDLE {
            records = Vec::new();
        }
        if is_last {
            writer.finish(at);
            shared.lock().done = true;
            shared.done.notify_all();
            return;
        }
    }
}
