//! Compressed logs: gzip (RFC 1952) in members of some 256 KiB of text, each of whole entries, so that it can be entered
//! anywhere. `zcat` reads it as any other.
//!
//! ```text
//! member: 1f 8b 08 04 …(10)  XLEN(2)=28  'H' 'L'  24 0  length(4) first(8) last(8) lines(4)   deflate …  crc(4) size(4)
//!                                                     │         │        │       └ entries that end a line
//!                                                     │         └────────┴ earliest and latest time in it, ns since 1970
//!                                                     └ of the whole member, this header included; all little-endian
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use flate2::{Compression, GzBuilder};
use hoist_model::Timestamp;
use hoist_model::container::LogFormat;

use super::entry;

/// Text of one member.
pub(super) const TEXT: usize = 256 * 1024;
/// Bytes of the header up to the compressed text.
const HEADER: usize = 40;
const PAYLOAD: usize = 16;
/// What a member of ours may have at most: more is not ours.
const LONGEST: u32 = 64 << 20;

/// What a member's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) lines: u32,
}

/// The member that begins there; `None` at the end, an error of class `InvalidData` where it is none of ours.
pub(super) fn at(file: &File, offset: u64, read: &mut u64) -> io::Result<Option<Member>> {
    let mut header = [0; HEADER];
    let mut length = 0;
    while length < HEADER {
        match file.read_at(&mut header[length..], offset + length as u64)? {
            0 => break,
            more => length += more,
        }
    }
    *read += length as u64;
    if length == 0 {
        return Ok(None);
    }
    let ours = length == HEADER
        && header[..4] == [0x1f, 0x8b, 8, 4]
        && header[10..PAYLOAD] == [28, 0, b'H', b'L', 24, 0];
    let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap_or_default());
    let instant = |at: usize| {
        let nanos = i64::from_le_bytes(header[at..at + 8].try_into().unwrap_or_default());
        Timestamp::from_nanos(nanos)
    };
    let member = Member {
        offset,
        length: number(PAYLOAD),
        first: instant(PAYLOAD + 4),
        last: instant(PAYLOAD + 12),
        lines: number(PAYLOAD + 20),
    };
    if !ours || (member.length as usize) < HEADER || member.length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Some(member))
}

impl Member {
    /// Where the next one begins.
    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }

    /// Its text, added to what there is.
    pub(super) fn text(&self, file: &File, text: &mut Vec<u8>, read: &mut u64) -> io::Result<()> {
        let mut compressed = vec![0; self.length as usize];
        file.read_exact_at(&mut compressed, self.offset)?;
        *read += u64::from(self.length);
        flate2::read::GzDecoder::new(compressed.as_slice())
            .take(u64::from(LONGEST))
            .read_to_end(text)?;
        Ok(())
    }
}

/// Compresses entries; the last of them may lack its newline, as a crash leaves it.
pub(super) fn write(out: &mut impl Write, format: LogFormat, text: &[u8]) -> io::Result<()> {
    let (mut first, mut last, mut lines) = (i64::MAX, i64::MIN, 0_u32);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if let Some(at) = entry::time_of(format, line) {
            first = first.min(at.as_nanos());
            last = last.max(at.as_nanos());
        }
        lines += u32::from(entry::is_whole(format, line));
    }
    let mut payload = vec![b'H', b'L', 24, 0, 0, 0, 0, 0];
    payload.extend_from_slice(&first.to_le_bytes());
    payload.extend_from_slice(&last.to_le_bytes());
    payload.extend_from_slice(&lines.to_le_bytes());
    let mut encoder = GzBuilder::new()
        .extra(payload)
        .write(Vec::with_capacity(text.len() / 4), Compression::fast());
    encoder.write_all(text)?;
    let mut member = encoder.finish()?;
    let length = u32::try_from(member.len()).map_err(io::Error::other)?;
    member[PAYLOAD..PAYLOAD + 4].copy_from_slice(&length.to_le_bytes());
    out.write_all(&member)
}
