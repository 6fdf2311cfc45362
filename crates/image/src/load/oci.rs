//! The OCI image layout: `index.json` leads by digests to blobs (OCI image spec, image-layout.md).

use hoist_model::{ImageReference, Platform};

use super::{LoadError, Loader, invalid};
use crate::document::{Descriptor, Document, Index, Manifest, media_type};
use crate::stored::StoredImage;

/// Indexes that may lead to one another.
const DEPTH_LIMIT: u32 = 4;

pub(super) fn load(loader: &Loader<'_>) -> Result<Vec<StoredImage>, LoadError> {
    let index = loader.parts.document("index.json")?;
    let index = match parse("index.json", media_type::OCI_INDEX, index)? {
        Document::Index(index) => index,
        Document::Manifest(_) => return Err(LoadError::NotAnImage),
    };
    let host = [Platform::host()];
    let wanted = match loader.platforms {
        [] => &host,
        wanted => wanted,
    };
    let mut images = Vec::new();
    for wanted in wanted {
        images.extend(of_platform(loader, &index, wanted)?);
    }
    if images.is_empty() && loader.platforms.is_empty() {
        return Err(LoadError::NoPlatform(host[0].to_string()));
    }
    Ok(images)
}

fn of_platform(
    loader: &Loader<'_>,
    index: &Index,
    wanted: &Platform,
) -> Result<Vec<StoredImage>, LoadError> {
    let fits = |descriptor: &&Descriptor| {
        let platform = descriptor.platform.as_ref();
        !is_attestation(descriptor) && platform.is_none_or(|platform| platform.satisfies(wanted))
    };
    let image = |descriptor: &Descriptor| {
        let (name, manifest) = match find(loader, descriptor, wanted, DEPTH_LIMIT) {
            // One image of several that has nothing for a platform that was asked for.
            Err(LoadError::NoPlatform(_)) if !loader.platforms.is_empty() => return Ok(None),
            found => found?,
        };
        let layers: Vec<String> = manifest.layers.iter().map(blob).collect();
        let raw = loader.parts.document(&name)?;
        let names = references(descriptor);
        loader.image(&blob(&manifest.config), &layers, Some(raw), names)
    };
    let found = index.manifests.iter().filter(fits).map(image);
    found.filter_map(Result::transpose).collect()
}

/// Follows a descriptor to the manifest for `host`: its entry's name and itself.
fn find(
    loader: &Loader<'_>,
    descriptor: &Descriptor,
    host: &Platform,
    depth: u32,
) -> Result<(String, Manifest), LoadError> {
    let name = blob(descriptor);
    let bytes = loader.parts.document(&name)?;
    match parse(&name, &descriptor.media_type, bytes)? {
        Document::Manifest(manifest) => {
            let config = manifest.config.media_type.as_str();
            if !matches!(config, media_type::OCI_CONFIG | media_type::DOCKER_CONFIG) {
                let reason = format!("its config is {config:?}, not an image's");
                return Err(invalid(&name, "manifest", reason));
            }
            Ok((name, manifest))
        }
        Document::Index(index) if depth > 0 => {
            let next =
                select(&index, host).ok_or_else(|| LoadError::NoPlatform(host.to_string()))?;
            find(loader, next, host, depth - 1)
        }
        Document::Index(_) => {
            let reason = format!("more than {DEPTH_LIMIT} indexes lead to it");
            Err(invalid(&name, "index", reason))
        }
    }
}

/// An index of one image may leave its platform out.
fn select<'a>(index: &'a Index, host: &Platform) -> Option<&'a Descriptor> {
    index.select(host).or_else(|| {
        let mut silent = index.manifests.iter();
        silent.find(|d| d.platform.is_none() && !is_attestation(d))
    })
}

fn parse(name: &str, media_type: &str, bytes: &[u8]) -> Result<Document, LoadError> {
    Document::parse(media_type, bytes).map_err(|source| LoadError::Document {
        name: name.to_owned(),
        source,
    })
}

fn blob(descriptor: &Descriptor) -> String {
    format!("blobs/sha256/{}", descriptor.digest.hex())
}

/// BuildKit's provenance and SBOM manifests.
fn is_attestation(descriptor: &Descriptor) -> bool {
    annotation(descriptor, "vnd.docker.reference.type").is_some()
}

fn annotation<'a>(descriptor: &'a Descriptor, key: &str) -> Option<&'a str> {
    descriptor
        .annotations
        .as_ref()?
        .get(key)
        .map(String::as_str)
}

/// containerd writes the whole name; the OCI annotation may be a whole name or a bare tag, which names nothing.
fn references(descriptor: &Descriptor) -> Vec<ImageReference> {
    let oci = || {
        annotation(descriptor, "org.opencontainers.image.ref.name")
            .filter(|name| name.contains([':', '/']))
    };
    annotation(descriptor, "io.containerd.image.name")
        .or_else(oci)
        .and_then(|name| ImageReference::parse(name).ok())
        .into_iter()
        .collect()
}
