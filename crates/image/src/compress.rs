//! A layer on its way out is compressed: on all processors, and to the same bytes whenever it is asked for.
//!
//! ```text
//! gzip   header │ block │ block │ … │ empty last block │ CRC-32 │ size        (RFC 1952 around RFC 1951)
//!                 each deflated by itself and ended at a byte by a sync flush, as pigz does with --independent
//! zstd   frame │ frame │ …                                                    (RFC 8878), each of one block of the layer
//! ```
//!
//! A registry then knows the layer again by its digest, from whichever machine it comes; and an upload that broke can go on
//! from the byte that arrived.

use std::io::{self, Read};
use std::num::NonZero;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Bytes deflated by themselves. Part of the format: another size makes other bytes of the same layer.
const BLOCK: usize = 1 << 20;
/// As Docker's (the default of Go's and of zlib's). Part of the format.
const LEVEL: u32 = 6;
/// Bytes of the layer in one frame of zstd. Part of the format, as is the level.
const FRAME: usize = 4 << 20;
/// zstd's default.
const ZSTD_LEVEL: i32 = 3;
/// More than this many blocks at a time are memory and no speed.
const MOST_THREADS: usize = 8;
/// No name, no time, an unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A block of no bytes that says it is the last.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// How a layer is compressed that is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerCompression {
    /// gzip, unless the registry has the layer already in whatever way.
    #[default]
    Gzip,
    /// zstd: smaller and read faster, by what knows it (Docker from 20.10 on, containerd, podman). A layer that is there in
    /// another way is sent again.
    Zstd,
}

/// Compresses all of `input` and hands the pieces to `out` in their order. Blocking.
///
/// # Errors
/// What reading failed with, or what `out` answered.
pub fn compress(
    how: LayerCompression,
    input: impl Read,
    out: impl FnMut(Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    match how {
        LayerCompression::Gzip => gzip(input, out),
        LayerCompression::Zstd => zstd(input, out),
    }
}

fn gzip(input: impl Read, mut out: impl FnMut(Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    let mut sum = Crc::new();
    out(HEADER.to_vec())?;
    in_blocks(input, BLOCK, deflate, |(bytes, crc): (Vec<u8>, Crc)| {
        sum.combine(&crc);
        out(bytes)
    })?;
    let mut end = LAST_BLOCK.to_vec();
    end.extend(sum.sum().to_le_bytes());
    end.extend(sum.amount().to_le_bytes());
    out(end)
}

fn zstd(input: impl Read, mut out: impl FnMut(Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    let mut empty = true;
    let frame = |block: &[u8]| zstd::bulk::compress(block, ZSTD_LEVEL);
    in_blocks(input, FRAME, frame, |bytes| {
        empty = false;
        out(bytes)
    })?;
    // A stream has one frame at least.
    if empty {
        out(frame(&[])?)?;
    }
    Ok(())
}

/// Cuts the input into blocks, has each worked on by itself, as many at a time as there are processors, and hands on what
/// came of them in their order.
fn in_blocks<T: Send>(
    mut input: impl Read,
    size: usize,
    work: impl Fn(&[u8]) -> io::Result<T> + Sync,
    mut out: impl FnMut(T) -> io::Result<()>,
) -> io::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = threads.min(MOST_THREADS);
    let mut blocks = vec![Vec::new(); threads];
    loop {
        let mut filled = 0;
        for block in &mut blocks {
            block.clear();
            input.by_ref().take(size as u64).read_to_end(block)?;
            if block.is_empty() {
                break;
            }
            filled += 1;
        }
        let ends = std::thread::scope(|scope| {
            let workers: Vec<_> = blocks[..filled]
                .iter()
                .map(|block| scope.spawn(|| work(block)))
                .collect();
            let ends = workers.into_iter().map(std::thread::ScopedJoinHandle::join);
            ends.collect::<Vec<_>>()
        });
        for end in ends {
            out(end.map_err(|_| io::Error::other("a compressing thread ended"))??)?;
        }
        if filled < threads {
            return Ok(());
        }
    }
}

/// One block by itself, ended at a byte.
fn deflate(block: &[u8]) -> io::Result<(Vec<u8>, Crc)> {
    let mut crc = Crc::new();
    crc.update(block);
    let mut deflater = Compress::new(Compression::new(LEVEL), false);
    // Incompressible bytes are stored, with five more for each 64 KiB at most.
    let mut out = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let taken = usize::try_from(deflater.total_in()).unwrap_or(block.len());
        let status = deflater
            .compress_vec(&block[taken..], &mut out, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        let all_taken = deflater.total_in() == block.len() as u64;
        // A full buffer may hide the end of the flush: only room that was left over proves it.
        if status == Status::BufError || (all_taken && out.len() < out.capacity()) {
            return Ok((out, crc));
        }
        out.reserve(block.len() / 4 + 1024);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;

    fn compressed(input: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        gzip(input, |piece| {
            all.extend(piece);
            Ok(())
        })
        .unwrap();
        all
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .take(length)
        .collect()
    }

    #[test]
    fn one_ordinary_member_that_reads_back() {
        for input in [
            Vec::new(),
            b"a".to_vec(),
            vec![0; BLOCK],
            vec![7; 3 * BLOCK + 5],
            noise(BLOCK - 1),
            noise(2 * BLOCK + 77),
        ] {
            let bytes = compressed(&input);
            let mut reader = GzDecoder::new(bytes.as_slice());
            let mut back = Vec::new();
            reader.read_to_end(&mut back).unwrap();
            assert!(back == input, "{} bytes", input.len());
            // A single member, to its last byte: some readers stop after the first.
            assert!(reader.into_inner().is_empty(), "{} bytes", input.len());
        }
    }

    #[test]
    fn the_same_bytes_every_time() {
        let input = noise(3 * BLOCK);
        assert!(compressed(&input) == compressed(&input));
        // However small the pieces in which they are read.
        struct Drops<'a>(&'a [u8]);
        impl Read for Drops<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let most = into.len().min(1009);
                self.0.read(&mut into[..most])
            }
        }
        let mut all = Vec::new();
        gzip(Drops(&input), |piece| {
            all.extend(piece);
            Ok(())
        })
        .unwrap();
        assert!(all == compressed(&input));
    }

    #[test]
    fn zstd_reads_back_and_is_the_same_every_time() {
        for input in [
            Vec::new(),
            b"a".to_vec(),
            vec![0; FRAME],
            noise(2 * FRAME + 77),
        ] {
            let once = || {
                let mut all = Vec::new();
                let take = |piece| {
                    all.extend::<Vec<u8>>(piece);
                    Ok(())
                };
                compress(LayerCompression::Zstd, input.as_slice(), take).unwrap();
                all
            };
            let bytes = once();
            assert!(once() == bytes);
            assert!(zstd::decode_all(bytes.as_slice()).unwrap() == input);
            let mut back = Vec::new();
            let mut reader = crate::decompress::Decompressor::new(&bytes[..], u64::MAX).unwrap();
            reader.read_to_end(&mut back).unwrap();
            assert!(back == input, "{} bytes", input.len());
        }
    }

    #[test]
    fn who_takes_the_pieces_can_stop_it() {
        let mut taken = 0;
        let result = gzip(noise(9 * BLOCK).as_slice(), |_| {
            taken += 1;
            match taken {
                1 => Ok(()),
                _ => Err(io::ErrorKind::BrokenPipe.into()),
            }
        });
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
