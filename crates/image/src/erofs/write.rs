//! Writes an index as planned.
#![expect(
    clippy::cast_possible_truncation,
    reason = "block numbers are checked against 32 bits before anything is written; the rest are offsets within one block"
)]

use std::io::{self, Write};

use hoist_model::Digest;

use super::layout::{Body, Layout, Placed, with_dots};
use super::{
    BLOCK, BLOCK_BITS, COMPAT_MTIME, COMPAT_SB_CHKSUM, DEVICE_SLOT, DEVICE_SLOT_OFFSET, DIRENT,
    INCOMPAT_DEVICE_TABLE, INODES_OFFSET, MAGIC, SUPER_OFFSET, TRAILER_OFFSET, crc32c, xattr,
};
use crate::tree::{NodeId, NodeKind, ROOT, Tree};

/// What our own part of the first blocks says about a layer.
///
/// ```text
/// 1280  "hoistidx"  magic          1296  tar bytes  u64
/// 1288  version u32 (1)            1304  file bytes u64
/// 1292  flags u32                  1312  index bytes u64
///         bit 0: an entry names the root
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexSummary {
    /// The digest of the tar.
    pub(crate) diff_id: Digest,
    /// The tar's length.
    pub(crate) tar_bytes: u64,
    /// Bytes of all regular files.
    pub(crate) file_bytes: u64,
    /// The root's attributes, if the tar has an entry for the root itself.
    pub(crate) root: Option<RootAttributes>,
    /// The index's own length.
    pub(crate) index_bytes: u64,
}

/// What a layer says about the root directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RootAttributes {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

const TRAILER_MAGIC: &[u8; 8] = b"hoistidx";
const TRAILER_VERSION: u32 = 1;

/// Bytes before the inodes.
const HEAD: usize = INODES_OFFSET as usize;

/// Bytes from the start of an index that [`read_summary`] needs: up to the root's inode and with it.
pub(crate) const SUMMARY_BYTES: usize = HEAD + super::INODE as usize;

// Layouts of `i_format`: bit 0 an extended inode, bits 1 to 3 where the data is.
const PLAIN: u16 = 1;
const INLINE: u16 = 1 | (2 << 1);

/// Writes the index of `tree`, whose tar has `tar_bytes` bytes and this digest.
pub(crate) fn write_index(
    tree: &Tree,
    diff_id: &Digest,
    tar_bytes: u64,
    out: &mut impl Write,
) -> io::Result<IndexSummary> {
    let layout = Layout::plan(tree);
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, "layer of more than 2 TiB");
    let blocks = u32::try_from(layout.blocks).map_err(|_| too_large())?;
    let tar_blocks = u32::try_from(tar_bytes.div_ceil(BLOCK)).map_err(|_| too_large())?;
    blocks.checked_add(tar_blocks).ok_or_else(too_large)?;
    let summary = IndexSummary {
        diff_id: diff_id.clone(),
        tar_bytes,
        file_bytes: tree.file_bytes(),
        root: tree.root_named().then(|| {
            let root = tree.node(ROOT);
            RootAttributes {
                mode: root.mode,
                uid: root.uid,
                gid: root.gid,
            }
        }),
        index_bytes: layout.blocks * BLOCK,
    };
    out.write_all(&head(&layout, &summary, blocks, tar_blocks))?;
    let mut area = Vec::with_capacity(1 << 16);
    let mut at = INODES_OFFSET;
    for placed in &layout.inodes {
        area.resize(area.len() + (placed.offset - at) as usize, 0);
        let before = area.len();
        inode(tree, &layout, placed, blocks, &mut area);
        at = placed.offset + (area.len() - before) as u64;
        if area.len() > 1 << 16 {
            out.write_all(&area)?;
            area.clear();
        }
    }
    area.resize(area.len() + (layout.inode_end - at) as usize, 0);
    out.write_all(&area)?;
    for placed in &layout.inodes {
        if let Body::Blocks(_, bytes) = placed.body {
            area.clear();
            body(tree, &layout, placed.node, &mut area);
            debug_assert_eq!(area.len() as u64, bytes);
            area.resize(area.len().next_multiple_of(BLOCK as usize), 0);
            out.write_all(&area)?;
        }
    }
    Ok(summary)
}

