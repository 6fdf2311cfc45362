//! Images made to break out: their configuration, their users, their links.

use hoist_testkit::{EntryKind, TarBuilder};
use serde_json::json;

use crate::world::{World, image};

/// A user that resolves to nobody in particular, or to root by overflow, starts nothing (CVE-2024-40635,
/// CVE-2022-36109).
#[test]
fn users_of_a_hostile_config_start_nothing() {
    let Some(world) = World::start() else { return };
    let hostile = [
        "4294967296",
        "2147483648",
        "-1",
        "0:4294967296",
        "root:99999999999999999999",
        "nosuch",
        "root:nosuch",
        "1:2:3",
        " 0",
        "0x0",
    ];
    for (at, user) in hostile.iter().enumerate() {
        let name = format!("user:{at}");
        world.load(&image().config("User", json!(user)).named(&name));
        let said = world
            .docker(&["run", "--rm", &name, "echo", "ran"])
            .refused(125);
        let operand = user.split(':').next_back().unwrap_or_default().trim();
        assert!(said.contains(operand), "{user:?}: {said}");
    }
    world.finish();
}

/// The image's passwd is read inside its root only, and neither waited for nor swallowed (CVE-2025-4437).
#[test]
fn a_hostile_passwd_is_read_inside_the_root_and_with_a_limit() {
    let Some(world) = World::start() else { return };
    let outside = world.path("passwd");
    std::fs::write(&outside, "evil:x:0:0::/:/bin/sh\n").unwrap();
    let up = format!("../../../../../../../..{outside}");
    let cases = [
        ("absolute", EntryKind::Symlink(outside)),
        ("climbing", EntryKind::Symlink(up)),
        ("magic", EntryKind::Symlink("/proc/self/fd/3".to_owned())),
        ("pipe", EntryKind::Fifo),
        ("endless", EntryKind::CharacterDevice(1, 5)),
        ("directory", EntryKind::Directory),
        ("huge", EntryKind::File(vec![b'\n'; 40 << 20])),
    ];
    for (name, kind) in cases {
        let layer = TarBuilder::new().whiteout("etc/passwd").finish();
        let over = TarBuilder::new()
            .entry("etc/passwd", 0o644, &kind, &[])
            .finish();
        let name = format!("{name}:1");
        world.load(&image().layer(layer).layer(over).named(&name));
        world
            .docker(&["run", "--rm", "-u", "evil", &name, "echo", "ran"])
            .refused(125);
    }
    world.finish();
}

/// Where files and file systems are mounted, the image has put links to the host (CVE-2019-19921,
/// CVE-2021-30465, CVE-2025-52565, CVE-2026-41579): what is there stays as it was.
#[test]
fn links_in_place_of_mount_points_stay_inside() {
    let Some(world) = World::start() else { return };
    let outside = world.directory("outside");
    std::fs::write(outside.join("file"), "untouched").unwrap();
    let volume = world.directory("volume");
    let targets = [
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
        "dev",
        "dev/pts",
        "dev/shm",
        "dev/null",
        "dev/console",
        "data",
    ];
    for (at, target) in targets.iter().enumerate() {
        for (way, up) in ["", "../../../../../../.."].iter().enumerate() {
            let name = format!("link:{at}-{way}");
            let file = target.starts_with("etc") || target.ends_with("null");
            let end = if file { "/file" } else { "" };
            let to = format!("{up}{}{end}", outside.display());
            let clear = TarBuilder::new().whiteout(target).finish();
            let link = TarBuilder::new().symlink(target, &to).finish();
            world.load(&image().layer(clear).layer(link).named(&name));
            let mount = format!("{}:/data", volume.display());
            // Docker's answer differs from place to place; nothing is touched in any of them.
            let seen = world.docker(&[
                "run",
                "--rm",
                "-t",
                "-v",
                &mount,
                &name,
                "cat",
                "/data/file",
            ]);
            assert_ne!(seen.status, Some(0), "{target}: {seen:?}");
            assert!(!seen.out.contains("untouched"), "{target}: {seen:?}");
            let names: Vec<_> = std::fs::read_dir(&outside).unwrap().flatten().collect();
            assert_eq!(names.len(), 1, "{target}: {names:?}");
            assert_eq!(
                std::fs::read_to_string(outside.join("file")).unwrap(),
                "untouched",
                "{target}"
            );
        }
    }
    world.finish();
}

