//! One 512-byte header (POSIX ustar, GNU, star, v7), and an entry made of it and its extensions.

use super::pax::PaxRecords;
use super::{Entry, EntryKind, PATH_LIMIT, normal_path};

/// Tar's unit.
pub(super) const BLOCK: usize = 512;

/// The largest size eleven octal digits hold: what libarchive writes where the pax header has the true one.
const OCTAL_MAX: u64 = 0o777_7777_7777;

/// A header's fields, decoded and not yet interpreted.
#[derive(Debug)]
pub(super) struct Header {
    /// Whether the magic is one of those that have types beyond v7's.
    pub(super) extensible: bool,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: u8,
    pub(super) size: u64,
    mode: u64,
    uid: u64,
    gid: u64,
    mtime: i64,
    major: u64,
    minor: u64,
}

impl Header {
    /// Decodes a block after checking its sum. Which fields exist depends on the magic, as in Go's `archive/tar`.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self, String> {
        let said = unsigned(&block[148..156], "checksum")?;
        let sum = |signed: bool| -> i64 {
            block
                .iter()
                .enumerate()
                .map(|(at, b)| match at {
                    148..156 => 32,
                    _ if signed => i64::from(*b as i8),
                    _ => i64::from(*b),
                })
                .sum()
        };
        let said = i64::try_from(said).map_err(|_| "checksum out of range".to_owned())?;
        if said != sum(false) && said != sum(true) {
            return Err("the checksum is wrong".into());
        }
        let posix = &block[257..263] == b"ustar\0";
        let gnu = &block[257..265] == b"ustar  \0";
        let star = posix && &block[508..512] == b"tar\0";
        let mut name = until_nul(&block[..100]).to_vec();
        let prefix = match (star, posix) {
            (true, _) => until_nul(&block[345..476]),
            (false, true) => until_nul(&block[345..500]),
            _ => &[],
        };
        if !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let device = |range: std::ops::Range<usize>, what| {
            if posix || gnu {
                unsigned(&block[range], what)
            } else {
                Ok(0)
            }
        };
        Ok(Self {
            extensible: gnu || (posix && &block[263..265] == b"00"),
            name,
            link: until_nul(&block[157..257]).to_vec(),
            kind: block[156],
            size: unsigned(&block[124..136], "size")?,
            mode: unsigned(&block[100..108], "mode")?,
            uid: unsigned(&block[108..116], "uid")?,
            gid: unsigned(&block[116..124], "gid")?,
            mtime: signed(&block[136..148], "mtime")?,
            major: device(329..337, "major")?,
            minor: device(337..345, "minor")?,
        })
    }
}

/// Makes an entry of a header and what extends it; with the bytes of data that follow. The error is the rule broken.
pub(super) fn merge(
    header: Header,
    pax: PaxRecords,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    offset: u64,
) -> Result<(Entry, u64), String> {
    if let Some(key) = &pax.sparse {
        return Err(format!("sparse files ({key}) are not supported"));
    }
    let size = match pax.size {
        Some(size) if size == header.size || header.size == 0 || header.size == OCTAL_MAX => size,
        Some(size) => {
            return Err(format!(
                "its size is ambiguous: {} in the header, {size} in the pax header",
                header.size
            ));
        }
        None => header.size,
    };
    if size > i64::MAX as u64 - (1 << 20) {
        return Err(format!("its size {size} is out of range"));
    }
    let name = choose(long_name, pax.path, header.name, "name")?;
    let link = choose(long_link, pax.linkpath, header.link, "link target")?;
    let slash = name.ends_with(b"/");
    let path = normal_path(&name)?;
    let kind = match header.kind {
        0 if slash => EntryKind::Directory,
        b'0' if slash => return Err("it is a file whose name ends in a slash".into()),
        0 | b'0' | b'7' => EntryKind::File { size, offset },
        b'1' => EntryKind::HardLink {
            target: normal_path(&link).map_err(|reason| format!("as a link target, {reason}"))?,
        },
        b'2' => EntryKind::Symlink {
            target: symlink_target(link)?,
        },
        b'3' => EntryKind::CharDevice {
            major: device(header.major)?,
            minor: device(header.minor)?,
        },
        b'4' => EntryKind::BlockDevice {
            major: device(header.major)?,
            minor: device(header.minor)?,
        },
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        b'S' => return Err("sparse files (type S) are not supported".into()),
        b'M' => return Err("multi-volume archives are not supported".into()),
        b'D' => return Err("incremental dumps are not supported".into()),
        other => return Err(format!("its type {:?} is unknown", char::from(other))),
    };
    if size > 0 && !matches!(kind, EntryKind::File { .. }) {
        return Err(format!(
            "its size is ambiguous: {size} bytes of data for something that has none"
        ));
    }
    if path.is_empty() && !matches!(kind, EntryKind::Directory) {
        return Err("the root is not a directory".into());
    }
    let (mtime, mtime_nanos) = pax.mtime.unwrap_or((header.mtime, 0));
    let entry = Entry {
        path,
        kind,
        mode: (header.mode & 0o7777) as u16,
        uid: owner(pax.uid.unwrap_or(header.uid), "uid")?,
        gid: owner(pax.gid.unwrap_or(header.gid), "gid")?,
        mtime,
        mtime_nanos,
        xattrs: pax.xattrs.into_iter().collect(),
    };
    Ok((entry, size))
}

