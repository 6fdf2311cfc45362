//! Docker's multiplexed output: frames of `[stream, 0, 0, 0, length as u32 big endian]` and that many bytes
//! (Engine API, `ContainerAttach`, "Stream format").

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of a frame's header.
pub const HEADER: usize = 8;
/// The longest payload a reader takes; Docker's own writers stay under 64 KiB.
pub const MAX_PAYLOAD: usize = 16 << 20;

/// Which stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard input; only ever seen echoed.
    Stdin = 0,
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// An error of the engine itself, written by Docker when a stream breaks.
    System = 3,
}

/// The bytes were not multiplexed output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFrame {
    /// The first byte names no stream.
    #[error("unrecognized stream type {0} in multiplexed output")]
    Stream(u8),
    /// The length is beyond what a reader takes.
    #[error("frame of {0} bytes in multiplexed output is longer than the limit")]
    Length(usize),
}

/// The eight bytes in front of a payload of `length` bytes.
#[must_use]
pub fn header(stream: Stream, length: u32) -> [u8; HEADER] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// Appends one frame (or several, past 4 GiB) that carries `payload`.
pub fn put_frame(out: &mut BytesMut, stream: Stream, payload: &[u8]) {
    for part in payload.chunks(MAX_PAYLOAD) {
        out.reserve(HEADER + part.len());
        // A part is at most MAX_PAYLOAD long, so the conversion holds.
        out.put_slice(&header(stream, u32::try_from(part.len()).unwrap_or(0)));
        out.put_slice(part);
    }
}

/// One frame as bytes of its own.
#[must_use]
pub fn frame(stream: Stream, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER + payload.len());
    put_frame(&mut out, stream, payload);
    out.freeze()
}

/// Takes frames apart as bytes arrive, cut anywhere.
#[derive(Debug, Default)]
pub struct Demux {
    held: BytesMut,
}

impl Demux {
    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next whole frame, if it is here.
    ///
    /// # Errors
    /// When the bytes are not multiplexed output; nothing more can be read from this stream then.
    pub fn next_frame(&mut self) -> Result<Option<(Stream, Bytes)>, InvalidFrame> {
        let Some(head) = self.held.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let stream = match head[0] {
            0 => Stream::Stdin,
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            3 => Stream::System,
            other => return Err(InvalidFrame::Stream(other)),
        };
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if length > MAX_PAYLOAD {
            return Err(InvalidFrame::Length(length));
        }
        if self.held.len() < HEADER + length {
            return Ok(None);
        }
        let mut whole = self.held.split_to(HEADER + length);
        Ok(Some((stream, whole.split_off(HEADER).freeze())))
    }

    /// Bytes that are not yet a whole frame; more than none at the end means the stream was cut.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_eight_bytes_and_the_payload() {
        assert_eq!(
            &frame(Stream::Stderr, b"abc")[..],
            b"\x02\0\0\0\0\0\0\x03abc"
        );
    }

    #[test]
    fn frames_cut_at_every_place_come_back_whole() {
        let mut wire = BytesMut::new();
        put_frame(&mut wire, Stream::Stdout, b"one");
        put_frame(&mut wire, Stream::Stderr, b"");
        put_frame(&mut wire, Stream::Stdout, &[7; 300]);
        for cut in 0..=wire.len() {
            let mut demux = Demux::default();
            let mut seen = Vec::new();
            for part in [&wire[..cut], &wire[cut..]] {
                demux.push(part);
                while let Some(frame) = demux.next_frame().unwrap() {
                    seen.push(frame);
                }
            }
            // Docker writes no frame for nothing, and neither does put_frame.
            assert_eq!(seen.len(), 2, "cut at {cut}");
            assert_eq!(demux.held(), 0);
            assert_eq!(seen[0], (Stream::Stdout, Bytes::from_static(b"one")));
            assert_eq!(seen[1].1.len(), 300);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let mut demux = Demux::default();
        demux.push(b"HTTP/1.1 ");
        assert_eq!(demux.next_frame(), Err(InvalidFrame::Stream(b'H')));
        let mut demux = Demux::default();
        demux.push(&header(Stream::Stdout, u32::MAX));
        assert!(matches!(demux.next_frame(), Err(InvalidFrame::Length(_))));
    }
}
