//! Files and directories that are still there after a power cut.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Makes a directory and those above it that are missing, each synced into its parent.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
            _ => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().ok_or(error)?;
            make_directory(parent)?;
            make_directory(path)
        }
        Err(error) => Err(error),
    }
}

/// What was made in a directory, or taken out of it, stays so.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes beside, syncs, and gives the file its place and mode 0400.
pub(super) fn write(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o400)
        .open(temporary)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    place(temporary, path)
}

/// Gives a synced file its place.
pub(super) fn place(temporary: &Path, path: &Path) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    match fs::rename(temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directory(parent)?;
            fs::rename(temporary, path)?;
        }
        other => other?,
    }
    sync_directory(parent)
}
