//! A directory as a build's context: what of it goes, in which state it is, and the archive of it.
//!
//! The state is a digest of what the kernel says of each file (size, times, inode), as git's index has it: a file that was written has
//! another ctime, which no program can set back. So nothing is read that is not sent, and what was sent need not be sent again.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hoist_build::ignore::Ignore;
use hoist_image::files::{FilesError, Root, pack_chosen};
use hoist_model::{Digest, chain};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::Failure;

/// A file that was written this short a time ago can be written again without its time telling: clocks of file systems tick.
const TICK: Duration = Duration::from_millis(100);
/// The same where times are whole seconds.
const COARSE_TICK: Duration = Duration::from_millis(2100);

/// A directory that was looked at.
#[derive(Clone)]
pub(super) struct Directory {
    path: PathBuf,
    /// What goes, a directory before what is in it.
    pub(super) paths: Vec<Vec<u8>>,
    /// A digest of the place.
    pub(super) slot: String,
    /// A digest of its state; none if it was written so short a time ago that its state cannot be told from the next.
    pub(super) key: Option<String>,
    /// Bytes of its files.
    pub(super) bytes: u64,
}

impl Directory {
    /// Looks at a directory, at no file's content. `about` tells apart contexts of the same directory, such as by ignore files.
    pub(super) fn look(path: &Path, ignore: &Ignore, about: &str) -> Result<Self, Failure> {
        let path = path.canonicalize().map_err(|error| {
            Failure::new(format!(
                "unable to prepare context: path {:?}: {error}",
                path.display()
            ))
        })?;
        let begun = SystemTime::now();
        let mut walk = Walk {
            ignore,
            paths: Vec::new(),
            hash: Sha256::new_with_prefix("hoist build context state 1\n"),
            newest: (0, 0),
            fine: false,
            bytes: 0,
        };
        let top = open(None, path.as_os_str().as_encoded_bytes())
            .map_err(|error| failed(&path, b"", error))?;
        walk.directory(&path, &top, &mut Vec::new())?;
        let tick = if walk.fine { TICK } else { COARSE_TICK };
        let newest = UNIX_EPOCH + Duration::new(walk.newest.0, walk.newest.1);
        let is_settled = newest + tick < begun;
        let key = is_settled.then(|| hex(walk.hash));
        let mut place = Sha256::new_with_prefix("hoist build context place 1\n");
        // One engine may have clients on several machines, or in containers that were copied.
        for file in ["/etc/machine-id", "/etc/hostname"] {
            place.update(std::fs::read(file).unwrap_or_default());
            place.update("\n");
        }
        place.update(path.as_os_str().as_encoded_bytes());
        place.update("\n");
        place.update(about);
        Ok(Self {
            path,
            paths: walk.paths,
            slot: hex(place),
            key,
            bytes: walk.bytes,
        })
    }

    /// Writes the archive, before it other files.
    pub(super) fn pack(
        &self,
        others: &[(&str, &[u8])],
        out: impl std::io::Write,
    ) -> Result<(), FilesError> {
        let open = File::open(&self.path).map_err(FilesError::Output)?;
        let root = Root::new(OwnedFd::from(open));
        pack_chosen(&root, &self.paths, others, out)
    }

    /// The same, or the sentence why not.
    pub(super) fn archive(
        &self,
        others: &[(&str, &[u8])],
        out: impl std::io::Write,
    ) -> Result<(), String> {
        let packed = self.pack(others, out);
        packed.map_err(|error| format!("{}: {}", self.path.display(), chain(&error)))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// 64 hexadecimal digits that nobody had before.
pub(super) fn random() -> String {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(length) => filled += length,
            Err(Errno::INTR) => {}
            // A kernel without it is none that this program runs on.
            Err(error) => panic!("the kernel has no random bytes: {error}"),
        }
    }
    Digest::from_sha256(&bytes).hex().to_owned()
}

/// An archive of these files alone.
pub(super) fn archive_of(others: &[(&str, &[u8])], out: impl std::io::Write) -> Result<(), String> {
    let open = File::open("/").map_err(|error| error.to_string())?;
    let root = Root::new(OwnedFd::from(open));
    pack_chosen(&root, &[], others, out).map_err(|error| chain(&error))
}

fn hex(hash: Sha256) -> String {
    Digest::from_sha256(&hash.finalize().into())
        .hex()
        .to_owned()
}

fn open(at: Option<&OwnedFd>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match at {
        Some(at) => openat(at, name, flags | OFlags::NOFOLLOW, Mode::empty()),
        None => openat(rustix::fs::CWD, name, flags, Mode::empty()),
    }
}

fn failed(top: &Path, path: &[u8], error: Errno) -> Failure {
    let error = std::io::Error::from(error);
    Failure::new(format!(
        "error checking context: {}: {}",
        top.join(String::from_utf8_lossy(path).as_ref()).display(),
        crate::spec::values::go_error(&error)
    ))
}

