//! In which order processes are listed, and how children stand below their parents.

use std::cmp::Ordering;
use std::collections::HashSet;

use hoist_model::container::ProcessFacts;

use super::columns::{Column, Machine};
use super::options::{Asked, Tree};

/// The processes in the order asked for, each with what is drawn before its command.
pub(super) fn placed<'p>(
    asked: &Asked,
    processes: &'p [ProcessFacts],
    machine: &Machine,
) -> Vec<(&'p ProcessFacts, String)> {
    let mut sorted: Vec<&ProcessFacts> = processes.iter().collect();
    sorted.sort_by(|a, b| compare(&asked.sort, a, b, machine));
    if asked.tree == Tree::None {
        return sorted
            .into_iter()
            .map(|facts| (facts, String::new()))
            .collect();
    }
    let mut forest = Forest {
        tree: asked.tree,
        placed: Vec::with_capacity(sorted.len()),
        seen: HashSet::new(),
        all: sorted,
    };
    let known: HashSet<i32> = forest.all.iter().map(|facts| facts.pid).collect();
    let roots = forest.all.clone().into_iter();
    for root in roots.filter(|facts| !known.contains(&facts.parent) || facts.parent == facts.pid) {
        forest.place(root, "", "", 0);
    }
    // Of processes that were looked at one after the other parents may go in circles.
    for left in forest.all.clone() {
        forest.place(left, "", "", 0);
    }
    forest.placed
}

/// Deeper generations are not drawn as such.
const DEEPEST: usize = 64;

struct Forest<'p> {
    tree: Tree,
    all: Vec<&'p ProcessFacts>,
    seen: HashSet<i32>,
    placed: Vec<(&'p ProcessFacts, String)>,
}

impl<'p> Forest<'p> {
    /// Places one process and all below it; `own` is drawn before it, `below` before what is before its children.
    fn place(&mut self, facts: &'p ProcessFacts, own: &str, below: &str, depth: usize) {
        // Threads of one process stand side by side.
        if !self.seen.insert(facts.thread) {
            return;
        }
        self.placed.push((facts, own.to_owned()));
        if facts.thread != facts.pid || depth == DEEPEST {
            return;
        }
        let children: Vec<&ProcessFacts> = self
            .all
            .iter()
            .copied()
            .filter(|child| child.parent == facts.pid && child.pid != facts.pid)
            .collect();
        let last = children.len().saturating_sub(1);
        for (at, child) in children.into_iter().enumerate() {
            let (own, deeper) = match self.tree {
                Tree::Indented => (format!("{below}  "), format!("{below}  ")),
                _ if at == last => (format!("{below} \\_ "), format!("{below}    ")),
                _ => (format!("{below} \\_ "), format!("{below} |  ")),
            };
            self.place(child, &own, &deeper, depth + 1);
        }
    }
}

fn compare(
    keys: &[(Column, bool)],
    a: &ProcessFacts,
    b: &ProcessFacts,
    machine: &Machine,
) -> Ordering {
    for (column, falling) in keys {
        let order = column.compare(a, b, machine);
        let order = if *falling { order.reverse() } else { order };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}
