//! Small real images, as `docker save` archives, OCI layouts and bare registry blobs.

use crate::tar::TarBuilder;
use serde_json::{Value, json};
use sha2::Digest as _;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// How layer blobs are compressed in layouts and registries (a `docker save` archive keeps plain tars).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Plain tar.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// A layer as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBlob {
    /// `sha256:<hex>` of the uncompressed tar.
    pub diff_id: String,
    /// `sha256:<hex>` of `bytes`.
    pub digest: String,
    /// The OCI media type of `bytes`.
    pub media_type: &'static str,
    /// The blob.
    pub bytes: Vec<u8>,
}

/// The blobs of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageBlobs {
    /// The image configuration.
    pub config: Vec<u8>,
    /// The OCI manifest.
    pub manifest: Vec<u8>,
    /// Its layers, bottom first.
    pub layers: Vec<LayerBlob>,
}

/// Builds one image in memory.
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    layers: Vec<Vec<u8>>,
    config: Value,
    names: Vec<String>,
    compression: Compression,
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageBuilder {
    /// An image without layers, for this machine's architecture, that runs nothing.
    #[must_use]
    pub fn new() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": "2024-01-02T03:04:05Z",
            "config": {},
        });
        Self {
            layers: Vec::new(),
            config,
            names: Vec::new(),
            compression: Compression::None,
        }
    }

    /// `busybox:latest` from this machine's `/bin/busybox`, with the PATH and command of the official image;
    /// `None` where the static busybox is not installed.
    #[must_use]
    pub fn busybox() -> Option<Self> {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let image = Self::new()
            .layer(busybox_layer()?)
            .config("Env", json!([path]))
            .config("Cmd", json!(["sh"]))
            .name("busybox:latest");
        Some(image)
    }

    /// Adds a layer (an uncompressed tar) on top.
    #[must_use]
    pub fn layer(mut self, tar: Vec<u8>) -> Self {
        self.layers.push(tar);
        self
    }

    /// Sets a key of the image's `config` object, such as `Cmd`, `Env`, `User`, `Volumes`.
    #[must_use]
    pub fn config(mut self, key: &str, value: Value) -> Self {
        self.config["config"][key] = value;
        self
    }

    /// Sets a key beside `config`, such as `architecture` or `created`.
    #[must_use]
    pub fn document(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Adds a name; the archives carry all of them.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    /// Replaces all names.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.names = vec![name.to_owned()];
        self
    }

    /// How [`Self::blobs`] and the OCI forms compress layers.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The image's blobs, as a registry would hold them.
    #[must_use]
    pub fn blobs(&self) -> ImageBlobs {
        let layers: Vec<LayerBlob> = self
            .layers
            .iter()
            .map(|tar| layer_blob(tar, self.compression))
            .collect();
        let config = self.config_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": sha256(&config),
                "size": config.len(),
            },
            "layers": layers.iter().map(|layer| json!({
                "mediaType": layer.media_type,
                "digest": layer.digest,
                "size": layer.bytes.len(),
            })).collect::<Vec<_>>(),
        });
        ImageBlobs {
            config,
            manifest: serde_json::to_vec(&manifest).unwrap(),
            layers,
        }
    }

    /// The image's Id: `sha256:<hex>` of its configuration.
    #[must_use]
    pub fn id(&self) -> String {
        sha256(&self.config_bytes())
    }

    /// The archive `docker save` of Docker before 25 writes.
    #[must_use]
    pub fn docker_archive(&self) -> Vec<u8> {
        let config = self.config_bytes();
        let config_name = format!("{}.json", hex(&sha256(&config)));
        let mut archive = TarBuilder::new().file(&config_name, 0o644, config);
        let mut names = Vec::new();
        for tar in &self.layers {
            let name = format!("{}/layer.tar", hex(&sha256(tar)));
            if !names.contains(&name) {
                archive = archive.file(&name, 0o644, tar.clone());
            }
            names.push(name);
        }
        let manifest = json!([{ "Config": config_name, "RepoTags": self.names, "Layers": names }]);
        archive
            .file(
                "manifest.json",
                0o644,
                serde_json::to_vec(&manifest).unwrap(),
            )
            .finish()
    }

    /// The OCI image layout as a tar.
    #[must_use]
    pub fn oci_archive(&self) -> Vec<u8> {
        let mut archive = TarBuilder::new();
        for (name, bytes) in self.oci_files() {
            archive = archive.file(&name, 0o644, bytes);
        }
        archive.finish()
    }

    /// Writes the OCI image layout as a directory.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn write_oci_layout(&self, directory: &Path) {
        for (name, bytes) in self.oci_files() {
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    fn oci_files(&self) -> Vec<(String, Vec<u8>)> {
        let blobs = self.blobs();
        let digest = sha256(&blobs.manifest);
        let descriptor = |name: Option<&String>| {
            let mut descriptor = json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest,
                "size": blobs.manifest.len(),
            });
            if let Some(name) = name {
                let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
                descriptor["annotations"] = json!({
                    "io.containerd.image.name": full_name(name),
                    "org.opencontainers.image.ref.name": tag,
                });
            }
            descriptor
        };
        let manifests: Vec<Value> = if self.names.is_empty() {
            vec![descriptor(None)]
        } else {
            self.names
                .iter()
                .map(|name| descriptor(Some(name)))
                .collect()
        };
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        });
        let blob = |digest: &str| format!("blobs/sha256/{}", hex(digest));
        let mut files = vec![
            (
                "oci-layout".to_owned(),
                br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
            ),
            ("index.json".to_owned(), serde_json::to_vec(&index).unwrap()),
            (blob(&digest), blobs.manifest.clone()),
            (blob(&sha256(&blobs.config)), blobs.config),
        ];
        files.extend(
            blobs
                .layers
                .into_iter()
                .map(|layer| (blob(&layer.digest), layer.bytes)),
        );
        files
    }

    fn config_bytes(&self) -> Vec<u8> {
        let mut config = self.config.clone();
        let diff_ids: Vec<String> = self.layers.iter().map(|tar| sha256(tar)).collect();
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        if config.get("history").is_none() {
            let one = json!({ "created": config["created"], "created_by": "ADD layer.tar in /" });
            config["history"] = vec![one; self.layers.len()].into();
        }
        serde_json::to_vec(&config).unwrap()
    }
}

