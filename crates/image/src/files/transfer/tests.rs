use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::{Item, Source, TransferOptions, transfer, transfer_digest, transfer_directory};
use crate::files::{FilesError, Root};
use crate::tar::{Archive, EntryKind};

const AS_IT_IS: TransferOptions<'static> = TransferOptions {
    owner: None,
    unpacked_owner: None,
    keep_tops: true,
    mode: None,
    skip: &|_| false,
};

fn root(path: &Path) -> Root {
    Root::new(File::open(path).unwrap().into())
}

fn item(from: &str, to: &str) -> Item {
    Item {
        from: from.to_owned(),
        to: to.to_owned(),
        unpack_into: None,
    }
}

struct Trees {
    _dir: tempfile::TempDir,
    from: Root,
    below: Root,
    path: std::path::PathBuf,
}

fn trees() -> Trees {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    let below = dir.path().join("below");
    fs::create_dir_all(from.join("a/deep")).unwrap();
    fs::write(from.join("a/file"), "text").unwrap();
    fs::hard_link(from.join("a/file"), from.join("a/other")).unwrap();
    fs::write(from.join("a/deep/x"), "x").unwrap();
    symlink("file", from.join("a/link")).unwrap();
    symlink("a/file", from.join("top")).unwrap();
    fs::set_permissions(from.join("a/deep"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir_all(below.join("srv/app/deep")).unwrap();
    fs::set_permissions(below.join("srv"), fs::Permissions::from_mode(0o711)).unwrap();
    symlink("/srv/app", below.join("app")).unwrap();
    fs::write(below.join("srv/plain"), "").unwrap();
    Trees {
        from: root(&from),
        below: root(&below),
        path: dir.path().to_owned(),
        _dir: dir,
    }
}

fn listed(tar: &[u8]) -> String {
    let mut archive = Archive::new(tar);
    let mut lines = String::new();
    while let Some(entry) = archive.next_entry().unwrap() {
        let kind = match &entry.kind {
            EntryKind::Directory => "directory".to_owned(),
            EntryKind::File { size, .. } => format!("file {size}"),
            EntryKind::HardLink { target } => format!("same as {}", target.escape_ascii()),
            EntryKind::Symlink { target } => format!("link {}", target.escape_ascii()),
            other => format!("{other:?}"),
        };
        let (path, mode) = (entry.path.escape_ascii(), entry.mode);
        lines += &format!("{path} {mode:o} {}:{} {kind}\n", entry.uid, entry.gid);
    }
    lines
}

fn moved(trees: &Trees, items: &[Item], options: &TransferOptions<'_>) -> String {
    let mut tar = Vec::new();
    let source = Source {
        root: &trees.from,
        items,
    };
    match transfer(&[source], options, &trees.below, &mut tar) {
        Ok(_) => listed(&tar),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_a_directory_holds_goes_where_links_lead() {
    let trees = trees();
    expect_test::expect![[r"
        srv 711 0:0 directory
        srv/app 755 0:0 directory
        srv/app/deep 700 0:0 directory
        srv/app/deep/x 644 0:0 file 1
        srv/app/file 644 0:0 file 4
        srv/app/link 777 0:0 link file
        srv/app/other 644 0:0 same as srv/app/file
    "]]
    .assert_eq(&moved(&trees, &[item("a", "/app/")], &AS_IT_IS));
}

#[test]
fn what_is_missing_above_is_made_and_belongs_to_whom_it_is_for() {
    let trees = trees();
    let options = TransferOptions {
        owner: Some((5, 6)),
        unpacked_owner: None,
        keep_tops: false,
        mode: Some(&|_, is_directory| if is_directory { 0o750 } else { 0o640 }),
        skip: &|path| path == "deep",
    };
    expect_test::expect![[r#"
        new 755 5:6 directory
        new/at 755 5:6 directory
        new/at/file 640 5:6 file 4
        new/at/link 777 5:6 link file
        new/at/other 640 5:6 same as new/at/file
        srv 711 0:0 directory
        srv/plain 640 5:6 file 4
    "#]]
    .assert_eq(&moved(
        &trees,
        &[item("a", "/new/at"), item("top", "/srv/plain")],
        &options,
    ));
}

#[test]
fn nothing_of_another_kind_gives_way() {
    let trees = trees();
    assert_eq!(
        moved(&trees, &[item("a/file", "/srv/app")], &AS_IT_IS),
        "cannot overwrite directory \"srv/app\" with non-directory \"/\""
    );
    assert_eq!(
        moved(&trees, &[item("a", "/srv/plain")], &AS_IT_IS),
        "cannot overwrite non-directory \"srv/plain\" with directory \"/\""
    );
    assert_eq!(
        moved(&trees, &[item("a/file", "/srv/plain/x")], &AS_IT_IS),
        "making srv/plain"
    );
    assert_eq!(
        moved(&trees, &[item("none", "/x")], &AS_IT_IS),
        "none: no such file or directory"
    );
}

#[test]
fn a_directory_alone_is_made_once() {
    let trees = trees();
    let made = |path| {
        let mut tar = Vec::new();
        transfer_directory(path, None, &trees.below, &mut tar).map(|_| listed(&tar))
    };
    assert_eq!(made("/app/deep").unwrap(), "");
    assert_eq!(made("/").unwrap(), "");
    expect_test::expect![[r"
        srv 711 0:0 directory
        srv/app 755 0:0 directory
        srv/app/x 755 0:0 directory
        srv/app/x/y 755 0:0 directory
    "]]
    .assert_eq(&made("/app/x/y").unwrap());
    assert!(matches!(made("/srv/plain"), Err(FilesError::Io { .. })));
}

#[test]
fn the_digest_is_of_content_and_not_of_time() {
    let trees = trees();
    let source = Source {
        root: &trees.from,
        items: &[item("a", "/x")],
    };
    let digest = || transfer_digest(&[source], &AS_IT_IS).unwrap();
    let first = digest();
    let file = trees.path.join("from/a/deep/x");
    let open = File::options().write(true).open(&file).unwrap();
    open.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(digest(), first);
    fs::write(&file, "y").unwrap();
    let second = digest();
    assert_ne!(second, first);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(digest(), second);
}

fn archive_over_below(tar: Vec<u8>, into: &str, owner: Option<(u32, u32)>) -> String {
    let trees = trees();
    fs::write(trees.path.join("from/a.tar"), tar).unwrap();
    let mut item = item("a.tar", into);
    item.unpack_into = Some(into.to_owned());
    moved(
        &trees,
        &[item],
        &TransferOptions {
            unpacked_owner: owner,
            ..AS_IT_IS
        },
    )
}

#[test]
fn an_archive_goes_where_links_lead_also_its_own() {
    let tar = hoist_testkit::TarBuilder::new()
        .owner(3, 4)
        .symlink("own", "app/deep")
        .file("own/through", 0o600, "1")
        .symlink("up", "../../../..")
        .file("up/etc/outside", 0o600, "1")
        .hardlink("own/again", "own/through")
        .file("app/deep/x", 0o644, "2")
        .finish();
    expect_test::expect![[r"
        own 777 3:4 link app/deep
        srv 711 0:0 directory
        srv/app 755 0:0 directory
        srv/app/deep 755 0:0 directory
        srv/app/deep/through 600 3:4 file 1
        up 777 3:4 link ../../../..
        etc 755 0:0 directory
        etc/outside 600 3:4 file 1
        srv/app/deep/again 755 3:4 same as srv/app/deep/through
        srv/app/deep/x 644 3:4 file 1
    "]]
    .assert_eq(&archive_over_below(tar, "/", None));
}

#[test]
fn what_an_archive_meets_gives_way_but_a_directory() {
    let tar = hoist_testkit::TarBuilder::new()
        .entry("app/", 0o700, &hoist_testkit::EntryKind::Directory, &[])
        .file("srv", 0o600, "1")
        .directory("srv")
        .file("srv/plain", 0o600, "1")
        .hardlink("srv/other", "srv/app/deep")
        .finish();
    let said = archive_over_below(tar, "/", Some((5, 6)));
    assert_eq!(said, "linking to srv/app/deep");
    let tar = hoist_testkit::TarBuilder::new()
        .entry("app/", 0o700, &hoist_testkit::EntryKind::Directory, &[])
        .directory("srv/plain")
        .hardlink("srv/new", "srv/plain/none");
    let said = archive_over_below(tar.finish(), "/", Some((5, 6)));
    assert_eq!(said, "linking to srv/plain/none");
    let tar = hoist_testkit::TarBuilder::new()
        .entry("app/", 0o700, &hoist_testkit::EntryKind::Directory, &[])
        .hardlink("copied", "srv/plain")
        .directory("srv/plain")
        .finish();
    expect_test::expect![[r"
        app 700 5:6 directory
        copied 644 0:0 file 0
        srv 711 0:0 directory
        srv/plain 755 5:6 directory
    "]]
    .assert_eq(&archive_over_below(tar, "/", Some((5, 6))));
}

#[test]
fn what_is_no_archive_is_copied() {
    for content in [&b"text"[..], b"", &[0; 2048], b"BZh91AY not"] {
        let copied = archive_over_below(content.to_vec(), "/srv/plain", None);
        let size = content.len();
        assert_eq!(
            copied,
            format!("srv 711 0:0 directory\nsrv/plain 644 0:0 file {size}\n")
        );
    }
    let cut = hoist_testkit::TarBuilder::new()
        .file("x", 0o644, vec![1; 4096])
        .unfinished();
    let said = archive_over_below(cut[..2048].to_vec(), "/", None);
    assert_eq!(said, "writing the archive");
}
