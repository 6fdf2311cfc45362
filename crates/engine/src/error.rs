//! What can go wrong, one enum per noun. Texts are Docker's where clients match on them.

use hoist_model::{ContainerId, ErrorClass, ExecId};

/// A container operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Docker's CLI and docker-py match on this text.
    #[error("No such container: {0}")]
    NotFound(String),
    /// A prefix names several containers.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// The name is taken.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name.",
        holder = .holder.as_str()
    )]
    NameTaken {
        /// The name asked for.
        name: String,
        /// Who has it.
        holder: ContainerId,
    },
    /// The name has characters Docker refuses.
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidName(String),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The container's phase forbids it.
    #[error("{0}")]
    Conflict(String),
    /// The container does not run and would have to.
    #[error("container {} is not running", .0.as_str())]
    NotRunning(ContainerId),
    /// The image is not here; clients pull on this text and its 404.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A volume was not to be had.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A network was not to be had.
    #[error("failed to set up container networking: {0}")]
    Network(NetworkError),
    /// The start failed; the text is the runtime's with its operand.
    #[error("{message}")]
    Start {
        /// The whole sentence; the CLI derives exit codes 126 and 127 from its words.
        message: String,
        /// 127 not found, 126 not executable, 128 else.
        exit_code: i32,
    },
    /// Docker's CLI matches on this text.
    #[error("Could not find the file {path} in container {container}")]
    NoSuchFile {
        /// The path as named.
        path: String,
        /// The container as named.
        container: String,
    },
    /// Its files could not be read or written.
    #[error(transparent)]
    Files(#[from] hoist_image::files::FilesError),
    /// Something Hoist does not do yet.
    #[error("{0}")]
    NotImplemented(String),
    /// Persistent state could not be read or written.
    #[error("container state: {0}")]
    Store(String),
    /// The kernel or a file refused.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, with its operand.
        context: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Broken from inside.
    #[error("{0}")]
    Internal(String),
}

impl ContainerError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) | Self::NoSuchFile { .. } => ErrorClass::NotFound,
            Self::Files(error) => error.class(),
            Self::NameTaken { .. } | Self::Conflict(_) | Self::NotRunning(_) => {
                ErrorClass::Conflict
            }
            Self::Ambiguous(_) | Self::InvalidName(_) | Self::Invalid(_) => {
                ErrorClass::InvalidArgument
            }
            Self::Image(error) => error.class(),
            Self::Volume(error) => error.class(),
            Self::Network(error) => error.class(),
            // Docker answers 400 for what the caller can mend and 500 for the rest; its CLI reads only the text.
            Self::Start {
                exit_code: 126 | 127,
                ..
            } => ErrorClass::InvalidArgument,
            Self::NotImplemented(_) => ErrorClass::NotImplemented,
            Self::Start { .. } | Self::Store(_) | Self::Io { .. } | Self::Internal(_) => {
                ErrorClass::Internal
            }
        }
    }
}

/// An image operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Clients pull on this text.
    #[error("No such image: {0}")]
    NotFound(String),
    /// A short id names several images.
    #[error("ambiguous image id prefix: {0}")]
    Ambiguous(String),
    /// The name is malformed.
    #[error("{0}")]
    InvalidReference(String),
    /// The image is for another platform.
    #[error(
        "image with reference {reference} was found but its platform ({actual}) does not match the specified platform ({wanted})"
    )]
    Platform {
        /// As named.
        reference: String,
        /// As asked.
        wanted: String,
        /// As found.
        actual: String,
    },
    /// Something uses it.
    #[error("{0}")]
    Conflict(String),
    /// A registry, archive or store refused; the text names the operand.
    #[error("{message}")]
    Source {
        /// The whole sentence.
        message: String,
        /// Its kind.
        class: ErrorClass,
    },
    /// Persistent state could not be read or written.
    #[error("image state: {0}")]
    Store(String),
}

