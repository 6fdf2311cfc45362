//! What becomes of `hoist build`: files here, images at registries, caches elsewhere, answers in place of a build.

use std::path::Path;
use std::process::Command;

use hoist_testkit::TemporaryDirectory;

use crate::own_build::{build, context};
use crate::registry_served::Served;
use crate::world::World;

const DOCKERFILE: &str = "FROM busybox AS tools\nRUN mkdir /made && echo tool >/made/tool && chmod 750 /made/tool\n\
    FROM scratch\nCOPY --from=tools /made /made\nCOPY a /\n";

#[test]
fn what_is_built_goes_where_it_is_wanted() {
    let Some(world) = World::start() else { return };
    let path = context(&world, "app", &[("Dockerfile", DOCKERFILE), ("a", "one")]);
    let place = world.directory("place");
    let at = |name: &str| place.join(name).display().to_string();
    let (files, tar, archive) = (at("files"), at("files.tar"), at("image.tar"));
    let metadata = at("metadata.json");
    let outputs = [
        "-t",
        "app:1",
        "-o",
        &files,
        "-o",
        &format!("type=tar,dest={tar}"),
        "-o",
        &format!("type=oci,dest={archive}"),
        "--metadata-file",
        &metadata,
        &path,
    ];
    build(&world, &outputs).ok();
    assert_eq!(
        std::fs::read_to_string(place.join("files/a")).unwrap(),
        "one"
    );
    let tool = place.join("files/made/tool");
    assert_eq!(std::fs::read_to_string(&tool).unwrap(), "tool\n");
    let mode = std::os::unix::fs::PermissionsExt::mode(&tool.metadata().unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o750);
    let listed = Command::new("tar").args(["-tf", &tar]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().any(|line| line == "made/tool"), "{listed}");
    // No image was asked for; the archive has it under its name.
    assert_ne!(world.docker(&["image", "inspect", "app:1"]).status, Some(0));
    world.docker(&["load", "-i", &archive]).ok();
    let id = world
        .docker(&["image", "inspect", "-f", "{{.Id}}", "app:1"])
        .ok();
    let metadata: serde_json::Value =
        serde_json::from_slice(&std::fs::read(metadata).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], id.trim());
    // To standard output, as a tar.
    let seen = build(&world, &["-o", "-", &path]);
    assert!(seen.out.contains("made/tool"), "{:?}", seen.status);
    build(&world, &["-o", "type=local", &path]).refused(1);
    // A build that fails leaves no file.
    let broken = context(
        &world,
        "broken",
        &[("Dockerfile", "FROM busybox\nRUN exit 3\n")],
    );
    let gone = at("gone.tar");
    build(&world, &["-o", &format!("type=tar,dest={gone}"), &broken]).refused(3);
    assert!(!Path::new(&gone).exists());
    world.finish();
}

#[test]
fn an_image_is_pushed_and_what_was_built_is_told_elsewhere() {
    let (Some(world), Some(other)) = (World::start(), World::start()) else {
        return;
    };
    let root = TemporaryDirectory::new("cache-registry");
    let registry = Served::start(root.path(), &[]);
    let host = registry.address.to_string();
    let files = [("Dockerfile", DOCKERFILE), ("a", "one")];
    let path = context(&world, "app", &files);
    let name = format!("{host}/app:1");
    let metadata = world.path("metadata.json");
    let to = format!("type=registry,ref={host}/cache:1,mode=max");
    let pushed = build(
        &world,
        &[
            "-t",
            &name,
            "--push",
            "--cache-to",
            &to,
            "--metadata-file",
            &metadata,
            &path,
        ],
    );
    assert_eq!(pushed.status, Some(0), "{pushed:?}");
    let id = world
        .docker(&["image", "inspect", "-f", "{{.Id}}", &name])
        .ok();
    let metadata = std::fs::read(metadata).unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap();
    assert_eq!(metadata["image.name"], name);
    let manifest = metadata["containerimage.digest"].as_str().unwrap();
    assert_ne!(manifest, id.trim());
    other
        .docker(&["pull", &format!("{host}/app@{manifest}")])
        .ok();

    // Another engine has nothing of it, and does nothing of it.
    let path = context(&other, "app", &files);
    let from = format!("type=registry,ref={host}/cache:1");
    let seen = build(&other, &["--cache-from", &from, "-t", "app:2", &path]);
    assert_eq!(seen.status, Some(0), "{seen:?}");
    assert_eq!(seen.err.matches(" CACHED").count(), 3, "{}", seen.err);
    let again = other
        .docker(&["image", "inspect", "-f", "{{.Id}}", "app:2"])
        .ok();
    assert_eq!(again, id);
    // A cache that is not there is told of and done without.
    let from = format!("{host}/nowhere:1");
    let seen = build(
        &other,
        &["--no-cache-filter", "tools", "--cache-from", &from, &path],
    );
    assert_eq!(seen.status, Some(0), "{seen:?}");
    assert!(seen.err.contains("there is no cache"), "{}", seen.err);
    assert_eq!(seen.err.matches(" CACHED").count(), 2, "{}", seen.err);
    let to = "type=registry,ref=127.0.0.1:1/cache:1";
    build(&other, &["--cache-to", to, &path]).refused(1);
    registry.stop();
    world.finish();
    other.finish();
}

