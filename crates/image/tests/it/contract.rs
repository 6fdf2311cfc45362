//! The snapshotter's contract, run on both implementations.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use hoist_image::{
    Changes, Ids, LayerError, SnapshotError, Snapshotter, SnapshotterChoice, open_snapshotter,
};
use hoist_model::{ContainerId, Digest, ErrorClass};
use hoist_testkit::{EntryKind, TarBuilder};

use crate::listing::path_of;
use crate::real_tree::store;

pub(crate) const BOTH: [SnapshotterChoice; 2] =
    [SnapshotterChoice::Erofs, SnapshotterChoice::Directory];

/// Runs a case on both implementations, each in a fresh data root.
pub(crate) fn on_both(case: impl Fn(&Path, SnapshotterChoice, Arc<dyn Snapshotter>)) {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    for choice in BOTH {
        let root = tempfile::tempdir().unwrap();
        let snapshotter = open_snapshotter(root.path(), choice).unwrap();
        case(root.path(), choice, snapshotter);
    }
}

pub(crate) fn key(number: u8) -> ContainerId {
    ContainerId::from_bytes(&[number; 32])
}

pub(crate) fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub(crate) fn read(mount: &OwnedFd, name: &str) -> String {
    fs::read_to_string(path_of(mount).join(name)).unwrap()
}

fn exists(mount: &OwnedFd, name: &str) -> bool {
    fs::symlink_metadata(path_of(mount).join(name)).is_ok()
}

#[test]
fn layers_stack_bottom_first_and_whiteouts_hide() {
    on_both(|_, _, snapshotter| {
        let bottom = TarBuilder::new()
            .directory("dir")
            .file("dir/a", 0o644, "bottom a")
            .file("dir/b", 0o644, "bottom b")
            .directory("opaque")
            .file("opaque/below", 0o644, "x")
            .directory("gone")
            .file("gone/inside", 0o644, "x")
            .file("same", 0o644, "bottom")
            .directory("was-directory")
            .file("was-directory/x", 0o644, "x")
            .directory("replaced")
            .file("replaced/old", 0o644, "x")
            .finish();
        let middle = TarBuilder::new()
            .whiteout("dir/a")
            .whiteout("gone")
            .opaque("opaque")
            .file("opaque/above", 0o644, "y")
            .file("same", 0o644, "middle")
            .file("was-directory", 0o644, "now a file")
            .whiteout("replaced")
            .directory("replaced")
            .file("replaced/new", 0o644, "y")
            .finish();
        let top = TarBuilder::new()
            .file("same", 0o644, "top")
            .file("dir/c", 0o644, "c")
            .finish();
        let layers = [bottom, middle, top].map(|tar| store(&*snapshotter, &tar));
        snapshotter.prepare(&key(1), &layers, Ids::Host).unwrap();
        for mount in [
            snapshotter.view(&layers, Ids::Host).unwrap(),
            snapshotter.mount(&key(1), Changes::Kept).unwrap(),
        ] {
            let mut found = names(&path_of(&mount));
            // A container has its mount points beside what the layers bring.
            found.retain(|name| ![".dockerenv", "dev", "etc", "proc", "sys"].contains(&&**name));
            assert_eq!(
                found,
                ["dir", "opaque", "replaced", "same", "was-directory"]
            );
            assert_eq!(names(&path_of(&mount).join("dir")), ["b", "c"]);
            assert_eq!(names(&path_of(&mount).join("opaque")), ["above"]);
            assert_eq!(names(&path_of(&mount).join("replaced")), ["new"]);
            assert_eq!(read(&mount, "same"), "top");
            assert_eq!(read(&mount, "was-directory"), "now a file");
        }
        let below = snapshotter.view(&layers[..1], Ids::Host).unwrap();
        assert_eq!(read(&below, "dir/a"), "bottom a");
    });
}

