//! What fsck sees, and how layers are mended.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use hoist_image::fsck::{
    Inventory, LayerCheck, LayerParts, PartState, StrayKind, check_blob, check_layer,
};
use hoist_image::{
    Changes, ContentError, ContentStore, Ids, LayerError, SnapshotterChoice, open_snapshotter,
};
use hoist_model::Digest;
use hoist_testkit::{EntryKind, TarBuilder};

use crate::contract::{key, names, on_both, read};
use crate::listing::path_of;
use crate::real_tree::store;

/// A layer with something of everything that is compared.
fn tar() -> Vec<u8> {
    TarBuilder::new()
        .directory("d")
        .file("d/file", 0o640, vec![7; 300_000])
        .hardlink("d/hard", "d/file")
        .symlink("d/link", "file")
        .entry("fifo", 0o600, &EntryKind::Fifo, &[])
        .entry("null", 0o666, &EntryKind::CharacterDevice(1, 3), &[])
        .entry(
            "attribute",
            0o644,
            &EntryKind::File(b"x".to_vec()),
            &[("SCHILY.xattr.user.a", "1")],
        )
        .whiteout("d/gone")
        .directory("o")
        .opaque("o")
        .finish()
}

fn checked(root: &Path, layer: &Digest) -> LayerCheck {
    check_layer(root, layer).unwrap().unwrap()
}

fn at(root: &Path, layer: &Digest, suffix: &str) -> std::path::PathBuf {
    root.join(format!("layers/{}.{suffix}", layer.hex()))
}

/// Changes one byte of a file.
fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], offset).unwrap();
}

#[test]
fn what_was_stored_is_good_and_accounted_for() {
    on_both(|root, choice, snapshotter| {
        let content = ContentStore::open(root).unwrap();
        let blob = content.put(b"a document").unwrap();
        let layer = store(&*snapshotter, &tar());
        let layers = [layer.clone()];
        snapshotter.prepare(&key(1), &layers, Ids::Host).unwrap();
        let directories = choice == SnapshotterChoice::Directory;
        let inventory = Inventory::take(root).unwrap();
        let parts = LayerParts {
            tar_bytes: tar().len() as u64,
            index: true,
            tree: directories,
        };
        assert_eq!(inventory.layers, [(layer.clone(), parts)].into());
        assert_eq!(inventory.blobs, [(blob.clone(), 10)].into());
        assert_eq!(inventory.snapshots, [(key(1), layers.to_vec())].into());
        assert_eq!(inventory.strays, []);
        assert_eq!(check_blob(root, &blob).unwrap(), Some(10));
        let found = checked(root, &layer);
        let tree = match directories {
            true => PartState::Good,
            false => PartState::Absent,
        };
        let wanted = LayerCheck {
            file_bytes: 300_001,
            tar: Ok(()),
            index: PartState::Good,
            tree,
        };
        assert_eq!(found, wanted);
        let nothing: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        assert_eq!(check_layer(root, &nothing).unwrap(), None);
        assert_eq!(check_blob(root, &nothing).unwrap(), None);
    });
}

#[test]
fn what_stands_beside_a_tar_is_made_again_from_it() {
    on_both(|root, choice, snapshotter| {
        let layer = store(&*snapshotter, &tar());
        let layers = [layer.clone()];
        let before = snapshotter.view(&layers, Ids::Host).unwrap();
        // A byte of an inode, behind what is looked at when the snapshotter is opened.
        flip(&at(root, &layer, "erofs"), 1700);
        let PartState::Wrong(what) = checked(root, &layer).index else {
            panic!("the index is taken for good");
        };
        assert!(what.contains("byte 1700"), "{what}");
        fs::remove_file(at(root, &layer, "erofs")).unwrap();
        assert_eq!(checked(root, &layer).index, PartState::Absent);
        snapshotter.rebuild_layer(&layer).unwrap();
        assert_eq!(checked(root, &layer).index, PartState::Good);

        let tree = at(root, &layer, "tree");
        type Damage = fn(&Path);
        let damages: [(&str, Damage); 8] = [
            ("/d/file: has other bytes", |tree| {
                flip(&tree.join("d/file"), 250_000)
            }),
            ("/d/file: has 5 bytes", |tree| {
                fs::write(tree.join("d/file"), "short").unwrap();
            }),
            ("/d/file: is missing", |tree| {
                fs::remove_file(tree.join("d/file")).unwrap();
            }),
            ("/d/hard: is no hard link", |tree| {
                fs::remove_file(tree.join("d/hard")).unwrap();
                fs::copy(tree.join("d/file"), tree.join("d/hard")).unwrap();
            }),
            ("/d/link: leads elsewhere", |tree| {
                fs::remove_file(tree.join("d/link")).unwrap();
                std::os::unix::fs::symlink("/etc/shadow", tree.join("d/link")).unwrap();
            }),
            ("/null: is of another kind", |tree| {
                fs::remove_file(tree.join("null")).unwrap();
                fs::write(tree.join("null"), "").unwrap();
            }),
            ("has \"more\" beside it", |tree| {
                fs::write(tree.join("d/more"), "").unwrap();
            }),
            ("has mode 4777", |tree| {
                let mode = fs::Permissions::from_mode(0o4777);
                fs::set_permissions(tree.join("attribute"), mode).unwrap();
            }),
        ];
        if choice == SnapshotterChoice::Directory {
            for (wanted, damage) in damages {
                damage(&tree);
                let PartState::Wrong(what) = checked(root, &layer).tree else {
                    panic!("{wanted}: taken for good");
                };
                assert!(what.contains(wanted), "{what} is not {wanted}");
                snapshotter.rebuild_layer(&layer).unwrap();
                assert_eq!(checked(root, &layer).tree, PartState::Good);
            }
        } else {
            // A mount made before goes on with what it has.
            assert_eq!(read(&before, "attribute"), "x");
        }
        let after = snapshotter.view(&layers, Ids::Host).unwrap();
        assert_eq!(read(&after, "attribute"), "x");
        let parts = names(&root.join("layers")).len();
        assert_eq!(parts, if tree.exists() { 3 } else { 2 });
    });
}

