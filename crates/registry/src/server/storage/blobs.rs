//! Content, and which repository has it.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use super::{Storage, StorageError, durable, found};
use crate::server::names::{ContentDigest, RepositoryName};

/// A mark younger than this is left as it is.
const FRESH: Duration = Duration::from_secs(300);

impl Storage {
    pub(super) fn blob_path(&self, digest: &ContentDigest) -> PathBuf {
        let mut path = self.root.join("blobs");
        path.push(digest.algorithm().name());
        path.push(&digest.hex()[..2]);
        path.push(digest.hex());
        path
    }

    pub(super) fn repository_path(&self, repository: &RepositoryName) -> PathBuf {
        self.root.join("repositories").join(repository.as_str())
    }

    pub(super) fn layer_path(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
    ) -> PathBuf {
        let mut path = self.repository_path(repository);
        path.push("_layers");
        path.push(digest.file_name());
        path
    }

    /// Content by its digest, whoever has it, and its bytes.
    pub(crate) fn open_content(
        &self,
        digest: &ContentDigest,
    ) -> Result<Option<(File, u64)>, StorageError> {
        let path = self.blob_path(digest);
        let at = StorageError::at("opening", &path);
        let Some(file) = found(File::open(&path)).map_err(&at)? else {
            return Ok(None);
        };
        let size = file.metadata().map_err(at)?.len();
        Ok(Some((file, size)))
    }

    /// A blob of a repository and its bytes. That it was asked for keeps it from being collected for a time.
    pub(crate) fn open_blob(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<Option<(File, u64)>, StorageError> {
        if !self.has_blob(repository, digest)? {
            return Ok(None);
        }
        self.open_content(digest)
    }

    fn has_blob(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<bool, StorageError> {
        let path = self.layer_path(repository, digest);
        let at = StorageError::at("looking for", &path);
        let Some(mark) = found(fs::metadata(&path)).map_err(&at)? else {
            return Ok(false);
        };
        let age = mark.modified().ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > FRESH) {
            let _linking = self.linking();
            self.note([digest]);
            // Gone meanwhile: then it is not there.
            let Some(mark) = found(File::open(&path)).map_err(&at)? else {
                return Ok(false);
            };
            mark.set_modified(SystemTime::now()).map_err(at)?;
        }
        Ok(true)
    }

    /// The bytes of a blob that a repository has.
    pub(crate) fn blob_size(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<Option<u64>, StorageError> {
        if !self.has_blob(repository, digest)? {
            return Ok(None);
        }
        let path = self.blob_path(digest);
        let blob = found(fs::metadata(&path)).map_err(StorageError::at("looking for", &path))?;
        Ok(blob.map(|blob| blob.len()))
    }

    /// Makes a synced file, whose content was digested, a blob of a repository.
    pub(crate) fn adopt(
        &self,
        file: &Path,
        repository: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<(), StorageError> {
        let mode = fs::set_permissions(file, Permissions::from_mode(0o400));
        mode.map_err(StorageError::at("storing", file))?;
        self.place_blob(file, repository, digest)
    }

    fn place_blob(
        &self,
        file: &Path,
        repository: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<(), StorageError> {
        let path = self.blob_path(digest);
        let at = StorageError::at("storing", &path);
        let _linking = self.linking();
        self.note([digest]);
        if path.exists() {
            fs::remove_file(file).map_err(at)?;
        } else {
            durable::place(file, &path).map_err(at)?;
        }
        self.mark(repository, digest)
    }

    /// Makes a blob of one repository one of another, too. `false` where the first has no such blob.
    pub(crate) fn mount(
        &self,
        from: &RepositoryName,
        digest: &ContentDigest,
        to: &RepositoryName,
    ) -> Result<bool, StorageError> {
        let _linking = self.linking();
        self.note([digest]);
        let is_there = self.layer_path(from, digest).exists() && self.blob_path(digest).exists();
        if is_there {
            self.mark(to, digest)?;
        }
        Ok(is_there)
    }

    /// Makes a file that somebody else keeps, and never changes, a blob of a repository: another name of the same file where that can
    /// be, else a copy.
    pub(crate) fn link_file(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
        file: &File,
    ) -> Result<(), StorageError> {
        let temporary = self.temporary();
        let at = StorageError::at("storing", &temporary);
        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = AtFlags::SYMLINK_FOLLOW;
        match rustix::fs::linkat(CWD, source.as_str(), CWD, &temporary, flags) {
            Ok(()) => {}
            Err(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => {
                let mut copy = File::create(&temporary).map_err(&at)?;
                let mut whole = file;
                std::io::copy(&mut whole, &mut copy).map_err(&at)?;
                copy.sync_data().map_err(&at)?;
            }
            Err(error) => return Err(at(error.into())),
        }
        self.place_blob(&temporary, repository, digest)
    }

    /// Keeps some bytes, whose digest this is, as a blob of a repository.
    pub(crate) fn put_blob(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        let temporary = self.temporary();
        let at = StorageError::at("storing", &temporary);
        let mut file = File::create(&temporary).map_err(&at)?;
        file.write_all(bytes).map_err(&at)?;
        file.sync_data().map_err(at)?;
        self.place_blob(&temporary, repository, digest)
    }

    /// Makes content that is here a blob of a repository.
    pub(crate) fn mark_content(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<(), StorageError> {
        let _linking = self.linking();
        self.note([digest]);
        match self.blob_path(digest).exists() {
            true => self.mark(repository, digest),
            false => Ok(()),
        }
    }

    /// Says that a repository has a blob. Under [`Storage::linking`].
    fn mark(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<(), StorageError> {
        let path = self.layer_path(repository, digest);
        let at = StorageError::at("storing", &path);
        let parent = path.parent().unwrap_or(&self.root);
        let made = match File::create_new(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                durable::make_directory(parent).map_err(&at)?;
                File::create_new(&path)
            }
            made => made,
        };
        match made {
            Ok(_) => durable::sync_directory(parent).map_err(at),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let mark = File::open(&path).map_err(&at)?;
                mark.set_modified(SystemTime::now()).map_err(at)
            }
            Err(error) => Err(at(error)),
        }
    }

    /// Takes a blob out of a repository; its content goes when no repository has it. `false` where it was not there.
    pub(crate) fn remove_blob(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<bool, StorageError> {
        self.remove(&self.layer_path(repository, digest))
    }

    /// Removes a file for good; `false` where it was not there.
    pub(super) fn remove(&self, path: &Path) -> Result<bool, StorageError> {
        let at = StorageError::at("removing", path);
        if found(fs::remove_file(path)).map_err(&at)?.is_none() {
            return Ok(false);
        }
        durable::sync_directory(path.parent().unwrap_or(&self.root)).map_err(at)?;
        Ok(true)
    }
}