/// A volume is filled from the image, never from the host (CVE-2022-23648, CVE-2021-41089).
#[test]
fn volumes_of_a_hostile_config_copy_nothing_of_the_host() {
    let Some(world) = World::start() else { return };
    let outside = world.directory("outside");
    std::fs::write(outside.join("secret"), "of the host\n").unwrap();
    let climbing = format!("/../../../../../../../..{}", outside.display());
    let image = |name: &str, volume: &str| {
        let links = TarBuilder::new()
            .symlink("absolute", &outside.display().to_string())
            .symlink("relative", &climbing[1..])
            .symlink("magic", "/proc/1/root")
            .finish();
        image()
            .layer(links)
            .config("Volumes", json!({ volume: {} }))
            .named(name)
    };
    let volumes = [climbing.as_str(), "/absolute", "/relative", "/magic/etc"];
    for (at, volume) in volumes.iter().enumerate() {
        let name = format!("volume:{at}");
        world.load(&image(&name, volume));
        let search =
            "find / -xdev -name secret; find /absolute /relative /magic/ -name secret; true";
        let seen = world.docker(&["run", "--rm", &name, "sh", "-c", search]);
        assert!(!seen.out.contains("secret"), "{volume}: {seen:?}");
        // Nor did it reach the volume on the engine's own side.
        let kept = format!("kept{at}:/v{at}");
        world.docker(&["run", "--rm", "-v", &kept, &name, "true"]);
        let volumes = world.daemon.directory().join("data/volumes");
        let found = crate::world::seen(
            std::process::Command::new("find")
                .arg(volumes)
                .args(["-name", "secret"]),
        );
        assert_eq!(found.ok(), "", "{volume}");
    }
    let names: Vec<_> = std::fs::read_dir(&outside).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    world.finish();
}

/// A working directory that is a descriptor of the engine (CVE-2024-21626), in an image and in an exec.
#[test]
fn working_directories_never_lead_out() {
    let Some(world) = World::start() else { return };
    let link = TarBuilder::new()
        .symlink("fd", "/proc/self/fd")
        .symlink("six", "/proc/self/fd/6")
        .finish();
    let image = image().layer(link);
    world.load(&image.clone().named("leaky:1"));
    world
        .docker(&["run", "-d", "--name", "host", "leaky:1", "sleep", "1000"])
        .ok();
    let mut places = vec!["/six".to_owned(), "/fd/7".to_owned()];
    places.extend((3..24).map(|number| format!("/proc/self/fd/{number}")));
    places.extend((3..12).map(|number| format!("/proc/1/fd/{number}")));
    for place in &places {
        let run = world.docker(&["run", "--rm", "-w", place, "leaky:1", "ls", "../../.."]);
        assert_ne!(run.status, Some(0), "{place}: {run:?}");
        let exec = world.docker(&["exec", "-w", place, "host", "ls", "../../.."]);
        assert_ne!(exec.status, Some(0), "{place}: {exec:?}");
    }
    world.load(
        &image
            .config("WorkingDir", json!("/proc/self/fd/8"))
            .named("leaky:2"),
    );
    world
        .docker(&["run", "--rm", "leaky:2", "ls", "../../.."])
        .refused(125);
    world.docker(&["rm", "-f", "host"]).ok();
    world.finish();
}

/// Parts of an image that is mounted are found inside it only, whatever links it has (as CVE-2021-25741 and CVE-2017-1002101
/// for sub-paths of volumes).
#[test]
fn a_part_of_a_hostile_image_is_inside_it() {
    let Some(world) = World::start() else { return };
    let outside = world.directory("outside");
    std::fs::write(outside.join("secret"), "of the host").unwrap();
    let outside = outside.display().to_string();
    let links = [
        ("absolute", outside.clone()),
        ("climbing", format!("../../../../../../../..{outside}")),
        ("magic", "/proc/self/root".to_owned()),
        ("up", "..".to_owned()),
    ];
    let mut layer = TarBuilder::new();
    for (name, to) in &links {
        layer = layer.entry(name, 0o777, &EntryKind::Symlink(to.clone()), &[]);
    }
    world.load(&image().layer(layer.finish()).named("hostile:1"));
    for (name, _) in &links {
        for part in [(*name).to_owned(), format!("{name}/.")] {
            let mount = format!("type=image,source=hostile:1,destination=/x,image-subpath={part}");
            world
                .docker(&["run", "--rm", "--mount", &mount, "busybox", "ls", "/x"])
                .refused(125);
        }
    }
    let mount = "type=image,source=hostile:1,destination=/x";
    world
        .docker(&[
            "run",
            "--rm",
            "--mount",
            mount,
            "busybox",
            "touch",
            "/x/bin/new",
        ])
        .refused(1);
    world.finish();
}

/// A volume that mounts a directory of the host takes nothing of it along when it is removed, be it with the container.
#[test]
fn removing_a_volume_leaves_what_it_mounts() {
    let Some(world) = World::start() else { return };
    let outside = world.directory("outside");
    std::fs::write(outside.join("file"), "untouched").unwrap();
    let device = format!("device={}", outside.display());
    let options = ["-o", "type=none", "-o", "o=bind", "-o", &device];
    for at in 0..3 {
        let name = format!("bound{at}");
        let create = [&["volume", "create"][..], &options, &[&name]].concat();
        world.docker(&create).ok();
        let volume = format!("{name}:/v");
        let run = [
            "run", "-d", "--name", "user", "-v", &volume, "busybox", "sleep", "1000",
        ];
        world.docker(&run).ok();
        world.docker(&["volume", "rm", "-f", &name]).refused(1);
        world.docker(&["rm", "-f", "-v", "user"]).ok();
        world.docker(&["volume", "rm", &name]).ok();
        assert_eq!(
            std::fs::read_to_string(outside.join("file")).unwrap(),
            "untouched"
        );
    }
    world.finish();
}
