//! `hoist fsck`: what it finds in the data root of an engine that runs and of one that does not, and what it repairs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hoist_testkit::{ImageBuilder, LocalRegistry, RegistryOptions, TarBuilder, TemporaryDaemon};
use serde_json::Value;

use crate::world::{Seen, World, binary, image, seen};

/// The image root of an engine.
fn root(daemon: &TemporaryDaemon) -> PathBuf {
    daemon.directory().join("data/image")
}

/// Checks the data root of an engine that does not run.
pub(crate) fn at_rest(daemon: &TemporaryDaemon, flags: &[&str]) -> Seen {
    let mut command = Command::new(binary());
    command.arg("fsck").args(flags);
    command
        .arg("--data-root")
        .arg(daemon.directory().join("data"));
    seen(&mut command)
}

/// The names in a directory of an image root that end so, with their paths.
fn files(root: &Path, directory: &str, suffix: &str) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(root.join(directory)).unwrap();
    let mut found: Vec<(String, PathBuf)> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            )
        })
        .filter(|(name, _)| name.ends_with(suffix) && !name.starts_with('.'))
        .collect();
    found.sort();
    found
}

/// Changes one byte in the middle of a file, as a disk does: the owner's rights do not matter.
fn flip(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

/// An image of busybox and one layer of its own.
fn application(text: &str) -> ImageBuilder {
    let layer = TarBuilder::new()
        .file("content", 0o644, text.repeat(20_000))
        .finish();
    image().layer(layer)
}

/// The tar in which `content` is.
fn tar_of(root: &Path, text: &str) -> PathBuf {
    let tars = files(root, "layers", ".tar");
    let has = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    tars.into_iter().map(|(_, path)| path).find(has).unwrap()
}

#[test]
fn a_running_engine_is_checked_and_repaired_from_the_registry() {
    let Some(mut world) = World::start() else {
        return;
    };
    let Some(registry) = LocalRegistry::start(&RegistryOptions::default()) else {
        return hoist_testkit::skip("docker-registry is not installed");
    };
    registry.put("app", "1", &application("from the registry"));
    let name = format!("{}/app:1", registry.address());
    world.docker(&["pull", "-q", &name]).ok();
    let run = [
        "create", "--name", "user", &name, "tail", "-c", "9", "/content",
    ];
    world.docker(&run).ok();
    let clean = world.docker(&["fsck"]).ok();
    assert!(
        clean.contains("2 images") && clean.ends_with("nothing is wrong\n"),
        "{clean}"
    );

    let root = root(&world.daemon);
    let tar = tar_of(&root, "from the registry");
    let hex = tar.file_stem().unwrap().to_str().unwrap().to_owned();
    flip(&tar);
    let documents = files(&root, "blobs/sha256", "");
    for (document, path) in &documents {
        // The configuration of busybox is loaded, and from no registry.
        let text = fs::read_to_string(path).unwrap();
        if text.contains("schemaVersion") {
            fs::remove_file(path).unwrap();
            let found = world.docker(&["fsck"]);
            let missing = format!("document sha256:{document} is missing");
            assert!(found.out.contains(&missing), "{found:?}");
        }
    }
    let found = world.docker(&["fsck"]);
    assert_eq!(found.status, Some(2));
    for part in [
        format!("layer sha256:{hex} is damaged: its content is sha256:"),
        format!("needed by container user, image {name}"),
        "hoist fsck --repair".to_owned(),
    ] {
        assert!(found.out.contains(&part), "{part} is not in {}", found.out);
    }
    let repaired = world.docker(&["fsck", "--repair", "--json"]);
    assert_eq!(repaired.status, Some(1), "{repaired:?}");
    let report: Value = serde_json::from_str(&repaired.out).unwrap();
    let findings = report["Findings"].as_array().unwrap();
    assert_eq!(findings.len(), 2, "{report}");
    for finding in findings {
        let detail = finding["Detail"].as_str().unwrap();
        assert!(detail.starts_with("fetched again from "), "{report}");
    }
    assert!(world.docker(&["fsck"]).ok().ends_with("nothing is wrong\n"));
    // A container that was made on the damaged layer has what it should have.
    assert_eq!(world.docker(&["start", "-a", "user"]).ok(), " registry");

    // Without the registry it is said what was tried, and nothing is lost: what is left of the image still runs.
    let tar = tar_of(&root, "from the registry");
    drop(registry);
    flip(&tar);
    let kept = world.docker(&["fsck", "--repair"]);
    assert_eq!(kept.status, Some(2), "{kept:?}");
    let said = kept.out.contains("not repaired: not fetched: ")
        && kept.out.contains(&name[..name.len() - 2]);
    assert!(said, "{}", kept.out);
    assert_eq!(world.docker(&["start", "-a", "user"]).ok(), " registry");
    world.docker(&["rm", "user"]).ok();
    world.docker(&["rmi", &name]).ok();
    assert!(world.docker(&["fsck"]).ok().ends_with("nothing is wrong\n"));
    world.daemon.kill();
    let refused = world.docker(&["fsck"]).refused(8);
    assert!(refused.contains("--data-root"), "{refused}");
    world.daemon.launch();
    world.finish();
}

#[test]
fn what_was_loaded_is_repaired_by_loading_it_again() {
    let Some(world) = World::start() else {
        return;
    };
    let application = application("from a file").named("application:1");
    world.load(&application);
    let root = root(&world.daemon);
    flip(&tar_of(&root, "from a file"));
    let kept = world.docker(&["fsck", "--repair"]);
    assert_eq!(kept.status, Some(2), "{kept:?}");
    let why = "not repaired: it came from no registry: load it again";
    assert!(kept.out.contains(why), "{}", kept.out);
    world.load(&application);
    assert!(world.docker(&["fsck"]).ok().ends_with("nothing is wrong\n"));
    world.finish();
}

#[test]
fn a_data_root_at_rest_is_checked_and_repaired() {
    let Some(mut world) = World::start() else {
        return;
    };
    let application = application("at rest").named("application:1");
    world.load(&application);
    world
        .docker(&[
            "create",
            "--name",
            "user",
            "application:1",
            "tail",
            "-c",
            "4",
            "/content",
        ])
        .ok();
    let busy = at_rest(&world.daemon, &[]).refused(8);
    assert!(busy.contains("an engine runs on"), "{busy}");
    assert!(world.daemon.stop().success());
    let clean = at_rest(&world.daemon, &[]).ok();
    assert!(clean.ends_with("nothing is wrong\n"), "{clean}");

    let root = root(&world.daemon);
    let (_, index) = files(&root, "layers", ".erofs")
        .into_iter()
        .next()
        .or_else(|| files(&root, "layers", ".tree").into_iter().next())
        .unwrap();
    let stranger = "5".repeat(64);
    flip(&index);
    for (place, bytes) in [
        (format!("layers/{stranger}.erofs"), "no tar"),
        ("layers/.tmp-0".to_owned(), "half"),
        (format!("blobs/sha256/{stranger}"), "not its name"),
        ("blobs/sha256/notes".to_owned(), "a person's own"),
    ] {
        fs::write(root.join(place), bytes).unwrap();
    }
    fs::create_dir_all(root.join(format!("snapshots/{stranger}/upper"))).unwrap();
    let whole = "of nobody";
    let orphan = hoist_testkit::sha256(whole.as_bytes());
    let orphan = orphan.trim_start_matches("sha256:");
    fs::write(root.join(format!("blobs/sha256/{orphan}")), whole).unwrap();

    let before = files(&root, "layers", "");
    let found = at_rest(&world.daemon, &["--json"]);
    assert_eq!(found.status, Some(2), "{found:?}");
    let kinds = |seen: &Seen| -> Vec<(String, String)> {
        let report: Value = serde_json::from_str(&seen.out).unwrap();
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let findings = report["Findings"].as_array().unwrap().iter();
        findings
            .map(|finding| (text(finding, "Kind"), text(finding, "Outcome")))
            .collect()
    };
    let expected = [
        "document-damaged",
        "layer-part-wrong",
        "snapshot-of-nobody",
        "document-of-nobody",
        "document-of-nobody",
        "leftover",
        "leftover",
        "unknown-file",
    ];
    let wanted = |outcome: fn(&str) -> &str| -> Vec<(String, String)> {
        let named = expected
            .iter()
            .map(|kind| ((*kind).to_owned(), outcome(kind).to_owned()));
        named.collect()
    };
    assert_eq!(kinds(&found), wanted(|_| "found"));
    assert_eq!(
        files(&root, "layers", ""),
        before,
        "a check changes nothing"
    );
    let repaired = at_rest(&world.daemon, &["--repair", "--json"]);
    assert_eq!(repaired.status, Some(2), "{repaired:?}");
    let outcome = |kind: &str| {
        if kind == "unknown-file" {
            "kept"
        } else {
            "repaired"
        }
    };
    assert_eq!(kinds(&repaired), wanted(outcome));
    assert!(root.join("blobs/sha256/notes").exists());
    fs::remove_file(root.join("blobs/sha256/notes")).unwrap();
    let clean = at_rest(&world.daemon, &["--repair"]).ok();
    assert!(clean.ends_with("nothing is wrong\n"), "{clean}");
    world.daemon.launch();
    assert_eq!(world.docker(&["start", "-a", "user"]).ok(), "rest");
    world.docker(&["rm", "user"]).ok();

    let nothing = world.files.join("nothing");
    fs::create_dir(&nothing).unwrap();
    let mut command = Command::new(binary());
    command.arg("fsck").arg("--data-root").arg(&nothing);
    let refused = seen(&mut command).refused(8);
    assert!(refused.contains("is no data root"), "{refused}");
    assert_eq!(fs::read_dir(&nothing).unwrap().count(), 0);
    world.finish();
}
