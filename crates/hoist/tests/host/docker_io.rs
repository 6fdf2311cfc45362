//! Docker's own daemon (Debian's docker.io) and ours: archives of each are the other's images, and both are clients of both
//! registries, `hoist registry` and Debian's docker-registry.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use hoist_testkit::{
    DOCKER, LocalRegistry, RegistryOptions, TarBuilder, TemporaryDaemon, TemporaryDirectory, skip,
};

use crate::registry_served::Served;
use crate::world::{Seen, World, able, image, seen};

/// Docker's daemon, with the client of its package.
pub(crate) struct Docker {
    daemon: TemporaryDaemon,
    client: PathBuf,
    _directory: TemporaryDirectory,
}

impl Docker {
    /// It makes no bridge and no firewall rule. Its files are in memory, where it has to wait for no disk, and its mounts in a
    /// namespace of their own.
    pub(crate) fn start() -> Option<Self> {
        let unpacked = match hoist_testkit::unpacked("docker-debian", &DOCKER) {
            Ok(unpacked) => unpacked,
            Err(error) => {
                skip(&format!("docker.io is not here: {error}"));
                return None;
            }
        };
        let directory = TemporaryDirectory::new("docker-io");
        let script = directory.join("dockerd");
        let path = unpacked.display();
        // The arguments begin with `daemon --data-root <path>`.
        let text = format!(
            "#!/bin/sh\nshift\nPATH={path}/usr/sbin:{path}/usr/bin:$PATH\nexport PATH\n\
             mkdir -p \"$2\"\n\
             exec unshare --mount sh -c 'mount -t tmpfs docker \"$2\" && exec dockerd \"$@\"' sh \"$@\" \
             --bridge=none --iptables=false --ip6tables=false --storage-driver=overlay2\n"
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        Some(Self {
            daemon: TemporaryDaemon::start(&script),
            client: unpacked.join("usr/bin/docker"),
            _directory: directory,
        })
    }

    /// Its own client.
    pub(crate) fn client(&self) -> Command {
        self.daemon.client(&self.client)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Seen {
        seen(self.client().args(arguments))
    }

    /// Ends it; answers what is left of it.
    pub(crate) fn finish(self) -> Vec<String> {
        self.daemon.finish()
    }

    fn id(&self, name: &str) -> String {
        let found = self.run(&["image", "inspect", "-f", "{{.Id}}", name]);
        found.ok().trim().to_owned()
    }
}

fn id(world: &World, name: &str) -> String {
    let found = world.docker(&["image", "inspect", "-f", "{{.Id}}", name]);
    found.ok().trim().to_owned()
}

/// Runs it in a network of its own, which leads nowhere: Docker's daemon sees nobody's bridges and rules.
pub(crate) fn apart(work: fn()) {
    let thread = std::thread::spawn(move || {
        hoist_sys::netns::enter_new().unwrap();
        seen(Command::new("ip").args(["link", "set", "lo", "up"])).ok();
        work();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn archives_and_registries_are_common_to_both() {
    if able() {
        apart(common_to_both);
    }
}

fn common_to_both() {
    let Some(docker) = Docker::start() else {
        return;
    };
    let world = World::start().unwrap();
    let layer = TarBuilder::new()
        .directory("d")
        .file("d/made", 0o640, "here")
        .symlink("d/link", "made")
        .finish();
    world.load(&image().layer(layer).name("made:1"));
    let made = id(&world, "made:1");

    // Archives, there and back.
    let (ours, theirs) = (world.path("ours.tar"), world.path("theirs.tar"));
    world.docker(&["save", "-o", &ours, "made:1"]).ok();
    let told = docker.run(&["load", "-i", &ours]).ok();
    assert!(told.contains("Loaded image: made:1"), "{told}");
    assert_eq!(docker.id("made:1"), made);
    docker.run(&["save", "-o", &theirs, "made:1"]).ok();
    world.docker(&["rmi", "made:1"]).ok();
    let told = world.docker(&["load", "-i", &theirs]).ok();
    assert_eq!(told.trim(), "Loaded image: made:1");
    assert_eq!(id(&world, "made:1"), made);
    let ran = world.docker(&["run", "--rm", "--network=none", "made:1", "cat", "/d/link"]);
    assert_eq!(ran.ok().trim(), "here");

    // Registries: what one pushes the other pulls.
    let files = TemporaryDirectory::new("served");
    let served = Served::start(&files.join("images"), &[]);
    let debian = LocalRegistry::start(&RegistryOptions::default());
    let mut addresses = vec![served.address];
    match &debian {
        Some(debian) => addresses.push(debian.address()),
        None => skip("docker-registry is not installed"),
    }
    for address in addresses {
        let by_us = format!("{address}/by/us:1");
        world.docker(&["tag", "made:1", &by_us]).ok();
        world.docker(&["push", "-q", &by_us]).ok();
        docker.run(&["pull", "-q", &by_us]).ok();
        assert_eq!(docker.id(&by_us), made, "{address}");

        let by_them = format!("{address}/by/them:1");
        docker.run(&["tag", "made:1", &by_them]).ok();
        docker.run(&["push", "-q", &by_them]).ok();
        world.docker(&["rmi", "-f", &made]).ok();
        world.docker(&["pull", "-q", &by_them]).ok();
        assert_eq!(id(&world, &by_them), made, "{address}");
        let ran = world.docker(&["run", "--rm", "--network=none", &by_them, "cat", "/d/made"]);
        assert_eq!(ran.ok().trim(), "here");
        world.docker(&["tag", &by_them, "made:1"]).ok();
    }
    docker.run(&["rmi", "-f", &made]).ok();
    let left = docker.finish();
    assert!(left.is_empty(), "{left:?}");
    let left = world.daemon.finish();
    assert!(left.is_empty(), "{left:?}");
    served.stop();
}
