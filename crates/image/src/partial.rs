//! Blobs that came in part: what a pull that was cut off, or an engine that was killed, has already fetched.
//!
//! ```text
//! <root>/partial/<64 hex>    the first bytes of the blob of that digest, nothing of them verified; locked by who appends
//! ```
//!
//! Nothing is synced: after a power cut the bytes may be wrong, which the digest finds out at the end. What nobody went on
//! with for a day goes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoist_model::Digest;
use rustix::fs::{FlockOperation, flock};

use crate::ContentStore;

/// How long a part is kept that nobody goes on with.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The beginning of one blob, and the place for the rest. Dropped, it stays for whoever goes on.
#[derive(Debug)]
pub struct PartialBlob {
    path: PathBuf,
    file: File,
    length: u64,
}

impl ContentStore {
    /// What is here of a blob, locked; nothing if somebody else is at it. Blocking.
    pub fn partial(&self, digest: &Digest) -> io::Result<Option<PartialBlob>> {
        let directory = self.root().join("partial");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        sweep(&directory, KEPT);
        PartialBlob::open(directory.join(digest.hex()))
    }
}

impl PartialBlob {
    fn open(path: PathBuf) -> io::Result<Option<Self>> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        let found = file.metadata()?;
        // Who had it may have finished, and removed it, before we locked it.
        if fs::metadata(&path).map_or(true, |named| named.ino() != found.ino()) {
            return Ok(None);
        }
        file.seek(SeekFrom::End(0))?;
        Ok(Some(Self {
            length: found.len(),
            path,
            file,
        }))
    }

    /// Bytes that are here.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads what is here, from the first byte on.
    pub fn read(&self) -> io::Result<impl Read + Send + use<>> {
        Ok(File::open(&self.path)?.take(self.length))
    }

    /// Adds the next bytes.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Removes it: it is not needed any more, or wrong.
    pub fn discard(self) {
        // What cannot be removed goes with the sweep.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes what was not touched for so long and is not being appended to.
fn sweep(directory: &Path, kept: Duration) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|found| found.modified());
        let old = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > kept));
        if old && let Ok(Some(partial)) = PartialBlob::open(entry.path()) {
            partial.discard();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_testkit::TemporaryDirectory;

    #[test]
    fn a_part_waits_for_whoever_goes_on() {
        let directory = TemporaryDirectory::new("partial");
        let content = ContentStore::open(directory.path()).unwrap();
        let digest = Digest::from_sha256(&[1; 32]);
        let mut first = content.partial(&digest).unwrap().unwrap();
        first.append(b"begun ").unwrap();
        assert!(content.partial(&digest).unwrap().is_none(), "it is locked");
        drop(first);
        let mut second = content.partial(&digest).unwrap().unwrap();
        assert_eq!(second.length(), 6);
        second.append(b"done").unwrap();
        let mut text = String::new();
        second.read().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "begun done");
        second.discard();
        assert_eq!(content.partial(&digest).unwrap().unwrap().length(), 0);
    }

    #[test]
    fn what_nobody_goes_on_with_goes() {
        let directory = TemporaryDirectory::new("partial");
        let path = directory.path().join("x");
        let mut used = PartialBlob::open(path.clone()).unwrap().unwrap();
        used.append(b"x").unwrap();
        let long_ago = std::time::SystemTime::now() - 2 * KEPT;
        used.file.set_modified(long_ago).unwrap();
        sweep(directory.path(), KEPT);
        assert!(path.exists(), "somebody is at it");
        drop(used);
        sweep(directory.path(), 3 * KEPT);
        assert!(path.exists(), "it is not that old");
        sweep(directory.path(), KEPT);
        assert!(!path.exists());
    }
}
