//! What bytes from elsewhere meet here, for fuzzers: they may be refused, and must not panic or hang.

use std::path::Path;

use hoist_model::Digest;

use crate::document::{Document, ImageConfig, media_type};
use crate::erofs::{SUMMARY_BYTES, read_summary, write_index};
use crate::files::{Root, UnpackOptions, unpack};
use crate::tar::{Event, Parser};
use crate::tree::Tree;

/// A layer: the tree of a tar that is accepted has an index, and where the tar is cut changes nothing.
pub fn layer(bytes: &[u8]) {
    let whole = tree(bytes, bytes.len().max(1));
    let cut = tree(bytes, 511);
    assert_eq!(whole.is_some(), cut.is_some(), "depends on how it is cut");
    let (Some(whole), Some(cut)) = (whole, cut) else {
        return;
    };
    let index = |tree: &Tree| {
        let mut index = Vec::new();
        let digest = Digest::from_sha256(&[0; 32]);
        let summary = write_index(tree, &digest, bytes.len() as u64, &mut index);
        summary.ok().map(|_| index)
    };
    let (index, other) = (index(&whole), index(&cut));
    assert_eq!(index, other, "depends on how it is cut");
    let index = index.expect("a small tree has an index");
    assert!(read_summary(&index).is_some(), "an index of ours is read");
    // Of a hostile tar, too, the index is small.
    assert!(
        index.len() < 64 * 1024 + 64 * bytes.len(),
        "{} bytes",
        index.len()
    );
}

fn tree(bytes: &[u8], step: usize) -> Option<Tree> {
    let (mut parser, mut tree) = (Parser::new(), Tree::new());
    for mut part in bytes.chunks(step) {
        while let Some(event) = parser.next(&mut part).ok()? {
            if let Event::Entry(entry) = event {
                tree.apply(entry).ok()?;
            }
        }
    }
    parser.finish().ok()?;
    Some(tree)
}

/// An index on disk, as a crash may leave it.
pub fn index(bytes: &[u8]) {
    let _ = read_summary(bytes);
    let mut padded = bytes.to_vec();
    padded.resize(SUMMARY_BYTES.max(bytes.len()), 0);
    let _ = read_summary(&padded);
}

/// Documents of a registry or an archive.
pub fn documents(bytes: &[u8]) {
    for kind in [
        media_type::OCI_MANIFEST,
        media_type::DOCKER_MANIFEST,
        media_type::OCI_INDEX,
        media_type::DOCKER_INDEX,
        "application/json",
    ] {
        let _ = Document::parse(kind, bytes);
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        let _ = config.platform();
    }
}

/// An archive that is copied into a container, in `place`, of whose neighbours nothing may change.
pub fn upload(place: &Path, bytes: &[u8]) {
    let (inside, outside) = (place.join("inside"), place.join("outside"));
    let _ = std::fs::remove_dir_all(&inside);
    std::fs::create_dir_all(inside.join("d")).expect("a place to write");
    std::fs::write(&outside, "outside").expect("a place to write");
    std::os::unix::fs::symlink("../../outside", inside.join("d/out")).expect("a place to write");
    std::os::unix::fs::symlink("/", inside.join("top")).expect("a place to write");
    let root = std::fs::File::open(&inside).expect("it was made");
    let root = Root::new(root.into());
    for path in ["/", "/d", "/top/d"] {
        let _ = unpack(&root, path, bytes, UnpackOptions::default());
    }
    let kept = std::fs::read(&outside).expect("it was written");
    assert_eq!(kept, b"outside");
    let mut left: Vec<_> = std::fs::read_dir(place)
        .expect("it is there")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["inside", "outside"]);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hoist_testkit::{EntryKind, TarBuilder, TemporaryDirectory};

    use super::*;

    const LASTING: Duration = Duration::from_secs(1);

    fn tars() -> Vec<Vec<u8>> {
        let long = "n/".repeat(80);
        vec![
            TarBuilder::new()
                .file("d/a", 0o644, b"abc".to_vec())
                .file("d/.wh.b", 0o644, Vec::new())
                .finish(),
            TarBuilder::new()
                .file(&format!("{long}x"), 0o4755, vec![7; 700])
                .finish(),
            TarBuilder::new()
                .entry(
                    "l",
                    0o777,
                    &EntryKind::Symlink("../../outside".to_owned()),
                    &[],
                )
                .entry("h", 0o644, &EntryKind::Hardlink("l".to_owned()), &[])
                .file("l/x", 0o644, b"x".to_vec())
                .finish(),
        ]
    }

    #[test]
    fn layers_of_strangers_do_no_harm() {
        let tars = tars();
        let seeds: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
        hoist_testkit::mutate(&seeds, LASTING * 2, layer);
    }

    #[test]
    fn indexes_as_crashes_leave_them_do_no_harm() {
        hoist_testkit::mutate(&[&[0; 2048]], LASTING / 4, index);
    }

    #[test]
    fn documents_of_strangers_do_no_harm() {
        let seeds: [&[u8]; 3] = [
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":9}]}"#,
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2,"platform":{"architecture":"amd64","os":"linux"}}]}"#,
            br#"{"architecture":"arm","os":"linux","variant":"v7","created":"2026-01-01T00:00:00Z","config":{"Env":["A=b"],"Cmd":["x"],"User":"1:2","ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}},"Healthcheck":{"Test":["NONE"]}},"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"history":[{"created_by":"x"}]}"#,
        ];
        hoist_testkit::mutate(&seeds, LASTING, documents);
    }

    #[test]
    fn archives_of_strangers_write_nothing_outside() {
        let place = TemporaryDirectory::new("upload");
        let tars = tars();
        let seeds: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
        hoist_testkit::mutate(&seeds, LASTING * 2, |bytes| upload(place.path(), bytes));
    }
}
