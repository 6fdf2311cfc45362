//! Containers' directories are spread over the groups of an ext4 without a journal, and left alone on one with.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use hoist_image::{SnapshotterChoice, open_snapshotter};
use rustix::fs::{IFlags, ioctl_getflags};

/// An ext4 in a file, mounted through a loop device; unmounted at the end, which lets go of the device.
struct Ext4(PathBuf);

impl Ext4 {
    /// `None`, and a skip, where the machine makes no such disk.
    fn new(place: &Path, features: &str) -> Option<Self> {
        let (file, at) = (place.join("ext4"), place.join("disk"));
        fs::create_dir_all(&at).unwrap();
        File::create(&file).unwrap().set_len(96 << 20).unwrap();
        let ran = |command: &mut Command| command.status().is_ok_and(|status| status.success());
        if !ran(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-O", features])
            .arg(&file))
        {
            hoist_testkit::skip("mkfs.ext4 is not installed");
            return None;
        }
        if !ran(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&file)
            .arg(&at))
        {
            hoist_testkit::skip("no loop device");
            return None;
        }
        Some(Self(at))
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn directories_are_spread_where_there_is_no_journal() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    for (features, spread) in [("^has_journal", true), ("has_journal", false)] {
        let place = tempfile::tempdir().unwrap();
        let Some(disk) = Ext4::new(place.path(), features) else {
            return;
        };
        drop(open_snapshotter(&disk.0, SnapshotterChoice::Directory).unwrap());
        let snapshots = File::open(disk.0.join("snapshots")).unwrap();
        let flags = ioctl_getflags(&snapshots).unwrap();
        assert_eq!(flags.contains(IFlags::TOPDIR), spread, "{features}");
        // Once is enough: another engine finds it as it is.
        hoist_image::scatter(&snapshots);
        assert_eq!(ioctl_getflags(&snapshots).unwrap(), flags);
        drop(snapshots);
    }
}
