//! A tree as it is in real images, through GNU tar and back: what a mount shows is what `tar -x` makes.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use hoist_image::{Snapshotter, SnapshotterChoice, open_snapshotter};
use hoist_model::Digest;

use crate::listing::{assert_same, list, path_of};

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
    let (tar, out) = (work.path().join("a.tar"), work.path().join("out"));
    std::fs::create_dir(&out).unwrap();
    let xattrs: &[&str] = if format == "pax" {
        &["--xattrs", "--xattrs-include=*"]
    } else {
        &[]
    };
    let mut pack = Command::new("tar");
    pack.args(xattrs).args(["--numeric-owner", "--sort=name"]);
    pack.arg(format!("--format={format}")).arg("-cf").arg(&tar);
    run(pack.arg("-C").arg(source).args(names));
    let mut unpack = Command::new("tar");
    unpack
        .args(xattrs)
        .args(["--numeric-owner", "-xpf"])
        .arg(&tar);
    run(unpack.arg("-C").arg(&out));
    let bytes = std::fs::read(&tar).unwrap();
    for choice in [SnapshotterChoice::Erofs, SnapshotterChoice::Directory] {
        let root = work.path().join(format!("{choice:?}"));
        let snapshotter = open_snapshotter(&root, choice).unwrap();
        let layer = store(&*snapshotter, &bytes);
        let view = snapshotter.view(std::slice::from_ref(&layer)).unwrap();
        let (mut wanted, mut found) = (list(&out), list(&path_of(&view)));
        for listing in [&mut wanted, &mut found] {
            listing.retain(|path, _| !path.is_empty());
            for line in listing.values_mut() {
                // overlay says 1 for every directory
                if let Some(at) = line.find(" links ").filter(|_| line.starts_with('4')) {
                    let end = line[at + 7..].find(' ').map_or(line.len(), |n| at + 7 + n);
                    line.replace_range(at..end, "");
                }
            }
        }
        assert_same(&wanted, &found);
        let mut back = Vec::new();
        snapshotter
            .open_tar(&layer)
            .unwrap()
            .read_to_end(&mut back)
            .unwrap();
        assert!(back == bytes, "the tar changed");
    }
}

#[test]
fn a_mounted_layer_is_what_tar_extracts() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    compare("gnu", Path::new("/usr/share"), &["zoneinfo"]);
    compare("pax", Path::new("/"), &["etc", "sbin"]);
}
