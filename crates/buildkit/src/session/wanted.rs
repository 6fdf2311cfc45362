//! A few files of the client's in memory: the Dockerfile and what says what to leave out.

use std::collections::BTreeMap;

use super::tree::{self, Tree};

/// Links that are followed to a file.
const LINKS: usize = 40;

/// Files and links by path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(BTreeMap<String, Found>);

#[derive(Clone, Debug)]
enum Found {
    File(Vec<u8>),
    Link(String),
}

impl Files {
    /// `contents` are those of the tree's files, in order.
    pub(super) fn of(tree: &Tree, contents: Vec<Vec<u8>>) -> Self {
        let mut files = BTreeMap::new();
        for ((_, stat), data) in tree.files().zip(contents) {
            files.insert(stat.path.clone(), Found::File(data));
        }
        for stat in tree.entries() {
            if tree::is_link(stat) {
                files.insert(stat.path.clone(), Found::Link(stat.linkname.clone()));
            }
        }
        Self(files)
    }

    /// A file's contents; links among the files are followed, none leads above them.
    pub(crate) fn read(&self, path: &str) -> Option<&[u8]> {
        let mut path = clean(path);
        for _ in 0..LINKS {
            match self.0.get(&path) {
                Some(Found::File(data)) => return Some(data),
                Some(Found::Link(target)) => path = beside(&path, target),
                None => path = self.through(&path)?,
            }
        }
        None
    }

    /// The path without the first link on its way.
    fn through(&self, path: &str) -> Option<String> {
        path.match_indices('/').find_map(|(end, _)| {
            let Some(Found::Link(target)) = self.0.get(&path[..end]) else {
                return None;
            };
            Some(clean(&format!(
                "{}/{}",
                beside(&path[..end], target),
                &path[end + 1..]
            )))
        })
    }
}

/// Where a link points.
fn beside(link: &str, target: &str) -> String {
    if target.starts_with('/') {
        return clean(target);
    }
    let directory = link.rsplit_once('/').map_or("", |(directory, _)| directory);
    clean(&format!("{directory}/{target}"))
}

fn clean(path: &str) -> String {
    let cleaned = hoist_model::path::clean(&format!("/{path}"));
    cleaned.trim_start_matches('/').to_owned()
}
