//! `--user` and `--group-add` against the container's own `/etc/passwd` and `/etc/group`.

use std::io;
use std::os::fd::BorrowedFd;

use hoist_model::ErrorClass;

/// Who a process in the container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, without the primary one unless asked for by name.
    pub groups: Vec<u32>,
    /// Home directory, `/` when nothing says.
    pub home: String,
    /// Login name, if the user has an entry.
    pub name: Option<String>,
}

/// A user or group could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The user is not a number and has no entry.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    UnknownUser(String),
    /// The group is not a number and has no entry.
    #[error("unable to find group {0}: no matching entries in group file")]
    UnknownGroup(String),
    /// A number is outside 0 to 2147483647.
    #[error("uids and gids must be in range 0-2147483647: {0}")]
    OutOfRange(String),
    /// A database is larger than any honest one.
    #[error("{path} in the container is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: &'static str,
        /// The cap.
        limit: usize,
    },
    /// A database exists and cannot be read.
    #[error("read {path} in the container")]
    Read {
        /// The file.
        path: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl UserError {
    /// The class a façade maps to its protocol's status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::UnknownUser(_)
            | Self::UnknownGroup(_)
            | Self::OutOfRange(_)
            | Self::TooLarge { .. } => ErrorClass::InvalidArgument,
            Self::Read { .. } => ErrorClass::Internal,
        }
    }
}

/// Resolves `user` (`name`, `uid`, either with `:group` or `:gid`, or empty for root) inside `rootfs`.
///
/// Files are opened with `RESOLVE_IN_ROOT`, so a link in the image cannot name a file of the host.
pub fn resolve(
    _rootfs: BorrowedFd<'_>,
    _user: &str,
    _group_add: &[String],
) -> Result<User, UserError> {
    unimplemented!()
}
