//! One layer's tree, as its tar's entries leave it: what is indexed, or extracted.
//!
//! Rules where a tar can be read in several ways (OCI image spec, layer.md; what Docker does on overlay2):
//! a later entry replaces an earlier one, except that a directory over a directory only changes its attributes; parents
//! that no entry names are made 0755 root; a parent that is a symlink is followed inside the layer; hard links
//! reach earlier entries of the same layer only.

mod follow;

use std::collections::BTreeMap;

use crate::tar::{Entry, EntryKind, Xattrs};

/// Overlay's mark of a directory that hides what lies below it.
pub(crate) const OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");

/// The most files and directories of a layer: some 200 bytes of memory each while it is read, and a few megabytes of download can
/// have millions. The largest images of today have one million.
const MOST_NODES: usize = 4 << 20;

/// Index of a node in its tree.
pub(crate) type NodeId = u32;

/// The root's index.
pub(crate) const ROOT: NodeId = 0;

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    File {
        size: u64,
        offset: u64,
    },
    Symlink {
        target: Vec<u8>,
    },
    Directory(Directory),
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    /// Hides an entry of the layers below: overlay's character device 0:0.
    Whiteout,
}

/// A directory's own state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    /// By name; a name's bytes sort as EROFS wants them.
    pub(crate) children: BTreeMap<Box<[u8]>, NodeId>,
    /// Hides the same directory of the layers below.
    pub(crate) opaque: bool,
}

/// An inode; hard links share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: i64,
    pub(crate) mtime_nanos: u32,
    pub(crate) xattrs: Xattrs,
    /// Names it has; 0 once it was replaced. Directories count 1 here.
    pub(crate) links: u32,
}

impl Node {
    fn implied_directory() -> Self {
        Self {
            kind: NodeKind::Directory(Directory::default()),
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_nanos: 0,
            xattrs: Vec::new(),
            links: 1,
        }
    }

    /// The directory, if it is one.
    pub(crate) fn directory(&self) -> Option<&Directory> {
        match &self.kind {
            NodeKind::Directory(directory) => Some(directory),
            _ => None,
        }
    }
}

/// Where an entry belongs: its directory and its name in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    parent: NodeId,
    name: Vec<u8>,
}

