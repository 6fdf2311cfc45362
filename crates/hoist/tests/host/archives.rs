//! Archives that others write are loaded, and others load ours: skopeo and podman, where they are installed.

use std::path::Path;
use std::process::Command;

use crate::world::World;

/// Runs a program that has to succeed; its output. `None`, and a skip, where it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(arguments).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            hoist_testkit::skip(&format!("{program} is not installed"));
            return None;
        }
        output => output.unwrap(),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn path(file: &Path) -> String {
    file.display().to_string()
}

/// Loads an archive in which the image has this name: it must be the image of this id, and run.
#[track_caller]
fn loads(world: &World, archive: &Path, name: &str, id: &str) {
    world.docker(&["rmi", "-f", id]).ok();
    let told = world.docker(&["load", "-i", &path(archive)]).ok();
    assert_eq!(told.trim(), format!("Loaded image: {name}"));
    let found = world.docker(&["image", "inspect", "-f", "{{.Id}}", name]);
    assert_eq!(found.ok().trim(), id);
    let ran = world.docker(&["run", "--rm", name, "cat", "/made"]);
    assert_eq!(ran.ok().trim(), "here");
}

#[test]
fn skopeo_and_podman_take_our_archives_and_we_take_theirs() {
    let Some(world) = World::start() else { return };
    let make = [
        "run",
        "--name",
        "made",
        "busybox",
        "sh",
        "-c",
        "echo here >/made",
    ];
    world.docker(&make).ok();
    let id = world.docker(&["commit", "made", "localhost/made:1"]).ok();
    let id = id.trim();
    world.docker(&["rm", "made"]).ok();
    let file = |name: &str| world.files.join(name);
    let ours = file("ours.tar");
    let save = ["save", "-o", &path(&ours), "localhost/made:1"];
    world.docker(&save).ok();

    // Both faces of our file, and what skopeo writes of each.
    let skopeo = ["--insecure-policy", "copy", "-q"];
    for (from, to, written) in [
        ("docker-archive", "docker-archive", "skopeo-docker.tar"),
        ("oci-archive", "oci-archive", "skopeo-oci.tar"),
    ] {
        let source = format!("{from}:{}", path(&ours));
        let target = format!("{to}:{}:localhost/made:1", path(&file(written)));
        let copy = [&skopeo[..], &[&source, &target]].concat();
        if run("skopeo", &copy).is_none() {
            break;
        }
        loads(&world, &file(written), "localhost/made:1", id);
    }

    let (root, runroot) = (path(&file("root")), path(&file("runroot")));
    let podman = |arguments: &[&str]| {
        let own = [
            "--root",
            &root,
            "--runroot",
            &runroot,
            "--storage-driver",
            "vfs",
        ];
        run("podman", &[&own[..], arguments].concat())
    };
    if podman(&["load", "-q", "-i", &path(&ours)]).is_some() {
        let found = podman(&["image", "inspect", "-f", "{{.Id}}", "localhost/made:1"]);
        assert_eq!(found.unwrap(), id.trim_start_matches("sha256:"));
        for (format, written) in [
            ("docker-archive", "podman-docker.tar"),
            ("oci-archive", "podman-oci.tar"),
        ] {
            let target = path(&file(written));
            podman(&[
                "save",
                "-q",
                "--format",
                format,
                "-o",
                &target,
                "localhost/made:1",
            ]);
            loads(&world, &file(written), "localhost/made:1", id);
        }
    }
    world.docker(&["rmi", "-f", id]).ok();
    world.finish();
}
