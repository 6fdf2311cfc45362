//! Files copied in and out below a hostile root, and trees compared.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use hoist_image::files::{self, Change, ChangeKind, FilesError, Root, UnpackOptions};
use rustix::fs::{CWD, RenameFlags, renameat_with};

fn root(path: &Path) -> Root {
    Root::new(fs::File::open(path).unwrap().into())
}

fn packed(root: &Root, path: &str) -> Vec<u8> {
    let mut out = Vec::new();
    files::pack(root, path, &mut out).unwrap();
    out
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| String::from_utf8_lossy(&entry.unwrap().path_bytes()).into_owned())
        .collect()
}

fn unpacked(root: &Root, path: &str, tar: &[u8]) -> Result<(), FilesError> {
    files::unpack(root, path, tar, UnpackOptions::default())
}

#[test]
fn what_is_packed_is_unpacked_alike() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    fs::create_dir_all(at.join("from/sub")).unwrap();
    fs::create_dir(at.join("to")).unwrap();
    fs::write(at.join("from/file"), "text").unwrap();
    fs::hard_link(at.join("from/file"), at.join("from/sub/link")).unwrap();
    symlink("/nowhere/at/all", at.join("from/dangling")).unwrap();
    let fifo = at.join("from/fifo");
    rustix::fs::mknodat(
        CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    std::os::unix::fs::chown(at.join("from/file"), Some(7), Some(8)).unwrap();
    fs::set_permissions(at.join("from/file"), PermissionsExt::from_mode(0o4711)).unwrap();
    let root = root(at);
    let tar = packed(&root, "/from/.");
    assert_eq!(
        names(&tar),
        [
            "./",
            "./dangling",
            "./fifo",
            "./file",
            "./sub/",
            "./sub/link"
        ]
    );
    assert_eq!(names(&packed(&root, "from"))[0], "from/");
    assert_eq!(names(&packed(&root, "from/dangling")), ["dangling"]);
    unpacked(&root, "to", &tar).unwrap();
    let file = fs::metadata(at.join("to/file")).unwrap();
    assert_eq!(
        (file.uid(), file.gid(), file.mode() & 0o7777),
        (7, 8, 0o4711)
    );
    assert_eq!(
        file.ino(),
        fs::metadata(at.join("to/sub/link")).unwrap().ino()
    );
    assert!(
        fs::metadata(at.join("to/fifo"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    // Again: files give way, directories stay.
    fs::write(at.join("to/sub/own"), "kept").unwrap();
    unpacked(&root, "to", &tar).unwrap();
    assert!(at.join("to/sub/own").exists());
}

#[test]
fn kinds_are_kept_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    fs::create_dir_all(at.join("from/x")).unwrap();
    fs::create_dir_all(at.join("to")).unwrap();
    fs::write(at.join("to/x"), "file").unwrap();
    let root = root(at);
    let tar = packed(&root, "from/.");
    let keep = UnpackOptions {
        keep_kinds: true,
        ..UnpackOptions::default()
    };
    let refused = files::unpack(&root, "to", tar.as_slice(), keep).unwrap_err();
    assert_eq!(
        refused.to_string(),
        r#"cannot overwrite non-directory "/to/x" with directory "/to""#
    );
    unpacked(&root, "to", &tar).unwrap();
    assert!(at.join("to/x").is_dir());
    let error = unpacked(&root, "none", &tar).unwrap_err();
    assert!(matches!(error, FilesError::NotFound(_)), "{error}");
    fs::write(at.join("file"), "").unwrap();
    let error = unpacked(&root, "file", &tar).unwrap_err();
    assert!(matches!(error, FilesError::NotDirectory), "{error}");
}

/// A process of the container swaps a directory for a link that leads out, as fast as it can, while files are copied in and
/// out through it (CVE-2018-15664).
#[test]
fn a_racing_link_leads_nowhere_outside() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let inside = at.join("root");
    fs::create_dir_all(inside.join("swap")).unwrap();
    fs::create_dir_all(at.join("outside")).unwrap();
    fs::write(at.join("outside/secret"), "secret").unwrap();
    fs::write(inside.join("swap/plain"), "plain").unwrap();
    symlink(at.join("outside"), inside.join("link")).unwrap();
    symlink("../outside", inside.join("up")).unwrap();
    let source = at.join("source");
    fs::create_dir_all(source.join("swap/deep")).unwrap();
    fs::write(source.join("swap/file"), "planted").unwrap();
    fs::write(source.join("swap/deep/file"), "planted").unwrap();
    let tar = packed(&root(&source), "/.");
    let root = root(&inside);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = false;
            while !done.load(Ordering::Relaxed) {
                let other = inside.join(if turn { "link" } else { "up" });
                turn = !turn;
                let swap = inside.join("swap");
                let _ = renameat_with(CWD, &swap, CWD, &other, RenameFlags::EXCHANGE);
                let _ = renameat_with(CWD, &swap, CWD, &other, RenameFlags::EXCHANGE);
            }
        });
        for _ in 0..300 {
            // It may fail; it may not get out.
            let _ = unpacked(&root, "/", &tar);
            let _ = unpacked(&root, "/swap", &tar);
            let mut out = Vec::new();
            for path in ["/", "/swap/.", "/swap/secret", "/swap/"] {
                let _ = files::pack(&root, path, &mut out);
            }
            assert!(!out.windows(6).any(|bytes| bytes == b"secret"));
        }
        done.store(true, Ordering::Relaxed);
    });
    let left: Vec<_> = fs::read_dir(at.join("outside"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["secret"]);
}

