//! `system df` says what du(1) says of the files in question, to the byte.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use hoist_testkit::TarBuilder;
use serde_json::Value;

use crate::world::{World, image};

/// What du(1) counts for these together: bytes allocated, each inode once.
fn du(paths: &[PathBuf]) -> u64 {
    let mut command = Command::new("du");
    let said = command.args(["-s", "-c", "--block-size=1"]).args(paths);
    let said = said.output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let text = String::from_utf8(said.stdout).unwrap();
    let total = text.lines().last().unwrap();
    total.split_whitespace().next().unwrap().parse().unwrap()
}

fn disk_usage(world: &World) -> Value {
    let asked = world.daemon.request("GET", "/v1.50/system/df", None);
    let (status, text) = asked.unwrap();
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// `docker build` of a Dockerfile alone.
fn build(world: &World, name: &str, dockerfile: &str) {
    let context = TarBuilder::new()
        .file("Dockerfile", 0o644, dockerfile)
        .finish();
    let mut stream = UnixStream::connect(world.daemon.socket()).unwrap();
    let head = format!(
        "POST /v1.50/build?t={name} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\
         Content-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
        context.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&context).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.contains("Successfully tagged"), "{said}");
}

fn bytes(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no size"))
}

/// What is kept of a layer.
fn files_of(layers: &Path, diff_id: &str) -> Vec<PathBuf> {
    let hex = diff_id.trim_start_matches("sha256:");
    let entries = std::fs::read_dir(layers).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let own = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == hex);
    paths.filter(own).collect()
}

fn sums_are_du(flags: &[&str]) {
    let Some(world) = World::start_with(flags) else {
        return;
    };
    // Many files, one with a hole, and a layer that two images share.
    let mut tar = TarBuilder::new().directory("d");
    for number in 0..300 {
        tar = tar.file(&format!("d/{number}"), 0o644, vec![1; number * 7]);
    }
    let shared = tar.file("d/zeros", 0o644, vec![0; 3 << 20]).finish();
    let own = TarBuilder::new()
        .file("own", 0o644, vec![2; 70_001])
        .finish();
    world.load(&image().layer(shared.clone()).name("one:1"));
    world.load(&image().layer(shared).layer(own).name("two:1"));
    // What a build made is the cache's where no image has it.
    build(
        &world,
        "built:1",
        "FROM busybox\nRUN cp /bin/busybox /made\nRUN echo more >/more\n",
    );
    world.docker(&["rmi", "-f", "built:1"]).ok();
    let script = "mkdir -p /a/b /v/c; head -c 54321 /dev/zero >/a/b/f; ln /a/b/f /a/g; \
                  head -c 12345 /dev/zero >/v/c/f; ln -s /nowhere /v/link";
    world
        .docker(&[
            "run", "--name", "made", "-v", "vol:/v", "busybox", "sh", "-c", script,
        ])
        .ok();
    world
        .docker(&[
            "create", "--name", "idle", "-v", "empty:/v", "busybox", "true",
        ])
        .ok();

    let root = world.daemon.directory().join("data");
    let layers = root.join("image/layers");
    let seen = disk_usage(&world);
    let images = seen["Images"].as_array().unwrap();
    assert_eq!(images.len(), 3);
    for image in images {
        let id = image["Id"].as_str().unwrap();
        let format = "{{join .RootFS.Layers \" \"}}";
        let told = world.docker(&["image", "inspect", "-f", format, id]).ok();
        let files = told.split_whitespace().flat_map(|id| files_of(&layers, id));
        let files: Vec<PathBuf> = files.collect();
        assert_eq!(bytes(&image["Size"]), du(&files), "{id}: {files:?}");
    }
    // Every layer is an image's or the cache's.
    let cache = seen["BuildCache"].as_array().unwrap();
    let sizes = cache.iter().map(|entry| bytes(&entry["Size"]));
    let cached = sizes.sum::<u64>();
    assert!(cached > 1 << 20, "{cache:?}");
    assert_eq!(cached, bytes(&seen["BuilderSize"]));
    let entries = std::fs::read_dir(&layers).unwrap();
    let all: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(bytes(&seen["LayersSize"]) + cached, du(&all));

    for container in seen["Containers"].as_array().unwrap() {
        let id = container["Id"].as_str().unwrap();
        let upper = root.join("image/snapshots").join(id).join("upper");
        // Docker says 0 of one that wrote nothing; du counts the directory.
        let wanted = match std::fs::read_dir(&upper).unwrap().count() {
            0 => 0,
            _ => du(&[upper]),
        };
        assert_eq!(bytes(&container["SizeRw"]), wanted, "{container}");
    }
    for volume in seen["Volumes"].as_array().unwrap() {
        let path = PathBuf::from(volume["Mountpoint"].as_str().unwrap());
        let wanted = match std::fs::read_dir(&path).unwrap().count() {
            0 => 0,
            _ => du(&[path]),
        };
        assert_eq!(bytes(&volume["UsageData"]["Size"]), wanted, "{volume}");
    }
    world.docker(&["rm", "-f", "made", "idle"]).ok();
    world.docker(&["volume", "rm", "vol", "empty"]).ok();
    world.finish();
}

#[test]
fn sums_are_what_du_says() {
    sums_are_du(&[]);
}

#[test]
fn sums_of_directories_are_what_du_says() {
    sums_are_du(&["--storage-driver", "overlay2"]);
}
