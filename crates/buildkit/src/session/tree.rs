//! What a client says that there is: a walk of its directory, checked as it comes.
//!
//! It is hostile input. Every path is relative and normal, comes after those before it, and is in a directory that came; nothing
//! is ever opened by it on this machine: it becomes a name in a tar.

use bollard_buildkit_proto::fsutil::types::Stat;
use hoist_image::{TarEntry, TarEntryKind};

/// Entries of one tree.
const MOST_ENTRIES: usize = 4_000_000;
/// Bytes of the names in one tree.
const MOST_NAMES: usize = 512 << 20;
/// Bytes of a path, of one part of it, and of a link's target.
const LONGEST_PATH: usize = 4095;
const LONGEST_NAME: usize = 255;
/// Bytes of what files say beside their contents.
const MOST_XATTRS: usize = 64 << 10;
/// Bytes of all files together.
const LARGEST: u64 = 1 << 40;

/// Go's `os.FileMode`, which is what travels.
const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const PIPE: u32 = 1 << 25;
const SOCKET: u32 = 1 << 24;
const SET_UID: u32 = 1 << 23;
const SET_GID: u32 = 1 << 22;
const CHARACTER_DEVICE: u32 = 1 << 21;
const STICKY: u32 = 1 << 20;
const IRREGULAR: u32 = 1 << 19;
const KINDS: u32 = DIRECTORY | SYMLINK | DEVICE | PIPE | SOCKET | CHARACTER_DEVICE | IRREGULAR;

/// Why an entry is refused: which, and the rule that it breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client sent {}: {rule}", shown(.path))]
pub(crate) struct TreeError {
    path: String,
    rule: &'static str,
}

/// Names of strangers are shown to their first 200 characters.
fn shown(path: &str) -> String {
    let short: String = path.chars().take(200).collect();
    format!("{short:?}")
}

/// What came, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tree {
    entries: Vec<Stat>,
    names: usize,
    bytes: u64,
    /// Of the last entry: it, if it is a directory, and those that it is in, as numbers.
    open: Vec<usize>,
}

impl Tree {
    /// Takes the next entry.
    pub(crate) fn push(&mut self, stat: Stat) -> Result<(), TreeError> {
        if let Err(rule) = self.check(&stat) {
            return Err(TreeError {
                path: stat.path,
                rule,
            });
        }
        self.names += stat.path.len() + stat.linkname.len();
        if is_file(&stat) {
            self.bytes += u64::try_from(stat.size).unwrap_or(0);
        }
        // What the next one can be in.
        let open = self.open.iter().copied();
        let parents = open.filter(|&at| is_below(&stat.path, &self.entries[at].path));
        self.open = parents.collect();
        if stat.mode & DIRECTORY != 0 {
            self.open.push(self.entries.len());
        }
        self.entries.push(stat);
        Ok(())
    }

    fn check(&self, stat: &Stat) -> Result<(), &'static str> {
        if self.entries.len() >= MOST_ENTRIES {
            return Err("there are more files than a context may have");
        }
        if self.names + stat.path.len() + stat.linkname.len() > MOST_NAMES {
            return Err("names take more room than a context may have");
        }
        check_path(&stat.path)?;
        if let Some(last) = self.entries.last()
            && last.path.split('/').ge(stat.path.split('/'))
        {
            return Err("it is out of order");
        }
        if let Some((parent, _)) = stat.path.rsplit_once('/') {
            let mut open = self.open.iter();
            if !open.any(|&at| self.entries[at].path == parent) {
                return Err("the directory it is in did not come before it");
            }
        }
        let kind = stat.mode & KINDS;
        let known = [0, DIRECTORY, SYMLINK, PIPE, SOCKET, DEVICE];
        if !known.contains(&kind) && kind != DEVICE | CHARACTER_DEVICE {
            return Err("it is of no kind that files have");
        }
        if stat.size < 0 || stat.devmajor < 0 || stat.devminor < 0 {
            return Err("a number is negative");
        }
        if is_file(stat) && self.bytes.saturating_add(stat.size.unsigned_abs()) > LARGEST {
            return Err("there is more than a context may have");
        }
        let attributes = stat.xattrs.iter();
        if attributes
            .map(|(key, value)| key.len() + value.len())
            .sum::<usize>()
            > MOST_XATTRS
        {
            return Err("its extended attributes are too large");
        }
        if stat.linkname.len() > LONGEST_PATH || stat.linkname.contains('\0') {
            return Err("it points where no path can");
        }
        match kind {
            SYMLINK if stat.linkname.is_empty() => Err("it is a link to nowhere"),
            0 if !stat.linkname.is_empty() => {
                let earlier = self.find(&stat.linkname);
                if earlier.is_some_and(|earlier| earlier.mode & KINDS == 0) {
                    Ok(())
                } else {
                    Err("it is another name of a file that did not come before it")
                }
            }
            _ => Ok(()),
        }
    }

    /// The entry of this path.
    pub(crate) fn find(&self, path: &str) -> Option<&Stat> {
        let order = |stat: &Stat| stat.path.split('/').cmp(path.split('/'));
        let at = self.entries.binary_search_by(order).ok()?;
        self.entries.get(at)
    }

    /// How many entries.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// In order.
    pub(crate) fn entries(&self) -> &[Stat] {
        &self.entries
    }

    /// The files that have contents of their own: their numbers, by which they are asked for, and their sizes.
    pub(crate) fn files(&self) -> impl Iterator<Item = (u32, &Stat)> {
        let numbered = self.entries.iter().enumerate();
        numbered
            .filter(|(_, stat)| is_file(stat))
            .filter_map(|(number, stat)| Some((u32::try_from(number).ok()?, stat)))
    }
}

