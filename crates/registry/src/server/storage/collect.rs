//! Takes away what no repository needs, while others push and pull.
//!
//! ```text
//! 1  from now on, what becomes part of a repository is noted
//! 2  marks of blobs that no manifest of their repository names, old enough     → removed
//! 3  content that no repository has, old enough                                → removed
//! 4  uploads that nothing came for any more                                    → removed
//! ```
//!
//! Each removal is alone for a moment (`Storage::collecting`) and leaves what was noted. What a client was told that it is
//! there is young (`Storage::open_blob` sees to it), so a push that began before the collection finds all of it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use super::{Storage, StorageError, found};
use crate::server::document::Checked;
use crate::server::names::{Algorithm, ContentDigest};

/// How old something has to be before it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ages {
    /// Of blobs, since they came or were last asked for.
    pub(crate) blobs: Duration,
    /// Of uploads, since their last byte.
    pub(crate) uploads: Duration,
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    /// Blobs that were taken out of a repository.
    pub(crate) marks: u64,
    /// Blobs whose content was removed.
    pub(crate) blobs: u64,
    /// Uploads that were given up.
    pub(crate) uploads: u64,
    /// Bytes that are free again.
    pub(crate) bytes: u64,
}

impl Storage {
    /// One collection; `busy` says of an upload that a request works on it.
    pub(crate) fn collect(
        &self,
        ages: Ages,
        busy: &dyn Fn(&str) -> bool,
    ) -> Result<Collected, StorageError> {
        // Alone: what is being put already is there when the collection looks, and what is put later is noted.
        let alone = self
            .collecting
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = Some(HashSet::new());
        drop(alone);
        let mut collected = Collected::default();
        let done = self
            .collect_marks(ages.blobs, &mut collected)
            .and_then(|()| self.collect_content(ages.blobs, &mut collected))
            .and_then(|()| self.collect_uploads(ages.uploads, busy, &mut collected));
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = None;
        done.map(|()| collected)
    }

    fn collect_marks(&self, age: Duration, collected: &mut Collected) -> Result<(), StorageError> {
        self.each_repository(&mut |repository| {
            let path = self.repository_path(repository);
            let marks = self.names_in(&path.join("_layers"))?;
            if marks.is_empty() {
                return Ok(());
            }
            let mut needed = HashSet::new();
            for name in self.names_in(&path.join("_manifests"))? {
                let Some(digest) = ContentDigest::of_file_name(&name) else {
                    continue;
                };
                let bytes = self.read_manifest(&digest)?.unwrap_or_default();
                match Checked::read(None, &bytes) {
                    Ok(checked) => needed.extend(checked.blobs.into_iter().map(|blob| blob.digest)),
                    Err(reason) => {
                        // Nobody knows what it needs: so it needs all.
                        tracing::warn!(%repository, %digest, %reason, "a manifest cannot be read; its repository is not collected");
                        return Ok(());
                    }
                }
            }
            for name in marks {
                let Some(digest) = ContentDigest::of_file_name(&name) else {
                    continue;
                };
                let mark = path.join("_layers").join(&name);
                if !needed.contains(&digest) && self.remove_old(&mark, &digest, age)?.is_some() {
                    collected.marks += 1;
                }
            }
            Ok(())
        })
    }

    fn collect_content(
        &self,
        age: Duration,
        collected: &mut Collected,
    ) -> Result<(), StorageError> {
        let mut needed = HashSet::new();
        self.each_repository(&mut |repository| {
            let path = self.repository_path(repository);
            for kind in ["_layers", "_manifests"] {
                let names = self.names_in(&path.join(kind))?;
                needed.extend(
                    names
                        .iter()
                        .filter_map(|name| ContentDigest::of_file_name(name)),
                );
            }
            Ok(())
        })?;
        for algorithm in Algorithm::ALL {
            let directory = self.root.join("blobs").join(algorithm.name());
            for part in self.names_in(&directory)? {
                for hex in self.names_in(&directory.join(&part))? {
                    let Ok(digest) = format!("{}:{hex}", algorithm.name()).parse() else {
                        continue;
                    };
                    if needed.contains(&digest) {
                        continue;
                    }
                    let path = directory.join(&part).join(&hex);
                    if let Some(bytes) = self.remove_old(&path, &digest, age)? {
                        collected.blobs += 1;
                        collected.bytes += bytes;
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes a file that is old enough, unless its content was noted; its bytes then.
    fn remove_old(
        &self,
        path: &Path,
        digest: &ContentDigest,
        age: Duration,
    ) -> Result<Option<u64>, StorageError> {
        let _alone = self
            .collecting
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.as_ref().is_none_or(|recent| recent.contains(digest)) {
            return Ok(None);
        }
        remove_if_old(path, age)
    }

    fn collect_uploads(
        &self,
        age: Duration,
        busy: &dyn Fn(&str) -> bool,
        collected: &mut Collected,
    ) -> Result<(), StorageError> {
        let directory = self.uploads();
        for name in self.names_in(&directory)? {
            if name.starts_with('.') || busy(name.trim_end_matches(".of")) {
                continue;
            }
            if let Some(bytes) = remove_if_old(&directory.join(&name), age)? {
                collected.uploads += u64::from(!name.ends_with(".of"));
                collected.bytes += bytes;
            }
        }
        Ok(())
    }
}

fn remove_if_old(path: &Path, age: Duration) -> Result<Option<u64>, StorageError> {
    let at = StorageError::at("removing", path);
    let Some(status) = found(fs::metadata(path)).map_err(&at)? else {
        return Ok(None);
    };
    let modified = status.modified().map_err(&at)?;
    // A clock that was set back makes things younger, not older.
    let is_old = SystemTime::now()
        .duration_since(modified)
        .is_ok_and(|found| found >= age);
    if !is_old {
        return Ok(None);
    }
    found(fs::remove_file(path)).map_err(at)?;
    Ok(Some(status.len()))
}
