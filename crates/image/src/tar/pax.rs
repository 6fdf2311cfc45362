//! Pax extended headers: `<length> <key>=<value>\n` records (POSIX.1-2001, pax).

use std::collections::BTreeMap;

/// The records that matter to a file system; the others are read and dropped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PaxRecords {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first key that announces a sparse file.
    pub(super) sparse: Option<String>,
}

/// Bytes an extended attribute's name and value may have (XATTR_NAME_MAX, XATTR_SIZE_MAX less one).
const XATTR_NAME_LIMIT: usize = 255;
const XATTR_VALUE_LIMIT: usize = 65535;

impl PaxRecords {
    /// Reads the body of a pax header. A key may come twice only with the same value; an empty value says nothing.
    pub(super) fn parse(mut body: &[u8]) -> Result<Self, String> {
        let mut records = Self::default();
        let mut seen: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
        while !body.is_empty() {
            let (key, value, rest) = record(body).ok_or("a pax record is malformed")?;
            body = rest;
            if let Some(before) = seen.insert(key, value)
                && before != value
            {
                return Err(format!(
                    "the pax record {:?} is ambiguous: it is there twice",
                    String::from_utf8_lossy(key)
                ));
            }
            if !value.is_empty() || key.starts_with(b"SCHILY.xattr.") {
                records.set(key, value)?;
            }
        }
        Ok(records)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let number = || -> Result<u64, String> {
            std::str::from_utf8(value)
                .ok()
                .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| {
                    format!(
                        "the pax record {:?} is not a number",
                        String::from_utf8_lossy(key)
                    )
                })
        };
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.linkpath = Some(value.to_vec()),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.mtime = Some(time(value).ok_or("the pax mtime is not a time")?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let fits = !name.is_empty()
                        && name.len() <= XATTR_NAME_LIMIT
                        && value.len() <= XATTR_VALUE_LIMIT
                        && !name.contains(&0);
                    if !fits {
                        return Err("an extended attribute is too long".into());
                    }
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                } else if key.starts_with(b"GNU.sparse.") {
                    self.sparse
                        .get_or_insert_with(|| String::from_utf8_lossy(key).into_owned());
                }
            }
        }
        Ok(())
    }

    /// A global header may not say what parsers disagree about: Go ignores it, POSIX applies it. The rest of it is ignored,
    /// as Docker does.
    pub(super) fn check_global(&self) -> Result<(), String> {
        let ambiguous = if self.size.is_some() {
            "size"
        } else if self.path.is_some() {
            "path"
        } else if self.linkpath.is_some() {
            "linkpath"
        } else if self.sparse.is_some() {
            "GNU.sparse"
        } else {
            return Ok(());
        };
        Err(format!("a global pax header sets {ambiguous}"))
    }
}

/// Splits one record off: key, value, what follows.
fn record(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = memchr::memchr(b' ', &body[..body.len().min(8)])?;
    let digits = &body[..space];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    if length > body.len() || length < space + 3 || body[length - 1] != b'\n' {
        return None;
    }
    let (record, rest) = body.split_at(length);
    let record = &record[space + 1..length - 1];
    let equals = memchr::memchr(b'=', record)?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    let text = |bytes: &[u8]| !bytes.contains(&0);
    let sound = !key.is_empty()
        && text(key)
        && (text(value) || !matches!(key, b"path" | b"linkpath" | b"uname" | b"gname"));
    sound.then_some((key, value, rest))
}

/// `[-]seconds[.fraction]`; the fraction is cut to nanoseconds.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos: u32 = format!("{:0<9}", &fraction[..fraction.len().min(9)])
        .parse()
        .ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_split_by_their_length() {
        let records =
            PaxRecords::parse(b"12 path=a\nb\n18 SCHILY.xattr.u=\n20 mtime=-1.25\nabcd\n").err();
        assert!(records.is_some());
        let records = PaxRecords::parse(b"12 path=a\nb\n15 mtime=-1.25\n").unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(records.mtime, Some((-2, 750_000_000)));
    }

    #[test]
    fn what_may_be_read_in_two_ways_is_refused() {
        for bad in [
            &b"9 size=1\n9 size=2\n"[..],
            b"9 size=-1",
            b"10 size=-1\n",
            b"10 size=+1\n",
            b"99 size=1\n",
            b"5 size=1\n",
            b"x\n",
            b"8 path=\n",
        ] {
            let read = PaxRecords::parse(bad);
            assert!(
                read.is_err() || bad == b"8 path=\n",
                "{bad:?} gave {read:?}"
            );
        }
        assert!(
            PaxRecords::parse(b"9 size=1\n")
                .unwrap()
                .check_global()
                .is_err()
        );
        assert!(
            PaxRecords::parse(b"13 comment=x\n")
                .unwrap()
                .check_global()
                .is_ok()
        );
    }
}