/// Reads what [`write_index`] said, from the first [`SUMMARY_BYTES`]. `None` when it is no sound index of ours.
pub(crate) fn read_summary(head: &[u8]) -> Option<IndexSummary> {
    let head = head.get(..SUMMARY_BYTES)?;
    let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
    let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
    let sound = word(SUPER_OFFSET) == MAGIC
        && word(SUPER_OFFSET + 4) == checksum(head)
        && &head[TRAILER_OFFSET..TRAILER_OFFSET + 8] == TRAILER_MAGIC
        && word(TRAILER_OFFSET + 8) == TRAILER_VERSION;
    if !sound {
        return None;
    }
    let hex = std::str::from_utf8(&head[DEVICE_SLOT_OFFSET..DEVICE_SLOT_OFFSET + 64]).ok()?;
    Some(IndexSummary {
        diff_id: format!("sha256:{hex}").parse().ok()?,
        root: (word(TRAILER_OFFSET + 12) & 1 != 0).then(|| RootAttributes {
            mode: (word(HEAD + 4) & 0o7777) as u16,
            uid: word(HEAD + 24),
            gid: word(HEAD + 28),
        }),
        tar_bytes: long(TRAILER_OFFSET + 16),
        file_bytes: long(TRAILER_OFFSET + 24),
        index_bytes: long(TRAILER_OFFSET + 32),
    })
}

fn head(layout: &Layout, summary: &IndexSummary, blocks: u32, tar_blocks: u32) -> Vec<u8> {
    let mut head = vec![0; HEAD];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    let root = u16::try_from(layout.nid(ROOT)).expect("the root is the first inode");
    let sb = SUPER_OFFSET;
    put(sb, &MAGIC.to_le_bytes());
    put(sb + 8, &(COMPAT_SB_CHKSUM | COMPAT_MTIME).to_le_bytes());
    put(sb + 12, &[BLOCK_BITS]);
    put(sb + 14, &root.to_le_bytes());
    put(sb + 16, &(layout.inodes.len() as u64).to_le_bytes());
    put(sb + 36, &blocks.to_le_bytes());
    // The volume's UUID: the first half of the digest, so the same layer gives the same bytes anywhere.
    put(sb + 48, &uuid(&summary.diff_id));
    put(sb + 80, &INCOMPAT_DEVICE_TABLE.to_le_bytes());
    put(sb + 86, &1u16.to_le_bytes());
    put(
        sb + 88,
        &((DEVICE_SLOT_OFFSET / DEVICE_SLOT) as u16).to_le_bytes(),
    );
    put(DEVICE_SLOT_OFFSET, summary.diff_id.hex().as_bytes());
    put(DEVICE_SLOT_OFFSET + 64, &tar_blocks.to_le_bytes());
    put(DEVICE_SLOT_OFFSET + 68, &blocks.to_le_bytes());
    put(TRAILER_OFFSET, TRAILER_MAGIC);
    put(TRAILER_OFFSET + 8, &TRAILER_VERSION.to_le_bytes());
    put(
        TRAILER_OFFSET + 12,
        &u32::from(summary.root.is_some()).to_le_bytes(),
    );
    put(TRAILER_OFFSET + 16, &summary.tar_bytes.to_le_bytes());
    put(TRAILER_OFFSET + 24, &summary.file_bytes.to_le_bytes());
    put(TRAILER_OFFSET + 32, &summary.index_bytes.to_le_bytes());
    let sum = checksum(&head);
    head[SUPER_OFFSET + 4..SUPER_OFFSET + 8].copy_from_slice(&sum.to_le_bytes());
    head
}

/// The superblock's seal: its block, with the seal itself as zeros.
fn checksum(head: &[u8]) -> u32 {
    let block = &head[SUPER_OFFSET..SUPER_OFFSET + BLOCK as usize];
    let sum = crc32c::update(!0, &block[..4]);
    let sum = crc32c::update(sum, &[0; 4]);
    crc32c::update(sum, &block[8..])
}

fn uuid(digest: &Digest) -> [u8; 16] {
    let mut out = [0; 16];
    for (byte, pair) in out.iter_mut().zip(digest.hex().as_bytes().chunks(2)) {
        *byte = std::str::from_utf8(pair)
            .ok()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .unwrap_or(0);
    }
    out
}

