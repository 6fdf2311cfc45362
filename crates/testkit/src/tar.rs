//! A tar writer that refuses nothing: hostile archives are fixtures too.
//!
//! POSIX ustar headers, pax `x` records for what does not fit. Names are written as given, absolute and `..`
//! included.

/// What a tar entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file with its content.
    File(Vec<u8>),
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Symlink(String),
    /// A hard link to the entry of that name.
    Hardlink(String),
    /// A character device with major and minor number.
    CharacterDevice(u32, u32),
    /// A block device with major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Builds an uncompressed tar archive in memory.
#[derive(Debug, Default, Clone)]
pub struct TarBuilder {
    bytes: Vec<u8>,
    owner: (u32, u32),
    modified: u64,
}

impl TarBuilder {
    /// An empty archive; entries belong to 0:0 and were modified at second 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Entries added from here on belong to this user and group.
    #[must_use]
    pub fn owner(mut self, user: u32, group: u32) -> Self {
        self.owner = (user, group);
        self
    }

    /// Entries added from here on were modified at this Unix second.
    #[must_use]
    pub fn modified(mut self, second: u64) -> Self {
        self.modified = second;
        self
    }

    /// Adds a regular file.
    #[must_use]
    pub fn file(self, name: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.entry(name, mode, &EntryKind::File(content.into()), &[])
    }

    /// Adds a directory with mode 0755.
    #[must_use]
    pub fn directory(self, name: &str) -> Self {
        self.entry(
            &format!("{}/", name.trim_end_matches('/')),
            0o755,
            &EntryKind::Directory,
            &[],
        )
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, 0o777, &EntryKind::Symlink(target.to_owned()), &[])
    }

    /// Adds a hard link.
    #[must_use]
    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(name, 0o755, &EntryKind::Hardlink(target.to_owned()), &[])
    }

    /// Adds a whiteout that hides `name` in the layers below (OCI image spec, layer.md).
    #[must_use]
    pub fn whiteout(self, name: &str) -> Self {
        let (parent, base) = name.rsplit_once('/').map_or(("", name), |(p, b)| (p, b));
        let slash = if parent.is_empty() { "" } else { "/" };
        self.file(&format!("{parent}{slash}.wh.{base}"), 0o644, Vec::new())
    }

    /// Adds the marker that hides everything the layers below have in directory `name`.
    #[must_use]
    pub fn opaque(self, name: &str) -> Self {
        self.file(
            &format!("{}/.wh..wh..opq", name.trim_end_matches('/')),
            0o644,
            Vec::new(),
        )
    }

    /// Adds an entry of any kind, with pax records (`("SCHILY.xattr.user.a", "1")`, `("path", …)`) before it.
    #[must_use]
    pub fn entry(mut self, name: &str, mode: u32, kind: &EntryKind, pax: &[(&str, &str)]) -> Self {
        let mut records: Vec<(String, String)> = pax
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        if name.len() > 100 {
            records.push(("path".to_owned(), name.to_owned()));
        }
        let target = match kind {
            EntryKind::Symlink(target) | EntryKind::Hardlink(target) => target.as_str(),
            _ => "",
        };
        if target.len() > 100 {
            records.push(("linkpath".to_owned(), target.to_owned()));
        }
        if !records.is_empty() {
            let body: Vec<u8> = records.iter().flat_map(|(k, v)| pax_record(k, v)).collect();
            let header = self.header("pax", 0o644, b'x', "", body.len() as u64, (0, 0));
            self.push(&header, &body);
        }
        let (flag, device, content): (u8, (u32, u32), &[u8]) = match kind {
            EntryKind::File(content) => (b'0', (0, 0), content),
            EntryKind::Hardlink(_) => (b'1', (0, 0), &[]),
            EntryKind::Symlink(_) => (b'2', (0, 0), &[]),
            EntryKind::CharacterDevice(major, minor) => (b'3', (*major, *minor), &[]),
            EntryKind::BlockDevice(major, minor) => (b'4', (*major, *minor), &[]),
            EntryKind::Directory => (b'5', (0, 0), &[]),
            EntryKind::Fifo => (b'6', (0, 0), &[]),
        };
        let header = self.header(name, mode, flag, target, content.len() as u64, device);
        self.push(&header, content);
        self
    }

    /// Adds a file whose header claims `claimed` bytes while `content` follows: a lying archive.
    #[must_use]
    pub fn lying_file(mut self, name: &str, claimed: u64, content: &[u8]) -> Self {
        let header = self.header(name, 0o644, b'0', "", claimed, (0, 0));
        self.push(&header, content);
        self
    }

    /// Adds bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// The archive with its two closing zero blocks.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }

    /// The archive as it is: no closing blocks, as a stream that broke off leaves it.
    #[must_use]
    pub fn unfinished(self) -> Vec<u8> {
        self.bytes
    }

    fn push(&mut self, header: &[u8; 512], content: &[u8]) {
        self.bytes.extend_from_slice(header);
        self.bytes.extend_from_slice(content);
        let padded = self.bytes.len().next_multiple_of(512);
        self.bytes.resize(padded, 0);
    }

    fn header(
        &self,
        name: &str,
        mode: u32,
        flag: u8,
        target: &str,
        size: u64,
        device: (u32, u32),
    ) -> [u8; 512] {
        let mut header = [0_u8; 512];
        let text = |header: &mut [u8; 512], at: usize, room: usize, text: &str| {
            let length = text.len().min(room);
            header[at..at + length].copy_from_slice(&text.as_bytes()[..length]);
        };
        text(&mut header, 0, 100, name);
        text(&mut header, 100, 8, &format!("{mode:07o}"));
        text(&mut header, 108, 8, &format!("{:07o}", self.owner.0));
        text(&mut header, 116, 8, &format!("{:07o}", self.owner.1));
        text(&mut header, 124, 12, &format!("{size:011o}"));
        text(&mut header, 136, 12, &format!("{:011o}", self.modified));
        text(&mut header, 148, 8, "        ");
        header[156] = flag;
        text(&mut header, 157, 100, target);
        text(&mut header, 257, 8, "ustar\x0000");
        text(&mut header, 329, 8, &format!("{:07o}", device.0));
        text(&mut header, 337, 8, &format!("{:07o}", device.1));
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        text(&mut header, 148, 8, &format!("{sum:06o}\0 "));
        header
    }
}

