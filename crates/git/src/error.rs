//! Why a repository could not be read.

use std::io;

use hoist_model::ErrorClass;
use thiserror::Error;

/// A failure with a repository or what its server sends.
#[derive(Debug, Error)]
pub enum GitError {
    /// The server does not speak version 2, or says something that it does not have.
    #[error("the git server {0}")]
    Protocol(String),
    /// The server refuses.
    #[error("the git server says: {0}")]
    Refused(String),
    /// A pack that is none.
    #[error("invalid git pack: {0}")]
    Pack(String),
    /// An object that ought to be there.
    #[error("the repository has no object {0}")]
    NoObject(String),
    /// A path that no directory is at.
    #[error("subdir not found {0}")]
    NoDirectory(String),
    /// An object whose content breaks the rules.
    #[error("git object {id}: {reason}")]
    Object {
        /// Which.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// A submodule, which is another repository.
    #[error(
        "submodules are not implemented by Hoist yet: {0} (the query ?submodules=false leaves them out)"
    )]
    Submodule(String),
    /// Reading or writing failed.
    #[error("reading a git pack")]
    Io(#[from] io::Error),
}

impl GitError {
    /// The class of this failure.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::NoDirectory(_) | Self::NoObject(_) => ErrorClass::NotFound,
            Self::Submodule(_) => ErrorClass::NotImplemented,
            Self::Protocol(_) | Self::Refused(_) => ErrorClass::Unavailable,
            Self::Pack(_) | Self::Object { .. } => ErrorClass::InvalidArgument,
            Self::Io(_) => ErrorClass::Internal,
        }
    }
}
