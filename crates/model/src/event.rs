//! Events: what happened to which object, as rows of the transaction that changed it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

/// One counter for the whole store: Docker's `Version.Index`, Kubernetes' `resourceVersion`, the event cursor.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// The kind of object an event is about; names as in API `SystemEvents`, `Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// The cache of builds.
    Builder,
    /// The engine itself.
    Daemon,
}

impl EventKind {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Builder => "builder",
            Self::Daemon => "daemon",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// To what kind of object.
    pub kind: EventKind,
    /// What, in Docker's words: `create`, `start`, `die`, `exec_create: sh`, …
    pub action: String,
    /// The object's id (containers, networks), name (volumes) or reference (images).
    pub actor: String,
    /// Name, image, labels, exitCode, …
    pub attributes: BTreeMap<String, String>,
}