/// Debian's static busybox, or `None` where the package is not installed or the binary is not static.
#[must_use]
pub fn busybox_binary() -> Option<Vec<u8>> {
    let bytes = std::fs::read("/bin/busybox").ok()?;
    is_static(&bytes).then_some(bytes)
}

/// Whether a 64-bit little-endian ELF file asks for no interpreter (no program header of type PT_INTERP).
fn is_static(elf: &[u8]) -> bool {
    let number = |at: usize, length: usize| {
        elf.get(at..at + length).map_or(0, |bytes| {
            bytes
                .iter()
                .rev()
                .fold(0_usize, |n, b| (n << 8) | usize::from(*b))
        })
    };
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let interpreted = (0..count).any(|header| number(start + header * size, 4) == 3);
    elf.starts_with(b"\x7fELF") && !interpreted
}

/// A root file system in one layer: busybox, every applet as a hard link, users, groups and a home.
#[must_use]
pub fn busybox_layer() -> Option<Vec<u8>> {
    let binary = busybox_binary()?;
    let listed = std::process::Command::new("/bin/busybox")
        .arg("--list")
        .output()
        .ok()?;
    let listed = String::from_utf8(listed.stdout).ok()?;
    let mut layer = TarBuilder::new().modified(1_704_164_645);
    for name in [
        "bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var", "var/www",
    ] {
        layer = layer.directory(name);
    }
    layer = layer
        .entry("tmp/", 0o1777, &crate::EntryKind::Directory, &[])
        .file("etc/passwd", 0o644, PASSWD)
        .file("etc/group", 0o644, GROUP)
        .file("etc/shadow", 0o600, "root::10933:0:99999:7:::\n")
        .file("bin/busybox", 0o755, binary)
        .symlink("usr/bin/env", "/bin/env");
    for applet in listed.lines().filter(|name| *name != "busybox") {
        layer = layer.hardlink(&format!("bin/{applet}"), "bin/busybox");
    }
    Some(layer.finish())
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    daemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
    www-data:x:33:33:www-data:/var/www:/bin/false\n\
    nobody:x:65534:65534:nobody:/home:/bin/false\n";
const GROUP: &str =
    "root:x:0:\ndaemon:x:1:\nstaff:x:50:www-data\nwww-data:x:33:\nnobody:x:65534:\n";

/// `sha256:<hex>` of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in sha2::Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn hex(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

fn layer_blob(tar: &[u8], compression: Compression) -> LayerBlob {
    let (media_type, bytes) = match compression {
        Compression::None => ("application/vnd.oci.image.layer.v1.tar", tar.to_vec()),
        Compression::Gzip => {
            let level = flate2::Compression::new(6);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(tar).unwrap();
            (
                "application/vnd.oci.image.layer.v1.tar+gzip",
                encoder.finish().unwrap(),
            )
        }
        Compression::Zstd => (
            "application/vnd.oci.image.layer.v1.tar+zstd",
            zstd::encode_all(tar, 3).unwrap(),
        ),
    };
    LayerBlob {
        diff_id: sha256(tar),
        digest: sha256(&bytes),
        media_type,
        bytes,
    }
}

/// `docker.io/library/busybox:latest` for `busybox:latest`, as containerd writes names into layouts.
fn full_name(name: &str) -> String {
    match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_an_image_name_each_other() {
        let tar = TarBuilder::new().file("a", 0o644, "a").finish();
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let image = ImageBuilder::new()
                .layer(tar.clone())
                .compression(compression);
            let blobs = image.blobs();
            let manifest: Value = serde_json::from_slice(&blobs.manifest).unwrap();
            let config: Value = serde_json::from_slice(&blobs.config).unwrap();
            assert_eq!(manifest["config"]["digest"], sha256(&blobs.config));
            assert_eq!(
                manifest["layers"][0]["digest"],
                sha256(&blobs.layers[0].bytes)
            );
            assert_eq!(config["rootfs"]["diff_ids"][0], sha256(&tar));
        }
    }

    #[test]
    fn a_dynamic_program_is_no_fixture() {
        assert!(!is_static(&std::fs::read("/bin/sh").unwrap()));
        assert!(!is_static(b"#!/bin/sh"));
        if std::path::Path::new("/bin/busybox").exists() {
            assert!(busybox_binary().is_some());
        }
    }

    #[test]
    fn names_are_written_in_full_as_containerd_does() {
        assert_eq!(full_name("busybox:1"), "docker.io/library/busybox:1");
        assert_eq!(full_name("me/app:1"), "docker.io/me/app:1");
        assert_eq!(full_name("localhost:5000/app:1"), "localhost:5000/app:1");
    }
}