#[test]
fn with_an_epoch_two_engines_make_the_same_image() {
    let (Some(world), Some(other)) = (World::start(), World::start()) else {
        return;
    };
    let dockerfile = "FROM busybox\nWORKDIR /new\nCOPY a .\nRUN mkdir -p /x/y && date +%s%N >/dev/null && echo z >/x/y/z && ln -s z /x/y/l\n";
    let epoch = "SOURCE_DATE_EPOCH=1700000000";
    let mut ids = Vec::new();
    for world in [&world, &other] {
        let path = context(world, "app", &[("Dockerfile", dockerfile), ("a", "one")]);
        let modified = std::fs::File::options()
            .write(true)
            .open(format!("{path}/a"))
            .unwrap();
        modified.set_modified(std::time::UNIX_EPOCH).unwrap();
        ids.push(build(world, &["-q", "--build-arg", epoch, &path]).ok());
        // The classic door makes the same image.
        let mut classic = world.daemon.client(world.files.join("hoist"));
        classic.env("DOCKER_BUILDKIT", "0");
        classic.args(["build", "-q", "--no-cache", "--build-arg", epoch, &path]);
        assert_eq!(crate::world::seen(&mut classic).ok().trim(), ids[0].trim());
    }
    assert_eq!(ids[0], ids[1]);
    let created = ["image", "inspect", "-f", "{{.Created}}", ids[0].trim()];
    assert_eq!(world.docker(&created).ok().trim(), "2023-11-14T22:13:20Z");
    world.finish();
    other.finish();
}

#[test]
fn questions_are_answered_in_place_of_a_build() {
    let Some(world) = World::start() else { return };
    let files = [(
        "Dockerfile",
        "FROM busybox AS Base\nARG A=1\nMAINTAINER me\n",
    )];
    let path = context(&world, "app", &files);
    let seen = build(&world, &["--check", &path]);
    assert_eq!(seen.status, Some(1), "{seen:?}");
    for said in [
        "WARNING: StageNameCasing",
        "WARNING: MaintainerDeprecated",
        "Dockerfile:3",
    ] {
        assert!(seen.out.contains(said), "{}", seen.out);
    }
    assert!(
        build(&world, &["--call", "outline", &path])
            .ok()
            .contains("BUILD ARG   VALUE")
    );
    assert!(
        build(&world, &["--call", "targets", &path])
            .ok()
            .contains("base (default)")
    );
    build(&world, &["--call", "weather", &path]).refused(1);
    let clean = context(&world, "clean", &[("Dockerfile", "FROM busybox\n")]);
    let said = build(&world, &["--check", &clean]).ok();
    assert_eq!(said.trim(), "Check complete, no warnings found.");
    world.finish();
}

#[test]
fn contexts_have_names() {
    let Some(world) = World::start() else { return };
    let dockerfile = "FROM start\nCOPY --from=more x /x\nRUN cat /x\n";
    let path = context(&world, "app", &[("Dockerfile", dockerfile)]);
    let more = context(
        &world,
        "more",
        &[("x", "from more"), (".dockerignore", "y"), ("y", "no")],
    );
    let (start, more) = ("start=docker-image://busybox", format!("more={more}"));
    let named = ["--build-context", start, "--build-context", &more, &path];
    let seen = build(&world, &named);
    assert_eq!(seen.status, Some(0), "{seen:?}");
    assert!(seen.err.contains("from more"), "{}", seen.err);
    build(&world, &["--build-context", "more", &path]).refused(1);
    world.finish();
}

#[test]
fn the_cache_is_listed_and_kept_to_a_budget() {
    let Some(world) = World::start() else { return };
    let path = context(&world, "app", &[("Dockerfile", DOCKERFILE), ("a", "one")]);
    build(&world, &[&path]).ok();
    let list = |world: &World| {
        let mut command = world.daemon.client(world.files.join("hoist"));
        crate::world::seen(command.args(["builder", "du"])).ok()
    };
    let listed = list(&world);
    let entries = |text: &str| {
        text.lines()
            .filter(|line| line.contains("  true  "))
            .count()
    };
    assert!(entries(&listed) >= 3, "{listed}");
    let prune = |flags: &[&str]| {
        let mut command = world.daemon.client(world.files.join("hoist"));
        crate::world::seen(command.args(["builder", "prune", "-f"]).args(flags)).ok()
    };
    prune(&["--max-used-space", "1g"]);
    prune(&["--min-free-space", "1b"]);
    prune(&["--filter", "until=24h"]);
    prune(&["--filter", "type=source.git"]);
    assert_eq!(entries(&list(&world)), entries(&listed));
    // More than any disk has free.
    prune(&["--min-free-space", "1000000g", "--reserved-space", "1g"]);
    assert_eq!(entries(&list(&world)), entries(&listed));
    prune(&["--min-free-space", "1000000g"]);
    assert_eq!(entries(&list(&world)), 0);
    world.finish();
}
