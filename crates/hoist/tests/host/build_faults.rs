//! Builds that meet a full disk or a hostile context: a clear error, nothing left, and the next build is right.

use std::process::Stdio;

use hoist_testkit::{EntryKind, TarBuilder, exchange_bytes};

use crate::full_disk::{Cramped, FULL};
use crate::world::{World, wait_for};

/// What the engine says of a build, as one text.
fn build(world: &World, dockerfile: &str, context: TarBuilder) -> String {
    let tar = context.file("Dockerfile", 0o644, dockerfile).finish();
    let target = "/build?t=built&networkmode=none";
    let socket = world.daemon.socket();
    let said = exchange_bytes(&socket, "POST", target, "application/x-tar", &tar);
    String::from_utf8_lossy(&said.unwrap().1).into_owned()
}

#[test]
fn a_build_that_fills_the_disk_says_so_and_leaves_nothing() {
    let Some(cramped) = Cramped::start() else {
        return;
    };
    let world = &cramped.world;
    // What a first build makes for all that come stays.
    let said = build(world, "FROM busybox\nRUN echo first\n", TarBuilder::new());
    assert!(said.contains("Successfully built"), "{said}");
    let before = cramped.tree();
    let refused = |what: &str, dockerfile: &str, context: TarBuilder| {
        let said = build(world, dockerfile, context);
        let said = said.to_lowercase();
        assert!(
            said.contains("errordetail") || said.contains("message"),
            "{what}: {said}"
        );
        assert!(said.contains(FULL), "{what}: {said}");
        // What failed is given back behind the answer.
        wait_for(what, || cramped.tree().is_subset(&before).then_some(()));
    };
    refused(
        "a program",
        "FROM busybox\nRUN dd if=/dev/zero of=/big bs=64k\n",
        TarBuilder::new(),
    );
    cramped.disk.fill(3 << 20);
    let large = vec![7; 2 << 20];
    refused(
        "a context",
        "FROM busybox\nCOPY large /\n",
        TarBuilder::new().file("large", 0o644, vec![7; 4 << 20]),
    );
    refused(
        "a layer of a copy",
        "FROM busybox\nCOPY large /\n",
        TarBuilder::new().file("large", 0o644, large),
    );
    refused(
        "a layer of a program",
        "FROM busybox\nRUN dd if=/dev/zero of=/large bs=64k count=32\n",
        TarBuilder::new(),
    );
    cramped.disk.clear();
    let said = build(
        world,
        "FROM busybox\nRUN echo once more\n",
        TarBuilder::new(),
    );
    assert!(
        said.contains("once more\\n") && said.contains("Successfully built"),
        "{said}"
    );
    let Cramped { world, .. } = cramped;
    world.finish();
}

/// Processes whose command line has this in it.
fn processes_with(word: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(word))
        .count()
}

#[test]
fn a_build_goes_with_the_client_that_asked_for_it() {
    let Some(world) = World::start() else { return };
    let app = world.directory("app");
    // Two programs at once, told from all others of this machine.
    let word = format!("98765.{}", std::process::id());
    let dockerfile = format!(
        "FROM busybox AS one\nRUN sleep {word}\nFROM busybox AS two\nRUN --network=none sleep {word}\n\
         FROM busybox\nCOPY --from=one / /one\nCOPY --from=two / /two\n"
    );
    std::fs::write(app.join("Dockerfile"), dockerfile).unwrap();
    // By `POST /build`, and by the operation of our own client.
    for door in ["0", "1"] {
        let mut command = world.daemon.client(crate::world::binary());
        command.env("DOCKER_BUILDKIT", door).arg("build").arg(&app);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut client = command.spawn().unwrap();
        let sleep = format!("sleep\0{word}");
        wait_for("both programs", || {
            (processes_with(&sleep) == 2).then_some(())
        });
        client.kill().unwrap();
        client.wait().unwrap();
        wait_for("no program", || (processes_with(&word) == 0).then_some(()));
        let containers = world.daemon.directory().join("data/containers");
        wait_for("no files of steps", || {
            std::fs::read_dir(&containers)
                .unwrap()
                .next()
                .is_none()
                .then_some(())
        });
    }
    world.finish();
}