/// One inode, its attributes and its inline data.
fn inode(tree: &Tree, layout: &Layout, placed: &Placed, blocks: u32, out: &mut Vec<u8>) {
    let node = tree.node(placed.node);
    let (kind_bits, union, size) = match &node.kind {
        NodeKind::File { size: 0, .. } => (S_IFREG, 0, 0),
        NodeKind::File { size, offset } => {
            // Within 32 bits: `write_index` checked the sum of both devices.
            (S_IFREG, blocks + (offset / BLOCK) as u32, *size)
        }
        NodeKind::Symlink { target } => (S_IFLNK, 0, target.len() as u64),
        NodeKind::Directory(_) => (S_IFDIR, 0, 0),
        NodeKind::CharDevice { major, minor } => (S_IFCHR, device(*major, *minor), 0),
        NodeKind::BlockDevice { major, minor } => (S_IFBLK, device(*major, *minor), 0),
        NodeKind::Fifo => (S_IFIFO, 0, 0),
        NodeKind::Whiteout => (S_IFCHR, 0, 0),
    };
    let (format, union, size) = match placed.body {
        Body::None => (PLAIN, union, size),
        Body::Inline(bytes) => (INLINE, u32::MAX, bytes),
        Body::Blocks(first, bytes) => (PLAIN, first as u32, bytes),
    };
    let links = match node.directory() {
        Some(directory) => {
            let inner = directory.children.values();
            2 + inner
                .filter(|id| tree.node(**id).directory().is_some())
                .count() as u32
        }
        None => node.links,
    };
    let start = out.len();
    out.extend_from_slice(&format.to_le_bytes());
    out.extend_from_slice(&xattr::count(placed.xattrs.len()).to_le_bytes());
    out.extend_from_slice(&(kind_bits | node.mode).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&union.to_le_bytes());
    out.extend_from_slice(&(layout.nid(placed.node) as u32).to_le_bytes());
    out.extend_from_slice(&node.uid.to_le_bytes());
    out.extend_from_slice(&node.gid.to_le_bytes());
    out.extend_from_slice(&node.mtime.to_le_bytes());
    out.extend_from_slice(&node.mtime_nanos.to_le_bytes());
    out.extend_from_slice(&links.to_le_bytes());
    out.resize(start + super::INODE as usize, 0);
    out.extend_from_slice(&placed.xattrs);
    if let Body::Inline(_) = placed.body {
        body(tree, layout, placed.node, out);
    }
}

const S_IFIFO: u16 = 0o010_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFBLK: u16 = 0o060_000;
const S_IFREG: u16 = 0o100_000;
const S_IFLNK: u16 = 0o120_000;

/// The kernel's `new_encode_dev`.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// A symlink's target or a directory's blocks.
fn body(tree: &Tree, layout: &Layout, id: NodeId, out: &mut Vec<u8>) {
    let directory = match &tree.node(id).kind {
        NodeKind::Symlink { target } => return out.extend_from_slice(target),
        NodeKind::Directory(directory) => directory,
        _ => return,
    };
    let mut block: Vec<(&[u8], NodeId)> = Vec::new();
    let mut used = 0;
    let mut blocks = 0;
    for name in with_dots(directory.children.keys()) {
        let target = match name {
            b"." => id,
            b".." => layout.parent(id),
            name => directory.children[name],
        };
        let needed = DIRENT + name.len() as u64;
        if used + needed > BLOCK {
            directory_block(tree, layout, &block, true, out);
            blocks += 1;
            block.clear();
            used = 0;
        }
        used += needed;
        block.push((name, target));
    }
    directory_block(tree, layout, &block, blocks > 0, out);
}

/// The entries of one block: the fixed parts, then the names.
fn directory_block(
    tree: &Tree,
    layout: &Layout,
    entries: &[(&[u8], NodeId)],
    whole: bool,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let mut name_at = entries.len() * DIRENT as usize;
    for (name, id) in entries {
        out.extend_from_slice(&layout.nid(*id).to_le_bytes());
        out.extend_from_slice(&(name_at as u16).to_le_bytes());
        out.extend_from_slice(&[file_type(&tree.node(*id).kind), 0]);
        name_at += name.len();
    }
    for (name, _) in entries {
        out.extend_from_slice(name);
    }
    if whole {
        out.resize(start + BLOCK as usize, 0);
    }
}

/// EROFS_FT_*, which are the generic FT_*.
fn file_type(kind: &NodeKind) -> u8 {
    match kind {
        NodeKind::File { .. } => 1,
        NodeKind::Directory(_) => 2,
        NodeKind::CharDevice { .. } | NodeKind::Whiteout => 3,
        NodeKind::BlockDevice { .. } => 4,
        NodeKind::Fifo => 5,
        NodeKind::Symlink { .. } => 7,
    }
}
