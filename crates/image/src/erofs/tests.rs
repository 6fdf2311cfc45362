//! The index's bytes, fixed: a change of the format shows here and needs a version.

use expect_test::expect;
use hoist_model::Digest;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::tar::{Entry, EntryKind};
use crate::tree::Tree;

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: 0o644,
        uid: 1,
        gid: 70_000,
        mtime: 1_700_000_000,
        mtime_nanos: 5,
        xattrs: vec![(b"user.k".to_vec(), b"v".to_vec())],
    }
}

fn index() -> (Vec<u8>, IndexSummary) {
    let mut tree = Tree::new();
    let target = b"a".to_vec();
    for entry in [
        entry("", EntryKind::Directory),
        entry(
            "a",
            EntryKind::File {
                size: 700,
                offset: 1024,
            },
        ),
        entry("d/link", EntryKind::Symlink { target }),
        entry("d/device", EntryKind::CharDevice { major: 5, minor: 2 }),
        entry(".wh.gone", EntryKind::File { size: 0, offset: 0 }),
    ] {
        tree.apply(entry).unwrap();
    }
    let mut bytes = Vec::new();
    let digest = Digest::from_sha256(&[0xab; 32]);
    let summary = write_index(&tree, &digest, 10_240, &mut bytes).unwrap();
    (bytes, summary)
}

#[test]
fn version_one_is_these_bytes() {
    let (bytes, summary) = index();
    let mut shown = format!("{:02x?}\n", &Sha256::digest(&bytes)[..8]);
    let mut dump = |what: &str, from: usize, to: usize| {
        for (row, part) in bytes[from..to].chunks(16).enumerate() {
            let hex: Vec<String> = part.iter().map(|b| format!("{b:02x}")).collect();
            shown += &format!("{what} {:4}: {}\n", from + row * 16, hex.join(" "));
        }
    };
    dump("super", 1024, 1120);
    dump("device", 1216, 1232);
    dump("ours", 1280, 1328);
    dump("root", 1536, 1600);
    expect![[r#"
        [75, 4c, 85, f5, 30, b6, b1, 51]
        super 1024: e2 e1 f5 e0 36 d3 57 95 03 00 00 00 09 00 30 00
        super 1040: 06 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
        super 1056: 00 00 00 00 05 00 00 00 00 00 00 00 00 00 00 00
        super 1072: ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab
        super 1088: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
        super 1104: 08 00 00 00 00 00 01 00 09 00 00 00 00 00 00 00
        device 1216: 14 00 00 00 05 00 00 00 00 00 00 00 00 00 00 00
        ours 1280: 68 6f 69 73 74 69 64 78 01 00 00 00 01 00 00 00
        ours 1296: 00 28 00 00 00 00 00 00 bc 02 00 00 00 00 00 00
        ours 1312: 00 0a 00 00 00 00 00 00 00 00 00 00 00 00 00 00
        root 1536: 05 00 03 00 a4 41 00 00 45 00 00 00 00 00 00 00
        root 1552: ff ff ff ff 30 00 00 00 01 00 00 00 70 11 01 00
        root 1568: 00 f1 53 65 00 00 00 00 05 00 00 00 03 00 00 00
        root 1584: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    "#]]
    .assert_eq(&shown);
    assert_eq!(summary.index_bytes, bytes.len() as u64);
}

#[test]
fn the_summary_is_read_back_and_damage_is_seen() {
    let (mut bytes, summary) = index();
    assert_eq!(read_summary(&bytes), Some(summary.clone()));
    let root = RootAttributes {
        mode: 0o644,
        uid: 1,
        gid: 70_000,
    };
    assert_eq!((summary.root, summary.file_bytes), (Some(root), 700));
    assert_eq!(read_summary(&bytes[..1000]), None);
    for at in [1030, 1160, 1285, 1300, 1500] {
        bytes[at] ^= 1;
        assert_eq!(read_summary(&bytes), None, "byte {at}");
        bytes[at] ^= 1;
    }
}
