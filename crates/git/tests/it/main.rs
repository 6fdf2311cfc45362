//! What git itself packs, read back.
#![expect(
    clippy::unwrap_used,
    reason = "a fixture that cannot be made must stop the test, with the place"
)]

use std::fs::File;
use std::path::Path;
use std::process::Command;

use hoist_git::{Checkout, Item, Pack, checkout};
use hoist_testkit::TemporaryDirectory;

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(directory)
        .args([
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", directory)
        .env("GIT_COMMITTER_DATE", "1234567890 +0200")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn repository() -> Option<(TemporaryDirectory, String)> {
    if Command::new("git").arg("--version").output().is_err() {
        hoist_testkit::skip("git is not installed");
        return None;
    }
    let directory = TemporaryDirectory::new("git");
    let path = directory.path();
    git(path, &["init", "-q"]);
    std::fs::create_dir_all(path.join("sub/deep")).unwrap();
    std::fs::write(path.join("README"), "read me\n").unwrap();
    std::fs::write(path.join("sub/run"), "#!/bin/sh\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path.join("sub/run"), mode).unwrap();
    std::os::unix::fs::symlink("../README", path.join("sub/link")).unwrap();
    // Many states of a large file are packed as differences.
    for state in 0..20 {
        let lines: Vec<String> = (0..2000)
            .map(|n| format!("line {n} {}", n % (state + 2)))
            .collect();
        std::fs::write(path.join("sub/deep/large"), lines.join("\n")).unwrap();
        git(path, &["add", "."]);
        git(path, &["commit", "-q", "-m", &format!("state {state}")]);
    }
    git(path, &["tag", "-a", "v1", "-m", "one"]);
    git(
        path,
        &["repack", "-q", "-a", "-d", "--depth=50", "--window=50"],
    );
    let commit = git(path, &["rev-parse", "v1"]);
    Some((directory, commit))
}

fn pack(directory: &Path) -> File {
    let packs = std::fs::read_dir(directory.join(".git/objects/pack")).unwrap();
    let mut paths = packs.map(|pack| pack.unwrap().path());
    let path = paths.find(|path| path.extension().is_some_and(|e| e == "pack"));
    File::open(path.unwrap()).unwrap()
}

fn listed(pack: &mut Pack, commit: &str, options: Checkout<'_>) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    let walked = checkout(
        pack,
        commit.parse().unwrap(),
        options,
        &mut |path, item, time| {
            let path = String::from_utf8_lossy(path);
            lines.push(match item {
                Item::Directory => format!("{path}/ {time}"),
                Item::File {
                    executable,
                    content,
                } => format!("{path} {executable} {}", content.len()),
                Item::Link(target) => format!("{path} -> {}", String::from_utf8_lossy(target)),
            });
            Ok(())
        },
    );
    walked.map(|()| lines).map_err(|error| error.to_string())
}

#[test]
fn the_files_of_a_tag_are_those_that_git_has() {
    let Some((directory, commit)) = repository() else {
        return;
    };
    let mut pack = Pack::read(pack(directory.path())).unwrap();
    let large = std::fs::metadata(directory.join("sub/deep/large"))
        .unwrap()
        .len();
    let large = format!("sub/deep/large false {large}");
    assert_eq!(
        listed(&mut pack, &commit, Checkout::default()).unwrap(),
        [
            "README false 8",
            "sub/ 1234567890",
            "sub/deep/ 1234567890",
            &large,
            "sub/link -> ../README",
            "sub/run true 10",
        ]
    );
    let below = |directory| Checkout {
        directory: Some(directory),
        without_submodules: false,
    };
    let found = listed(&mut pack, &commit, below("/sub/./deep/")).unwrap();
    assert_eq!(found.len(), 1);
    for missing in ["none", "README", "sub/link", "sub/../sub"] {
        let said = listed(&mut pack, &commit, below(missing)).unwrap_err();
        assert_eq!(said, format!("subdir not found {missing}"));
    }
}

#[test]
fn no_flipped_byte_is_taken_for_another_file() {
    let Some((directory, _)) = repository() else {
        return;
    };
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut pack(directory.path()), &mut bytes).unwrap();
    for at in (0..bytes.len()).step_by(97) {
        let mut broken = bytes.clone();
        broken[at] ^= 0x40;
        let path = directory.join("broken");
        std::fs::write(&path, broken).unwrap();
        assert!(Pack::read(File::open(path).unwrap()).is_err(), "byte {at}");
    }
}