#[test]
fn a_hostile_context_stays_inside() {
    let Some(world) = World::start() else { return };
    let secret = world.files.join("secret");
    std::fs::write(&secret, "of the host").unwrap();
    let place = secret.display().to_string();
    let up = format!("../../../../../../../../../..{place}");
    let links = || {
        let tar = TarBuilder::new()
            .symlink("absolute", &place)
            .symlink("up", &up);
        tar.symlink("root", "/")
            .symlink("round", "round")
            .directory("d")
    };
    for source in [
        "absolute",
        "up",
        "root/etc/shadow",
        "round",
        "root/../../etc/shadow",
    ] {
        let dockerfile = format!("FROM busybox\nCOPY {source} /x\nRUN cat /x\n");
        let said = build(&world, &dockerfile, links());
        assert!(
            said.contains("errorDetail") && !said.contains("of the host"),
            "{source}: {said}"
        );
    }
    // The Dockerfile itself, and what is mounted of the context.
    let socket = world.daemon.socket();
    let tar = links().finish();
    let target = "/build?dockerfile=absolute";
    let said = exchange_bytes(&socket, "POST", target, "application/x-tar", &tar).unwrap();
    let said = String::from_utf8_lossy(&said.1).into_owned();
    assert!(
        said.contains("Cannot locate specified Dockerfile"),
        "{said}"
    );
    let mounts = "FROM busybox\nRUN --mount=type=bind,source=up,target=/x cat /x\n";
    let said = build(&world, mounts, links());
    assert!(
        said.contains("errorDetail") && !said.contains("of the host"),
        "{said}"
    );
    // A destination that leads out by links of the image, and an archive that brings such links.
    let inside = TarBuilder::new()
        .symlink("way", &place)
        .file("way/in", 0o644, "written");
    let climbing = TarBuilder::new().symlink("way", "../../../../..");
    let climbing = climbing.file(&format!("way{place}"), 0o644, "written");
    let context = TarBuilder::new()
        .file("inside.tar", 0o644, inside.finish())
        .file("climbing.tar", 0o644, climbing.finish())
        .file("file", 0o644, "written");
    let dockerfile = format!(
        "FROM busybox\nRUN ln -s {up} /way; mkdir -p {}\nCOPY file /way\nADD climbing.tar /a/b/\nADD inside.tar /c/\n",
        secret.parent().unwrap().display()
    );
    build(&world, &dockerfile, context);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of the host");
    // Files that cannot be read to their end, or at all.
    let memory = EntryKind::CharacterDevice(1, 1);
    for (kind, what) in [(EntryKind::Fifo, "a pipe"), (memory, "a device")] {
        for name in ["special", ".dockerignore"] {
            let tar = TarBuilder::new().entry(name, 0o666, &kind, &[]);
            let tar = tar.file("Dockerfile", 0o644, "FROM busybox\n").finish();
            let target = "/build?dockerfile=special";
            let said = exchange_bytes(&socket, "POST", target, "application/x-tar", &tar).unwrap();
            let said = String::from_utf8_lossy(&said.1).into_owned();
            assert!(said.contains("message"), "{what}, {name}: {said}");
        }
        // Copied they are what they are, and containers may not open devices that are not theirs.
        let tar = TarBuilder::new().entry("special", 0o666, &kind, &[]);
        let dockerfile = "FROM busybox\nCOPY . /d/\nRUN ls -l /d/special; ! test -c /d/special || ! head -c1 /d/special\n";
        let said = build(&world, dockerfile, tar);
        assert!(said.contains("Successfully built"), "{what}: {said}");
    }
    // Names that are too long, go up or are none, and an endless one.
    let long = "n".repeat(300);
    for name in ["../outside", "d/../../outside", long.as_str()] {
        let tar = TarBuilder::new().entry(name, 0o644, &EntryKind::File(b"x".to_vec()), &[]);
        let said = build(&world, "FROM busybox\nCOPY . /\n", tar);
        assert!(said.contains("message"), "{name}: {said}");
    }
    world.finish();
}
