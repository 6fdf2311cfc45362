//! Files of a container, read and written from outside: copied in and out, compared with its image, exported.
//!
//! Everything below a container's root is hostile: a process in it may turn a directory into a symlink between two of
//! our calls. So names are only ever resolved by the kernel, below a descriptor of the root (`openat2`,
//! `RESOLVE_IN_ROOT`), and whatever is done to a file is done to an open descriptor of it, or to one name in an open
//! directory without following it.

mod difference;
mod error;
mod follow;
mod name;
mod pack;
mod root;
mod transfer;
mod unpack;
mod usage;

pub use difference::{Change, ChangeKind, differences, pack_changes};
pub use error::FilesError;
pub use pack::{export, pack, pack_as, pack_chosen};
pub use root::{PathStat, Root};
pub use transfer::{
    Item, Source, TransferOptions, hide, transfer, transfer_digest, transfer_directory,
};
pub use unpack::{Renamed, UnpackOptions, unpack};
pub use usage::usage;
pub(crate) use usage::{allocated, measure};
