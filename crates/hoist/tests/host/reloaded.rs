//! What of the engine itself a reload changes: its log, how layers are kept, who makes control groups.

use hoist_testkit::{ImageBuilder, TarBuilder, TemporaryDirectory};

use crate::world::{World, able};

/// A daemon that reads this file, and how the file is written.
fn configured(text: &str) -> Option<(World, impl Fn(&str) + use<>)> {
    if !able() {
        return None;
    }
    let files = TemporaryDirectory::new("reloaded");
    let file = files.join("daemon.json");
    std::fs::write(&file, text).unwrap();
    let world = World::start_with(&["--config-file", file.to_str().unwrap()])?;
    let write = move |text: &str| std::fs::write(files.join("daemon.json"), text).unwrap();
    Some((world, write))
}

/// The lines of the engine's log from a mark on.
fn since(world: &World, mark: usize) -> Vec<String> {
    let log = world.daemon.log();
    log.lines().skip(mark).map(str::to_owned).collect()
}

fn is_object(line: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| line.is_object())
}

#[test]
fn the_form_of_the_log_is_another_after_a_reload() {
    let Some((world, write)) = configured(r#"{"log-level": "debug"}"#) else {
        return;
    };
    // Spans of before the change are within lines of after it: this one is open while it happens.
    let run = ["run", "-d", "--name", "kept", "busybox", "sleep", "1000"];
    world.docker(&run).ok();
    let mut waits = world.daemon.client(crate::world::binary());
    let mut waits = waits.args(["wait", "kept"]).spawn().unwrap();
    assert!(!since(&world, 0).iter().any(|line| is_object(line)));
    write(r#"{"log-level": "debug", "log-format": "json", "raw-logs": true}"#);
    world.reload();
    let mark = since(&world, 0).len();
    world.docker(&["exec", "kept", "true"]).ok();
    world.docker(&["rm", "-f", "kept"]).ok();
    assert!(waits.wait().unwrap().success());
    world.reload();
    let lines = since(&world, mark);
    assert!(
        !lines.is_empty() && lines.iter().all(|line| is_object(line)),
        "{lines:#?}"
    );
    write(r#"{"log-level": "debug", "log-format": "text"}"#);
    world.reload();
    let mark = since(&world, 0).len();
    world.docker(&["run", "--rm", "busybox", "true"]).ok();
    world.reload();
    let lines = since(&world, mark);
    assert!(
        !lines.is_empty() && !lines.iter().any(|line| is_object(line)),
        "{lines:#?}"
    );
    assert!(!world.daemon.log().contains("panicked"));
    // One that there is not changes nothing.
    write(r#"{"log-format": "xml"}"#);
    world.reload();
    let log = world.daemon.log();
    assert!(
        log.contains("nothing was changed") && log.contains("xml"),
        "{log}"
    );
    world.finish();
}

#[test]
fn layers_are_kept_in_another_form_after_a_reload() {
    let Some((world, write)) = configured(r#"{"storage-driver": "overlay2"}"#) else {
        return;
    };
    let driver = || world.docker(&["info", "--format", "{{.Driver}}"]).ok();
    assert_eq!(driver(), "overlay2\n");
    let trees = || {
        let layers = world.daemon.directory().join("data/image/layers");
        let names = std::fs::read_dir(layers).unwrap().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.ends_with(".tree")).count()
    };
    let run = ["run", "-d", "--name", "before", "busybox", "sleep", "1000"];
    world.docker(&run).ok();
    assert_eq!(trees(), 1);
    // Where EROFS does not work, that is refused, and everything stays.
    write(r#"{"storage-driver": "erofs", "labels": ["a=b"]}"#);
    world.reload();
    let works = driver() == "erofs\n";
    let labels = world.docker(&["info", "--format", "{{.Labels}}"]).ok();
    assert_eq!(labels == "[a=b]\n", works, "{labels}");
    if !works {
        let log = world.daemon.log();
        assert!(log.contains("setting=\"storage-driver\""), "{log}");
    }
    let layer = TarBuilder::new().file("other", 0o644, "other\n").finish();
    let other = ImageBuilder::busybox()
        .unwrap()
        .named("other:1")
        .layer(layer);
    world.load(&other);
    let seen = world.docker(&["run", "--rm", "other:1", "cat", "/other"]);
    assert_eq!(seen.ok(), "other\n");
    if works {
        assert_eq!(trees(), 1, "the new layer has no directory");
    }
    // And back: what was stored meanwhile has one where it is mounted next.
    write(r#"{"storage-driver": "overlay2"}"#);
    world.reload();
    assert_eq!(driver(), "overlay2\n");
    let seen = world.docker(&["run", "--rm", "other:1", "cat", "/other"]);
    assert_eq!(seen.ok(), "other\n");
    assert_eq!(world.docker(&["exec", "before", "echo", "on"]).ok(), "on\n");
    world.docker(&["rm", "-f", "before"]).ok();
    world.finish();
}

#[test]
fn a_driver_of_control_groups_that_cannot_be_had_is_refused() {
    if std::path::Path::new("/run/systemd/system").is_dir() {
        // Where systemd runs it can be had: tests/guest/service reloads to it and back.
        return;
    }
    let Some((world, write)) = configured("{}") else {
        return;
    };
    write(r#"{"exec-opts": ["native.cgroupdriver=systemd"], "labels": ["a=b"]}"#);
    world.reload();
    world.refused(&["setting=\"exec-opts\""]);
    let told = world.docker(&["info", "--format", "{{.CgroupDriver}} {{.Labels}}"]);
    assert_eq!(told.ok(), "cgroupfs []\n");
    world.finish();
}

#[test]
fn where_the_engine_is_waits_for_a_restart_by_name() {
    let Some((world, write)) = configured("{}") else {
        return;
    };
    write(r#"{"userns-remap": "default", "labels": ["a=b"]}"#);
    world.reload();
    let log = world.daemon.log();
    let waits = log
        .lines()
        .find(|line| line.contains("stays until the engine is started again"));
    assert!(
        waits.is_some_and(|line| line.contains("setting=\"userns-remap\"")),
        "{log}"
    );
    let told = world.docker(&["info", "--format", "{{.Labels}}"]);
    assert_eq!(told.ok(), "[a=b]\n");
    world.finish();
}
