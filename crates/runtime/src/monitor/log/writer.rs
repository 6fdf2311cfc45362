//! The files of a log: written to the end of one, rotated by giving the full one a number that it keeps.
//!
//! ```text
//! name        written to
//! name.7      full; the higher the number the newer. The daemon compresses it to name.7.gz and takes name.7 away
//! name.lost   two decimal numbers: lines dropped in non-blocking mode, lines that could not be written
//! ```
//!
//! Numbers are never used twice while a file with one is left, so that a reader knows which file comes next, compressed or
//! not, and whether one is missing. Within a file times never go back, but for one with its sticky bit set: the clock was set
//! back while it was written, and readers must not search it by time. A disk that is full loses the lines that did not fit,
//! not the container: how many is written once there is room.

use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, fchmod, fstat, ftruncate, openat, renameat, unlinkat,
};

use super::super::LogOrder;
use super::format::{Entries, time_of};

/// Where Docker splits long lines.
pub(super) const LONGEST_LINE: usize = 16 * 1024;
/// Bytes that an entry of such a line has at most, but for its attributes: every byte may need six.
const LONGEST_ENTRY: usize = 6 * LONGEST_LINE + 256;
/// Bytes of entries that are written at once.
const BATCH: usize = 256 * 1024;
/// How far, in ns, the clock may go back and times just stand still: what slewing and small corrections do.
const SLEW: i64 = 1_000_000_000;

/// Lines that are in no file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lost {
    /// Did not fit in the buffer of non-blocking mode.
    dropped: u64,
    /// Could not be written.
    unwritten: u64,
}

pub(super) struct Writer {
    directory: OwnedFd,
    order: LogOrder,
    file: Option<OwnedFd>,
    size: u64,
    entries: Entries,
    /// Entries on their way, kept for its memory.
    batch: Vec<u8>,
    /// What came after the last newline, per stream.
    partial: [Vec<u8>; 2],
    /// The time of the last entry.
    last: i64,
    /// Lost, and not yet said in the log.
    untold: u64,
    lost: Lost,
}

impl Writer {
    /// Opens the file and goes on where an earlier writer stopped, or was killed.
    pub(super) fn open(directory: OwnedFd, order: LogOrder) -> Self {
        let entries = Entries::new(order.format, &order.attributes);
        let mut writer = Self {
            directory,
            order,
            file: None,
            size: 0,
            entries,
            batch: Vec::new(),
            partial: Default::default(),
            last: i64::MIN,
            untold: 0,
            lost: Lost::default(),
        };
        writer.reopen();
        if writer.size > 0 {
            writer.mend();
        }
        writer.lost = writer.read_lost().unwrap_or_default();
        writer
    }

