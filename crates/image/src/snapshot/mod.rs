//! The snapshotter port: layers in, overlay mounts out.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use hoist_model::{ContainerId, Digest, ErrorClass, UserMapping};

mod background_digest;
mod bases;
mod blanks;
mod containers;
mod doomed;
mod extract;
mod form;
mod layer_files;
mod layer_writer;
mod open;
mod overlay;
mod snapshots;

pub(crate) use bases::name_of as base_name;
pub use blanks::Blanks;
pub(crate) use containers::read_layers as layers_of;
pub use doomed::Doomed;
pub(crate) use layer_files::LayerFiles;
pub use open::{open_remapping_snapshotter, open_snapshotter};

/// How layers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotterKind {
    /// The tar and an EROFS index over it, mounted file-backed.
    Erofs,
    /// The tar and a directory with its files.
    Directory,
}

impl SnapshotterKind {
    /// The name shown as the storage driver.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::Directory => "overlay2",
        }
    }
}

/// What the operator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotterChoice {
    /// EROFS where a probe shows that it works, else directories.
    #[default]
    Auto,
    /// EROFS or fail.
    Erofs,
    /// Directories.
    Directory,
}

/// A stored layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRecord {
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The tar's length in bytes.
    pub tar_bytes: u64,
    /// Bytes of all regular files in it (what an image's size sums up).
    pub file_bytes: u64,
}

/// Why a layer could not be stored, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The layer is not here.
    #[error("layer {0} not found")]
    NotFound(Digest),
    /// Its tar is not what its name says.
    #[error("layer {0} is damaged: see hoist fsck")]
    Damaged(Digest),
    /// A prepared container stands on it.
    #[error("layer {layer} is in use by container {container}")]
    InUse {
        /// The layer.
        layer: Digest,
        /// One of its users.
        container: ContainerId,
    },
    /// The bytes are not those that were promised.
    #[error("layer {wanted} is corrupt: its content is {found}")]
    Mismatch {
        /// The digest promised.
        wanted: Digest,
        /// The digest found.
        found: Digest,
    },
    /// The tar is malformed, ambiguous or hostile.
    #[error("invalid tar: {0}")]
    Invalid(String),
    /// The file system failed.
    #[error("{action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The failure.
        #[source]
        source: io::Error,
    },
}

impl LayerError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::InUse { .. } => ErrorClass::Conflict,
            Self::Mismatch { .. } | Self::Invalid(_) => ErrorClass::InvalidArgument,
            Self::Damaged(_) => ErrorClass::Internal,
            Self::Io { source, .. } => io_class(source),
        }
    }
}

/// Why a container's file system could not be made, mounted or removed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Nothing was prepared under this id.
    #[error("no file system was prepared for container {0}")]
    NotPrepared(ContainerId),
    /// Something was prepared under this id already.
    #[error("a file system is already prepared for container {0}")]
    Exists(ContainerId),
    /// More layers than an overlay takes.
    #[error("{0} layers are more than the {max} an overlay takes", max = MAX_LAYERS)]
    TooManyLayers(usize),
    /// EROFS layers were asked for and do not work here.
    #[error("EROFS layers cannot be mounted under {path}")]
    Unsupported {
        /// The data root.
        path: PathBuf,
        /// What the probe met.
        #[source]
        source: Box<SnapshotError>,
    },
    /// Containers are to be remapped, and the kernel does not mount layers so that they can be.
    #[error(
        "remapping the users of containers needs id-mapped mounts under an overlay (Linux 6.15), which do not work under {path}"
    )]
    NotRemapped {
        /// The data root.
        path: PathBuf,
        /// What the probe met.
        #[source]
        source: Box<SnapshotError>,
    },
    /// A container's directories say that it is remapped, and the engine remaps none; or a user of the image has no id.
    #[error("container {key}: {why}")]
    Mapping {
        /// Whose.
        key: ContainerId,
        /// What is wrong.
        why: &'static str,
    },
    /// A layer is missing or unusable.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The kernel refused a mount.
    #[error("mounting {what}")]
    Mount {
        /// What was being mounted.
        what: String,
        /// The failure.
        #[source]
        source: io::Error,
    },
    /// The file system failed.
    #[error("{action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The failure.
        #[source]
        source: io::Error,
    },
}

