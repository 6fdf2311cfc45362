//! Archives of every layout and compression, whole and broken.

use std::io::Write;

use hoist_image::{
    ContentStore, LoadError, SnapshotterChoice, StoredImage, load_archive, open_snapshotter,
};
use hoist_model::Platform;
use hoist_testkit::{Compression, ImageBuilder, TarBuilder, sha256};
use serde_json::json;

fn layers() -> [Vec<u8>; 2] {
    let base = TarBuilder::new()
        .directory("etc")
        .file("etc/base", 0o644, "base")
        .finish();
    let top = TarBuilder::new()
        .whiteout("etc/base")
        .file("top", 0o755, vec![7; 5000])
        .finish();
    [base, top]
}

fn image() -> ImageBuilder {
    let [base, top] = layers();
    ImageBuilder::new()
        .layer(base)
        .layer(top)
        .config("Cmd", json!(["/top"]))
        .name("me/app:1")
        .name("me/app:2")
}

fn load(archive: &[u8]) -> Result<Vec<StoredImage>, LoadError> {
    load_for(archive, &[])
}

fn load_for(archive: &[u8], platforms: &[Platform]) -> Result<Vec<StoredImage>, LoadError> {
    let root = tempfile::tempdir().unwrap();
    let content = ContentStore::open(root.path()).unwrap();
    let snapshotter = open_snapshotter(root.path(), SnapshotterChoice::Auto).unwrap();
    let images = load_archive(archive, &content, &*snapshotter, platforms, &|_| {})?;
    for image in &images {
        content.get(&image.id, 1 << 20).unwrap();
        for layer in &image.layers {
            assert!(snapshotter.has_layer(layer));
        }
    }
    Ok(images)
}

fn check(archive: &[u8]) {
    let images = load(archive).unwrap();
    assert_eq!(images.len(), 1);
    let [image] = &images[..] else { unreachable!() };
    assert_eq!(image.id.to_string(), self::image().id());
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.size, 5004);
    assert_eq!(
        image.config.config.cmd.as_deref(),
        Some(&["/top".to_owned()][..])
    );
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn docker_archives_in_any_order_and_compression() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    let archive = image().docker_archive();
    check(&archive);
    check(&gzip(&archive));
    check(&zstd::encode_all(&archive[..], 1).unwrap());
    let names = load(&archive).unwrap()[0].references.clone();
    let shown: Vec<String> = names.iter().map(|name| name.familiar()).collect();
    assert_eq!(shown, ["me/app:1", "me/app:2"]);
}

#[test]
fn links_between_entries_as_older_docker_wrote_them() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    let blobs = image().blobs();
    let [base, top] = layers();
    let manifest = json!([{"Config": "c.json", "RepoTags": null, "Layers": ["one/layer.tar", "./two/layer.tar"]}]);
    let archive = TarBuilder::new()
        .file("manifest.json", 0o644, manifest.to_string())
        .file("one/VERSION", 0o644, "1.0")
        .symlink("one/layer.tar", "../three/layer.tar")
        .file("three/layer.tar", 0o644, gzip(&base))
        .file("four.tar", 0o644, top)
        .hardlink("two/layer.tar", "four.tar")
        .file("c.json", 0o644, blobs.config)
        .finish();
    check(&archive);
}

#[test]
fn oci_layouts() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        check(&image().compression(compression).oci_archive());
    }
}

#[test]
fn broken_archives_name_what_is_wrong() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    let blobs = image().blobs();
    let [base, top] = layers();
    let archive = |manifest: serde_json::Value, one: &[u8], two: &[u8]| {
        TarBuilder::new()
            .file("c.json", 0o644, blobs.config.clone())
            .file("one.tar", 0o644, one)
            .file("two.tar", 0o644, two)
            .file("manifest.json", 0o644, manifest.to_string())
            .finish()
    };
    let manifest =
        |layers: &[&str]| json!([{"Config": "c.json", "RepoTags": ["a:b"], "Layers": layers}]);
    let whole = archive(manifest(&["one.tar", "two.tar"]), &base, &top);
    check(&whole);
    let evil = TarBuilder::new()
        .file("../../etc/passwd", 0o644, "x")
        .finish();
    let mut flipped = gzip(&base);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    for (bytes, part) in [
        (
            archive(manifest(&["two.tar", "one.tar"]), &base, &top),
            "two.tar should be",
        ),
        (
            archive(manifest(&["one.tar"]), &base, &top),
            "has 2 layers, the manifest 1",
        ),
        (
            archive(manifest(&["one.tar", "no.tar"]), &base, &base),
            "no.tar is named",
        ),
        (
            archive(manifest(&["one.tar", "two.tar"]), &evil, &top),
            "\"..\"",
        ),
        (
            archive(manifest(&["one.tar", "two.tar"]), &base[..700], &top),
            "unexpected end",
        ),
        (
            archive(manifest(&["one.tar", "two.tar"]), &flipped, &top),
            "one.tar",
        ),
        (archive(json!([]), &base, &top), "neither manifest.json"),
        (
            archive(
                json!([{"Config": "c.json", "RepoTags": ["A:b"], "Layers": ["one.tar", "two.tar"]}]),
                &base,
                &top,
            ),
            "lowercase",
        ),
        (archive(json!({"Config": 1}), &base, &top), "malformed"),
        (whole[..whole.len() / 2].to_vec(), "reading the archive"),
        (base.clone(), "neither manifest.json"),
        (vec![b'x'; 4096], "reading the archive"),
    ] {
        let error = load(&bytes).unwrap_err();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            text = format!("{text}: {inner}");
            source = inner.source();
        }
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
    // A blob whose bytes are not those of its name.
    let oci = image().oci_archive();
    let mut lying = oci.clone();
    let at = lying
        .windows(5000)
        .position(|part| part == [7; 5000])
        .unwrap();
    lying[at] = 8;
    let error = load(&lying).unwrap_err();
    assert!(matches!(error, LoadError::Mismatch { .. }), "{error}");
    let _ = sha256(&oci);
}

#[test]
fn only_images_of_the_platforms_asked_for_are_loaded() {
    let platform = |text: &str| text.parse::<Platform>().unwrap();
    let host = Platform::host();
    let layout = tempfile::tempdir().unwrap();
    image().write_oci_layout(layout.path());
    let mut oci = TarBuilder::new();
    for name in ["oci-layout", "index.json"] {
        oci = oci.file(
            name,
            0o644,
            std::fs::read(layout.path().join(name)).unwrap(),
        );
    }
    for entry in std::fs::read_dir(layout.path().join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        let name = format!("blobs/sha256/{}", entry.file_name().display());
        oci = oci.file(&name, 0o644, std::fs::read(entry.path()).unwrap());
    }
    for archive in [image().docker_archive(), oci.finish()] {
        assert_eq!(
            load_for(&archive, std::slice::from_ref(&host))
                .unwrap()
                .len(),
            1
        );
        assert_eq!(
            load_for(&archive, &[platform("linux/riscv64"), host.clone()])
                .unwrap()
                .len(),
            1
        );
        let error = load_for(
            &archive,
            &[platform("linux/riscv64"), platform("linux/mips")],
        );
        let error = error.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no images providing the requested platform(s) found: [linux/riscv64 linux/mips]"
        );
        assert_eq!(error.class(), hoist_model::ErrorClass::NotFound);
    }
}
