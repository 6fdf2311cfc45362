//! `docker save`: images as one archive that is a docker-archive and an OCI layout at once.
//!
//! ```text
//! blobs/sha256/<hex>   configs, layers (uncompressed tars, byte for byte as they are kept), manifests
//! index.json           OCI: one manifest per image and name
//! manifest.json        Docker: config, names and layers of each image, as paths above
//! oci-layout           the version of the layout
//! repositories         Docker's old index of names
//! ```

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};

use hoist_model::{Digest, ErrorClass, ImageId, ImageReference};
use serde_json::{Value, json};

use crate::content::{ContentError, ContentStore};
use crate::document::CONFIG_LIMIT;
use crate::sha256::Sha256;
use crate::snapshot::{LayerError, Snapshotter, io_class};
use crate::tar::{Entry, EntryKind, TarWriter, Xattrs};

const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// An image to be saved.
#[derive(Clone, Debug)]
pub struct SavedImage {
    /// Digest of its config.
    pub id: ImageId,
    /// Its layers, bottom first.
    pub layers: Vec<Digest>,
    /// The tags it is saved under; none saves it by id alone.
    pub references: Vec<ImageReference>,
    /// Seconds since 1970 that its files in the archive bear.
    pub created: i64,
}

/// Why images could not be saved; what was written is no archive.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// A layer is missing or unreadable.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A config is missing or unreadable.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The one who takes the archive is gone, or a layer could not be read to its end.
    #[error("writing the archive")]
    Output(#[from] io::Error),
}

impl SaveError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Layer(source) => source.class(),
            Self::Content(source) => source.class(),
            Self::Output(source) => io_class(source),
        }
    }
}

/// Where an archive of images goes.
pub trait ArchiveOut: Write {
    /// Writes the first `size` bytes of a file, which nobody changes any more; one that has fewer is an error of the kind
    /// `UnexpectedEof`. Not by [`Write`], so that whoever has a kernel that sends files need not read them.
    fn file(&mut self, file: File, size: u64) -> io::Result<()>;
}

/// Takes files as bytes, like everything else.
#[derive(Debug)]
pub struct Copied<W>(pub W);

impl<W: Write> Write for Copied<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> ArchiveOut for Copied<W> {
    fn file(&mut self, file: File, size: u64) -> io::Result<()> {
        match io::copy(&mut file.take(size), &mut self.0)? {
            copied if copied == size => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Writes images; what they share is written once. Blocking.
pub fn save_images(
    images: &[SavedImage],
    content: &ContentStore,
    snapshotter: &dyn Snapshotter,
    out: impl ArchiveOut,
) -> Result<(), SaveError> {
    let mut archive = Archive {
        tar: TarWriter::new(out),
        written: HashSet::new(),
    };
    let newest = images.iter().map(|image| image.created).max().unwrap_or(0);
    archive.directory("blobs/", newest)?;
    archive.directory("blobs/sha256/", newest)?;
    let (mut manifests, mut items) = (Vec::new(), Vec::new());
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for image in images {
        let config = content.get(&image.id, CONFIG_LIMIT)?;
        archive.blob(&image.id, image.created, &config)?;
        let (mut layers, mut sources) = (Vec::new(), serde_json::Map::new());
        for layer in &image.layers {
            let size = snapshotter.layer(layer)?.tar_bytes;
            archive.layer(layer, size, image.created, snapshotter.open_tar(layer)?)?;
            let descriptor = descriptor(LAYER_TYPE, layer, size);
            sources.insert(layer.as_str().to_owned(), descriptor.clone());
            layers.push(descriptor);
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, &image.id, config.len() as u64),
            "layers": layers,
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = Sha256::digest(&manifest);
        let size = manifest.len() as u64;
        archive.blob(&digest, image.created, &manifest)?;
        let plain = descriptor(MANIFEST_TYPE, &digest, size);
        if image.references.is_empty() {
            manifests.push(plain.clone());
        }
        for reference in &image.references {
            let tag = reference.tag().unwrap_or_default();
            let mut named = plain.clone();
            named["annotations"] = json!({
                "io.containerd.image.name": reference.to_string(),
                "org.opencontainers.image.ref.name": tag,
            });
            manifests.push(named);
            let top = image.layers.last().map_or("", Digest::hex);
            repositories
                .entry(reference.repository().familiar())
                .or_default()
                .insert(tag.to_owned(), top.to_owned());
        }
        let names: Vec<String> = image
            .references
            .iter()
            .map(ImageReference::familiar)
            .collect();
        items.push(json!({
            "Config": path(&image.id),
            "RepoTags": (!names.is_empty()).then_some(names),
            "Layers": image.layers.iter().map(path).collect::<Vec<_>>(),
            "LayerSources": sources,
        }));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests });
    archive.document("index.json", &index, newest)?;
    archive.document("manifest.json", &Value::Array(items), newest)?;
    archive.document(
        "oci-layout",
        &json!({ "imageLayoutVersion": "1.0.0" }),
        newest,
    )?;
    if !repositories.is_empty() {
        archive.document("repositories", &json!(repositories), newest)?;
    }
    archive.tar.finish()?.flush()?;
    Ok(())
}

fn descriptor(kind: &str, digest: &Digest, size: u64) -> Value {
    json!({ "mediaType": kind, "digest": digest.as_str(), "size": size })
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

struct Archive<W> {
    tar: TarWriter<W>,
    written: HashSet<Digest>,
}

impl<W: ArchiveOut> Archive<W> {
    fn directory(&mut self, path: &str, mtime: i64) -> io::Result<()> {
        self.tar
            .entry(&entry(path, EntryKind::Directory, 0o755, mtime))
    }

    fn blob(&mut self, digest: &Digest, mtime: i64, bytes: &[u8]) -> io::Result<()> {
        if self.written.insert(digest.clone()) {
            self.write(&path(digest), mtime, bytes)?;
        }
        Ok(())
    }

    fn layer(&mut self, digest: &Digest, size: u64, mtime: i64, tar: File) -> io::Result<()> {
        if self.written.insert(digest.clone()) {
            let kind = EntryKind::File { size, offset: 0 };
            let entry = entry(&path(digest), kind, 0o644, mtime);
            self.tar.sent(&entry, size, |out| out.file(tar, size))?;
        }
        Ok(())
    }

    fn write(&mut self, path: &str, mtime: i64, bytes: &[u8]) -> io::Result<()> {
        let size = bytes.len() as u64;
        let kind = EntryKind::File { size, offset: 0 };
        self.tar.file(&entry(path, kind, 0o644, mtime), size, bytes)
    }

    fn document(&mut self, name: &str, value: &Value, mtime: i64) -> io::Result<()> {
        self.write(name, mtime, value.to_string().as_bytes())
    }
}

fn entry(path: &str, kind: EntryKind, mode: u16, mtime: i64) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime,
        mtime_nanos: 0,
        xattrs: Xattrs::new(),
    }
}
