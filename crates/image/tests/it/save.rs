//! What is saved is loaded again.

use hoist_image::document::CONFIG_LIMIT;
use hoist_image::{
    ContentStore, Copied, SavedImage, SnapshotterChoice, load_archive, open_snapshotter,
    save_images,
};
use hoist_testkit::{ImageBuilder, TarBuilder};
use serde_json::json;

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
    let mut out = Vec::new();
    save_images(&[saved], &content, &*snapshotter, Copied(&mut out)).unwrap();
    drop(snapshotter);

    let other = tempfile::tempdir().unwrap();
    let content = ContentStore::open(other.path()).unwrap();
    let snapshotter = open_snapshotter(other.path(), SnapshotterChoice::Auto).unwrap();
    let again = load_archive(&out[..], &content, &*snapshotter, &[], &|_| {}).unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].id, loaded[0].id);
    assert_eq!(again[0].layers, loaded[0].layers);
    assert_eq!(again[0].references, loaded[0].references);
}
