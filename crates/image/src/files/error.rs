//! Why files of a container could not be read or written.

use std::io;

use hoist_model::ErrorClass;

/// A copy failed. Texts are Docker's where clients match on them.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// There is nothing of that name.
    #[error("{0}: no such file or directory")]
    NotFound(String),
    /// An archive is to be unpacked into something else than a directory.
    #[error("extraction point is not a directory")]
    NotDirectory,
    /// The container's root is read-only.
    #[error("container rootfs is marked read-only")]
    ReadOnlyRoot,
    /// What is mounted there is read-only.
    #[error("mounted volume is marked read-only")]
    ReadOnlyVolume,
    /// A directory would have to give way to something else, and may not.
    #[error("cannot overwrite directory {path:?} with non-directory {destination:?}")]
    OverwriteDirectory {
        /// Where the entry would go.
        path: String,
        /// Where the archive is unpacked.
        destination: String,
    },
    /// Something else would have to give way to a directory, and may not.
    #[error("cannot overwrite non-directory {path:?} with directory {destination:?}")]
    OverwriteFile {
        /// Where the entry would go.
        path: String,
        /// Where the archive is unpacked.
        destination: String,
    },
    /// The archive is malformed, hostile or broke off.
    #[error("reading the archive")]
    Archive(#[source] io::Error),
    /// The one who takes the archive is gone, or the disk is full.
    #[error("writing the archive")]
    Output(#[source] io::Error),
    /// The file system refused.
    #[error("{action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what, a path of the container.
        path: String,
        /// The failure.
        #[source]
        source: io::Error,
    },
}

impl FilesError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::NotDirectory
            | Self::ReadOnlyRoot
            | Self::ReadOnlyVolume
            | Self::Archive(_)
            | Self::OverwriteDirectory { .. }
            | Self::OverwriteFile { .. } => ErrorClass::InvalidArgument,
            Self::Output(source) | Self::Io { source, .. } => crate::snapshot::io_class(source),
        }
    }
}

/// Wraps a failure with what was done to what; a name that leads nowhere is a case of its own.
pub(super) fn failed<E: Into<io::Error>>(
    action: &'static str,
    path: impl AsRef<[u8]>,
) -> impl FnOnce(E) -> FilesError {
    move |source| {
        let source = source.into();
        let path = String::from_utf8_lossy(path.as_ref()).into_owned();
        match source.kind() {
            io::ErrorKind::NotFound => FilesError::NotFound(path),
            _ => FilesError::Io {
                action,
                path,
                source,
            },
        }
    }
}
