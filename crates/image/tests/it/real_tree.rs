//! A tree as it is in real images, through GNU tar and back: what a mount shows is what `tar -x` makes.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use hoist_image::{Ids, Snapshotter, SnapshotterChoice, open_snapshotter};
use hoist_model::Digest;

use crate::listing::{Listing, assert_same, foreign_path_of, list, path_of, tmpfs};

/// Stores a tar as a layer.
pub(crate) fn store(snapshotter: &dyn Snapshotter, tar: &[u8]) -> Digest {
    let mut writer = snapshotter.layer_writer().unwrap();
    for chunk in tar.chunks(100_003) {
        writer.write_all(chunk).unwrap();
    }
    writer.finish(None).unwrap().diff_id
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn compare(format: &str, source: &Path, names: &[&str]) {
    let work = tempfile::tempdir().unwrap();
    let tar = work.path().join("a.tar");
    let mut pack = Command::new("tar");
    if format == "pax" {
        pack.args(XATTRS);
    }
    pack.args(["--numeric-owner", "--sort=name"]);
    pack.arg(format!("--format={format}")).arg("-cf").arg(&tar);
    run(pack.arg("-C").arg(source).args(names));
    compare_tar(&std::fs::read(&tar).unwrap());
}

const XATTRS: [&str; 2] = ["--xattrs", "--xattrs-include=*"];

/// Stores a tar in both forms; each must show what GNU tar extracts, and give the tar back.
pub(crate) fn compare_tar(bytes: &[u8]) {
    compare_tar_in(
        bytes,
        &[SnapshotterChoice::Erofs, SnapshotterChoice::Directory],
    );
}

/// The same in some forms.
pub(crate) fn compare_tar_in(bytes: &[u8], choices: &[SnapshotterChoice]) {
    let work = tempfile::tempdir().unwrap();
    let tar = work.path().join("a.tar");
    let extracted = tmpfs("90%");
    let out = path_of(&extracted);
    std::fs::write(&tar, bytes).unwrap();
    let mut unpack = Command::new("tar");
    unpack
        .args(XATTRS)
        .args(["--numeric-owner", "--delay-directory-restore", "-xpf"])
        .arg(&tar);
    run(unpack.arg("-C").arg(foreign_path_of(&extracted)));
    let wanted = without_roots_and_links(list(&out));
    for choice in choices {
        let root = work.path().join(format!("{choice:?}"));
        let snapshotter = open_snapshotter(&root, *choice).unwrap();
        let layer = store(&*snapshotter, bytes);
        let view = snapshotter
            .view(std::slice::from_ref(&layer), Ids::Host)
            .unwrap();
        let found = without_roots_and_links(list(&path_of(&view)));
        assert_same(&wanted, &found);
        let mut back = Vec::new();
        let mut stored = snapshotter.open_tar(&layer).unwrap();
        stored.read_to_end(&mut back).unwrap();
        assert!(back == bytes, "the tar changed");
    }
}

/// The root is no entry of these tars, and overlay says 1 for the links of every directory.
fn without_roots_and_links(mut listing: Listing) -> Listing {
    listing.remove("");
    for line in listing.values_mut().filter(|line| line.starts_with('4')) {
        if let Some(at) = line.find(" links ") {
            let end = line[at + 7..].find(' ');
            line.replace_range(at..end.map_or(line.len(), |end| at + 7 + end), "");
        }
    }
    listing
}

#[test]
fn a_mounted_layer_is_what_tar_extracts() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    compare("gnu", Path::new("/usr/share"), &["zoneinfo"]);
    compare("pax", Path::new("/"), &["etc", "sbin"]);
}
