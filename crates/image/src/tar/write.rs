//! Writes tars: ustar headers, with a pax header before those that do not fit one.
//!
//! Whole seconds and numeric owners only, as Docker writes its archives (moby `archive.FileInfoHeader`).

use std::io::{self, Read, Write};

use super::header::BLOCK;
use super::{Entry, EntryKind};

/// The largest number seven octal digits hold: owners.
const OCTAL_7: u64 = 0o777_7777;
/// The largest number eleven octal digits hold: sizes and times.
const OCTAL_11: u64 = 0o777_7777_7777;

/// An archive being written. Dropped without [`TarWriter::finish`] it lacks its end.
pub struct TarWriter<W> {
    out: W,
    buffer: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    /// Begins an archive.
    pub fn new(out: W) -> Self {
        Self {
            out,
            buffer: Vec::new(),
        }
    }

    /// Writes an entry that has no data. Its path is written as it is; a directory's gets a slash at its end.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let (kind, link) = match &entry.kind {
            EntryKind::File { .. } => (b'0', None),
            EntryKind::HardLink { target } => (b'1', Some(target.as_slice())),
            EntryKind::Symlink { target } => (b'2', Some(target.as_slice())),
            EntryKind::CharDevice { .. } => (b'3', None),
            EntryKind::BlockDevice { .. } => (b'4', None),
            EntryKind::Directory => (b'5', None),
            EntryKind::Fifo => (b'6', None),
        };
        let mut path = entry.path.clone();
        if entry.kind == EntryKind::Directory && !path.ends_with(b"/") {
            if path.is_empty() {
                path.push(b'.');
            }
            path.push(b'/');
        }
        let size = match entry.kind {
            EntryKind::File { size, .. } => size,
            _ => 0,
        };
        let link = link.unwrap_or_default();
        let pax = self.pax_records(entry, &path, link, size);
        if !pax.is_empty() {
            let mut header = Header::new(b"PaxHeaders.0/entry", b'x');
            header.octal(100..108, 0o644);
            header.octal(108..116, 0);
            header.octal(116..124, 0);
            header.octal(124..136, pax.len() as u64);
            header.octal(136..148, 0);
            self.out.write_all(&header.seal())?;
            self.out.write_all(&pax)?;
            self.pad(pax.len() as u64)?;
        }
        let mut header = Header::new(&path, kind);
        header.octal(100..108, entry.mode.into());
        header.octal(108..116, u64::from(entry.uid).min(OCTAL_7));
        header.octal(116..124, u64::from(entry.gid).min(OCTAL_7));
        // Where the pax header has the true size, readers take 0 for "see there".
        header.octal(124..136, if size > OCTAL_11 { 0 } else { size });
        let mtime = u64::try_from(entry.mtime).unwrap_or(0);
        header.octal(136..148, mtime.min(OCTAL_11));
        header.bytes(157..257, link);
        if let EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } =
            entry.kind
        {
            header.octal(329..337, major.into());
            header.octal(337..345, minor.into());
        }
        self.out.write_all(&header.seal())
    }

    /// Writes a file's entry and its data, `size` bytes of it; one that has become shorter is an error.
    pub fn file(&mut self, entry: &Entry, size: u64, data: impl Read) -> io::Result<()> {
        self.entry(entry)?;
        self.buffer.resize(128 << 10, 0);
        let mut data = data.take(size);
        let mut left = size;
        while left > 0 {
            let read = match data.read(&mut self.buffer) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!(
                            "{} became shorter while it was read",
                            String::from_utf8_lossy(&entry.path)
                        ),
                    ));
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.out.write_all(&self.buffer[..read])?;
            left -= read as u64;
        }
        self.pad(size)
    }

    /// Writes a file's entry, and has `send` write its data, of which there are `size` bytes.
    pub(crate) fn sent(
        &mut self,
        entry: &Entry,
        size: u64,
        send: impl FnOnce(&mut W) -> io::Result<()>,
    ) -> io::Result<()> {
        self.entry(entry)?;
        send(&mut self.out)?;
        self.pad(size)
    }

    /// Writes the end marker and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = usize::try_from(super::padding(size)).unwrap_or(0);
        self.out.write_all(&[0; BLOCK][..padding])
    }

    fn pax_records(&self, entry: &Entry, path: &[u8], link: &[u8], size: u64) -> Vec<u8> {
        let mut pax = Vec::new();
        let text = |pax: &mut Vec<u8>, key: &[u8], value: &[u8]| {
            if value.len() > 100 || !value.is_ascii() {
                record(pax, key, value);
            }
        };
        text(&mut pax, b"path", path);
        text(&mut pax, b"linkpath", link);
        let number = |pax: &mut Vec<u8>, key: &[u8], value: u64, most: u64| {
            if value > most {
                record(pax, key, value.to_string().as_bytes());
            }
        };
        number(&mut pax, b"size", size, OCTAL_11);
        number(&mut pax, b"uid", entry.uid.into(), OCTAL_7);
        number(&mut pax, b"gid", entry.gid.into(), OCTAL_7);
        if entry.mtime < 0 || entry.mtime.unsigned_abs() > OCTAL_11 {
            record(&mut pax, b"mtime", entry.mtime.to_string().as_bytes());
        }
        for (name, value) in &entry.xattrs {
            let key = [b"SCHILY.xattr.", name.as_slice()].concat();
            record(&mut pax, &key, value);
        }
        pax
    }
}

