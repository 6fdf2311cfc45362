//! What is mounted into a container, beyond the defaults every container has.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// One mount, whichever way it was written (`-v`, `--mount`, `--tmpfs`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Absolute path inside the container.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Whether it was written as `-v`/`Binds` (inspect then shows `Mode`), not as `--mount`.
    pub from_bind: bool,
    /// The mode as written (`ro`, `z`, `rprivate`, …), for inspect.
    pub mode: String,
}

/// What a [`MountSpec`] mounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of the host.
    Bind {
        /// Absolute path on the host.
        path: String,
        /// Made as a directory when missing (`-v`), else an error (`--mount`).
        create_missing: bool,
        /// How later mounts spread.
        propagation: Propagation,
        /// Whether mounts below the source come along.
        recursive: bool,
        /// Whether those stay writable where the mount itself is read only.
        #[serde(default)]
        writable_below: bool,
    },
    /// A volume.
    Volume {
        /// Its name; `None` is a new anonymous one.
        name: Option<String>,
        /// Whether the image's content at the target is not copied into an empty volume.
        no_copy: bool,
        /// Path inside the volume; empty is its root.
        subpath: String,
        /// Driver of a volume to be made; empty is `local`.
        driver: String,
        /// Options of a volume to be made.
        options: Vec<(String, String)>,
        /// Labels of a volume to be made.
        labels: Vec<(String, String)>,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; 0 is no limit.
        size: i64,
        /// Permission bits of its root; 0 is 1777.
        mode: u32,
        /// Options as written for tmpfs(5), comma separated.
        options: String,
    },
    /// The file system of an image, read-only.
    Image {
        /// The image as named.
        reference: String,
        /// Path inside; empty is its root.
        subpath: String,
    },
}

/// How mounts made later on one side appear on the other (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Neither way, recursively.
    #[default]
    RPrivate,
    /// Neither way.
    Private,
    /// Both ways, recursively.
    RShared,
    /// Both ways.
    Shared,
    /// From the host only, recursively.
    RSlave,
    /// From the host only.
    Slave,
}

impl Propagation {
    /// The name users write.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RPrivate => "rprivate",
            Self::Private => "private",
            Self::RShared => "rshared",
            Self::Shared => "shared",
            Self::RSlave => "rslave",
            Self::Slave => "slave",
        }
    }

    /// Reads the name users write.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::RPrivate,
            Self::Private,
            Self::RShared,
            Self::Shared,
            Self::RSlave,
            Self::Slave,
        ]
        .into_iter()
        .find(|mode| mode.as_str() == name)
    }
}

/// Something that a step of a build sees beside its layers, its files known. Targets are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadyMount {
    /// A path of other layers.
    Layers {
        /// Bottom first.
        layers: Vec<Digest>,
        /// In them; empty for all.
        source: String,
        /// Where it is seen.
        target: String,
        /// Whether it can be written to; what is written is thrown away.
        writable: bool,
    },
    /// A path of the host.
    Host {
        /// What.
        source: PathBuf,
        /// Where it is seen.
        target: String,
        /// Whether it can be written to.
        writable: bool,
    },
    /// Memory.
    Memory {
        /// Where it is seen.
        target: String,
        /// Bytes, 0 for no limit.
        size: i64,
    },
}

impl ReadyMount {
    /// Where it is seen.
    #[must_use]
    pub fn target(&self) -> &str {
        match self {
            Self::Layers { target, .. }
            | Self::Host { target, .. }
            | Self::Memory { target, .. } => target,
        }
    }
}
