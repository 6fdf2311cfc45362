//! Packs (gitformat-pack(5)): objects one after the other, compressed, many of them only as what is different from another.
//!
//! ```text
//! "PACK" version count | kind and size, [base,] zlib … | SHA-1 of all before
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use flate2::bufread::ZlibDecoder;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use crate::object::Kind;
use crate::{GitError, ObjectId};

/// Bytes of one object; larger ones are refused.
const OBJECT_LIMIT: u64 = 1 << 30;
/// Objects of one pack.
const MOST_OBJECTS: u32 = 20_000_000;
/// How many deltas may stand on each other (git's own limit).
const DEEPEST: usize = 4095;
/// Bytes of objects that are kept at hand.
const CACHED: usize = 64 << 20;
/// Bytes after the objects.
const TRAILER: u64 = 20;

/// A pack, with where in it each object is.
#[derive(Debug)]
pub struct Pack {
    reader: BufReader<File>,
    offsets: HashMap<ObjectId, u64>,
    cache: HashMap<u64, (Kind, Arc<Vec<u8>>)>,
    cached: usize,
}

/// What stands at an offset.
enum Stored {
    Whole(Kind, Vec<u8>),
    /// What is different from the object at an offset, or of a name.
    Offset(u64, Vec<u8>),
    Named(ObjectId, Vec<u8>),
}

impl Pack {
    /// Reads a pack from its beginning to its end. Blocking.
    ///
    /// # Errors
    /// It is none, or broken, or goes beyond limits.
    pub fn read(mut file: File) -> Result<Self, GitError> {
        checked(&mut file)?;
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        let mut pack = Self {
            reader: BufReader::with_capacity(64 << 10, file),
            offsets: HashMap::new(),
            cache: HashMap::new(),
            cached: 0,
        };
        let mut head = [0; 12];
        pack.reader.read_exact(&mut head)?;
        let number =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (version, count) = (number(4), number(8));
        if !matches!(version, 2 | 3) || count > MOST_OBJECTS {
            return Err(wrong(format!("version {version}, {count} objects")));
        }
        let mut at = 12;
        let mut deltas = Vec::new();
        for _ in 0..count {
            if at + TRAILER >= length {
                return Err(wrong("it has fewer objects than it says"));
            }
            let (stored, next) = pack.stored(at)?;
            match stored {
                Stored::Whole(kind, content) => {
                    pack.offsets.insert(kind.id_of(&content), at);
                }
                _ => deltas.push(at),
            }
            at = next;
        }
        if at + TRAILER != length {
            return Err(wrong("it has more than its objects"));
        }
        pack.resolve(deltas)?;
        Ok(pack)
    }

    /// Finds out the names of objects that are told of as differences. One whose base is named may come before its base.
    fn resolve(&mut self, mut left: Vec<u64>) -> Result<(), GitError> {
        while !left.is_empty() {
            let mut later = Vec::new();
            for at in &left {
                match self.at(*at) {
                    Ok((kind, content)) => {
                        self.offsets.insert(kind.id_of(&content), *at);
                    }
                    Err(GitError::NoObject(_)) => later.push(*at),
                    Err(error) => return Err(error),
                }
            }
            if later.len() == left.len() {
                return Err(wrong("an object stands on one that is not there"));
            }
            left = later;
        }
        Ok(())
    }

    /// What is at an offset, and the offset of what follows.
    fn stored(&mut self, at: u64) -> Result<(Stored, u64), GitError> {
        self.reader.seek(SeekFrom::Start(at))?;
        let first = self.byte()?;
        let kind = (first >> 4) & 7;
        let mut size = u64::from(first & 15);
        let (mut more, mut shift) = (first & 0x80 != 0, 4);
        while more {
            let byte = self.byte()?;
            if shift > 56 {
                return Err(wrong("the size of an object is too large"));
            }
            size |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            more = byte & 0x80 != 0;
        }
        if size > OBJECT_LIMIT {
            return Err(wrong(format!("an object of {size} bytes")));
        }
        let base = match kind {
            6 => Some(Err(self.base_offset(at)?)),
            7 => {
                let mut id = [0; 20];
                self.reader.read_exact(&mut id)?;
                Some(Ok(ObjectId(id)))
            }
            _ => None,
        };
        let mut content = Vec::new();
        let mut decoder = ZlibDecoder::new(&mut self.reader);
        decoder.by_ref().take(size).read_to_end(&mut content)?;
        if content.len() as u64 != size || decoder.read(&mut [0])? != 0 {
            return Err(wrong("an object is not as long as it says"));
        }
        let next = self.reader.stream_position()?;
        let kind = match (kind, base) {
            (1, _) => Kind::Commit,
            (2, _) => Kind::Tree,
            (3, _) => Kind::Blob,
            (4, _) => Kind::Tag,
            (_, Some(Err(base))) => return Ok((Stored::Offset(base, content), next)),
            (_, Some(Ok(base))) => return Ok((Stored::Named(base, content), next)),
            (kind, None) => return Err(wrong(format!("an object of kind {kind}"))),
        };
        Ok((Stored::Whole(kind, content), next))
    }