struct Walk<'a> {
    ignore: &'a Ignore,
    paths: Vec<Vec<u8>>,
    hash: Sha256,
    /// The newest ctime, in seconds and nanoseconds.
    newest: (u64, u32),
    /// Whether some time was no whole second.
    fine: bool,
    bytes: u64,
}

impl Walk<'_> {
    /// Everything in a directory, in order of names. Answers how many of it go.
    fn directory(
        &mut self,
        top: &Path,
        directory: &OwnedFd,
        path: &mut Vec<u8>,
    ) -> Result<usize, Failure> {
        let failed = |path: &[u8], error| failed(top, path, error);
        let mut names = Vec::new();
        for entry in Dir::read_from(directory).map_err(|error| failed(path, error))? {
            let entry = entry.map_err(|error| failed(path, error))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        let (length, before) = (path.len(), self.paths.len());
        for name in names {
            path.truncate(length);
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let stat = match statat(directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(path, error)),
            };
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let text = String::from_utf8_lossy(path).into_owned();
            let is_out = !self.ignore.is_empty() && self.ignore.matches(&text);
            if is_out && !(is_directory && self.ignore.may_include_below(&text)) {
                continue;
            }
            if !is_out || !is_directory {
                self.add(path, &stat, is_directory);
            }
            if !is_directory {
                continue;
            }
            let place = self.paths.len();
            let below = match open(Some(directory), &name) {
                Ok(below) => self.directory(top, &below, path)?,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(path, error)),
            };
            if is_out && below > 0 {
                // A directory that is left out, of something that is not.
                self.paths.insert(place, path.clone());
                self.tell(path, &stat, true);
            }
        }
        path.truncate(length);
        Ok(self.paths.len() - before)
    }

    fn add(&mut self, path: &[u8], stat: &Stat, is_directory: bool) {
        self.paths.push(path.to_vec());
        self.tell(path, stat, is_directory);
    }

    /// Hashes what tells one state of a file from another: of a directory only its mode, for its names are told of themselves.
    fn tell(&mut self, path: &[u8], stat: &Stat, is_directory: bool) {
        self.hash.update((path.len() as u64).to_le_bytes());
        self.hash.update(path);
        self.hash.update(stat.st_mode.to_le_bytes());
        if is_directory {
            return;
        }
        self.hash.update(stat.st_size.to_le_bytes());
        self.hash.update(stat.st_ino.to_le_bytes());
        self.hash.update(stat.st_dev.to_le_bytes());
        for time in [stat.st_mtime, stat.st_ctime] {
            self.hash.update(time.to_le_bytes());
        }
        for nanos in [stat.st_mtime_nsec, stat.st_ctime_nsec] {
            self.hash.update(nanos.to_le_bytes());
            self.fine |= nanos != 0;
        }
        let seconds = u64::try_from(stat.st_ctime).unwrap_or(0);
        let nanos = u32::try_from(stat.st_ctime_nsec).unwrap_or(0);
        self.newest = self.newest.max((seconds, nanos));
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            self.bytes += u64::try_from(stat.st_size).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hoist_build::ignore::Ignore;

    use super::Directory;

    fn shown(directory: &Directory) -> Vec<String> {
        let paths = directory.paths.iter();
        paths
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .collect()
    }

    #[test]
    fn what_is_ignored_stays_and_what_is_written_is_another_state() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::create_dir_all(at("out/deep")).unwrap();
        for file in ["a/b/x", "a/y", "out/deep/keep", "out/no", "z"] {
            fs::write(at(file), "one").unwrap();
        }
        let ignore = Ignore::parse("out\n!out/deep/keep\nz").unwrap();
        let look = || Directory::look(dir.path(), &ignore, "").unwrap();
        let first = look();
        assert_eq!(
            shown(&first),
            [
                "a",
                "a/b",
                "a/b/x",
                "a/y",
                "out",
                "out/deep",
                "out/deep/keep"
            ]
        );
        assert_eq!(first.bytes, 9);
        // Long ago enough, each for itself: the clock of a file system cannot be set, so the state is compared with itself.
        let settled = |mut directory: Directory| loop {
            match directory.key {
                Some(key) => return key,
                None => directory = look(),
            }
        };
        let key = settled(first);
        assert_eq!(settled(look()), key);
        fs::write(at("z"), "ignored").unwrap();
        assert_eq!(settled(look()), key);
        fs::write(at("a/y"), "two").unwrap();
        // Just written: not to be told from what is written in the same moment. Or the machine was slow, and it is told.
        assert_ne!(look().key.as_ref(), Some(&key));
        assert_ne!(settled(look()), key);
        let other = Directory::look(dir.path(), &ignore, "other").unwrap();
        assert_ne!(other.slot, look().slot);
        let mut archive = Vec::new();
        look()
            .archive(&[("extra", b"bytes")], &mut archive)
            .unwrap();
        assert!(archive.windows(5).any(|bytes| bytes == b"bytes"));
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = Directory::look("/nowhere/x".as_ref(), &Ignore::default(), "").err();
        assert!(error.unwrap().message.contains("/nowhere/x"));
    }
}