#[test]
fn changes_are_told_as_docker_tells_them() {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
    for path in ["lower/etc", "lower/gone", "lower/hidden/sub", "lower/same"] {
        fs::create_dir_all(dir.path().join(path)).unwrap();
    }
    for path in ["lower/etc/passwd", "lower/hidden/old", "lower/gone/file"] {
        fs::write(dir.path().join(path), "old").unwrap();
    }
    for path in [
        "upper/etc",
        "upper/hidden",
        "upper/new/deep",
        "upper/same",
        "upper/proc",
    ] {
        fs::create_dir_all(dir.path().join(path)).unwrap();
    }
    fs::write(upper.join("etc/passwd"), "changed").unwrap();
    fs::write(upper.join("etc/hosts"), "").unwrap();
    fs::write(upper.join("new/deep/file"), "x").unwrap();
    fs::write(upper.join("hidden/fresh"), "x").unwrap();
    let whiteout = |path: &str| {
        let (kind, mode) = (
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::empty(),
        );
        rustix::fs::mknodat(CWD, upper.join(path), kind, mode, 0).unwrap();
    };
    whiteout("gone");
    whiteout("never-was");
    let hidden = fs::File::open(upper.join("hidden")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::fsetxattr(&hidden, "trusted.overlay.opaque", b"y", flags).unwrap();
    let (above, below) = (root(&upper), root(&lower));
    let changes = files::differences(&above, &below).unwrap();
    let shown: Vec<String> = changes
        .iter()
        .map(|Change { path, kind }| {
            let letter = match kind {
                ChangeKind::Modified => 'C',
                ChangeKind::Added => 'A',
                ChangeKind::Deleted => 'D',
            };
            format!("{letter} {}", String::from_utf8_lossy(path))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "C /etc",
            "C /etc/passwd",
            "D /gone",
            "C /hidden",
            "A /hidden/fresh",
            "D /hidden/old",
            "D /hidden/sub",
            "A /new",
            "A /new/deep",
            "A /new/deep/file"
        ]
    );
    let mut layer = Vec::new();
    files::pack_changes(&above, &changes, &mut layer).unwrap();
    assert_eq!(
        names(&layer),
        [
            "etc/",
            "etc/passwd",
            ".wh.gone",
            "hidden/",
            "hidden/fresh",
            "hidden/.wh.old",
            "hidden/.wh.sub",
            "new/",
            "new/deep/",
            "new/deep/file"
        ]
    );
}