/// The tree.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    /// How many there may be.
    most: usize,
    root_named: bool,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![Node::implied_directory()],
            most: MOST_NODES,
            root_named: false,
        }
    }

    /// A node.
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// How many node ids there are; some may have no links.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether an entry spoke of the root itself.
    pub(crate) fn root_named(&self) -> bool {
        self.root_named
    }

    /// Bytes of all regular files, each inode once.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.nodes
            .iter()
            .filter(|node| node.links > 0)
            .map(|node| match node.kind {
                NodeKind::File { size, .. } => size,
                _ => 0,
            })
            .sum()
    }

    /// Applies one entry. The error is the rule it breaks.
    pub(crate) fn apply(&mut self, entry: Entry) -> Result<(), String> {
        if entry.path.is_empty() {
            self.root_named = true;
            return self.update_directory(ROOT, entry);
        }
        if entry.path.split(|b| *b == b'/').any(is_aufs_metadata) {
            return Ok(());
        }
        let place = self.place(&entry.path)?;
        if let Some(hidden) = place.name.strip_prefix(b".wh.") {
            return self.whiteout(place.parent, hidden, &entry);
        }
        if let EntryKind::HardLink { target } = &entry.kind {
            return self.link(place, target);
        }
        let before = self.child(place.parent, &place.name);
        let was_whiteout = before.is_some_and(|id| self.node(id).kind == NodeKind::Whiteout);
        if let Some(id) = before {
            if entry.kind == EntryKind::Directory && self.node(id).directory().is_some() {
                return self.update_directory(id, entry);
            }
            self.unlink(id);
        }
        let kind = match entry.kind {
            EntryKind::File { size, offset } => NodeKind::File { size, offset },
            EntryKind::Symlink { target } => NodeKind::Symlink { target },
            EntryKind::Directory => NodeKind::Directory(Directory {
                opaque: was_whiteout,
                ..Directory::default()
            }),
            EntryKind::CharDevice { major: 0, minor: 0 } => NodeKind::Whiteout,
            EntryKind::CharDevice { major, minor } => NodeKind::CharDevice { major, minor },
            EntryKind::BlockDevice { major, minor } => NodeKind::BlockDevice { major, minor },
            EntryKind::Fifo => NodeKind::Fifo,
            EntryKind::HardLink { .. } => return Err("it is a hard link".into()),
        };
        let node = Node {
            kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            mtime_nanos: entry.mtime_nanos,
            xattrs: kept_xattrs(entry.xattrs)?,
            links: 1,
        };
        self.insert(place, node)
    }

    fn update_directory(&mut self, id: NodeId, entry: Entry) -> Result<(), String> {
        let xattrs = kept_xattrs(entry.xattrs)?;
        let node = &mut self.nodes[id as usize];
        node.mode = entry.mode;
        node.uid = entry.uid;
        node.gid = entry.gid;
        node.mtime = entry.mtime;
        node.mtime_nanos = entry.mtime_nanos;
        node.xattrs = xattrs;
        Ok(())
    }

    fn whiteout(&mut self, parent: NodeId, hidden: &[u8], entry: &Entry) -> Result<(), String> {
        if hidden == b".wh..opq" {
            self.directory_mut(parent)?.opaque = true;
            return Ok(());
        }
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err("it is a whiteout of nothing".into());
        }
        if let Some(id) = self.child(parent, hidden) {
            // A whiteout hides what is below this layer, never what this layer brings itself.
            if let NodeKind::Directory(directory) = &mut self.nodes[id as usize].kind {
                directory.opaque = true;
            }
            return Ok(());
        }
        let node = Node {
            kind: NodeKind::Whiteout,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: entry.mtime,
            mtime_nanos: entry.mtime_nanos,
            xattrs: Vec::new(),
            links: 1,
        };
        let name = hidden.to_vec();
        self.insert(Place { parent, name }, node)
    }

    fn link(&mut self, place: Place, target: &[u8]) -> Result<(), String> {
        let shown = String::from_utf8_lossy(target).into_owned();
        let missing = || format!("it is a hard link to {shown:?}, which this layer does not have");
        if target.is_empty() {
            return Err("it is a hard link to the root".into());
        }
        let at = self.existing(target).ok_or_else(missing)?;
        match self.node(at).kind {
            NodeKind::Directory(_) => {
                return Err(format!("it is a hard link to {shown:?}, a directory"));
            }
            NodeKind::Whiteout => return Err(missing()),
            _ => {}
        }
        if let Some(before) = self.child(place.parent, &place.name) {
            if before == at {
                return Ok(());
            }
            self.unlink(before);
        }
        let node = &mut self.nodes[at as usize];
        node.links = node.links.checked_add(1).ok_or("too many hard links")?;
        self.directory_mut(place.parent)?
            .children
            .insert(place.name.into(), at);
        Ok(())
    }

    /// Finds the directory of a normal path, making what is missing of it and following symlinks inside the layer.
    fn place(&mut self, path: &[u8]) -> Result<Place, String> {
        let (parents, name) = split(path);
        let mut at = ROOT;
        let mut hops = 0;
        for component in parents.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
            at = match self.child(at, component) {
                Some(id) => match &self.node(id).kind {
                    NodeKind::Directory(_) => id,
                    NodeKind::Symlink { .. } => {
                        self.follow(at, id, &mut hops).ok_or_else(|| {
                            format!(
                                "its parent {:?} is a symlink that leads to no directory of this layer",
                                String::from_utf8_lossy(component)
                            )
                        })?
                    }
                    NodeKind::Whiteout => {
                        // The whole path was removed below and begins anew here.
                        let mut node = Node::implied_directory();
                        node.kind = NodeKind::Directory(Directory {
                            opaque: true,
                            ..Directory::default()
                        });
                        self.unlink(id);
                        self.insert_at(at, component, node)?
                    }
                    _ => {
                        return Err(format!(
                            "its parent {:?} is not a directory",
                            String::from_utf8_lossy(component)
                        ));
                    }
                },
                None => self.insert_at(at, component, Node::implied_directory())?,
            };
        }
        Ok(Place {
            parent: at,
            name: name.to_vec(),
        })
    }

    /// The node at a normal path, its last component not followed.
    fn existing(&self, path: &[u8]) -> Option<NodeId> {
        let (parents, name) = split(path);
        let mut at = ROOT;
        let mut hops = 0;
        for component in parents.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
            let id = self.child(at, component)?;
            at = match &self.node(id).kind {
                NodeKind::Directory(_) => id,
                NodeKind::Symlink { .. } => self.follow(at, id, &mut hops)?,
                _ => return None,
            };
        }
        self.child(at, name)
    }

    fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.node(directory)
            .directory()?
            .children
            .get(name)
            .copied()
    }

    fn directory_mut(&mut self, id: NodeId) -> Result<&mut Directory, String> {
        match &mut self.nodes[id as usize].kind {
            NodeKind::Directory(directory) => Ok(directory),
            _ => Err("its parent is not a directory".into()),
        }
    }

    fn insert(&mut self, place: Place, node: Node) -> Result<(), String> {
        self.insert_at(place.parent, &place.name, node).map(|_| ())
    }

    fn insert_at(&mut self, parent: NodeId, name: &[u8], node: Node) -> Result<NodeId, String> {
        if self.nodes.len() >= self.most {
            return Err(format!("the layer has more than {} files", self.most));
        }
        let id = NodeId::try_from(self.nodes.len()).map_err(|_| "too many entries")?;
        self.nodes.push(node);
        self.directory_mut(parent)?.children.insert(name.into(), id);
        Ok(id)
    }

    /// Takes one name from a node that is being replaced, and everything under it.
    fn unlink(&mut self, id: NodeId) {
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            let node = &mut self.nodes[id as usize];
            node.links = node.links.saturating_sub(1);
            if let NodeKind::Directory(directory) = &mut node.kind {
                pending.extend(std::mem::take(&mut directory.children).into_values());
            }
        }
    }
}

