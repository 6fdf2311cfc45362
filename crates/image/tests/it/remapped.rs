//! Containers whose users are others on the host, on both forms of layers.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use hoist_image::files::{self, Root, UnpackOptions};
use hoist_image::{
    Changes, Ids, Remap, SnapshotError, Snapshotter, open_remapping_snapshotter, open_snapshotter,
};
use hoist_model::{ContainerId, IdMap, NOBODY, UserMapping};
use hoist_testkit::TarBuilder;

use crate::contract::BOTH;
use crate::listing::path_of;
use crate::real_tree::store;

const FIRST: u32 = 300_000;

/// A user namespace with this mapping, made by util-linux.
fn namespace(mapping: &UserMapping) -> OwnedFd {
    // It tells that it is in its namespace by its first word, and ends with its input.
    let mut process = Command::new("unshare")
        .args(["--user", "sh", "-c", "echo in; read end"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0; 3];
    let told = process.stdout.as_mut().unwrap().read_exact(&mut word);
    told.unwrap();
    let of = |name: &str| format!("/proc/{}/{name}", process.id());
    fs::write(of("uid_map"), mapping.users.text()).unwrap();
    fs::write(of("gid_map"), mapping.groups.text()).unwrap();
    let opened = fs::File::open(of("ns/user")).unwrap();
    drop(process.stdin.take());
    process.wait().unwrap();
    opened.into()
}

fn remap() -> Arc<Remap> {
    let map = IdMap::stacked([(FIRST, 65_536)]);
    let mapping = UserMapping {
        users: map.clone(),
        groups: map,
    };
    Arc::new(Remap {
        namespace: namespace(&mapping),
        reverse: namespace(&mapping.reversed()),
        mapping: Arc::new(mapping),
    })
}

fn key(number: u8) -> ContainerId {
    ContainerId::from_bytes(&[number; 32])
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

/// Names and owners in a tar of small files (POSIX ustar).
fn owners(mut tar: &[u8]) -> Vec<(String, (u32, u32))> {
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0);
        String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
    };
    let mut found = Vec::new();
    while tar[0] != 0 {
        let number =
            |from: usize, to: usize| u32::from_str_radix(text(&tar[from..to]).trim(), 8).unwrap();
        found.push((text(&tar[..100]), (number(108, 116), number(116, 124))));
        let blocks = number(124, 136).div_ceil(512);
        tar = &tar[512 + 512 * usize::try_from(blocks).unwrap()..];
    }
    found
}

fn on_both(case: impl Fn(&Path, &dyn Snapshotter, &Arc<Remap>)) {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    let remap = remap();
    for choice in BOTH {
        let root = tempfile::tempdir().unwrap();
        match open_remapping_snapshotter(root.path(), choice, Some(remap.clone())) {
            Ok(snapshotter) => case(root.path(), &*snapshotter, &remap),
            Err(SnapshotError::NotRemapped { .. } | SnapshotError::Unsupported { .. }) => {
                hoist_testkit::skip(&format!("{choice:?}: no id-mapped lowers here"));
            }
            Err(error) => panic!("{choice:?}: {error}"),
        }
    }
}

/// A root of an image, and in it a file of user 5, group 6.
fn image(snapshotter: &dyn Snapshotter) -> hoist_model::Digest {
    let tar = TarBuilder::new()
        .directory(".")
        .directory("etc")
        .owner(5, 6)
        .file("etc/config", 0o644, "text")
        .finish();
    store(snapshotter, &tar)
}

