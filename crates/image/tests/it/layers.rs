//! What layers may hold, on both implementations: GNU tar is the oracle where it reads them alike, Docker's rules where not.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;

use hoist_image::{Changes, Ids, SnapshotterChoice, open_snapshotter};
use hoist_model::Digest;
use hoist_testkit::{EntryKind, TarBuilder};
use sha2::Digest as _;

use crate::contract::{key, names, on_both, read};
use crate::listing::{path_of, tmpfs};
use crate::real_tree::{compare_tar, store};

fn tar() -> TarBuilder {
    TarBuilder::new()
}

#[test]
fn zeros_take_no_room_and_are_read_as_zeros() {
    on_both(|root, choice, snapshotter| {
        const SIZE: usize = 48 << 20;
        let mut content = vec![0; SIZE];
        content[7] = 1;
        content[SIZE / 2 + 12_345] = 2;
        let tar = tar()
            .file("empty", 0o644, vec![0; SIZE])
            .file("nearly", 0o644, content.clone())
            .finish();
        let mut writer = snapshotter.layer_writer().unwrap();
        for piece in tar.chunks(256 << 10) {
            writer.write_all(piece).unwrap();
        }
        let layer = writer.finish(None).unwrap().diff_id;
        let used = |path: &std::path::Path| fs::metadata(path).unwrap().blocks() * 512;
        let stored = root.join(format!("layers/{}.tar", layer.hex()));
        assert_eq!(
            fs::metadata(&stored).unwrap().len(),
            snapshotter.layer(&layer).unwrap().tar_bytes
        );
        assert!(used(&stored) < 1 << 20, "{} bytes", used(&stored));
        let tree = root.join(format!("layers/{}.tree", layer.hex()));
        if choice == SnapshotterChoice::Directory {
            assert!(used(&tree.join("empty")) == 0 && used(&tree.join("nearly")) < 1 << 20);
        }
        // What an image's size sums up are its files' bytes, as in Docker.
        let record = snapshotter.layer(&layer).unwrap();
        assert_eq!(record.file_bytes, 2 * SIZE as u64);
        let view = snapshotter
            .view(std::slice::from_ref(&layer), Ids::Host)
            .unwrap();
        assert!(fs::read(path_of(&view).join("nearly")).unwrap() == content);
        let empty = fs::read(path_of(&view).join("empty")).unwrap();
        assert!(empty.len() == SIZE && empty.iter().all(|byte| *byte == 0));
        let mut bytes = Vec::new();
        let mut again = snapshotter.open_tar(&layer).unwrap();
        again.read_to_end(&mut bytes).unwrap();
        let found = Digest::from_sha256(&sha2::Sha256::digest(&bytes).into());
        assert_eq!(found, layer);
    });
}

#[test]
fn whiteouts_in_every_form() {
    on_both(|_, _, snapshotter| {
        let mut below = tar();
        for directory in ["a", "b", "c", "d", "e"] {
            below = below
                .directory(directory)
                .file(&format!("{directory}/one"), 0o644, "below")
                .file(&format!("{directory}/two"), 0o644, "below");
        }
        let device = EntryKind::CharacterDevice(0, 0);
        let above = tar()
            // Of a file, of a directory that is not named, and by overlay's own mark.
            .whiteout("a/one")
            .whiteout("b")
            .entry("c/one", 0o000, &device, &[])
            // Opaque before and behind what the layer itself brings.
            .directory("d")
            .opaque("d")
            .file("d/new", 0o644, "above")
            .directory("e")
            .file("e/new", 0o644, "above")
            .opaque("e")
            // What aufs keeps for itself is nobody's file.
            .file(".wh..wh.plnk", 0o600, "")
            .directory(".wh..wh.aufs")
            .finish();
        let layers = [below.finish(), above].map(|tar| store(&*snapshotter, &tar));
        let view = snapshotter.view(&layers, Ids::Host).unwrap();
        let at = path_of(&view);
        assert_eq!(names(&at), ["a", "c", "d", "e"]);
        assert_eq!(names(&at.join("a")), ["two"]);
        assert_eq!(names(&at.join("c")), ["two"]);
        assert_eq!(names(&at.join("d")), ["new"]);
        assert_eq!(names(&at.join("e")), ["new"]);
        for nothing in [".wh.", "a/.wh.", ".wh...", ".wh.."] {
            let mut writer = snapshotter.layer_writer().unwrap();
            let _ = writer.write_all(&tar().file(nothing, 0o600, "").finish());
            let refused = writer.finish(None).unwrap_err().to_string();
            assert!(
                refused.contains("whiteout of nothing"),
                "{nothing}: {refused}"
            );
        }
    });
}