#[test]
fn a_container_writes_to_its_own_directory_only() {
    on_both(|root, choice, snapshotter| {
        let tar = TarBuilder::new()
            .directory("etc")
            .file("etc/config", 0o640, "from the image")
            .file("etc/other", 0o644, "x")
            .finish();
        let layer = store(&*snapshotter, &tar);
        let layers = [layer.clone()];
        snapshotter.prepare(&key(1), &layers, Ids::Host).unwrap();
        snapshotter.prepare(&key(2), &layers, Ids::Host).unwrap();
        assert!(matches!(
            snapshotter.prepare(&key(2), &layers, Ids::Host),
            Err(SnapshotError::Exists(_))
        ));
        let (one, two) = (
            snapshotter.mount(&key(1), Changes::Kept).unwrap(),
            snapshotter.mount(&key(2), Changes::Kept).unwrap(),
        );
        let path = path_of(&one).join("etc/config");
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b", changed")
            .unwrap();
        fs::remove_file(path_of(&one).join("etc/other")).unwrap();
        fs::write(path_of(&one).join("big"), vec![1; 1 << 20]).unwrap();
        assert_eq!(read(&one, "etc/config"), "from the image, changed");
        assert_eq!(read(&two, "etc/config"), "from the image");
        assert!(exists(&two, "etc/other") && !exists(&one, "etc/other"));
        let upper = snapshotter.upper(&key(1)).unwrap();
        let upper = path_of(&upper);
        assert_eq!(names(&upper), ["big", "etc"]);
        assert_eq!(
            fs::metadata(upper.join("etc/config")).unwrap().mode() & 0o7777,
            0o640
        );
        let used = snapshotter.usage(&key(1)).unwrap();
        assert!((1 << 20..2 << 20).contains(&used), "{used}");
        let view = snapshotter.view(&layers, Ids::Host).unwrap();
        assert!(
            fs::write(path_of(&view).join("x"), "x").is_err(),
            "a view is read-only"
        );
        drop((one, two, view));

        // What was written is there at the next mount, and after a restart.
        drop(snapshotter);
        let snapshotter = open_snapshotter(root, choice).unwrap();
        assert_eq!(snapshotter.prepared().len(), 2);
        let again = snapshotter.mount(&key(1), Changes::Kept).unwrap();
        assert_eq!(read(&again, "etc/config"), "from the image, changed");
        drop(again);
        let Err(LayerError::InUse { .. }) = snapshotter.remove_layer(&layer) else {
            panic!("the layer was removed under its containers");
        };
        for number in [1, 2, 2] {
            drop(snapshotter.remove(&key(number)).unwrap());
        }
        assert!(matches!(
            snapshotter.mount(&key(1), Changes::Kept),
            Err(SnapshotError::NotPrepared(_))
        ));
        assert!(snapshotter.prepared().is_empty());
        assert!(names(&root.join("snapshots")).is_empty());
        drop(snapshotter.remove_layer(&layer).unwrap());
        drop(snapshotter.remove_layer(&layer).unwrap());
        assert!(names(&root.join("layers")).is_empty());
    });
}

#[test]
fn changes_that_nobody_keeps_are_mounted_again_and_again() {
    on_both(|_, _, snapshotter| {
        let layer = store(
            &*snapshotter,
            &TarBuilder::new().file("a", 0o644, "x").finish(),
        );
        snapshotter.prepare(&key(1), &[layer], Ids::Host).unwrap();
        for text in ["first", "second"] {
            let mount = snapshotter.mount(&key(1), Changes::Discarded).unwrap();
            fs::write(path_of(&mount).join(text), text).unwrap();
            assert_eq!(read(&mount, "first"), "first");
        }
    });
}