    fn base_offset(&mut self, at: u64) -> Result<u64, GitError> {
        let mut byte = self.byte()?;
        let mut back = u64::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.byte()?;
            if back > 1 << 48 {
                return Err(wrong("an object stands on one far away"));
            }
            back = ((back + 1) << 7) | u64::from(byte & 0x7f);
        }
        let base = at
            .checked_sub(back)
            .filter(|base| *base >= 12 && *base < at);
        base.ok_or_else(|| wrong("an object stands on one outside of the pack"))
    }

    fn byte(&mut self) -> Result<u8, GitError> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// The object at an offset, whole.
    fn at(&mut self, at: u64) -> Result<(Kind, Arc<Vec<u8>>), GitError> {
        let mut deltas = Vec::new();
        let mut here = at;
        let (kind, mut content) = loop {
            if let Some((kind, content)) = self.cache.get(&here) {
                break (*kind, content.clone());
            }
            if deltas.len() > DEEPEST {
                return Err(wrong("too many objects stand on each other"));
            }
            match self.stored(here)?.0 {
                Stored::Whole(kind, content) => {
                    let content = Arc::new(content);
                    self.keep(here, kind, &content);
                    break (kind, content);
                }
                Stored::Offset(base, delta) => {
                    deltas.push((here, delta));
                    here = base;
                }
                Stored::Named(base, delta) => {
                    deltas.push((here, delta));
                    let known = self.offsets.get(&base).copied();
                    here = known.ok_or_else(|| GitError::NoObject(base.to_string()))?;
                }
            }
        };
        for (at, delta) in deltas.into_iter().rev() {
            content = Arc::new(applied(&content, &delta)?);
            self.keep(at, kind, &content);
        }
        Ok((kind, content))
    }

    fn keep(&mut self, at: u64, kind: Kind, content: &Arc<Vec<u8>>) {
        if content.len() > CACHED / 4 {
            return;
        }
        if self.cached + content.len() > CACHED {
            self.cache.clear();
            self.cached = 0;
        }
        self.cached += content.len();
        self.cache.insert(at, (kind, content.clone()));
    }

    /// An object by its name.
    pub(crate) fn object(&mut self, id: ObjectId) -> Result<(Kind, Arc<Vec<u8>>), GitError> {
        let at = self.offsets.get(&id).copied();
        self.at(at.ok_or_else(|| GitError::NoObject(id.to_string()))?)
    }
}

fn wrong(reason: impl Into<String>) -> GitError {
    GitError::Pack(reason.into())
}

/// That a file begins as a pack and ends with the sum of what is before.
fn checked(file: &mut File) -> Result<(), GitError> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    if length < 12 + TRAILER {
        return Err(wrong("it is too short"));
    }
    let mut reader = BufReader::with_capacity(128 << 10, file.take(length - TRAILER));
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    let mut is_first = true;
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        if std::mem::take(&mut is_first) && !bytes.starts_with(b"PACK") {
            return Err(wrong("it does not begin as one"));
        }
        context.update(bytes);
        let read = bytes.len();
        reader.consume(read);
    }
    let mut sum = [0; 20];
    file.seek(SeekFrom::Start(length - TRAILER))?;
    file.read_exact(&mut sum)?;
    if context.finish().as_ref() != sum {
        return Err(wrong("its sum is another"));
    }
    Ok(())
}

/// Applies a difference to what it stands on.
fn applied(base: &[u8], delta: &[u8]) -> Result<Vec<u8>, GitError> {
    let broken = || wrong("a difference is broken");
    let mut rest = delta.iter().copied();
    let mut size = || {
        let (mut size, mut shift) = (0_u64, 0);
        loop {
            let byte = rest.next().ok_or_else(broken)?;
            if shift > 56 {
                return Err(broken());
            }
            size |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Ok(size);
            }
        }
    };
    let (from, to) = (size()?, size()?);
    if from != base.len() as u64 || to > OBJECT_LIMIT {
        return Err(broken());
    }
    let to = usize::try_from(to).map_err(|_| broken())?;
    let mut out = Vec::new();
    while let Some(order) = rest.next() {
        match order {
            0 => return Err(broken()),
            1..=0x7f => {
                let before = out.len();
                out.extend(rest.by_ref().take(order.into()));
                if out.len() - before != usize::from(order) {
                    return Err(broken());
                }
            }
            _ => {
                let mut number = |bits: std::ops::Range<u8>| {
                    let mut number = 0_usize;
                    for (place, bit) in bits.enumerate() {
                        if order & (1 << bit) != 0 {
                            number |= usize::from(rest.next().ok_or_else(broken)?) << (8 * place);
                        }
                    }
                    Ok::<usize, GitError>(number)
                };
                let at = number(0..4)?;
                let length = match number(4..7)? {
                    0 => 0x1_0000,
                    length => length,
                };
                let end = at.checked_add(length).ok_or_else(broken)?;
                out.extend_from_slice(base.get(at..end).ok_or_else(broken)?);
            }
        }
        if out.len() > to {
            return Err(broken());
        }
    }
    if out.len() == to {
        Ok(out)
    } else {
        Err(broken())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::{Pack, applied};

    #[test]
    fn differences_copy_and_insert() {
        let base = b"hello world";
        let delta = [11, 11, 0x91, 6, 5, 6, b' ', b'h', b'e', b'l', b'l', b'o'];
        assert_eq!(applied(base, &delta).expect("applied"), b"world hello");
        for wrong in [
            &[][..],
            &[11],
            &[10, 0],
            &[11, 5, 0],
            &[11, 5, 0x91, 10, 5],
            &[11, 5, 5, 1],
            &[11, 4, 0x91, 0, 5],
            &[11, 6, 0x91, 0, 5],
            &[0xff; 30],
        ] {
            assert!(applied(base, wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_pack_is_refused() {
        for wrong in [
            &b""[..],
            b"PACK",
            &[0; 64],
            b"PACK\0\0\0\x02\0\0\0\x01aaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(wrong).expect("written");
            assert!(Pack::read(file).is_err(), "{wrong:?}");
        }
    }
}