/// Whether an entry has contents of its own.
pub(crate) fn is_file(stat: &Stat) -> bool {
    stat.mode & KINDS == 0 && stat.linkname.is_empty()
}

/// Whether an entry is a symbolic link.
pub(crate) fn is_link(stat: &Stat) -> bool {
    stat.mode & KINDS == SYMLINK
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > LONGEST_PATH {
        return Err("its path is too long");
    }
    for part in path.split('/') {
        match part {
            "" | "." | ".." => return Err("its path is not relative and normal"),
            part if part.len() > LONGEST_NAME => return Err("its name is too long"),
            part if part.contains('\0') => return Err("its name has a zero byte"),
            _ => {}
        }
    }
    Ok(())
}

/// An entry as one of a tar; `None` for sockets, which no archive has. `size` is that of its contents.
pub(crate) fn tar_entry(stat: &Stat, size: u64) -> Option<TarEntry> {
    let number = |number: i64| u32::try_from(number).unwrap_or(0);
    let (major, minor) = (number(stat.devmajor), number(stat.devminor));
    let link = || stat.linkname.clone().into_bytes();
    let kind = match stat.mode & KINDS {
        DIRECTORY => TarEntryKind::Directory,
        SYMLINK => TarEntryKind::Symlink { target: link() },
        PIPE => TarEntryKind::Fifo,
        SOCKET => return None,
        DEVICE => TarEntryKind::BlockDevice { major, minor },
        0 if !stat.linkname.is_empty() => TarEntryKind::HardLink { target: link() },
        0 => TarEntryKind::File { size, offset: 0 },
        _ => TarEntryKind::CharDevice { major, minor },
    };
    let mut mode = u16::try_from(stat.mode & 0o777).unwrap_or(0);
    for (bit, own) in [(SET_UID, 0o4000), (SET_GID, 0o2000), (STICKY, 0o1000)] {
        if stat.mode & bit != 0 {
            mode |= own;
        }
    }
    let mut xattrs: Vec<_> = stat.xattrs.iter().collect();
    xattrs.sort();
    let xattrs = xattrs.into_iter();
    Some(TarEntry {
        path: stat.path.clone().into_bytes(),
        kind,
        mode,
        uid: stat.uid,
        gid: stat.gid,
        mtime: stat.mod_time.div_euclid(1_000_000_000),
        mtime_nanos: u32::try_from(stat.mod_time.rem_euclid(1_000_000_000)).unwrap_or(0),
        xattrs: xattrs
            .map(|(name, value)| (name.clone().into_bytes(), value.clone()))
            .collect(),
    })
}

/// A mode of Linux's as it travels.
pub(crate) fn go_mode(mode: u32) -> u32 {
    use rustix::fs::FileType;
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => DIRECTORY,
        FileType::Symlink => SYMLINK,
        FileType::Fifo => PIPE,
        FileType::Socket => SOCKET,
        FileType::BlockDevice => DEVICE,
        FileType::CharacterDevice => DEVICE | CHARACTER_DEVICE,
        _ => 0,
    };
    let special = [(0o4000, SET_UID), (0o2000, SET_GID), (0o1000, STICKY)];
    let special = special.into_iter().filter(|(own, _)| mode & own != 0);
    special.fold(kind | (mode & 0o777), |all, (_, bit)| all | bit)
}