#[test]
fn mount_points_are_there_and_are_no_change_of_the_containers() {
    on_both(|root, choice, snapshotter| {
        let bare = store(
            &*snapshotter,
            &TarBuilder::new().file("a", 0o644, "x").finish(),
        );
        let etc = TarBuilder::new()
            .directory("etc")
            .file("etc/hosts", 0o640, "of the image")
            .finish();
        let etc = store(&*snapshotter, &etc);
        let stacks = [vec![], vec![bare.clone()], vec![bare.clone(), etc.clone()]];
        for (number, layers) in (1u8..).zip(&stacks) {
            snapshotter
                .prepare(&key(number), layers, Ids::Host)
                .unwrap();
            let mount = snapshotter.mount(&key(number), Changes::Kept).unwrap();
            for place in ["proc", "sys", "dev/pts", "etc/resolv.conf", ".dockerenv"] {
                assert!(exists(&mount, place), "{place} on {} layers", layers.len());
            }
            let upper = snapshotter.upper(&key(number)).unwrap();
            assert!(names(&path_of(&upper)).is_empty());
            let view = snapshotter.view(layers, Ids::Host).unwrap();
            assert!(!exists(&view, "proc"), "they are none of the image's");
        }
        let mount = snapshotter.mount(&key(3), Changes::Kept).unwrap();
        assert_eq!(read(&mount, "etc/hosts"), "of the image");
        drop(mount);
        assert_eq!(names(&root.join("bases")).len(), 3);

        // Found again, shared, and gone with the layers they stand on.
        drop(snapshotter);
        let snapshotter = open_snapshotter(root, choice).unwrap();
        snapshotter.prepare(&key(4), &stacks[2], Ids::Host).unwrap();
        assert_eq!(names(&root.join("bases")).len(), 3);
        for number in 1..=4 {
            drop(snapshotter.remove(&key(number)).unwrap());
        }
        drop(snapshotter.remove_layer(&etc).unwrap());
        assert_eq!(names(&root.join("bases")).len(), 2);
        drop(snapshotter.remove_layer(&bare).unwrap());
        assert_eq!(names(&root.join("bases")).len(), 1);
    });
}

#[test]
fn a_mount_outlives_its_layer() {
    on_both(|_, choice, snapshotter| {
        let layer = store(
            &*snapshotter,
            &TarBuilder::new().file("a", 0o644, "still").finish(),
        );
        let view = snapshotter
            .view(std::slice::from_ref(&layer), Ids::Host)
            .unwrap();
        drop(snapshotter.remove_layer(&layer).unwrap());
        assert!(matches!(
            snapshotter.layer(&layer),
            Err(LayerError::NotFound(_))
        ));
        assert!(snapshotter.open_tar(&layer).is_err());
        let prepared = snapshotter.prepare(&key(1), &[layer], Ids::Host);
        assert_eq!(prepared.unwrap_err().class(), ErrorClass::NotFound);
        if choice == SnapshotterChoice::Erofs {
            assert_eq!(read(&view, "a"), "still");
        }
    });
}

#[test]
fn the_root_directory_is_what_the_top_most_layer_that_names_it_says() {
    on_both(|_, _, snapshotter| {
        let named = TarBuilder::new()
            .owner(5, 6)
            .entry("./", 0o751, &EntryKind::Directory, &[])
            .finish();
        let silent = TarBuilder::new().file("a", 0o644, "").finish();
        let layers = [store(&*snapshotter, &named), store(&*snapshotter, &silent)];
        snapshotter.prepare(&key(1), &layers, Ids::Host).unwrap();
        snapshotter
            .prepare(&key(2), &layers[1..], Ids::Host)
            .unwrap();
        snapshotter.prepare(&key(3), &[], Ids::Host).unwrap();
        let root = |number| {
            let mount = snapshotter.mount(&key(number), Changes::Kept).unwrap();
            let meta = fs::metadata(path_of(&mount)).unwrap();
            (meta.mode() & 0o7777, meta.uid(), meta.gid())
        };
        assert_eq!(root(1), (0o751, 5, 6));
        assert_eq!(root(2), (0o755, 0, 0));
        assert_eq!(root(3), (0o755, 0, 0));
        assert!(names(&path_of(&snapshotter.view(&[], Ids::Host).unwrap())).is_empty());
    });
}

