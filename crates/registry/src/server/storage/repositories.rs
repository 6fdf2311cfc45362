//! Which repositories there are.

use std::collections::BinaryHeap;
use std::fs;
use std::path::Path;

use super::{Storage, StorageError, found};
use crate::server::names::RepositoryName;

impl Storage {
    /// The names in a directory, in no order; none where it is not there.
    pub(super) fn names_in(&self, directory: &Path) -> Result<Vec<String>, StorageError> {
        let at = StorageError::at("reading", directory);
        let Some(listing) = found(fs::read_dir(directory)).map_err(&at)? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in listing {
            names.extend(entry.map_err(&at)?.file_name().into_string());
        }
        Ok(names)
    }

    /// Calls `each` for every repository that anything was pushed to, in no order.
    pub(crate) fn each_repository(
        &self,
        each: &mut dyn FnMut(&RepositoryName) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.walk(String::new(), each)
    }

    fn walk(
        &self,
        prefix: String,
        each: &mut dyn FnMut(&RepositoryName) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let directory = self.root.join("repositories").join(&prefix);
        let mut is_repository = false;
        for name in self.names_in(&directory)? {
            if name.starts_with('_') {
                is_repository = true;
                continue;
            }
            let below = match prefix.as_str() {
                "" => name,
                prefix => format!("{prefix}/{name}"),
            };
            self.walk(below, each)?;
        }
        match RepositoryName::parse(&prefix) {
            Some(name) if is_repository => each(&name),
            _ => Ok(()),
        }
    }

    /// The first `most` repositories with a manifest after `last` that `shown` answers `true` of, sorted, and whether that is all.
    pub(crate) fn repositories(
        &self,
        last: Option<&str>,
        most: usize,
        shown: &dyn Fn(&RepositoryName) -> bool,
    ) -> Result<(Vec<RepositoryName>, bool), StorageError> {
        let mut heap = BinaryHeap::new();
        let mut is_all = true;
        self.each_repository(&mut |name| {
            if last.is_some_and(|last| name.as_str() <= last) || !shown(name) {
                return Ok(());
            }
            let manifests = self.repository_path(name).join("_manifests");
            if self.names_in(&manifests)?.is_empty() {
                return Ok(());
            }
            heap.push(name.clone());
            if heap.len() > most {
                heap.pop();
                is_all = false;
            }
            Ok(())
        })?;
        Ok((heap.into_sorted_vec(), is_all))
    }
}
