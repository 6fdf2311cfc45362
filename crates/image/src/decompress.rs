//! A stream decoder that finds out by the first bytes what it reads: gzip, zstd, xz, bzip2 or plain.

use std::io::{self, BufReader, Cursor, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

/// How a stream is compressed, told by its magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all, as far as the first bytes tell.
    Plain,
    /// gzip (RFC 1952), one or more members.
    Gzip,
    /// zstd (RFC 8878), one or more frames.
    Zstd,
    /// xz, one or more streams.
    Xz,
    /// bzip2, one or more streams.
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

/// What one layer may decompress to.
const LAYER_LIMIT: u64 = 256 << 30;
/// What any layer may decompress to, and how many times its own size a larger one: what gzip makes of zeros, of which zstd makes
/// thirty times as many.
const FREE: u64 = 1 << 30;
const RATIO: u64 = 1100;

/// The bytes that a layer of so many compressed ones may decompress to, pulled or loaded: a small download does not fill the
/// disk. What the disk has room for is looked at beside this, as the layer is written; whichever is less ends it.
#[must_use]
pub fn layer_limit(compressed: u64) -> u64 {
    compressed.saturating_mul(RATIO).clamp(FREE, LAYER_LIMIT)
}

/// Reads what `inner` says once decompressed.
///
/// Fails with `InvalidData` on corrupt input, `UnexpectedEof` on a truncated stream, and `FileTooLarge` once more than `limit`
/// bytes came out.
pub struct Decompressor<R: Read> {
    decoder: Decoder<R>,
    compression: Compression,
    left: u64,
    limit: u64,
}

enum Decoder<R: Read> {
    Plain(Start<R>),
    Gzip(Box<MultiGzDecoder<BufReader<Start<R>>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Start<R>>>>),
    Xz(Box<XzReader<BufReader<Start<R>>>>),
    Bzip2(Box<MultiBzDecoder<BufReader<Start<R>>>>),
}

/// The largest window a zstd frame may ask for: 2^27 bytes, what `zstd -d` allows without `--long`.
const ZSTD_WINDOW_BITS: u32 = 27;
/// KiB that an xz stream's dictionary may take: its largest preset, `xz -9`, has 64 MiB.
const XZ_MEMORY: u32 = 192 << 10;

impl<R: Read> Decompressor<R> {
    /// Reads the first bytes of `inner` and chooses the decoder. `limit` bounds the decoded bytes.
    pub fn new(mut inner: R, limit: u64) -> io::Result<Self> {
        let mut first = [0; 6];
        let mut filled = 0;
        while filled < first.len() {
            match inner.read(&mut first[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let compression = Compression::sniff(&first[..filled]);
        let start = Cursor::new(first).take(filled as u64).chain(inner);
        let buffered = |start| BufReader::with_capacity(64 << 10, start);
        let decoder = match compression {
            Compression::Plain => Decoder::Plain(start),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(buffered(start)))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered(start))?;
                decoder.window_log_max(ZSTD_WINDOW_BITS)?;
                Decoder::Zstd(Box::new(decoder))
            }
            Compression::Xz => {
                let decoder = XzReader::new_mem_limit(buffered(start), true, XZ_MEMORY);
                Decoder::Xz(Box::new(decoder))
            }
            Compression::Bzip2 => Decoder::Bzip2(Box::new(MultiBzDecoder::new(buffered(start)))),
        };
        Ok(Self {
            decoder,
            compression,
            left: limit,
            limit,
        })
    }

    /// What the stream turned out to be.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }
}

type Start<R> = io::Chain<io::Take<Cursor<[u8; 6]>>, R>;

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.decoder {
            Decoder::Plain(decoder) => decoder.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer).map_err(invalid),
            Decoder::Zstd(decoder) => decoder.read(buffer).map_err(invalid),
            Decoder::Xz(decoder) => decoder.read(buffer).map_err(invalid),
            Decoder::Bzip2(decoder) => decoder.read(buffer).map_err(invalid),
        }?;
        let Some(left) = self.left.checked_sub(read as u64) else {
            let text = format!(
                "the stream has more than {} bytes when decompressed",
                self.limit
            );
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        };
        self.left = left;
        Ok(read)
    }
}