impl SnapshotError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotPrepared(_) => ErrorClass::NotFound,
            Self::Exists(_) => ErrorClass::Conflict,
            Self::TooManyLayers(_) | Self::Mapping { .. } => ErrorClass::InvalidArgument,
            Self::Unsupported { .. } | Self::NotRemapped { .. } => ErrorClass::NotImplemented,
            Self::Layer(source) => source.class(),
            Self::Mount { source, .. } | Self::Io { source, .. } => io_class(source),
        }
    }
}

/// What becomes of a container's changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// They are written back as any file is, and synced when the container asks or its file system is unmounted.
    Kept,
    /// They go with the container at its end (`--rm`): syncing them, which at unmount means the whole file system that they
    /// are on, would be for nothing. Overlay's `volatile`, Linux 5.10.
    Discarded,
}

/// Whose ids the files of a container are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// The host's: what belongs to root in the image belongs to root.
    Host,
    /// Those that the engine's mapping has for them ([`Remap`]).
    Remapped,
}

/// How ids of containers stand for those of the host, and user namespaces that say so for mounts.
#[derive(Debug)]
pub struct Remap {
    /// The mapping.
    pub mapping: Arc<UserMapping>,
    /// A user namespace with it.
    pub namespace: OwnedFd,
    /// A user namespace with the same mapping seen from the other side.
    pub reverse: OwnedFd,
}

/// The most layers one image may have (Docker's limit too).
pub const MAX_LAYERS: usize = 127;

pub(crate) fn io_class(error: &io::Error) -> ErrorClass {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorClass::Unavailable,
        _ => ErrorClass::Internal,
    }
}

/// Takes the bytes of one uncompressed tar in order; dropped without [`LayerWriter::finish`] it leaves nothing.
///
/// A write fails with `InvalidData` as soon as the tar is seen to be malformed or hostile; `finish` then tells why.
pub trait LayerWriter: Write + Send {
    /// Commits the layer: checks the digest if one is `expected`, syncs once, and makes it visible atomically.
    /// A layer that is already here is kept and the new copy dropped, unless the one that is here is damaged.
    fn finish(self: Box<Self>, expected: Option<&Digest>) -> Result<LayerRecord, LayerError>;
}

/// Layers and the file systems made of them. One instance per data root; blocking; any thread.
///
/// - A layer is keyed by its diff id, the digest of its uncompressed tar. It becomes visible whole or not at all.
/// - Layers do not depend on each other: they are written in any order and in parallel.
/// - `open_tar` gives back the exact bytes that were written.
/// - A container's layers cannot be removed between `prepare` and `remove` (of a layer: `InUse`).
/// - Mounts are detached: nothing appears in any mount table until the caller moves one into place. A mount stays
///   usable after this process ends if it was moved, and after `remove_layer` while anything holds it.
pub trait Snapshotter: Send + Sync {
    /// How layers are kept.
    fn kind(&self) -> SnapshotterKind;

    /// Keeps layers by another choice from now on, and answers in which form that is. What is mounted stays as it is; layers that
    /// are here serve in the new form where they are mounted next. Blocking, milliseconds; of an error nothing has changed.
    fn choose(&self, choice: SnapshotterChoice) -> Result<SnapshotterKind, SnapshotError>;

    /// Whether a layer is here, whole, as far as is known.
    fn has_layer(&self, diff_id: &Digest) -> bool;

    /// Begins a new layer.
    fn layer_writer(&self) -> Result<Box<dyn LayerWriter>, LayerError>;

    /// What is known of a layer. Fails with `NotFound`.
    fn layer(&self, diff_id: &Digest) -> Result<LayerRecord, LayerError>;

    /// Every layer here, in no order.
    fn layers(&self) -> Vec<Digest>;

