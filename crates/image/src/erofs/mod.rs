//! The EROFS index over a layer's tar: inodes and directories here, file data where it lies in the tar.
//!
//! Follows the kernel's on-disk format (docs: erofs.docs.kernel.org "core on-disk format"; fs/erofs/erofs_fs.h), with
//! 512-byte blocks because tar aligns data to 512 bytes. The tar is device 1, mapped behind the index in one block address space, so
//! a file is a plain run of blocks: no chunk tables.
//!
//! ```text
//! byte    0 ┌───────────────────────────┐
//!           │ zeros                     │
//!      1024 │ superblock, 128 bytes     │ crc32c over the block
//!      1152 │ device slot, 128 bytes    │ tag = diff id (hex), blocks of the tar, where it is mapped
//!      1280 │ trailer of ours, 64 bytes │ see `Trailer`
//!      1536 ├───────────────────────────┤
//!           │ inodes, 64 bytes each,    │ nid = byte / 32; the root first (its nid has 16 bits)
//!           │ + xattrs, + inline data   │ short symlinks and small directories are inline
//!           ├───────────────────────────┤ to a whole block
//!           │ directory blocks,         │
//!           │ long symlinks             │
//!           ├───────────────────────────┤ `uniaddr`
//!           ┊ the tar (another file)    ┊
//! ```

mod crc32c;
mod layout;
#[cfg(test)]
mod tests;
mod write;
mod xattr;

pub(crate) use write::{IndexSummary, RootAttributes, SUMMARY_BYTES, read_summary, write_index};

/// log2 of the block size.
const BLOCK_BITS: u8 = 9;
/// Bytes of a block.
const BLOCK: u64 = 1 << BLOCK_BITS;
/// Where the superblock is, whatever the block size.
const SUPER_OFFSET: usize = 1024;
/// `E0F5E1E2`.
const MAGIC: u32 = 0xE0F5_E1E2;
/// The superblock has a checksum.
const COMPAT_SB_CHKSUM: u32 = 1;
/// Inodes carry mtime in the time field (and not ctime).
const COMPAT_MTIME: u32 = 2;
/// There is a device table.
const INCOMPAT_DEVICE_TABLE: u32 = 8;
/// Bytes of a device slot.
const DEVICE_SLOT: usize = 128;
/// Where the one device slot is.
const DEVICE_SLOT_OFFSET: usize = 1152;
/// Where our own summary is.
const TRAILER_OFFSET: usize = 1280;
/// Where inodes begin.
const INODES_OFFSET: u64 = 1536;
/// Bytes of an extended inode.
const INODE: u64 = 64;
/// Bytes of a directory entry before its name.
const DIRENT: u64 = 12;
/// nids count these.
const NID_UNIT: u64 = 32;