/// Extended attributes that a layer may set: those of overlay are ours to write, and a layer's own would redirect or
/// uncover what lies below it.
fn kept_xattrs(xattrs: Xattrs) -> Result<Xattrs, String> {
    let kept: Vec<_> = xattrs
        .into_iter()
        .filter(|(name, _)| {
            !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.")
        })
        .collect();
    let bytes: usize = kept
        .iter()
        .map(|(name, value)| name.len() + value.len() + 8)
        .sum();
    if bytes > 240 << 10 {
        return Err(format!("its extended attributes have {bytes} bytes"));
    }
    Ok(kept)
}

/// aufs's own files (`.wh..wh.plnk/…`, `.wh..wh.aufs`) are nothing of the image; old layers carry them.
fn is_aufs_metadata(component: &[u8]) -> bool {
    component.starts_with(b".wh..wh.") && component != b".wh..wh..opq"
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::normal_path;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry {
            path: normal_path(path.as_bytes()).unwrap(),
            kind,
            mode: 0o644,
            uid: 1,
            gid: 2,
            mtime: 3,
            mtime_nanos: 4,
            xattrs: Vec::new(),
        }
    }

    fn file(path: &str) -> Entry {
        entry(
            path,
            EntryKind::File {
                size: 5,
                offset: 512,
            },
        )
    }

    fn symlink(path: &str, target: &str) -> Entry {
        let target = target.into();
        entry(path, EntryKind::Symlink { target })
    }

    fn tree(entries: impl IntoIterator<Item = Entry>) -> Result<Tree, String> {
        let mut tree = Tree::new();
        for entry in entries {
            tree.apply(entry)?;
        }
        Ok(tree)
    }

    #[test]
    fn a_symlinked_parent_is_followed_inside_the_layer_only() {
        let made = tree([
            file("usr/lib/a"),
            symlink("lib", "usr/lib"),
            symlink("abs", "/lib/../../usr/lib"),
            file("lib/b"),
            file("abs/c"),
        ])
        .unwrap();
        for name in ["usr/lib/a", "usr/lib/b", "usr/lib/c"] {
            assert!(made.existing(name.as_bytes()).is_some(), "{name}");
        }
        for target in ["/etc", "../../etc", "loop", "nowhere"] {
            let error = tree([symlink("loop", target), file("loop/x")]).unwrap_err();
            assert!(error.contains("symlink"), "{error}");
        }
    }

    #[test]
    fn a_layer_has_only_so_many_files() {
        let mut tree = Tree {
            most: 5,
            ..Tree::new()
        };
        for path in ["a/b", "a/b", "c"] {
            tree.apply(file(path)).unwrap();
        }
        let refused = tree.apply(file("d")).unwrap_err();
        assert_eq!(refused, "the layer has more than 5 files");
    }

    #[test]
    fn hard_links_stay_inside_the_layer() {
        let link = |path: &str, target: &str| {
            let target = target.into();
            entry(path, EntryKind::HardLink { target })
        };
        let made = tree([file("a"), link("b", "a"), link("c", "b"), file("a")]).unwrap();
        let shared = made.existing(b"b").unwrap();
        assert_eq!(made.node(shared).links, 2);
        assert_ne!(made.existing(b"a"), Some(shared));
        assert_eq!(made.file_bytes(), 10);
        for target in ["etc/shadow", "d"] {
            assert!(tree([entry("d", EntryKind::Directory), link("x", target)]).is_err());
        }
    }

    #[test]
    fn whiteouts_hide_what_is_below_and_never_the_layer_itself() {
        let made = tree([
            file(".wh.gone"),
            file("dir/.wh..wh..opq"),
            file("kept"),
            file(".wh.kept"),
            file(".wh.again"),
            entry("again", EntryKind::Directory),
            file(".wh..wh.plnk/1.2"),
        ]);
        let made = made.unwrap();
        let at = |path: &[u8]| made.node(made.existing(path).unwrap());
        assert_eq!(at(b"gone").kind, NodeKind::Whiteout);
        assert!(at(b"dir").directory().unwrap().opaque);
        assert!(matches!(at(b"kept").kind, NodeKind::File { .. }));
        assert!(at(b"again").directory().unwrap().opaque);
    }
}