/// The libraries report corruption in kinds of their own.
fn invalid(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::Other if error.raw_os_error().is_none() => {
            io::Error::new(io::ErrorKind::InvalidData, error)
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_layer_may_grow_as_much_as_gzip_lets_it() {
        assert_eq!(layer_limit(0), 1 << 30);
        assert_eq!(
            layer_limit(65_546),
            1 << 30,
            "2 GiB of zeros in zstd: a bomb"
        );
        // 32 GiB of zeros in gzip: a sparse file that somebody made by mistake.
        let gzip = (32 << 30) / 1030;
        assert!(layer_limit(gzip) > 32 << 30);
        assert_eq!(layer_limit(u64::MAX), 256 << 30);
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let options = lzma_rust2::XzOptions::with_preset(1);
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(bytes: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decompressor::new(bytes, limit)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn streams_are_told_by_their_first_bytes() {
        let text = vec![b'x'; 100_000];
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        assert_eq!(decode(&text, 1 << 20).unwrap(), text);
        assert_eq!(decode(&gzip(&text), 1 << 20).unwrap(), text);
        assert_eq!(decode(&zstd, 1 << 20).unwrap(), text);
        assert_eq!(decode(&[], 0).unwrap(), b"");
        let members = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(decode(&members, 99).unwrap(), b"one two");
        let xz = xz(&text);
        let bzip2 = bzip2(&text);
        assert_eq!(decode(&xz, 1 << 20).unwrap(), text);
        assert_eq!(decode(&bzip2, 1 << 20).unwrap(), text);
        assert_eq!(
            decode(&[xz.clone(), xz].concat(), 1 << 20).unwrap().len(),
            200_000
        );
        assert_eq!(
            decode(&[bzip2.clone(), bzip2].concat(), 1 << 20)
                .unwrap()
                .len(),
            200_000
        );
        let frames = [zstd.clone(), zstd].concat();
        assert_eq!(decode(&frames, 1 << 20).unwrap().len(), 200_000);
    }

    /// A frame of blocks that each repeat one byte: four bytes for 128 KiB.
    #[test]
    fn a_frame_that_is_nearly_nothing_is_read_to_its_end() {
        for blocks in [1u64, 3, 40, 2000] {
            let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
            for number in 1..=blocks {
                let header = u32::from(number == blocks) | 1 << 1 | (128 << 10) << 3;
                frame.extend_from_slice(&header.to_le_bytes()[..3]);
                frame.push(0);
            }
            let mut decoder = Decompressor::new(frame.as_slice(), 1 << 30).unwrap();
            let count = io::copy(&mut decoder, &mut io::sink()).unwrap();
            assert_eq!(count, blocks << 17, "{blocks} blocks");
        }
    }

    #[test]
    fn bombs_cuts_and_flips_are_errors() {
        let text = vec![0; 1 << 20];
        for mut whole in [
            gzip(&text),
            zstd::encode_all(&text[..], 1).unwrap(),
            bzip2(&text),
            xz(&text),
        ] {
            let kind = |bytes: &[u8], limit| decode(bytes, limit).unwrap_err().kind();
            assert_eq!(kind(&whole, 1000), io::ErrorKind::FileTooLarge);
            let cut = kind(&whole[..whole.len() - 3], 1 << 30);
            assert_eq!(cut, io::ErrorKind::UnexpectedEof);
            let middle = whole.len() / 2;
            whole[middle] ^= 0x55;
            whole[middle + 1] ^= 0x55;
            let result = decode(&whole, 1 << 30);
            assert!(result.is_err() || result.unwrap() != text);
        }
    }
}
