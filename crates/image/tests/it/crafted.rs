//! Corners of the index: what GNU tar extracts from a made-up archive is the oracle, the kernel reads ours.

use std::fmt::Write;

use hoist_image::SnapshotterChoice;
use hoist_testkit::{EntryKind, TarBuilder};

use crate::real_tree::{compare_tar, compare_tar_in};

/// Every kind of inode, sizes around a block, ids and times that need more than 16 or 32 bits.
#[test]
fn inodes_of_every_kind_and_size() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    let mut tar = TarBuilder::new().modified(1_700_000_000).directory("d");
    for size in [0, 1, 511, 512, 513, 4095, 4096, 4097, 70_000, 3_000_001] {
        let content: Vec<u8> = (0..size)
            .map(|at: u32| ((at * 31 + size) % 251).try_into().unwrap())
            .collect();
        tar = tar.file(&format!("size-{size}"), 0o640, content);
    }
    for length in (1..620).step_by(7).chain([4000, 4095]) {
        tar = tar.symlink(&format!("link-{length}"), &"t".repeat(length));
    }
    let tar = tar
        .owner(65_536, 1_000_000)
        .entry("ids", 0o6755, &EntryKind::File(b"x".to_vec()), &[])
        .entry(
            "ids-pax",
            0o1777,
            &EntryKind::Directory,
            &[("uid", "4000000000"), ("gid", "70000")],
        )
        .entry(
            "old",
            0o644,
            &EntryKind::File(Vec::new()),
            &[("mtime", "-12345.5")],
        )
        .entry(
            "far",
            0o644,
            &EntryKind::File(Vec::new()),
            &[("mtime", "8589934593.123456789")],
        )
        .entry("char", 0o600, &EntryKind::CharacterDevice(5, 2), &[])
        .entry("block", 0o660, &EntryKind::BlockDevice(259, 1_000_000), &[])
        .entry("fifo", 0o622, &EntryKind::Fifo, &[])
        .hardlink("d/hard-1", "size-513")
        .hardlink("hard-2", "d/hard-1")
        .hardlink("hard-link", "link-8")
        .hardlink("hard-fifo", "fifo")
        .finish();
    compare_tar(&tar);
}

/// Names around the dots, of every byte and of every length; blocks that end exactly.
#[test]
fn directories_of_any_names_and_sizes() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    let mut tar = TarBuilder::new()
        .modified(7)
        .directory("bytes")
        .directory("lengths")
        .directory("exact");
    for byte in 1..=127_u8 {
        let byte = char::from(byte);
        if !matches!(byte, '/' | '.') {
            tar = tar.file(&format!("bytes/{byte}"), 0o644, "");
            tar = tar.file(&format!("bytes/.{byte}"), 0o644, "");
        }
    }
    for name in ["é", "日本語", "...", "..a", "-", "a\u{7f}"] {
        tar = tar.file(&format!("bytes/{name}"), 0o644, name);
    }
    for length in 1..=255 {
        tar = tar.file(&format!("lengths/{}", "n".repeat(length)), 0o644, "");
    }
    // 27 for the dots; then entries of exactly 97 bytes: five fill the first block.
    for number in 0..60 {
        tar = tar.file(&format!("exact/{number:085}"), 0o644, "");
    }
    let mut deep = String::new();
    for level in 0..150 {
        let _ = write!(deep, "level-{level}/");
        tar = tar.directory(&deep);
    }
    let tar = tar.file(&format!("{deep}bottom"), 0o600, "deep").finish();
    compare_tar(&tar);
}

#[test]
fn seventy_thousand_entries_in_one_directory() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    let mut tar = TarBuilder::new().directory("many");
    for number in 0..70_000_u32 {
        let scrambled = number.wrapping_mul(2_654_435_761);
        tar = tar.file(
            &format!("many/{scrambled:x}"),
            0o644,
            if number % 1000 == 0 { "x" } else { "" },
        );
    }
    compare_tar_in(&tar.finish(), &[SnapshotterChoice::Erofs]);
}

#[test]
fn extended_attributes() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    let long = "v".repeat(3000);
    let name = format!("SCHILY.xattr.user.{}", "n".repeat(250));
    // VFS_CAP_REVISION_2 with cap_net_raw, and an ACL of five entries, as getxattr gives them.
    let capability = "\u{1}\0\0\u{2}\0\u{20}\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let file = || EntryKind::File(b"content".to_vec());
    let mut many: Vec<(String, String)> = Vec::new();
    for number in 0..40 {
        many.push((
            format!("SCHILY.xattr.user.number-{number}"),
            "v".repeat(number),
        ));
    }
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (&**key, &**value)).collect();
    let tar = TarBuilder::new()
        .modified(9)
        .entry(
            "ping",
            0o755,
            &file(),
            &[("SCHILY.xattr.security.capability", capability)],
        )
        .entry(
            "user",
            0o644,
            &file(),
            &[
                ("SCHILY.xattr.user.a", "1"),
                ("SCHILY.xattr.user.empty", ""),
            ],
        )
        .entry(
            "trusted",
            0o644,
            &file(),
            &[("SCHILY.xattr.trusted.b", "2")],
        )
        .entry("long", 0o644, &file(), &[(&name, &long)])
        .entry("many", 0o644, &file(), &many)
        .entry("directory", 0o755, &EntryKind::Directory, &many)
        .entry("directory/inside", 0o755, &file(), &many[..3])
        .entry(
            "link",
            0o777,
            &EntryKind::Symlink("ping".into()),
            &[("SCHILY.xattr.trusted.l", &long)],
        )
        .finish();
    compare_tar(&tar);
}
