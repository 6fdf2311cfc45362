//! Where the entries of a time begin in a file whose times never go back.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};

use hoist_model::Timestamp;
use hoist_model::container::LogFormat;

use super::entry;

/// What is read to find an entry: more where it is long.
const PROBE: usize = 4096;
/// The end of the search: so much is read through.
const NEAR: u64 = 32 * 1024;
/// Longer than any entry.
const LONGEST: usize = 4 << 20;

/// Whether times went back in it: then it must be read through (hoist-runtime, `monitor::log::writer`).
pub(super) fn is_disordered(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.permissions().mode() & 0o1000 != 0)
}

/// An offset at which an entry begins, before which all are earlier than `since`.
pub(super) fn lower_bound(
    file: &File,
    format: LogFormat,
    since: Timestamp,
    read: &mut u64,
) -> io::Result<u64> {
    let mut low = 0;
    let mut high = file.metadata()?.len();
    while high.saturating_sub(low) > NEAR {
        let middle = low + (high - low) / 2;
        match probe(file, format, middle, high, read)? {
            // Nothing that begins there can be read: only what comes before can still tell.
            None => high = middle,
            Some(found) if found.at < since => low = found.end,
            Some(_) => high = middle,
        }
    }
    Ok(low)
}

struct Found {
    at: Timestamp,
    end: u64,
}

/// The first entry that begins after `from` and before `end`.
fn probe(
    file: &File,
    format: LogFormat,
    from: u64,
    end: u64,
    read: &mut u64,
) -> io::Result<Option<Found>> {
    let mut text = Vec::new();
    // The entry that `from` is in the middle of is passed over.
    let mut begin = None;
    let mut looked = 0;
    loop {
        while let Some(newline) = memchr::memchr(b'\n', &text[looked..]) {
            let next = looked + newline + 1;
            if let Some(begin) = begin
                && let Some(at) = entry::time_of(format, &text[begin..next])
            {
                let end = from + next as u64;
                return Ok(Some(Found { at, end }));
            }
            begin = Some(next);
            looked = next;
            if from + next as u64 >= end {
                return Ok(None);
            }
        }
        looked = text.len();
        if looked > LONGEST {
            return Ok(None);
        }
        text.resize(looked + PROBE.max(looked), 0);
        let length = file.read_at(&mut text[looked..], from + looked as u64)?;
        text.truncate(looked + length);
        *read += length as u64;
        if length == 0 {
            return Ok(None);
        }
    }
}
