//! Images and layers: content store, documents, tar, EROFS index, snapshots, load and import.
//!
//! A layer is its uncompressed tar, written sequentially, and a small EROFS index over it; a container's root is
//! an overlay of such layers. This crate knows no HTTP, no async runtime and no store tables: everything here is
//! blocking, and callers decide on which thread it runs.

mod changes;
mod clamp;
mod commit;
mod compress;
pub mod content;
mod copy;
pub mod decompress;
mod directory;
pub mod document;
mod erofs;
pub mod files;
pub mod fsck;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
mod garbage;
mod import;
mod load;
mod partial;
mod removal;
mod save;
mod scatter;
mod sha256;
mod snapshot;
mod stored;
mod tar;
mod tree;

pub use clamp::clamp_times;
pub use commit::{CommitError, CommitOptions, commit_changes};
pub use compress::{LayerCompression, compress};
pub use content::{ContentError, ContentStore};
pub use copy::{CopyError, unpack_layer};
pub use garbage::{CollectError, Collected, Named, collect_garbage};
pub use import::{ImportError, ImportOptions, import_rootfs};
pub use load::{LoadError, load_archive};
pub use partial::PartialBlob;
pub use save::{ArchiveOut, Copied, SaveError, SavedImage, save_images};
pub use scatter::scatter;
pub use sha256::Sha256;
pub use snapshot::{
    Blanks, Changes, Doomed, Ids, LayerError, LayerRecord, LayerWriter, MAX_LAYERS, Remap,
    SnapshotError, Snapshotter, SnapshotterChoice, SnapshotterKind, open_remapping_snapshotter,
    open_snapshotter,
};
pub use stored::{KnownManifest, OutgoingImage, PushedImage, StoredImage};
pub use tar::{CompleteTar, Entry as TarEntry, EntryKind as TarEntryKind, TarWriter};
