//! Where every inode and directory block of an index goes.

use super::{BLOCK, DIRENT, INODE, INODES_OFFSET, NID_UNIT, xattr};
use crate::tree::{NodeId, NodeKind, OPAQUE, ROOT, Tree};

/// One inode's place.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) node: NodeId,
    pub(super) offset: u64,
    pub(super) xattrs: Vec<u8>,
    pub(super) body: Body,
}

/// What follows an inode, or where its data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// In the tar, or nowhere: files, devices.
    None,
    /// Right behind the inode and its attributes.
    Inline(u64),
    /// In blocks of the index: first block, bytes.
    Blocks(u64, u64),
}

/// The whole plan.
pub(super) struct Layout {
    /// In the order of the tree: the root first.
    pub(super) inodes: Vec<Placed>,
    /// By node: its place in `inodes`.
    places: Vec<u32>,
    /// By node: the directory it was found in, of directories.
    parents: Vec<NodeId>,
    /// Bytes of the inode area's end, a whole block.
    pub(super) inode_end: u64,
    /// Blocks of the index.
    pub(super) blocks: u64,
}

const NONE: u32 = u32::MAX;

impl Layout {
    /// Plans a tree.
    pub(super) fn plan(tree: &Tree) -> Self {
        let mut layout = Self {
            inodes: Vec::with_capacity(tree.len()),
            places: vec![NONE; tree.len()],
            parents: vec![ROOT; tree.len()],
            inode_end: 0,
            blocks: 0,
        };
        let mut at = INODES_OFFSET;
        let mut pending = vec![ROOT];
        layout.place(tree, ROOT, &mut at);
        while let Some(id) = pending.pop() {
            let Some(directory) = tree.node(id).directory() else {
                continue;
            };
            // A directory's children lie together, as `ls -l` reads them.
            for child in directory.children.values().copied() {
                if layout.places[child as usize] == NONE {
                    layout.parents[child as usize] = id;
                    layout.place(tree, child, &mut at);
                }
            }
            pending.extend(
                directory
                    .children
                    .values()
                    .rev()
                    .filter(|child| tree.node(**child).directory().is_some()),
            );
        }
        layout.inode_end = at.next_multiple_of(BLOCK);
        let mut block = layout.inode_end / BLOCK;
        for placed in &mut layout.inodes {
            if let Body::Blocks(first, bytes) = &mut placed.body {
                *first = block;
                block += bytes.div_ceil(BLOCK);
            }
        }
        layout.blocks = block;
        layout
    }

    fn place(&mut self, tree: &Tree, id: NodeId, at: &mut u64) {
        let node = tree.node(id);
        let opaque = node.directory().is_some_and(|d| d.opaque);
        let pairs = node.xattrs.iter().map(|(n, v)| (&n[..], &v[..]));
        let xattrs = xattr::encode(pairs.chain(opaque.then_some(OPAQUE)));
        let bytes = match &node.kind {
            NodeKind::Directory(directory) => directory_bytes(directory.children.keys()),
            NodeKind::Symlink { target } => target.len() as u64,
            _ => 0,
        };
        let head = INODE + xattrs.len() as u64;
        let mut offset = at.next_multiple_of(NID_UNIT);
        let inline = (bytes > 0)
            .then(|| {
                (0..BLOCK / NID_UNIT)
                    .map(|step| offset + step * NID_UNIT)
                    .find(|o| inode_fits(*o) && (o + head) % BLOCK + bytes <= BLOCK)
            })
            .flatten();
        let body = match inline {
            Some(found) => {
                offset = found;
                Body::Inline(bytes)
            }
            None => {
                while !inode_fits(offset) {
                    offset += NID_UNIT;
                }
                if bytes > 0 {
                    Body::Blocks(0, bytes)
                } else {
                    Body::None
                }
            }
        };
        *at = offset + head + if inline.is_some() { bytes } else { 0 };
        self.places[id as usize] =
            u32::try_from(self.inodes.len()).expect("the parser limits entries to 4 Mi");
        self.inodes.push(Placed {
            node: id,
            offset,
            xattrs,
            body,
        });
    }

    /// A node's number on disk.
    pub(super) fn nid(&self, id: NodeId) -> u64 {
        self.inodes[self.places[id as usize] as usize].offset / NID_UNIT
    }

    /// The directory that holds a directory; the root holds itself.
    pub(super) fn parent(&self, id: NodeId) -> NodeId {
        self.parents[id as usize]
    }
}

/// The inode and its attributes' header stay within a block.
fn inode_fits(offset: u64) -> bool {
    offset % BLOCK + INODE + 12 <= BLOCK || offset % BLOCK + INODE == BLOCK
}

/// Bytes a directory's blocks take, the last cut after its last name. Entries are packed in order, each block as full as
/// it gets.
pub(super) fn directory_bytes<'a>(names: impl Iterator<Item = &'a Box<[u8]>>) -> u64 {
    let mut full = 0;
    let mut used = 0;
    for name in with_dots(names) {
        let needed = DIRENT + name.len() as u64;
        if used + needed > BLOCK {
            full += BLOCK;
            used = 0;
        }
        used += needed;
    }
    // Directories of more than one block end on a block: what is behind a last name must be zeros.
    if full == 0 { used } else { full + BLOCK }
}

/// A directory's names with `.` and `..` where their bytes sort them: some names go before `.`.
pub(super) fn with_dots<'a>(
    names: impl Iterator<Item = &'a Box<[u8]>>,
) -> impl Iterator<Item = &'a [u8]> {
    let mut names = names.map(|name| &name[..]).peekable();
    let mut dots = [&b"."[..], b".."].into_iter().peekable();
    std::iter::from_fn(move || match (dots.peek(), names.peek()) {
        (Some(dot), Some(name)) if name < dot => names.next(),
        (Some(_), _) => dots.next(),
        (None, _) => names.next(),
    })
}