/// `<length of the whole record> <key>=<value>\n`.
fn record(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    pax.extend_from_slice(length.to_string().as_bytes());
    pax.push(b' ');
    pax.extend_from_slice(key);
    pax.push(b'=');
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

struct Header([u8; BLOCK]);

impl Header {
    fn new(path: &[u8], kind: u8) -> Self {
        let mut header = Self([0; BLOCK]);
        header.bytes(0..100, path);
        header.0[156] = kind;
        header.bytes(257..265, b"ustar\x0000");
        header
    }

    /// As much of a text as the field takes; the pax header has the whole of a longer one.
    fn bytes(&mut self, field: std::ops::Range<usize>, text: &[u8]) {
        let length = text.len().min(field.len());
        self.0[field.start..field.start + length].copy_from_slice(&text[..length]);
    }

    fn octal(&mut self, field: std::ops::Range<usize>, number: u64) {
        let digits = field.len() - 1;
        self.bytes(field, format!("{number:0digits$o}\0").as_bytes());
    }

    fn seal(mut self) -> [u8; BLOCK] {
        self.bytes(148..156, b"        ");
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.bytes(148..156, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::Archive;

    fn entry(path: &[u8], kind: EntryKind) -> Entry {
        Entry {
            path: path.to_vec(),
            kind,
            mode: 0o4755,
            uid: 1000,
            gid: 3_000_000_000,
            mtime: -5,
            mtime_nanos: 0,
            xattrs: vec![(b"user.k".to_vec(), b"a\0=\nb".to_vec())],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let long = [b'x'; 99];
        let path = [b"dir/", long.as_slice(), b"/", long.as_slice()].concat();
        let size = 700;
        let entries = [
            entry(b"dir", EntryKind::Directory),
            entry("dir/ä".as_bytes(), EntryKind::Fifo),
            entry(
                &path,
                EntryKind::Symlink {
                    target: path.clone(),
                },
            ),
            entry(
                b"h",
                EntryKind::HardLink {
                    target: b"dir/f".to_vec(),
                },
            ),
            entry(b"c", EntryKind::CharDevice { major: 1, minor: 3 }),
            entry(b"b", EntryKind::BlockDevice { major: 8, minor: 0 }),
        ];
        let file = entry(b"dir/f", EntryKind::File { size, offset: 0 });
        let mut writer = TarWriter::new(Vec::new());
        for entry in &entries {
            writer.entry(entry).unwrap();
        }
        writer.file(&file, size, io::repeat(7)).unwrap();
        let bytes = writer.finish().unwrap();
        let mut archive = Archive::new(bytes.as_slice());
        for entry in &entries {
            assert_eq!(archive.next_entry().unwrap().as_ref(), Some(entry));
        }
        let mut read = archive.next_entry().unwrap().unwrap();
        if let EntryKind::File { offset, .. } = &mut read.kind {
            *offset = 0;
        }
        assert_eq!(read, file);
        let mut data = Vec::new();
        archive.read_to_end(&mut data).unwrap();
        assert_eq!(data, vec![7; 700]);
        assert!(archive.next_entry().unwrap().is_none());
    }

    #[test]
    fn a_file_that_shrinks_is_told_of() {
        let file = entry(b"f", EntryKind::File { size: 9, offset: 0 });
        let error = TarWriter::new(Vec::new())
            .file(&file, 9, &b"short"[..])
            .unwrap_err();
        assert!(error.to_string().contains("f became shorter"));
    }
}
