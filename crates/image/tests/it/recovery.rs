//! The contract in bad times: crashes, changes of form, full disks.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

use hoist_image::{Changes, Ids, SnapshotterChoice, SnapshotterKind, open_snapshotter};
use hoist_model::ErrorClass;
use hoist_testkit::TarBuilder;

use crate::contract::{BOTH, key, names, on_both, read};
use crate::listing::{path_of, tmpfs};
use crate::real_tree::store;

#[test]
fn what_a_crash_left_is_swept_or_mended_at_open() {
    on_both(|root, choice, snapshotter| {
        let layer = store(
            &*snapshotter,
            &TarBuilder::new().file("a", 0o644, "kept").finish(),
        );
        let torn = store(
            &*snapshotter,
            &TarBuilder::new().file("b", 0o644, "mended").finish(),
        );
        snapshotter
            .prepare(&key(1), std::slice::from_ref(&layer), Ids::Host)
            .unwrap();
        drop(snapshotter);
        let at = root.join("layers");
        let hex = "0".repeat(64);
        fs::write(at.join(".tmp-3"), "half a tar").unwrap();
        fs::write(at.join(format!("{hex}.erofs")), "an index without its tar").unwrap();
        fs::create_dir_all(at.join(format!("{hex}.tree/x"))).unwrap();
        fs::write(at.join(format!("{}.tar", "1".repeat(64))), "no tar").unwrap();
        fs::write(at.join(format!("{}.erofs", torn.hex())), [0; 2000]).unwrap();
        fs::create_dir_all(root.join("snapshots/.tmp-x/upper")).unwrap();
        let snapshotter = open_snapshotter(root, choice).unwrap();
        assert_eq!(names(&root.join("snapshots")), [key(1).as_str()]);
        assert_eq!(snapshotter.layers().len(), 2);
        assert!(
            !names(&at)
                .iter()
                .any(|name| name.contains("000000000000") || name.starts_with('.'))
        );
        assert_eq!(
            read(&snapshotter.mount(&key(1), Changes::Kept).unwrap(), "a"),
            "kept"
        );
        assert_eq!(
            read(&snapshotter.view(&[torn], Ids::Host).unwrap(), "b"),
            "mended"
        );
    });
}

#[test]
fn layers_stored_in_one_form_serve_the_other() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    for [first, second] in [BOTH, [BOTH[1], BOTH[0]]] {
        let root = tempfile::tempdir().unwrap();
        let tar = TarBuilder::new().file("a", 0o755, "x").finish();
        let layer = store(&*open_snapshotter(root.path(), first).unwrap(), &tar);
        let snapshotter = open_snapshotter(root.path(), second).unwrap();
        assert_eq!(
            read(&snapshotter.view(&[layer], Ids::Host).unwrap(), "a"),
            "x"
        );
    }
}

#[test]
fn another_form_is_chosen_while_layers_are_mounted() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    for [first, second] in [BOTH, [BOTH[1], BOTH[0]]] {
        let root = tempfile::tempdir().unwrap();
        let snapshotter = open_snapshotter(root.path(), first).unwrap();
        let [before, unused] = ["before", "unused"].map(|text| {
            let tar = TarBuilder::new().file(text, 0o644, text).finish();
            store(&*snapshotter, &tar)
        });
        let prepare = |number, layers: &[hoist_model::Digest]| {
            snapshotter
                .prepare(&key(number), layers, Ids::Host)
                .unwrap();
            snapshotter.mount(&key(number), Changes::Kept).unwrap()
        };
        let running = prepare(1, std::slice::from_ref(&before));
        let kind = snapshotter.choose(second).unwrap();
        assert_eq!(kind, snapshotter.kind());
        // An argument of the choice's own name is what it becomes.
        let is_directory = second == SnapshotterChoice::Directory;
        assert_eq!(kind == SnapshotterKind::Directory, is_directory);
        let after = store(
            &*snapshotter,
            &TarBuilder::new().file("after", 0o644, "after").finish(),
        );
        let tree = root
            .path()
            .join("layers")
            .join(format!("{}.tree", after.hex()));
        assert_eq!(tree.exists(), is_directory);
        // Layers of before and after together, one of them mounted before.
        let later = prepare(2, &[before, unused, after]);
        for name in ["before", "unused", "after"] {
            assert_eq!(read(&later, name), name);
        }
        assert_eq!(read(&running, "before"), "before");
        drop(snapshotter);
        let again = open_snapshotter(root.path(), first).unwrap();
        let mount = again.mount(&key(2), Changes::Kept).unwrap();
        assert_eq!(read(&mount, "after"), "after");
    }
}

#[test]
fn where_erofs_does_not_work_directories_serve_and_a_full_disk_leaves_nothing() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    let mount = tmpfs("3m");
    let root = path_of(&mount).join("root");
    let snapshotter = open_snapshotter(&root, SnapshotterChoice::Auto).unwrap();
    if snapshotter.kind() == SnapshotterKind::Directory {
        let strict = open_snapshotter(&root, SnapshotterChoice::Erofs)
            .err()
            .unwrap();
        assert_eq!(strict.class(), ErrorClass::NotImplemented);
    }
    // The tar alone is too much; then the tar fits and its files do not.
    for size in [8 << 20, 2 << 20] {
        let tar = TarBuilder::new().file("big", 0o644, vec![1; size]).finish();
        let mut writer = snapshotter.layer_writer().unwrap();
        let error = match writer.write_all(&tar) {
            Err(error) => {
                drop(writer);
                error.kind() == std::io::ErrorKind::StorageFull
            }
            Ok(()) => writer
                .finish(None)
                .is_err_and(|error| error.class() == ErrorClass::Unavailable),
        };
        assert!(error);
        assert!(names(&root.join("layers")).is_empty(), "after {size}");
    }
    let tar = TarBuilder::new().file("small", 0o644, "fits").finish();
    let layer = store(&*snapshotter, &tar);
    assert_eq!(
        read(&snapshotter.view(&[layer], Ids::Host).unwrap(), "small"),
        "fits"
    );
    let mut bytes = Vec::new();
    let layer = &snapshotter.layers()[0];
    snapshotter
        .open_tar(layer)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    assert_eq!(bytes, tar);
    assert_eq!(
        fs::metadata(&root).unwrap().permissions().mode() & 0o777,
        0o700
    );
}
