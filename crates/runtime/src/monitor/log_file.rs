//! The log in Docker's json-file format, rotated by renaming.
//!
//! ```text
//! {"log":"text\n","stream":"stdout","time":"2024-01-01T00:00:00.123456789Z"}
//! ```
//!
//! A line longer than 16 KiB is written in parts, the last with the newline. A disk that is full loses lines, not the
//! container: how many is written once there is room.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat, renameat, unlinkat};

use super::LogOrder;
use super::launch::now;

/// Where Docker splits long lines.
const LONGEST_LINE: usize = 16 * 1024;

/// Bytes that an entry of such a line has at most: every byte may need six.
const LONGEST_ENTRY: u64 = 6 * LONGEST_LINE as u64 + 256;

pub(super) struct LogFile {
    directory: OwnedFd,
    order: LogOrder,
    file: Option<OwnedFd>,
    size: u64,
    /// What came after the last newline, per stream.
    partial: [Vec<u8>; 2],
    lost: u64,
}

impl LogFile {
    pub(super) fn open(directory: OwnedFd, order: LogOrder) -> Self {
        let mut log = Self {
            directory,
            order,
            file: None,
            size: 0,
            partial: Default::default(),
            lost: 0,
        };
        log.reopen();
        log
    }

    /// Cuts off an entry that an earlier writer was killed in the middle of.
    pub(super) fn mend(&mut self) {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let name = self.order.name.as_str();
        let (Some(file), Ok(reader)) = (
            &self.file,
            openat(&self.directory, name, flags, Mode::empty()),
        ) else {
            return;
        };
        let start = self.size.saturating_sub(LONGEST_ENTRY);
        let mut tail = Vec::new();
        let mut buffer = [0; 32 * 1024];
        while let Ok(length @ 1..) =
            rustix::io::pread(&reader, &mut buffer, start + tail.len() as u64)
        {
            tail.extend_from_slice(&buffer[..length]);
        }
        let whole = tail
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map(|at| at + 1);
        let end = match whole {
            Some(end) => start + end as u64,
            None if start == 0 => 0,
            None => return,
        };
        if end < self.size && rustix::fs::ftruncate(file, end).is_ok() {
            self.size = end;
        }
    }

    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    pub(super) fn order(&self) -> &LogOrder {
        &self.order
    }

    fn reopen(&mut self) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
        self.file = openat(&self.directory, self.order.name.as_str(), flags, mode).ok();
        let stat = self
            .file
            .as_ref()
            .and_then(|file| rustix::fs::fstat(file).ok());
        self.size = stat.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
    }

    /// Logs what a stream gave.
    pub(super) fn write(&mut self, stream: u8, bytes: &[u8]) {
        let slot = usize::from(stream == 2);
        let mut partial = std::mem::take(&mut self.partial[slot]);
        let mut entries = Vec::with_capacity(bytes.len() + 128);
        let mut lines = 0;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut piece = piece;
            while partial.len() + piece.len() > LONGEST_LINE {
                let (now, later) = piece.split_at(LONGEST_LINE - partial.len());
                partial.extend_from_slice(now);
                entry(&mut entries, stream, &partial);
                lines += 1;
                partial.clear();
                piece = later;
            }
            partial.extend_from_slice(piece);
            if partial.last() == Some(&b'\n') {
                entry(&mut entries, stream, &partial);
                lines += 1;
                partial.clear();
            }
        }
        self.partial[slot] = partial;
        self.append(&entries, lines);
    }

    /// Logs lines that never got their newline.
    pub(super) fn finish(&mut self) {
        for stream in [1, 2] {
            let partial = std::mem::take(&mut self.partial[usize::from(stream == 2)]);
            if !partial.is_empty() {
                let mut entries = Vec::new();
                entry(&mut entries, stream, &partial);
                self.append(&entries, 1);
            }
        }
    }

    fn append(&mut self, entries: &[u8], lines: u64) {
        if entries.is_empty() {
            return;
        }
        if self.order.max_size > 0 && self.size >= self.order.max_size {
            self.rotate();
        }
        if self.lost > 0 {
            let mut notice = Vec::new();
            let text = format!(
                "hoist: {} log lines were lost: the log could not be written\n",
                self.lost
            );
            entry(&mut notice, 2, text.as_bytes());
            if self.put(&notice) {
                self.lost = 0;
            }
        }
        if !self.put(entries) {
            self.lost += lines;
        }
    }

    /// Writes all or nothing: a part that a full disk took is cut off again.
    fn put(&mut self, bytes: &[u8]) -> bool {
        if self.file.is_none() {
            self.reopen();
        }
        let Some(file) = &self.file else { return false };
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(file, rest) {
                Ok(written) => rest = &rest[written..],
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => {
                    let _ = rustix::fs::ftruncate(file, self.size);
                    return false;
                }
            }
        }
        self.size += bytes.len() as u64;
        true
    }

    /// `name` becomes `name.1`, that `name.2`, and so on; the oldest goes.
    fn rotate(&mut self) {
        let name = |n: u32| match n {
            0 => self.order.name.clone(),
            n => format!("{}.{n}", self.order.name),
        };
        let kept = self.order.max_files.max(1);
        let _ = unlinkat(
            &self.directory,
            name(kept - 1).as_str(),
            rustix::fs::AtFlags::empty(),
        );
        for n in (0..kept - 1).rev() {
            let _ = renameat(
                &self.directory,
                name(n).as_str(),
                &self.directory,
                name(n + 1).as_str(),
            );
        }
        self.file = None;
        self.reopen();
    }
}

fn entry(out: &mut Vec<u8>, stream: u8, line: &[u8]) {
    out.extend_from_slice(b"{\"log\":");
    // Bytes that are no UTF-8 become U+FFFD, as in Docker.
    let _ = serde_json::to_writer(&mut *out, &String::from_utf8_lossy(line));
    let stream = if stream == 2 { "stderr" } else { "stdout" };
    let _ = writeln!(out, ",\"stream\":\"{stream}\",\"time\":\"{}\"}}", now());
}