#[test]
fn a_damaged_layer_serves_until_whoever_has_it_whole_replaces_it() {
    on_both(|root, _, snapshotter| {
        let layer = store(&*snapshotter, &tar());
        let layers = [layer.clone()];
        snapshotter.prepare(&key(1), &layers, Ids::Host).unwrap();
        drop(snapshotter.mount(&key(1), Changes::Kept).unwrap());
        // In the first file's bytes: behind the headers of `d` and `d/file`.
        flip(&at(root, &layer, "tar"), 1024 + 9);
        let found = checked(root, &layer);
        let reason = found.tar.unwrap_err();
        assert!(reason.starts_with("its content is sha256:"), "{reason}");
        let again = snapshotter.rebuild_layer(&layer);
        assert!(matches!(again, Err(LayerError::Mismatch { .. })));

        snapshotter.distrust_layer(&layer);
        assert!(!snapshotter.has_layer(&layer));
        assert_eq!(snapshotter.damaged_layers(), layers);
        let mount = snapshotter.mount(&key(1), Changes::Kept).unwrap();
        assert_eq!(read(&mount, "attribute"), "x");
        drop(mount);
        assert_eq!(store(&*snapshotter, &tar()), layer);
        assert!(snapshotter.has_layer(&layer));
        assert!(snapshotter.damaged_layers().is_empty());
        assert_eq!(checked(root, &layer).tar, Ok(()));
        let mount = snapshotter.mount(&key(1), Changes::Kept).unwrap();
        let bytes = fs::read(path_of(&mount).join("d/file")).unwrap();
        assert!(bytes == vec![7; 300_000], "the mount shows the old tar");
        // Two of each, or three: nothing of the old one is left.
        let strays = Inventory::take(root).unwrap().strays;
        assert_eq!(strays, []);
    });
}

#[test]
fn a_layer_that_is_damaged_at_open_is_kept_for_its_replacement() {
    on_both(|root, choice, snapshotter| {
        let layer = store(&*snapshotter, &tar());
        drop(snapshotter);
        flip(&at(root, &layer, "tar"), 1024 + 9);
        fs::write(at(root, &layer, "erofs"), "no index").unwrap();
        let snapshotter = open_snapshotter(root, choice).unwrap();
        assert!(!snapshotter.has_layer(&layer) && snapshotter.layers().is_empty());
        assert_eq!(snapshotter.damaged_layers(), std::slice::from_ref(&layer));
        assert!(at(root, &layer, "tar").exists());
        let refused = snapshotter.prepare(&key(1), std::slice::from_ref(&layer), Ids::Host);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("is damaged"), "{refused}");
        assert_eq!(store(&*snapshotter, &tar()), layer);
        let view = snapshotter
            .view(std::slice::from_ref(&layer), Ids::Host)
            .unwrap();
        assert_eq!(read(&view, "attribute"), "x");
        drop(view);
        // One that nobody replaces goes as any layer does.
        snapshotter.distrust_layer(&layer);
        drop(snapshotter.remove_layer(&layer).unwrap());
        assert!(snapshotter.damaged_layers().is_empty());
        assert!(names(&root.join("layers")).is_empty());
    });
}

#[test]
fn what_is_no_part_of_anything_is_told_by_kind() {
    on_both(|root, _, snapshotter| {
        let content = ContentStore::open(root).unwrap();
        let layer = store(&*snapshotter, &tar());
        snapshotter
            .prepare(&key(1), std::slice::from_ref(&layer), Ids::Host)
            .unwrap();
        let hex = "0".repeat(64);
        fs::write(root.join("blobs/sha256/.tmp-9"), "half").unwrap();
        fs::write(root.join("blobs/sha256/notes"), "mine").unwrap();
        fs::write(root.join(format!("layers/{hex}.erofs")), "alone").unwrap();
        fs::create_dir(root.join(format!("layers/{hex}.tree"))).unwrap();
        fs::create_dir(root.join("layers/.tmp-9")).unwrap();
        fs::create_dir(root.join("snapshots/.gone-3")).unwrap();
        fs::create_dir(root.join(format!("bases/{hex}"))).unwrap();
        let strays = Inventory::take(root).unwrap().strays;
        let found: Vec<(String, StrayKind)> = strays
            .into_iter()
            .map(|stray| {
                let path = stray.path.strip_prefix(root).unwrap();
                (path.display().to_string().replace(&hex, "0"), stray.kind)
            })
            .collect();
        let wanted = [
            ("bases/0", StrayKind::Base),
            ("blobs/sha256/.tmp-9", StrayKind::Temporary),
            ("blobs/sha256/notes", StrayKind::Unknown),
            ("layers/.tmp-9", StrayKind::Temporary),
            ("layers/0.erofs", StrayKind::Part),
            ("layers/0.tree", StrayKind::Part),
            ("snapshots/.gone-3", StrayKind::Temporary),
        ];
        let wanted: Vec<(String, StrayKind)> =
            wanted.map(|(path, kind)| (path.to_owned(), kind)).into();
        assert_eq!(found, wanted);
        let blob = content.put(b"a document").unwrap();
        flip(&root.join("blobs/sha256").join(blob.hex()), 0);
        let corrupt = check_blob(root, &blob);
        assert!(matches!(corrupt, Err(ContentError::Corrupt { .. })));
    });
}