#[test]
fn as_many_layers_as_docker_allows() {
    on_both(|_, _, snapshotter| {
        let tars = (0..128).map(|n| {
            TarBuilder::new()
                .file(&format!("file-{n}"), 0o644, "x")
                .file("last", 0o644, n.to_string())
                .finish()
        });
        let layers: Vec<Digest> = tars.map(|tar| store(&*snapshotter, &tar)).collect();
        snapshotter
            .prepare(&key(1), &layers[..127], Ids::Host)
            .unwrap();
        let mount = snapshotter.mount(&key(1), Changes::Kept).unwrap();
        let mut files = names(&path_of(&mount));
        files.retain(|name| name.starts_with("file-"));
        assert_eq!(files.len(), 127);
        assert_eq!(read(&mount, "last"), "126");
        let many = snapshotter.prepare(&key(2), &layers, Ids::Host);
        assert!(matches!(many, Err(SnapshotError::TooManyLayers(128))));
    });
}

#[test]
fn hostile_tars_are_refused_and_leave_nothing() {
    on_both(|root, _, snapshotter| {
        let outside = root.join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "untouched").unwrap();
        let out = outside.to_str().unwrap();
        let file = EntryKind::File(b"abc".to_vec());
        let tar = TarBuilder::new;
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (tar().file("../file", 0o644, "x").finish(), "\"..\""),
            (tar().file("a/../../file", 0o644, "x").finish(), "\"..\""),
            (
                tar()
                    .symlink("link", out)
                    .file("link/file", 0o644, "evil")
                    .finish(),
                "symlink",
            ),
            (
                tar()
                    .symlink("link", "../../outside")
                    .file("link/file", 0o644, "evil")
                    .finish(),
                "symlink",
            ),
            (
                tar()
                    .symlink("a", "b")
                    .symlink("b", "a")
                    .file("a/x", 0o644, "")
                    .finish(),
                "symlink",
            ),
            (
                tar().hardlink("passwd", "/etc/passwd").finish(),
                "does not have",
            ),
            (
                tar().hardlink("passwd", "../../../etc/passwd").finish(),
                "\"..\"",
            ),
            (
                tar()
                    .file("f", 0o644, "")
                    .file("f/below", 0o644, "")
                    .finish(),
                "not a directory",
            ),
            (tar().symlink("./", "/").finish(), "root is not a directory"),
            (
                tar().entry("f", 0o644, &file, &[("size", "2")]).finish(),
                "ambiguous",
            ),
            (
                tar()
                    .entry("f", 0o644, &file, &[("size", "3"), ("size", "2")])
                    .finish(),
                "ambiguous",
            ),
            (
                tar()
                    .entry("f", 0o644, &file, &[("GNU.sparse.major", "1")])
                    .finish(),
                "sparse",
            ),
            (
                tar()
                    .entry("f", 0o644, &file, &[("uid", "4294967295")])
                    .finish(),
                "out of range",
            ),
            (
                tar().lying_file("f", 5000, b"short").finish(),
                "unexpected end",
            ),
            (
                tar().lying_file("f", 0o77_777_777_777, b"short").finish(),
                "unexpected end",
            ),
            (
                tar().file("f", 0o644, "x").unfinished()[..700].to_vec(),
                "unexpected end",
            ),
            (tar().raw(&[b'x'; 1024]).finish(), "no valid header"),
            (
                tar()
                    .file(&format!("a/{}", "n".repeat(256)), 0o644, "")
                    .finish(),
                "255",
            ),
            (tar().file("file/", 0o644, "x").finish(), "slash"),
            (tar().file(&"n/".repeat(3000), 0o644, "").finish(), "4095"),
            (tar().directory(&"n/".repeat(3000)).finish(), "4095"),
        ];
        for (bytes, part) in cases {
            let mut writer = snapshotter.layer_writer().unwrap();
            let _ = writer.write_all(&bytes);
            let error = writer.finish(None).unwrap_err();
            assert_eq!(error.class(), ErrorClass::InvalidArgument, "{error}");
            assert!(
                error.to_string().contains(part),
                "{error} does not say {part:?}"
            );
        }
        // Absolute names are taken as names inside; device nodes are kept as Docker keeps them.
        let inside = format!("{out}/file");
        let tar = tar()
            .file(&inside, 0o644, "inside")
            .entry("dev/zero", 0o666, &EntryKind::CharacterDevice(1, 5), &[])
            .finish();
        let layer = store(&*snapshotter, &tar);
        let view = snapshotter
            .view(std::slice::from_ref(&layer), Ids::Host)
            .unwrap();
        assert_eq!(read(&view, &inside[1..]), "inside");
        let device = fs::symlink_metadata(path_of(&view).join("dev/zero")).unwrap();
        assert!(device.file_type().is_char_device());
        assert_eq!(
            fs::read_to_string(outside.join("file")).unwrap(),
            "untouched"
        );
        drop(view);
        drop(snapshotter.remove_layer(&layer).unwrap());
        assert!(names(&root.join("layers")).is_empty());
    });
}

