//! What is saved is loaded again.

use std::fs::File;
use std::io::{self, Read, Write};

use hoist_image::document::CONFIG_LIMIT;
use hoist_image::{
    ArchiveOut, ContentStore, SavedImage, SnapshotterChoice, load_archive, open_snapshotter,
    save_images,
};
use hoist_testkit::{ImageBuilder, TarBuilder};
use serde_json::json;

/// An archive in memory.
struct Memory(Vec<u8>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ArchiveOut for Memory {
    fn file(&mut self, file: File, size: u64) -> io::Result<()> {
        file.take(size).read_to_end(&mut self.0).map(drop)
    }
}

#[test]
fn an_image_of_the_largest_config_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let content = ContentStore::open(root.path()).unwrap();
    let snapshotter = open_snapshotter(root.path(), SnapshotterChoice::Auto).unwrap();
    // Whatever is loaded is saved: nearly as long as a config may be.
    let long = "x".repeat(usize::try_from(CONFIG_LIMIT).unwrap() - 4096);
    let layer = TarBuilder::new().file("f", 0o644, vec![7; 70_000]).finish();
    let image = ImageBuilder::new()
        .layer(layer)
        .config("Labels", json!({ "long": long }))
        .name("me/app:1");
    let archive = image.docker_archive();
    let loaded = load_archive(&archive[..], &content, &*snapshotter, &[], &|_| {}).unwrap();
    let saved = SavedImage {
        id: loaded[0].id.clone(),
        layers: loaded[0].layers.clone(),
        references: loaded[0].references.clone(),
        created: 7,
    };
    let mut out = Memory(Vec::new());
    save_images(&[saved], &content, &*snapshotter, &mut out).unwrap();
    drop(snapshotter);

    let other = tempfile::tempdir().unwrap();
    let content = ContentStore::open(other.path()).unwrap();
    let snapshotter = open_snapshotter(other.path(), SnapshotterChoice::Auto).unwrap();
    let again = load_archive(&out.0[..], &content, &*snapshotter, &[], &|_| {}).unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].id, loaded[0].id);
    assert_eq!(again[0].layers, loaded[0].layers);
    assert_eq!(again[0].references, loaded[0].references);
}