/// GNU's long name, the pax record, the header's field: GNU and pax must agree where both speak.
fn choose(
    gnu: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
    header: Vec<u8>,
    what: &str,
) -> Result<Vec<u8>, String> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => {
            Err(format!("its {what} is ambiguous: GNU and pax differ"))
        }
        (Some(long), _) | (None, Some(long)) => Ok(long),
        (None, None) => Ok(header),
    }
}

fn symlink_target(target: Vec<u8>) -> Result<Vec<u8>, String> {
    if target.is_empty() || target.len() > PATH_LIMIT || target.contains(&0) {
        return Err(format!("its link target has {} bytes", target.len()));
    }
    Ok(target)
}

fn owner(id: u64, what: &str) -> Result<u32, String> {
    match u32::try_from(id) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(format!("its {what} {id} is out of range")),
    }
}

/// Linux keeps 12 bits of major and 20 of minor.
fn device(number: u64) -> Result<u32, String> {
    match u32::try_from(number) {
        Ok(number) if number < 1 << 20 => Ok(number),
        _ => Err(format!("its device number {number} is out of range")),
    }
}

/// The bytes before the first NUL.
pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    &field[..memchr::memchr(0, field).unwrap_or(field.len())]
}

fn unsigned(field: &[u8], what: &str) -> Result<u64, String> {
    u64::try_from(signed(field, what)?).map_err(|_| format!("the {what} is negative"))
}

/// Octal text between spaces and NULs, or GNU's base-256: the first byte's top bit set, two's complement after it.
fn signed(field: &[u8], what: &str) -> Result<i64, String> {
    let out_of_range = || format!("the {what} is out of range");
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let byte = match (at, negative) {
                (0, false) => byte & 0x7f,
                _ => *byte,
            };
            value = (value << 8) | i128::from(byte);
        }
        return i64::try_from(value).map_err(|_| out_of_range());
    }
    let blank = |b: &u8| matches!(b, b' ' | 0);
    let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
    let rest = &field[start..];
    let end = rest.iter().position(blank).unwrap_or(rest.len());
    if !rest[end..].iter().all(blank) {
        return Err(format!("the {what} is not a number"));
    }
    let mut value: i64 = 0;
    for digit in &rest[..end] {
        if !matches!(digit, b'0'..=b'7') {
            return Err(format!("the {what} is not a number"));
        }
        value = value
            .checked_mul(8)
            .and_then(|v| v.checked_add(i64::from(digit - b'0')))
            .ok_or_else(out_of_range)?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"  644 \0\0", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"77777777", 0o7777_7777),
            (b"\x80\0\0\0\0\x01\x00\x00", 65536),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        ] {
            assert_eq!(signed(field, "n"), Ok(value), "{field:?}");
        }
        for bad in [
            &b"12x45\0\0\0"[..],
            b"8\0\0\0\0\0\0\0",
            b"1 2\0\0\0\0\0",
            b"-1\0\0\0\0\0\0",
            b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert!(signed(bad, "n").is_err(), "{bad:?}");
        }
    }
}
