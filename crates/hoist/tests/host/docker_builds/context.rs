//! The context that every case has.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use hoist_testkit::{EntryKind, TarBuilder};

/// When all of it was last changed, as seconds of Unix.
pub(super) const MODIFIED: u64 = 981_173_106;

/// Files: path, permissions, content.
const FILES: &[(&str, u32, &str)] = &[
    ("a.txt", 0o644, "one\n"),
    ("b.txt", 0o600, "two\n"),
    ("c.md", 0o444, "three\n"),
    ("run.sh", 0o755, "#!/bin/sh\necho ran\n"),
    ("set", 0o4755, "set-user-id\n"),
    ("with space.txt", 0o644, "space\n"),
    ("we[ird].txt", 0o644, "brackets\n"),
    ("grün.txt", 0o644, "umlaut\n"),
    (".hidden", 0o640, "hidden\n"),
    ("dir/x", 0o644, "x\n"),
    ("dir/y.txt", 0o600, "y\n"),
    ("dir/y.md", 0o664, "md\n"),
    ("dir/sub/z", 0o755, "z\n"),
    ("dir/sub/deep/w.txt", 0o644, "w\n"),
    ("dir/.dot", 0o644, "dot\n"),
    ("open/tmp/f", 0o666, "f\n"),
    ("other/x", 0o640, "other x\n"),
    (
        "etc/passwd",
        0o600,
        "root:x:0:0::/:/bin/sh\nnew:x:7:8::/:/bin/sh\n",
    ),
    ("dir/a.pyc", 0o644, "compiled\n"),
    ("node_modules/m/index.js", 0o644, "js\n"),
    (
        "long-name-long-name-long-name-long-name-long-name-long-name-long-name-long-name-long-name-long-name-long-name",
        0o644,
        "long\n",
    ),
];

const DIRECTORIES: &[(&str, u32)] = &[
    ("dir/empty", 0o700),
    ("dir/sub", 0o755),
    ("dir/sub/deep", 0o755),
    ("dir", 0o750),
    ("open/tmp", 0o1777),
    ("open", 0o2775),
    ("other", 0o755),
    ("etc", 0o755),
    ("node_modules/m", 0o755),
    ("node_modules", 0o755),
];

const LINKS: &[(&str, &str)] = &[
    ("link.txt", "a.txt"),
    ("linkdir", "dir"),
    ("broken", "nowhere"),
    ("dir/up", "../a.txt"),
    ("dir/absolute", "/etc/passwd"),
    ("dir/near", "x"),
];

/// Writes it.
pub(super) fn write(directory: &Path, dockerfile: &str, ignored: &str) {
    for (path, _) in DIRECTORIES {
        fs::create_dir_all(directory.join(path)).unwrap();
    }
    for (path, mode, content) in FILES {
        put(directory, path, *mode, content.as_bytes());
    }
    fs::hard_link(directory.join("dir/x"), directory.join("dir/x-again")).unwrap();
    for (path, target) in LINKS {
        symlink(target, directory.join(path)).unwrap();
        // std has no call for a link's own time.
        let mut touch = Command::new("touch");
        touch.args(["-h", "-d", &format!("@{MODIFIED}")]);
        assert!(touch.arg(directory.join(path)).status().unwrap().success());
    }
    let plain = packed();
    put(directory, "packed.tar", 0o644, &plain);
    for (program, name) in [
        ("gzip", "packed.tar.gz"),
        ("bzip2", "packed.tar.bz2"),
        ("xz", "packed.tar.xz"),
    ] {
        put(directory, name, 0o644, &compressed(program, &plain));
    }
    put(directory, "fake.tar", 0o644, b"no archive at all\n");
    put(
        directory,
        "single.gz",
        0o644,
        &compressed("gzip", b"one file\n"),
    );
    put(directory, "Dockerfile", 0o644, dockerfile.as_bytes());
    if !ignored.is_empty() {
        put(directory, ".dockerignore", 0o644, ignored.as_bytes());
    }
    for (path, mode) in DIRECTORIES {
        let path = directory.join(path);
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        old(&path);
    }
}

fn put(directory: &Path, path: &str, mode: u32, content: &[u8]) {
    let path = directory.join(path);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    old(&path);
}

fn old(path: &Path) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// What archives hold: owners, links both ways, attributes, and directories that say nothing of those above them.
fn packed() -> Vec<u8> {
    let kind = EntryKind::File(b"attributes\n".to_vec());
    // CAP_NET_BIND_SERVICE, effective (linux/capability.h, `struct vfs_cap_data`).
    let capability = "\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let attributes = [("SCHILY.xattr.security.capability", capability)];
    let again = EntryKind::Hardlink("packed/own/file".to_owned());
    TarBuilder::new()
        .modified(MODIFIED + 60)
        .file("packed/implied/f", 0o640, "f\n")
        .owner(33, 34)
        .directory("packed/own")
        .file("packed/own/file", 0o4750, "own\n")
        .entry("packed/own/again", 0o4750, &again, &[])
        .symlink("packed/link", "own/file")
        .symlink("packed/out", "../../../../etc/passwd")
        .entry("packed/pipe", 0o600, &EntryKind::Fifo, &[])
        .entry("packed/attributes", 0o644, &kind, &attributes)
        .finish()
}

fn compressed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}");
    output.stdout
}

/// A context as an archive, whose owners are not root.
pub(super) fn archive(dockerfile: &str) -> Vec<u8> {
    TarBuilder::new()
        .modified(MODIFIED)
        .file("Dockerfile", 0o644, dockerfile)
        .owner(1234, 2345)
        .file("a.txt", 0o640, "one\n")
        .directory("dir")
        .file("dir/x", 0o755, "x\n")
        .symlink("dir/link", "x")
        .owner(7, 8)
        .directory("dir/sub")
        .file("dir/sub/z", 0o600, "z\n")
        .file("implied/deep/f", 0o644, "f\n")
        .finish()
}