impl ImageError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) | Self::Platform { .. } => ErrorClass::NotFound,
            Self::Ambiguous(_) | Self::InvalidReference(_) => ErrorClass::InvalidArgument,
            Self::Conflict(_) => ErrorClass::Conflict,
            Self::Source { class, .. } => *class,
            Self::Store(_) => ErrorClass::Internal,
        }
    }
}

/// A volume operation failed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// No volume of that name.
    #[error("get {0}: no such volume")]
    NotFound(String),
    /// No volume driver of that name: there are no plugins, only `local`.
    #[error("error looking up volume plugin {0}: plugin {0:?} not found")]
    NoDriver(String),
    /// A container uses it.
    #[error("remove {name}: volume is in use - [{users}]")]
    InUse {
        /// The volume.
        name: String,
        /// Full ids, comma separated.
        users: String,
    },
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// What its options name could not be mounted.
    #[error("{0}")]
    Mount(String),
    /// A file operation failed.
    #[error("volume {name}: {source}")]
    Io {
        /// The volume.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Persistent state could not be read or written.
    #[error("volume state: {0}")]
    Store(String),
}

impl VolumeError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) | Self::NoDriver(_) => ErrorClass::NotFound,
            Self::InUse { .. } => ErrorClass::Conflict,
            Self::Invalid(_) => ErrorClass::InvalidArgument,
            Self::Mount(_) | Self::Io { .. } | Self::Store(_) => ErrorClass::Internal,
        }
    }
}

impl From<NetworkError> for ContainerError {
    fn from(error: NetworkError) -> Self {
        Self::Network(error)
    }
}

/// A network operation failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No network of that name.
    #[error("network {0} not found")]
    NotFound(String),
    /// A prefix, or a name, is that of several networks.
    #[error("network {name} is ambiguous ({matches} matches found based on ID prefix)")]
    Ambiguous {
        /// As named.
        name: String,
        /// How many it could be.
        matches: usize,
    },
    /// Another network has the name.
    #[error("network with name {0} already exists")]
    NameTaken(String),
    /// The networks that every node has cannot be made.
    #[error("operation is not permitted on predefined {0} network ")]
    Predefined(String),
    /// Nor can they be removed.
    #[error("{0} is a pre-defined network and cannot be removed")]
    Permanent(String),
    /// Containers run on it.
    #[error("error while removing network: network {name} has active endpoints ({endpoints})")]
    InUse {
        /// The network.
        name: String,
        /// `name:"web" id:"0123456789ab"`, comma separated.
        endpoints: String,
    },
    /// The request is wrong or a port is taken; the text names the operand.
    #[error("{message}")]
    Refused {
        /// The whole sentence.
        message: String,
        /// Its kind.
        class: ErrorClass,
    },
}

impl NetworkError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::Ambiguous { .. } => ErrorClass::InvalidArgument,
            Self::NameTaken(_) => ErrorClass::Conflict,
            Self::Predefined(_) | Self::Permanent(_) | Self::InUse { .. } => ErrorClass::Forbidden,
            Self::Refused { class, .. } => *class,
        }
    }
}

/// An exec operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// No exec of that id.
    #[error("No such exec instance: {0}")]
    NotFound(String),
    /// It ran or runs already.
    #[error("exec command {} has already run", .0.as_str())]
    AlreadyStarted(ExecId),
    /// The exec is not running and would have to be.
    #[error("exec {} is not running", .0.as_str())]
    NotRunning(ExecId),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The process could not be started.
    #[error("{message}")]
    Start {
        /// The whole sentence.
        message: String,
        /// 127 not found, 126 not executable, 128 else.
        exit_code: i32,
    },
    /// Of the container it is in.
    #[error(transparent)]
    Container(#[from] ContainerError),
}

impl ExecError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::AlreadyStarted(_) | Self::NotRunning(_) => ErrorClass::Conflict,
            Self::Invalid(_) => ErrorClass::InvalidArgument,
            Self::Start {
                exit_code: 126 | 127,
                ..
            } => ErrorClass::InvalidArgument,
            Self::Start { .. } => ErrorClass::Internal,
            Self::Container(error) => error.class(),
        }
    }
}
