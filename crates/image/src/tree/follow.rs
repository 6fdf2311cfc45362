//! Symlinked parents, followed inside the layer as a chroot would.

use super::{NodeId, NodeKind, ROOT, Tree};

/// The most symlinks followed for one path, as in the kernel.
const SYMLINK_LIMIT: u32 = 40;

impl Tree {
    /// The directory a symlink in directory `from` leads to, inside this layer.
    pub(super) fn follow(&self, from: NodeId, link: NodeId, hops: &mut u32) -> Option<NodeId> {
        *hops += 1;
        if *hops > SYMLINK_LIMIT {
            return None;
        }
        let NodeKind::Symlink { target } = &self.node(link).kind else {
            return None;
        };
        // A trail from the root, because nodes do not know their parents.
        let mut trail = if target.starts_with(b"/") {
            vec![ROOT]
        } else {
            self.trail_to(from)?
        };
        for component in target.split(|b| *b == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    if trail.len() > 1 {
                        trail.pop();
                    }
                }
                name => {
                    let at = *trail.last()?;
                    let child = self.child(at, name)?;
                    match &self.node(child).kind {
                        NodeKind::Directory(_) => trail.push(child),
                        NodeKind::Symlink { .. } => {
                            let directory = self.follow(at, child, hops)?;
                            trail = self.trail_to(directory)?;
                        }
                        _ => return None,
                    }
                }
            }
        }
        trail.last().copied()
    }

    /// The directories from the root to `wanted`. A search: symlinked parents are rare, and parent pointers in every node
    /// are not worth them.
    fn trail_to(&self, wanted: NodeId) -> Option<Vec<NodeId>> {
        let mut trail = vec![ROOT];
        if wanted == ROOT {
            return Some(trail);
        }
        let mut pending: Vec<(NodeId, usize)> = vec![(ROOT, 0)];
        while let Some((at, depth)) = pending.pop() {
            trail.truncate(depth);
            trail.push(at);
            if at == wanted {
                return Some(trail);
            }
            if let Some(directory) = self.node(at).directory() {
                pending.extend(
                    directory
                        .children
                        .values()
                        .filter(|id| self.node(**id).directory().is_some())
                        .map(|id| (*id, depth + 1)),
                );
            }
        }
        None
    }
}