#[test]
fn a_layer_s_own_overlay_attributes_are_dropped() {
    on_both(|_, _, snapshotter| {
        let bottom = TarBuilder::new()
            .directory("d")
            .file("d/below", 0o644, "x")
            .finish();
        let attributes = [
            ("SCHILY.xattr.trusted.overlay.opaque", "y"),
            ("SCHILY.xattr.trusted.overlay.redirect", "/elsewhere"),
            ("SCHILY.xattr.user.kept", "1"),
        ];
        let top = TarBuilder::new()
            .entry("d", 0o755, &EntryKind::Directory, &attributes)
            .finish();
        let layers = [store(&*snapshotter, &bottom), store(&*snapshotter, &top)];
        let view = snapshotter.view(&layers, Ids::Host).unwrap();
        assert!(exists(&view, "d/below"));
        let mut value = [0; 8];
        let kept = rustix::fs::getxattr(path_of(&view).join("d"), "user.kept", &mut value);
        assert_eq!(kept, Ok(1));
    });
}

#[test]
fn wrong_digests_and_abandoned_writers_leave_nothing() {
    on_both(|root, _, snapshotter| {
        let tar = TarBuilder::new().file("a", 0o644, "x").finish();
        let mut writer = snapshotter.layer_writer().unwrap();
        writer.write_all(&tar).unwrap();
        let wanted: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        let result = writer.finish(Some(&wanted));
        assert!(matches!(result, Err(LayerError::Mismatch { .. })));
        let mut writer = snapshotter.layer_writer().unwrap();
        writer.write_all(&tar[..600]).unwrap();
        drop(writer);
        assert!(names(&root.join("layers")).is_empty());
        assert!(snapshotter.layers().is_empty());
    });
}

#[test]
fn one_layer_written_by_many_at_once_is_one_layer() {
    on_both(|root, choice, snapshotter| {
        let tar = TarBuilder::new()
            .file("a", 0o644, vec![3; 300_000])
            .finish();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| store(&*snapshotter, &tar));
            }
        });
        assert_eq!(snapshotter.layers().len(), 1);
        let left = names(&root.join("layers"));
        let parts = if choice == SnapshotterChoice::Erofs {
            2
        } else {
            3
        };
        assert_eq!(left.len(), parts, "{left:?}");
        let record = snapshotter.layer(&snapshotter.layers()[0]).unwrap();
        assert_eq!(
            (record.file_bytes, record.tar_bytes),
            (300_000, tar.len() as u64)
        );
    });
}