/// One pax record: its own decimal length, a space, `key=value`, a newline.
fn pax_record(key: &str, value: &str) -> Vec<u8> {
    let bare = key.len() + value.len() + 3;
    let mut length = bare;
    while bare + length.to_string().len() != length {
        length = bare + length.to_string().len();
    }
    format!("{length} {key}={value}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gnu_tar_lists_what_was_built() {
        let long = format!("{}/file", "directory".repeat(20));
        let archive = TarBuilder::new()
            .directory("etc")
            .file("etc/motd", 0o644, "hello")
            .symlink("etc/link", "motd")
            .whiteout("etc/gone")
            .file(&long, 0o600, "x")
            .finish();
        let directory = crate::TemporaryDirectory::new("tar");
        let path = directory.join("a.tar");
        std::fs::write(&path, archive).unwrap();
        let listed = std::process::Command::new("tar")
            .arg("tf")
            .arg(&path)
            .output()
            .unwrap();
        assert!(listed.status.success(), "{listed:?}");
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(
            listed,
            format!("etc/\netc/motd\netc/link\netc/.wh.gone\n{long}\n")
        );
    }

    #[test]
    fn a_pax_record_counts_itself() {
        assert_eq!(pax_record("path", "x"), b"9 path=x\n");
        for length in 80..120 {
            let record = pax_record("path", &"y".repeat(length));
            let told: usize = std::str::from_utf8(&record)
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(told, record.len());
        }
    }
}
