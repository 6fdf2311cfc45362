//! What can go wrong with control groups.

use std::io;

use hoist_model::ErrorClass;

/// A control group could not be found, made, changed or read.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The host has no control group hierarchy that containers can use.
    #[error("no control group hierarchy is mounted")]
    NotMounted,
    /// A limit was asked for that this host's kernel cannot set.
    #[error("this kernel has no {controller} controller, which {option} needs")]
    MissingController {
        /// The controller's v1 name.
        controller: &'static str,
        /// The option that asked for it.
        option: &'static str,
    },
    /// A value makes no sense whatever the kernel.
    #[error("invalid {option} {value:?}: {reason}")]
    InvalidValue {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
        /// Why it cannot be.
        reason: &'static str,
    },
    /// systemd makes no scope.
    #[error(transparent)]
    Scope(#[from] crate::systemd::ScopeError),
    /// The container has no control group.
    #[error("container {0} has no control group")]
    NotFound(String),
    /// A group's directory could not be opened, made or removed.
    #[error("{verb} control group {path}")]
    Directory {
        /// What was tried: `make`, `open`, `remove`, `list`.
        verb: &'static str,
        /// The directory, from the mount's root.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A control file refused a value.
    #[error("write {value:?} to {path}")]
    Write {
        /// The file.
        path: String,
        /// What was written.
        value: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A control file could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The device program was refused.
    #[error("attach the device program to control group {path}")]
    DeviceProgram {
        /// The directory.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The freezer did not reach its state in time.
    #[error("control group {path} did not become {wanted}")]
    FreezerTimeout {
        /// The directory.
        path: String,
        /// `frozen` or `thawed`.
        wanted: &'static str,
    },
}

impl CgroupError {
    /// Whether a group cannot change for what is in it.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Directory { source, .. } | Self::Write { source, .. }
            if source.raw_os_error() == Some(libc::EBUSY))
    }

    /// The class a façade maps to its protocol's status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::InvalidValue { .. } => ErrorClass::InvalidArgument,
            Self::Write { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => {
                ErrorClass::InvalidArgument
            }
            Self::Scope(error) => error.class(),
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::MissingController { .. } => ErrorClass::NotImplemented,
            Self::FreezerTimeout { .. } => ErrorClass::Unavailable,
            Self::NotMounted
            | Self::Directory { .. }
            | Self::Write { .. }
            | Self::Read { .. }
            | Self::DeviceProgram { .. } => ErrorClass::Internal,
        }
    }
}
