//! A plan as people follow it: what is done, each thing once, under names that say where it stands in the file.

use std::collections::{BTreeMap, HashSet};

use crate::dockerfile::Lines;
use crate::plan::{Plan, StepId};

/// Something that a view of a build shows from its beginning to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vertex {
    /// `[build 2/5] RUN make`, as BuildKit names it.
    pub name: String,
    /// The step; none of FROM.
    pub step: Option<StepId>,
    /// Where it stands.
    pub lines: Lines,
}

/// What a build will do, in the order of the file: FROM of images, and every step once.
#[must_use]
pub fn outline(plan: &Plan) -> Vec<Vertex> {
    let mut seen = HashSet::new();
    let shown: Vec<_> = plan
        .told
        .iter()
        .filter(|told| match told.step {
            Some(step) => seen.insert(step),
            None => told.base.is_some(),
        })
        .collect();
    let mut totals: BTreeMap<usize, usize> = BTreeMap::new();
    for told in &shown {
        *totals.entry(told.stage).or_default() += 1;
    }
    let is_staged = plan.stages.len() > 1;
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    shown
        .into_iter()
        .map(|told| {
            let count = counts.entry(told.stage).or_default();
            *count += 1;
            let total = totals[&told.stage];
            // Numbers as wide as the largest, so that names line up.
            let width = total.to_string().len();
            let stage = match plan.stages.get(told.stage).cloned().flatten() {
                Some(name) => format!("{name} "),
                None if is_staged => format!("stage-{} ", told.stage),
                None => String::new(),
            };
            Vertex {
                name: format!("[{stage}{count:>width$}/{total}] {}", one_line(&told.text)),
                step: told.step,
                lines: told.lines,
            }
        })
        .collect()
}

/// An instruction on one line, its continuations joined.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