#[test]
fn files_are_others_on_the_host_and_told_of_as_inside() {
    on_both(|_, snapshotter, remap| {
        let layer = image(snapshotter);
        let layers = [layer];
        snapshotter
            .prepare(&key(1), &layers, Ids::Remapped)
            .unwrap();
        snapshotter.prepare(&key(2), &layers, Ids::Host).unwrap();
        let mount = snapshotter.mount(&key(1), Changes::Kept).unwrap();
        let root = path_of(&mount);
        for place in ["", "etc", "proc", "etc/hosts"] {
            assert_eq!(owner(root.join(place)), (FIRST, FIRST), "{place:?}");
        }
        assert_eq!(owner(root.join("etc/config")), (FIRST + 5, FIRST + 6));
        // What a process inside does: copy up, make, and give away.
        let mut file = fs::OpenOptions::new();
        let mut file = file.append(true).open(root.join("etc/config")).unwrap();
        file.write_all(b", changed").unwrap();
        fs::write(root.join("made"), "x").unwrap();
        chown(root.join("made"), Some(FIRST + 7), Some(FIRST + 8)).unwrap();
        fs::write(root.join("strange"), "of the host's root").unwrap();
        // Another that shares the host's users, over the same layers.
        let plain = snapshotter.mount(&key(2), Changes::Kept).unwrap();
        assert_eq!(owner(path_of(&plain).join("etc/config")), (5, 6));
        // Changes, and the whole, as its processes see them.
        let upper = snapshotter.upper(&key(1)).unwrap();
        let seen = snapshotter.seen(&key(1)).unwrap();
        for view in [path_of(&upper), path_of(&seen)] {
            assert_eq!(owner(&view), (0, 0));
            assert_eq!(owner(view.join("etc/config")), (5, 6));
            assert_eq!(owner(view.join("made")), (7, 8));
            assert_eq!(owner(view.join("strange")), (NOBODY, NOBODY));
        }
        let lower = snapshotter.view(&layers, Ids::Host).unwrap();
        let changes = files::differences(&Root::new(upper), &Root::new(lower)).unwrap();
        let told: Vec<_> = changes
            .iter()
            .map(|c| String::from_utf8_lossy(&c.path))
            .collect();
        assert_eq!(told, ["/etc", "/etc/config", "/made", "/strange"]);
        let image = snapshotter.view(&layers, Ids::Remapped).unwrap();
        assert_eq!(
            owner(path_of(&image).join("etc/config")),
            (FIRST + 5, FIRST + 6)
        );
        assert_eq!(remap.mapping.root(), (FIRST, FIRST));
    });
}

#[test]
fn archives_carry_the_ids_of_inside_both_ways() {
    on_both(|_, snapshotter, remap| {
        let layer = image(snapshotter);
        snapshotter
            .prepare(&key(1), &[layer], Ids::Remapped)
            .unwrap();
        let mount = snapshotter.mount(&key(1), Changes::Kept).unwrap();
        let path = path_of(&mount);
        let root = Root::remapped(mount.try_clone().unwrap(), remap.mapping.clone());
        let tar = TarBuilder::new()
            .owner(1, 2)
            .directory("new/deep")
            .owner(3, 4)
            .file("new/file", 0o644, "x")
            .finish();
        files::unpack(&root, "/", &*tar, UnpackOptions::default()).unwrap();
        assert_eq!(owner(path.join("new")), (FIRST, FIRST), "made on the way");
        assert_eq!(owner(path.join("new/deep")), (FIRST + 1, FIRST + 2));
        assert_eq!(owner(path.join("new/file")), (FIRST + 3, FIRST + 4));
        symlink("file", path.join("new/of-the-host")).unwrap();
        let mut packed = Vec::new();
        files::pack(&root, "/new", &mut packed).unwrap();
        let listed = owners(&packed);
        let expected = [
            ("new/", (0, 0)),
            ("new/deep/", (1, 2)),
            ("new/file", (3, 4)),
            ("new/of-the-host", (NOBODY, NOBODY)),
        ];
        assert_eq!(
            listed,
            expected.map(|(name, owner)| (name.to_owned(), owner))
        );
        // Ids that nobody is on the host are refused, not given to somebody else.
        let tar = TarBuilder::new()
            .owner(65_536, 0)
            .file("beyond", 0o644, "")
            .finish();
        let error = files::unpack(&root, "/", &*tar, UnpackOptions::default()).unwrap_err();
        assert!(error.to_string().contains("beyond"), "{error}");
        assert!(!path.join("beyond").exists() || owner(path.join("beyond")) != (65_536, 0));
    });
}

#[test]
fn an_engine_that_does_not_remap_refuses_what_one_that_does_has_made() {
    on_both(|root, snapshotter, _| {
        let layer = image(snapshotter);
        snapshotter
            .prepare(&key(1), &[layer], Ids::Remapped)
            .unwrap();
        let other = open_snapshotter(root, hoist_image::SnapshotterChoice::Auto).unwrap();
        assert_eq!(other.prepared(), [key(1)]);
        let refused = other.mount(&key(1), Changes::Kept).unwrap_err();
        assert!(refused.to_string().contains("userns-remap"), "{refused}");
        assert!(other.upper(&key(1)).is_err());
        drop(other.remove(&key(1)).unwrap());
    });
}
