//! Manifests, tags and what refers to them.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Storage, StorageError, found};
use crate::server::document::{Checked, DEEPEST};
use crate::server::names::{ContentDigest, Reference, RepositoryName, Tag};

/// What a repository knows of a manifest it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ManifestLink {
    pub(crate) media_type: String,
    /// Bytes.
    pub(crate) size: u64,
    /// 0 of an image; of an index one more than its deepest manifest.
    pub(crate) depth: u32,
}

impl ManifestLink {
    /// Of an image's manifest that is in no repository here.
    pub(crate) fn of_image(size: u64) -> Self {
        Self {
            media_type: hoist_image::document::media_type::OCI_MANIFEST.to_owned(),
            size,
            depth: 0,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        Some(Self {
            media_type: words.next()?.to_owned(),
            size: words.next()?.parse().ok()?,
            depth: words.next()?.parse().ok()?,
        })
    }
}

/// Why a manifest was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutRefused {
    #[error("the manifest names blob {0}, which the repository does not have")]
    BlobUnknown(ContentDigest),
    #[error("the index names manifest {0}, which the repository does not have")]
    ManifestUnknown(ContentDigest),
    #[error("{digest} has {size} bytes, and the manifest says {said}")]
    Size {
        digest: ContentDigest,
        size: u64,
        said: u64,
    },
    #[error("indexes are nested more than {DEEPEST} deep")]
    TooDeep,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Storage {
    fn manifest_path(&self, repository: &RepositoryName, digest: &ContentDigest) -> PathBuf {
        let mut path = self.repository_path(repository);
        path.push("_manifests");
        path.push(digest.file_name());
        path
    }

    fn tag_path(&self, repository: &RepositoryName, tag: &Tag) -> PathBuf {
        let mut path = self.repository_path(repository);
        path.push("_tags");
        path.push(tag.as_str());
        path
    }

    pub(super) fn referrers_path(
        &self,
        repository: &RepositoryName,
        subject: &ContentDigest,
    ) -> PathBuf {
        let mut path = self.repository_path(repository);
        path.push("_referrers");
        path.push(subject.file_name());
        path
    }

    /// What a tag names.
    pub(crate) fn tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<ContentDigest>, StorageError> {
        let path = self.tag_path(repository, tag);
        let text = found(fs::read_to_string(&path)).map_err(StorageError::at("reading", &path))?;
        Ok(text.and_then(|text| text.trim_end().parse().ok()))
    }

    /// How long ago a tag was set, or found to be as it was.
    pub(crate) fn tag_age(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<Duration>, StorageError> {
        let path = self.tag_path(repository, tag);
        let status = found(fs::metadata(&path)).map_err(StorageError::at("reading", &path))?;
        let modified = status.and_then(|status| status.modified().ok());
        // A clock that was set back: as old as can be.
        Ok(modified.map(|time| time.elapsed().unwrap_or(Duration::MAX)))
    }

    /// A tag was found to be as it was.
    pub(crate) fn touch_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<(), StorageError> {
        touch(&self.tag_path(repository, tag))
    }

    /// A manifest was asked for: it is young again.
    pub(crate) fn touch_manifest(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<(), StorageError> {
        touch(&self.manifest_path(repository, digest))
    }

    /// Takes out of all repositories the manifests that nobody asked for in so long.
    pub(crate) fn forget_manifests(&self, age: Duration) -> Result<(), StorageError> {
        self.each_repository(&mut |repository| {
            let directory = self.repository_path(repository).join("_manifests");
            for name in self.names_in(&directory)? {
                let path = directory.join(&name);
                let status =
                    found(fs::metadata(&path)).map_err(StorageError::at("reading", &path))?;
                let modified = status.and_then(|status| status.modified().ok());
                let is_old =
                    modified.is_some_and(|time| time.elapsed().is_ok_and(|found| found >= age));
                if let (true, Some(digest)) = (is_old, ContentDigest::of_file_name(&name)) {
                    self.remove_manifest(repository, &digest)?;
                }
            }
            Ok(())
        })
    }

    /// What a repository knows of a manifest.
    pub(crate) fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<(ContentDigest, ManifestLink)>, StorageError> {
        let digest = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(tag) => match self.tag(repository, tag)? {
                Some(digest) => digest,
                None => return Ok(None),
            },
        };
        Ok(self
            .manifest_link(repository, &digest)?
            .map(|link| (digest, link)))
    }

    fn manifest_link(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<Option<ManifestLink>, StorageError> {
        let path = self.manifest_path(repository, digest);
        let text = found(fs::read_to_string(&path)).map_err(StorageError::at("reading", &path))?;
        Ok(text.as_deref().and_then(ManifestLink::parse))
    }

    /// A manifest's bytes.
    pub(crate) fn read_manifest(
        &self,
        digest: &ContentDigest,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        let Some((mut file, size)) = self.open_content(digest)? else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let path = self.blob_path(digest);
        file.read_to_end(&mut bytes)
            .map_err(StorageError::at("reading", &path))?;
        Ok(Some(bytes))
    }

    /// Takes a manifest whose bytes have this digest, after looking that all it names is there, and tags it.
    pub(crate) fn put_manifest(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
        bytes: &[u8],
        checked: &Checked,
        tag: Option<&Tag>,
    ) -> Result<(), PutRefused> {
        self.put(repository, digest, bytes, checked, tag, true)
    }

    /// The same of a manifest that another registry vouches for: what it names comes when it is asked for.
    pub(crate) fn put_cached_manifest(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
        bytes: &[u8],
        checked: &Checked,
        tag: Option<&Tag>,
    ) -> Result<(), PutRefused> {
        self.put(repository, digest, bytes, checked, tag, false)
    }

    fn put(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
        bytes: &[u8],
        checked: &Checked,
        tag: Option<&Tag>,
        is_whole: bool,
    ) -> Result<(), PutRefused> {
        // From here to the end nothing is collected, and a collection that runs learns what is needed now.
        let _linking = self.linking();
        let named = checked.blobs.iter().chain(&checked.manifests);
        self.note(named.map(|descriptor| &descriptor.digest).chain([digest]));
        let depth = match is_whole {
            true => self.look_for_parts(repository, checked)?,
            false => 0,
        };
        if found(fs::metadata(self.blob_path(digest)))
            .map_err(StorageError::at("looking for", &self.blob_path(digest)))?
            .is_none()
        {
            self.write(&self.blob_path(digest), bytes)?;
        }
        if let Some(subject) = &checked.subject {
            let path = self
                .referrers_path(repository, subject)
                .join(digest.file_name());
            let descriptor = checked.descriptor(digest, bytes.len());
            self.write(&path, descriptor.to_string().as_bytes())?;
        }
        let link = format!("{} {} {depth}\n", checked.media_type, bytes.len());
        self.write(&self.manifest_path(repository, digest), link.as_bytes())?;
        if let Some(tag) = tag {
            self.write(
                &self.tag_path(repository, tag),
                format!("{digest}\n").as_bytes(),
            )?;
        }
        Ok(())
    }

    fn look_for_parts(
        &self,
        repository: &RepositoryName,
        checked: &Checked,
    ) -> Result<u32, PutRefused> {
        let agrees = |digest: &ContentDigest, size: u64, said: u64| match size == said {
            true => Ok(()),
            false => Err(PutRefused::Size {
                digest: digest.clone(),
                size,
                said,
            }),
        };
        for blob in &checked.blobs {
            let digest = &blob.digest;
            let path = self.layer_path(repository, digest);
            let here =
                found(fs::metadata(&path)).map_err(StorageError::at("looking for", &path))?;
            let path = self.blob_path(digest);
            let content =
                found(fs::metadata(&path)).map_err(StorageError::at("looking for", &path))?;
            match (here, content) {
                (Some(_), Some(content)) => agrees(digest, content.len(), blob.size)?,
                _ => return Err(PutRefused::BlobUnknown(digest.clone())),
            }
        }
        let mut depth = 0;
        for manifest in &checked.manifests {
            let link = self.manifest_link(repository, &manifest.digest)?;
            let link = link.ok_or_else(|| PutRefused::ManifestUnknown(manifest.digest.clone()))?;
            agrees(&manifest.digest, link.size, manifest.size)?;
            depth = depth.max(link.depth + 1);
        }
        if depth > DEEPEST {
            return Err(PutRefused::TooDeep);
        }
        Ok(depth)
    }

    /// Forgets a tag; `false` where it was not there.
    pub(crate) fn remove_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<bool, StorageError> {
        self.remove(&self.tag_path(repository, tag))
    }

    /// Takes a manifest and its tags out of a repository; `false` where it was not there.
    pub(crate) fn remove_manifest(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<bool, StorageError> {
        for tag in self.tags(repository)?.unwrap_or_default() {
            if self.tag(repository, &tag)?.as_ref() == Some(digest) {
                self.remove_tag(repository, &tag)?;
            }
        }
        let bytes = self.read_manifest(digest)?.unwrap_or_default();
        let checked = Checked::read(None, &bytes).ok();
        let was_there = self.remove(&self.manifest_path(repository, digest))?;
        // Last: a list of referrers leaves out those that the repository has no more.
        if let Some(subject) = checked.and_then(|checked| checked.subject) {
            self.remove(
                &self
                    .referrers_path(repository, &subject)
                    .join(digest.file_name()),
            )?;
        }
        Ok(was_there)
    }

    /// The tags of a repository, sorted; `None` where there is no such repository.
    pub(crate) fn tags(
        &self,
        repository: &RepositoryName,
    ) -> Result<Option<Vec<Tag>>, StorageError> {
        let path = self.repository_path(repository);
        let is_known = path.join("_manifests").exists() || path.join("_layers").exists();
        if !is_known {
            return Ok(None);
        }
        let names = self.names_in(&path.join("_tags"))?;
        let mut tags: Vec<Tag> = names.iter().filter_map(|name| Tag::parse(name)).collect();
        tags.sort_unstable();
        Ok(Some(tags))
    }

    /// The digests and descriptors of what refers to a manifest, sorted, after `last`, as long as `enough` answers `false` of the
    /// bytes read so far; and whether that is all.
    pub(crate) fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &ContentDigest,
        last: Option<&ContentDigest>,
        enough: impl Fn(usize) -> bool,
        mut each: impl FnMut(&ContentDigest, serde_json::Value),
    ) -> Result<bool, StorageError> {
        let directory = self.referrers_path(repository, subject);
        let names = self.names_in(&directory)?;
        let mut digests: Vec<_> = names
            .iter()
            .filter_map(|name| ContentDigest::of_file_name(name))
            .collect();
        digests.sort_unstable();
        let mut read = 0;
        for digest in digests {
            if last.is_some_and(|last| digest <= *last) {
                continue;
            }
            if enough(read) {
                return Ok(false);
            }
            if self.manifest_link(repository, &digest)?.is_none() {
                continue;
            }
            let path = directory.join(digest.file_name());
            let text = found(fs::read(&path))
                .map_err(StorageError::at("reading", &path))?
                .unwrap_or_default();
            if let Ok(descriptor) = serde_json::from_slice(&text) {
                read += text.len();
                each(&digest, descriptor);
            }
        }
        Ok(true)
    }
}

/// Makes a file young again; one that went meanwhile is no error.
fn touch(path: &Path) -> Result<(), StorageError> {
    let at = StorageError::at("marking", path);
    match found(File::open(path)).map_err(&at)? {
        Some(file) => file.set_modified(SystemTime::now()).map_err(at),
        None => Ok(()),
    }
}
