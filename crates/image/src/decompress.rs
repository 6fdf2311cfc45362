//! A stream decoder that finds out by the first bytes what it reads: gzip, zstd or plain.

use std::io::{self, Read};

/// How a stream is compressed, told by its magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all, as far as the first bytes tell.
    Plain,
    /// gzip (RFC 1952), one or more members.
    Gzip,
    /// zstd (RFC 8878), one or more frames.
    Zstd,
    /// xz: recognised, not decoded.
    Xz,
    /// bzip2: recognised, not decoded.
    Bzip2,
}

impl Compression {
    /// Recognises a stream by its first bytes; six are enough.
    #[must_use]
    pub fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [s, 0x2a, 0x4d, 0x18, ..] if s & 0xf0 == 0x50 => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            _ => Self::Plain,
        }
    }
}

/// Reads what `inner` says once decompressed.
///
/// Fails with `InvalidData` on corrupt input, `UnexpectedEof` on a truncated stream, `Unsupported` (naming the format)
/// on xz and bzip2, and `FileTooLarge` once more than `limit` bytes came out.
pub struct Decompressor<R: Read> {
    inner: std::marker::PhantomData<R>,
}

impl<R: Read> Decompressor<R> {
    /// Reads the first bytes of `inner` and chooses the decoder. `limit` bounds the decoded bytes.
    pub fn new(inner: R, limit: u64) -> io::Result<Self> {
        let _ = (inner, limit);
        unimplemented!()
    }

    /// What the stream turned out to be.
    #[must_use]
    pub fn compression(&self) -> Compression {
        unimplemented!()
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let _ = buffer;
        unimplemented!()
    }
}