#[test]
fn entries_that_come_twice_and_parents_that_do_not_come() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    let many = tar()
        .modified(1_000_000)
        .file("twice", 0o600, "first")
        .file("other", 0o644, "x")
        .hardlink("hard", "twice")
        .file("twice", 0o644, "second")
        .directory("directory")
        .file("directory/kept", 0o644, "kept")
        .entry("directory", 0o700, &EntryKind::Directory, &[])
        .symlink("link", "other")
        .file("link", 0o644, "now a file")
        .file("becomes-link", 0o644, "a file")
        .symlink("becomes-link", "twice")
        .finish();
    compare_tar(&many);
    on_both(|_, _, snapshotter| {
        let orphans = tar()
            .file("no/such/parent/file", 0o644, "orphan")
            .file("was-file", 0o644, "")
            .entry("was-file", 0o755, &EntryKind::Directory, &[])
            .file("was-file/inside", 0o644, "inside")
            .finish();
        let layer = store(&*snapshotter, &orphans);
        let view = snapshotter.view(&[layer], Ids::Host).unwrap();
        assert_eq!(read(&view, "no/such/parent/file"), "orphan");
        assert_eq!(read(&view, "was-file/inside"), "inside");
        let parent = fs::metadata(path_of(&view).join("no/such")).unwrap();
        assert_eq!((parent.mode() & 0o7777, parent.uid()), (0o755, 0));
    });
}

#[test]
fn layers_of_nothing() {
    on_both(|_, _, snapshotter| {
        // The empty tar that every builder knows, none at all, and only an end behind an end.
        let empty = [vec![0; 1024], Vec::new(), vec![0; 10240]];
        let mut layers: Vec<Digest> = Vec::new();
        for tar in &empty {
            layers.push(store(&*snapshotter, tar));
            assert_eq!(snapshotter.layer(&layers[0]).unwrap().file_bytes, 0);
        }
        let view = snapshotter.view(&layers, Ids::Host).unwrap();
        assert!(names(&path_of(&view)).is_empty());
        // The same layer more than once, as builders' empty ones come.
        let some = store(&*snapshotter, &tar().file("some", 0o644, "x").finish());
        let without = store(&*snapshotter, &tar().whiteout("some").finish());
        let stack = |top: &[&Digest]| -> Vec<Digest> {
            let bottom = [&layers[0], &some, &layers[0]];
            bottom.iter().chain(top).map(|l| (*l).clone()).collect()
        };
        for (number, top, shown) in [
            (1, &[][..], true),
            (2, &[&without, &layers[0]][..], false),
            (3, &[&without, &some][..], true),
            (4, &[&without, &some, &without][..], false),
        ] {
            let layers = stack(top);
            snapshotter
                .prepare(&key(number), &layers, Ids::Host)
                .unwrap();
            let mount = snapshotter.mount(&key(number), Changes::Kept).unwrap();
            assert_eq!(path_of(&mount).join("some").exists(), shown, "{number}");
            let view = snapshotter.view(&layers, Ids::Host).unwrap();
            assert_eq!(path_of(&view).join("some").exists(), shown, "{number}");
        }
    });
}

#[test]
fn a_hundred_thousand_files_in_a_directory() {
    on_both(|_, _, snapshotter| {
        const FILES: u32 = 100_000;
        let name = |number: u32| format!("many/{:x}", number.wrapping_mul(2_654_435_761));
        let mut tar = tar().directory("many");
        for number in 0..FILES {
            tar = tar.file(
                &name(number),
                0o644,
                if number % 1000 == 0 { "x" } else { "" },
            );
        }
        let layer = store(&*snapshotter, &tar.finish());
        let view = snapshotter.view(&[layer], Ids::Host).unwrap();
        assert_eq!(names(&path_of(&view).join("many")).len(), FILES as usize);
        assert_eq!(read(&view, &name(99_000)), "x");
        assert_eq!(read(&view, &name(99_999)), "");
    });
}

#[test]
fn a_layer_that_would_fill_the_disk_is_refused_before_it_is_full() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    let disk = tmpfs("64m");
    let root = path_of(&disk).join("root");
    let snapshotter = open_snapshotter(&root, SnapshotterChoice::Auto).unwrap();
    let mut writer = snapshotter.layer_writer().unwrap();
    let bomb = tar().file("bomb", 0o644, vec![7; 100 << 20]).finish();
    let pieces = &mut bomb.chunks(256 << 10);
    let error = pieces
        .find_map(|piece| writer.write_all(piece).err())
        .unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    let said = error.to_string();
    assert!(said.contains("are left on the disk"), "{said}");
    let found = rustix::fs::statvfs(&root).unwrap();
    assert!(found.f_bavail > 0, "others have no room any more");
    drop(writer);
    assert!(names(&root.join("layers")).is_empty());
    let small = store(&*snapshotter, &tar().file("small", 0o644, "fits").finish());
    assert!(snapshotter.has_layer(&small));
}
