//! The registry in the engine's process: another engine has the images of this one from it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::registry_served::ask;
use crate::world::World;

/// Where the registry of an engine listens, as its log says.
fn address(world: &World) -> SocketAddr {
    let log = world.daemon.log();
    let line = log
        .lines()
        .find(|line| line.contains("the registry listens"));
    let line = line.unwrap_or_else(|| panic!("no registry:\n{log}"));
    let (_, rest) = line.split_once("tcp://").unwrap();
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')
        .unwrap_or(rest.len());
    rest[..end].parse().unwrap()
}

#[test]
fn another_engine_has_its_images_from_it() {
    let Some(world) = World::start_with(&["--registry", "127.0.0.1:0"]) else {
        return;
    };
    let here = address(&world);
    world.docker(&["tag", "busybox", "team/tool:2"]).ok();
    world
        .docker(&["tag", "busybox", "elsewhere.example/tool:2"])
        .ok();
    let catalog = ask(here, "GET", "/v2/_catalog", "", b"").unwrap();
    assert_eq!(
        String::from_utf8(catalog.body).unwrap(),
        r#"{"repositories":["busybox","team/tool"]}"#
    );
    let other = World::empty(&[]).unwrap();
    let id = |world: &World, name: &str| {
        world
            .docker(&["image", "inspect", "-f", "{{.Id}}", name])
            .ok()
    };
    for name in ["busybox", "team/tool:2"] {
        let pulled = format!("{here}/{name}");
        other.docker(&["pull", "-q", &pulled]).ok();
        assert_eq!(id(&other, &pulled), id(&world, name));
    }
    let seen = other.docker(&[
        "run",
        "--rm",
        "--network=none",
        &format!("{here}/busybox"),
        "echo",
        "runs",
    ]);
    assert_eq!(seen.ok(), "runs\n");
    // Nothing was copied: the registry's own directory holds no content.
    let own = world.daemon.directory().join("data/registry");
    assert!(own.join("format").exists());
    assert!(
        !own.join("blobs/sha256").exists(),
        "content in {}",
        own.display()
    );
    // What the other changes and pushes is there, and is not this engine's until it pulls it.
    let changed = format!("{here}/busybox:changed");
    other
        .docker(&[
            "run",
            "--name=made",
            "--network=none",
            &format!("{here}/busybox"),
            "touch",
            "/made",
        ])
        .ok();
    other.docker(&["commit", "made", &changed]).ok();
    other.docker(&["rm", "made"]).ok();
    other.docker(&["push", "-q", &changed]).ok();
    assert!(!world.docker(&["images"]).ok().contains("changed"));
    world.docker(&["pull", "-q", &changed]).ok();
    assert_eq!(id(&world, &changed), id(&other, &changed));
    let tags = ask(here, "GET", "/v2/busybox/tags/list", "", b"").unwrap();
    assert_eq!(
        String::from_utf8(tags.body).unwrap(),
        r#"{"name":"busybox","tags":["changed","latest"]}"#
    );
    // An image that is removed here is gone there, with what only it had.
    world.docker(&["rmi", "team/tool:2"]).ok();
    assert_eq!(
        ask(here, "GET", "/v2/team/tool/manifests/2", "", b"")
            .unwrap()
            .status,
        404
    );
    let began = std::time::Instant::now();
    assert_eq!(other.daemon.finish(), Vec::<String>::new());
    assert_eq!(world.daemon.finish(), Vec::<String>::new());
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "the registry keeps its engine from ending"
    );
}
