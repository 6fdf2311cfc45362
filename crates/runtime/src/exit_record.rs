//! The exit record: a fixed slot, filled with zeros before the start, so that a full disk cannot lose an end.
//!
//! ```text
//! offset  size  field (little-endian)
//!      0     4  magic "HXR1"; zeros mean: not ended, or nobody saw it
//!      4     4  exit code, 0 to 255
//!      8     8  when, nanoseconds since 1970
//!     16     8  the first 16 bytes, folded: guards against a torn write
//! ```

use std::io;
use std::os::fd::AsFd;

use hoist_model::Timestamp;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 4] = b"HXR1";
/// Bytes of the slot.
pub(crate) const LENGTH: usize = 24;

/// How a process ended, as its monitor saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// 0 to 255; 128 + n for signal n.
    pub exit_code: i32,
    /// When.
    pub finished_at: Timestamp,
}

impl ExitRecord {
    /// The exit code that a status of wait(2) means.
    pub(crate) fn code_of(status: i32) -> i32 {
        match status & 0x7f {
            0 => status >> 8 & 0xff,
            signal => 128 + signal,
        }
    }
}

fn encode(record: &ExitRecord) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..8].copy_from_slice(&record.exit_code.to_le_bytes());
    bytes[8..16].copy_from_slice(&record.finished_at.as_nanos().to_le_bytes());
    let guard = fold(&bytes[..16]);
    bytes[16..].copy_from_slice(&guard.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; LENGTH]) -> Option<ExitRecord> {
    let half = |at: usize| <[u8; 8]>::try_from(&bytes[at..at + 8]).ok();
    if &bytes[..4] != MAGIC || u64::from_le_bytes(half(16)?) != fold(&bytes[..16]) {
        return None;
    }
    Some(ExitRecord {
        exit_code: i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        finished_at: Timestamp::from_nanos(i64::from_le_bytes(half(8)?)),
    })
}

/// FNV-1a, 64 bits.
fn fold(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Fills the slot. Nobody is there to be told of a failure; the slot then still says "unknown".
pub(crate) fn write(slot: impl AsFd, record: &ExitRecord) {
    let _ = rustix::io::pwrite(slot, &encode(record), 0);
}

/// Reads the slot; `None` while it is empty.
pub(crate) fn read(slot: impl AsFd) -> io::Result<Option<ExitRecord>> {
    let mut bytes = [0; LENGTH];
    let length = rustix::io::pread(slot, &mut bytes, 0)?;
    Ok(if length == LENGTH {
        decode(&bytes)
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_these_bytes() {
        let record = ExitRecord {
            exit_code: 137,
            finished_at: Timestamp::from_nanos(1),
        };
        let bytes = encode(&record);
        assert_eq!(&bytes[..16], b"HXR1\x89\0\0\0\x01\0\0\0\0\0\0\0");
        assert_eq!(decode(&bytes), Some(record));
        for at in 0..LENGTH {
            let mut torn = bytes;
            torn[at] ^= 1;
            assert_eq!(decode(&torn), None, "byte {at}");
        }
        assert_eq!(decode(&[0; LENGTH]), None);
    }
}