    /// Logs what a stream gave at a time.
    pub(super) fn write(&mut self, stream: u8, bytes: &[u8], at: i64) {
        let slot = usize::from(stream == 2);
        let mut line = std::mem::take(&mut self.partial[slot]);
        let (is_whole, mut rest) = go_on(&mut line, bytes);
        if is_whole {
            self.add(stream, &line, at);
            line.clear();
        }
        self.partial[slot] = line;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
            let taken = end.unwrap_or(rest.len()).min(LONGEST_LINE);
            let (line, later) = rest.split_at(taken);
            if line.ends_with(b"\n") || taken == LONGEST_LINE {
                self.add(stream, line, at);
            } else {
                self.partial[slot].extend_from_slice(line);
            }
            rest = later;
        }
        self.flush();
    }

    /// Logs lines that never got their newline.
    pub(super) fn finish(&mut self, at: i64) {
        for stream in [1, 2] {
            let partial = std::mem::take(&mut self.partial[usize::from(stream == 2)]);
            if !partial.is_empty() {
                self.add(stream, &partial, at);
            }
        }
        self.flush();
        self.tell_lost();
    }

    /// Says that lines did not fit in the buffer.
    pub(super) fn dropped(&mut self, lines: u64, buffer: u64, at: i64) {
        self.lost.dropped += lines;
        let text = format!(
            "hoist: {lines} log lines were dropped: the buffer of {buffer} bytes was full (mode=non-blocking)\n"
        );
        self.add(2, text.as_bytes(), at);
        self.flush();
        self.keep_lost();
    }

    fn add(&mut self, stream: u8, line: &[u8], at: i64) {
        let at = self.time(at);
        self.entries.put(&mut self.batch, stream, line, at);
        let full =
            self.order.max_size > 0 && self.size + self.batch.len() as u64 >= self.order.max_size;
        if full || self.batch.len() >= BATCH {
            self.flush();
        }
    }

    /// The time of the next entry: later than the last, unless the clock was set back.
    fn time(&mut self, at: i64) -> i64 {
        if at <= self.last {
            if self.last.saturating_sub(at) < SLEW {
                self.last += 1;
                return self.last;
            }
            self.flush();
            if let Some(file) = &self.file {
                let _ = fchmod(file, mode() | Mode::SVTX);
            }
        }
        self.last = at;
        at
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.order.max_size > 0 && self.size >= self.order.max_size {
            self.rotate();
        }
        self.tell_lost();
        let batch = std::mem::take(&mut self.batch);
        self.put(&batch);
        self.batch = batch;
        self.batch.clear();
    }

    fn tell_lost(&mut self) {
        if self.untold == 0 {
            return;
        }
        let text = format!(
            "hoist: {} log lines were lost: the log could not be written\n",
            self.untold
        );
        let mut notice = Vec::new();
        let lines = std::mem::take(&mut self.untold);
        self.entries
            .put(&mut notice, 2, text.as_bytes(), self.last.max(0));
        let unwritten = self.lost.unwritten;
        self.put(&notice);
        if self.untold > 0 {
            // The notice was not written either, and is no line of the container's.
            self.lost.unwritten = unwritten;
            self.untold = lines;
        } else {
            self.keep_lost();
        }
    }

    /// Writes whole lines: the part of one that a full disk took is cut off again, and what follows is counted.
    fn put(&mut self, bytes: &[u8]) {
        if self.file.is_none() {
            self.reopen();
        }
        let mut written = 0;
        while let Some(file) = &self.file
            && written < bytes.len()
        {
            match rustix::io::write(file, &bytes[written..]) {
                Ok(length) => written += length,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
        if written < bytes.len() {
            let whole = memchr::memrchr(b'\n', &bytes[..written]).map_or(0, |at| at + 1);
            if let Some(file) = &self.file
                && whole < written
            {
                // Counted from what the file has: somebody may have emptied it meanwhile.
                let torn = (written - whole) as u64;
                let _ = ftruncate(file, length(file).saturating_sub(torn));
            }
            let lines = memchr::memchr_iter(b'\n', &bytes[whole..]).count() as u64;
            self.untold += lines;
            self.lost.unwritten += lines;
            written = whole;
        }
        self.size += written as u64;
    }

    fn reopen(&mut self) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        self.file = openat(&self.directory, self.order.name.as_str(), flags, mode()).ok();
        self.size = self.file.as_ref().map_or(0, length);
    }

    /// Cuts off an entry that an earlier writer was killed in the middle of, and learns the time of the last.
    fn mend(&mut self) {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let name = self.order.name.as_str();
        let (Some(file), Ok(reader)) = (
            &self.file,
            openat(&self.directory, name, flags, Mode::empty()),
        ) else {
            return;
        };
        let span = (2 * LONGEST_ENTRY + 2 * self.order.attributes.len()) as u64;
        let start = self.size.saturating_sub(span);
        let mut tail = Vec::new();
        let mut buffer = [0; 32 * 1024];
        while let Ok(length @ 1..) =
            rustix::io::pread(&reader, &mut buffer, start + tail.len() as u64)
        {
            tail.extend_from_slice(&buffer[..length]);
        }
        let Some(end) = memchr::memrchr(b'\n', &tail) else {
            if start == 0 && ftruncate(file, 0).is_ok() {
                self.size = 0;
            }
            return;
        };
        let whole = start + end as u64 + 1;
        if whole < self.size && ftruncate(file, whole).is_ok() {
            self.size = whole;
        }
        let begin = memchr::memrchr(b'\n', &tail[..end]).map_or(0, |at| at + 1);
        if let Some(last) = time_of(self.order.format, &tail[begin..=end]) {
            self.last = last;
        }
    }

    /// The full file gets its number, the oldest goes, and a new one is begun.
    fn rotate(&mut self) {
        // Its size as it is: somebody may have emptied it.
        if let Some(file) = &self.file {
            self.size = length(file);
            if self.size < self.order.max_size {
                return;
            }
        }
        let name = self.order.name.as_str();
        let kept = u64::from(self.order.max_files.max(1));
        if kept == 1 {
            let _ = unlinkat(&self.directory, name, AtFlags::empty());
        } else {
            let number = self.newest() + 1;
            let numbered = format!("{name}.{number}");
            if renameat(&self.directory, name, &self.directory, &*numbered).is_err() {
                return;
            }
            if let Some(oldest) = number.checked_sub(kept - 1).filter(|number| *number > 0) {
                // In this order: the daemon may be compressing it (hoist-engine, logs::compress).
                for suffix in ["", ".gz"] {
                    let old = format!("{name}.{oldest}{suffix}");
                    let _ = unlinkat(&self.directory, &*old, AtFlags::empty());
                }
            }
        }
        self.file = None;
        self.reopen();
    }

    /// The highest number of a file that is there.
    fn newest(&self) -> u64 {
        let Ok(directory) = Dir::read_from(&self.directory) else {
            return 0;
        };
        let prefix = format!("{}.", self.order.name);
        let numbers = directory.filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().to_str().ok()?;
            let number = name.strip_prefix(&prefix)?;
            number
                .strip_suffix(".gz")
                .unwrap_or(number)
                .parse::<u64>()
                .ok()
        });
        numbers.max().unwrap_or(0)
    }

    fn lost_name(&self) -> String {
        format!("{}.lost", self.order.name)
    }

    fn read_lost(&self) -> Option<Lost> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.directory, self.lost_name(), flags, Mode::empty()).ok()?;
        let mut buffer = [0; 64];
        let length = rustix::io::read(&file, &mut buffer).ok()?;
        let text = std::str::from_utf8(&buffer[..length]).ok()?;
        let (dropped, unwritten) = text.trim_end().split_once(' ')?;
        Some(Lost {
            dropped: dropped.parse().ok()?,
            unwritten: unwritten.parse().ok()?,
        })
    }

    /// Notes the counts where the daemon finds them. Written in place and padded, so that it is never half there.
    fn keep_lost(&self) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        if let Ok(file) = openat(&self.directory, self.lost_name(), flags, mode()) {
            let mut text = [0; 42];
            let _ = writeln!(
                &mut text[..],
                "{:020} {:020}",
                self.lost.dropped,
                self.lost.unwritten
            );
            let _ = rustix::io::pwrite(&file, &text, 0);
        }
    }
}

fn mode() -> Mode {
    Mode::RUSR | Mode::WUSR | Mode::RGRP
}

fn length(file: &OwnedFd) -> u64 {
    fstat(file).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0))
}

/// Goes on with a line that a stream had begun, if it had: whether it is now whole, or as long as a part may be, and what
/// of `bytes` comes after it.
pub(super) fn go_on<'b>(line: &mut Vec<u8>, bytes: &'b [u8]) -> (bool, &'b [u8]) {
    if line.is_empty() {
        return (false, bytes);
    }
    let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
    let (taken, rest) = bytes.split_at(end.min(LONGEST_LINE - line.len()));
    line.extend_from_slice(taken);
    (line.len() == LONGEST_LINE || line.ends_with(b"\n"), rest)
}