    /// Layers whose tar is not what its name says: found when the snapshotter was opened, or told by `distrust_layer`. The next
    /// writer that has one of them whole replaces it.
    fn damaged_layers(&self) -> Vec<Digest>;

    /// Tells that a layer is damaged. It goes on serving containers that stand on it, as well as it can. Where layers are kept as
    /// directories and its files are damaged, too, those that a mount shows go with the replacement.
    fn distrust_layer(&self, diff_id: &Digest);

    /// Makes everything that is kept beside a layer's tar anew from it; mounts from here on see it; those that show
    /// files of a directory that was not good lose them. Fails with `NotFound`, and with `Mismatch` or `Invalid` when it is the tar
    /// that is damaged.
    fn rebuild_layer(&self, diff_id: &Digest) -> Result<(), LayerError>;

    /// Removes a layer; one that is not here is no error. Fails with `InUse`. It is gone by name when this returns; the files
    /// go with the returned value.
    fn remove_layer(&self, diff_id: &Digest) -> Result<Doomed, LayerError>;

    /// Bytes that are allocated on disk for all that is kept of a layer, as du(1) counts them. Walks the files of one that is kept
    /// as a directory. Fails with `NotFound`.
    fn disk_bytes(&self, diff_id: &Digest) -> Result<u64, LayerError>;

    /// The layer's uncompressed tar, byte for byte, in a file that nobody changes. Fails with `NotFound`.
    fn open_tar(&self, diff_id: &Digest) -> Result<File, LayerError>;

    /// Makes a container's writable directories over `layers`, bottom first, and sees to it that mount points for what every
    /// container is given (`/proc`, `/etc/hosts`, …) are among its lowers. Fails with `Exists`, `Layer(NotFound)`,
    /// `TooManyLayers`. `ids` says whose its files are, on disk and in every mount of it from here on.
    fn prepare(&self, key: &ContainerId, layers: &[Digest], ids: Ids) -> Result<(), SnapshotError>;

    /// Makes ahead what the next calls of `prepare` can use, so that they need not; without it they make it themselves.
    fn make_ready(&self) -> Result<(), SnapshotError>;

    /// A detached writable mount of what was prepared; a new mount at every call. Fails with `NotPrepared`. Two
    /// writable mounts of one container at a time are the caller's mistake.
    fn mount(&self, key: &ContainerId, changes: Changes) -> Result<OwnedFd, SnapshotError>;

    /// A detached read-only mount of some layers, bottom first; of none, an empty directory.
    fn view(&self, layers: &[Digest], ids: Ids) -> Result<OwnedFd, SnapshotError>;

    /// A detached writable mount of some layers, bottom first: what is written is in `upper`, which is empty and belongs to the caller, as does
    /// `work` beside it. The top directory is as the layers have it.
    fn view_over(
        &self,
        layers: &[Digest],
        ids: Ids,
        upper: BorrowedFd<'_>,
        work: BorrowedFd<'_>,
    ) -> Result<OwnedFd, SnapshotError>;

    /// A detached read-only mount of a container's root as it is now, its changes over its layers, with the ids that its
    /// processes see. Works beside a writable
    /// mount: files that change meanwhile are seen to change. Fails with `NotPrepared`.
    fn seen(&self, key: &ContainerId) -> Result<OwnedFd, SnapshotError>;

    /// The directory of a container's own changes, to look below, with the ids that its processes see. Fails with
    /// `NotPrepared`.
    fn upper(&self, key: &ContainerId) -> Result<OwnedFd, SnapshotError>;

    /// Bytes allocated by a container's own changes, as du(1) counts them; 0 if there are none. Walks them.
    fn usage(&self, key: &ContainerId) -> Result<u64, SnapshotError>;

    /// Removes a container's writable directories; what is not there is no error. The caller has unmounted. They are gone
    /// by name and hold their layers no more when this returns; the files go with the returned value, which takes as long
    /// as there are files.
    fn remove(&self, key: &ContainerId) -> Result<Doomed, SnapshotError>;

    /// Every container that was prepared and not removed, for the sweep at start.
    fn prepared(&self) -> Vec<ContainerId>;
}
