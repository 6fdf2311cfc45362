//! A container's overlay is mounted once at a time, and that of a run that ended stays for a moment: the next start and looks at
//! the files have it, and it goes.

use crate::world::{World, wait_for};

/// The overlays that the engine itself holds mounted: of containers that run, and of those that have just ended.
fn overlays(world: &World) -> usize {
    /// `OVERLAYFS_SUPER_MAGIC` (linux/magic.h).
    const OVERLAY: i64 = 0x794c_7630;
    let directory = format!("/proc/{}/fd", world.daemon.pid());
    let entries = std::fs::read_dir(directory).unwrap();
    let is_overlay =
        |path: &std::path::Path| rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == OVERLAY);
    entries
        .filter(|entry| entry.as_ref().is_ok_and(|entry| is_overlay(&entry.path())))
        .count()
}

#[test]
fn the_overlay_of_a_run_that_ended_is_taken_again_and_goes() {
    let Some(world) = World::start() else { return };
    let gone = || {
        wait_for("no overlay is held", || {
            (overlays(&world) == 0).then_some(())
        })
    };
    gone();
    let append = "echo x >> /f; cat /f";
    let run = ["run", "--name", "first", "busybox", "sh", "-c", append];
    assert_eq!(world.docker(&run).ok(), "x\n");
    // Back to back, and with a look in between.
    assert_eq!(world.docker(&["start", "-a", "first"]).ok(), "x\nx\n");
    let copy = world.path("f");
    world.docker(&["cp", "first:/f", &copy]).ok();
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), "x\nx\n");
    assert_eq!(world.docker(&["start", "-a", "first"]).ok(), "x\nx\nx\n");
    gone();
    assert_eq!(
        world.docker(&["start", "-a", "first"]).ok().lines().count(),
        4
    );
    world.docker(&["rm", "first"]).ok();
    gone();

    // Of one that runs there is one; of one that is thrown away with its end, none.
    world
        .docker(&["run", "-d", "--name", "kept", "busybox", "sleep", "1000"])
        .ok();
    world
        .docker(&[
            "run", "-d", "--rm", "--name", "thrown", "busybox", "sleep", "1000",
        ])
        .ok();
    wait_for("one overlay is held", || {
        (overlays(&world) == 1).then_some(())
    });
    world.docker(&["rm", "-f", "kept", "thrown"]).ok();
    gone();
    world.finish();
}

/// Overlay clears its scratch directory at each mount. Had a second one been made beside that of the run, nothing that the
/// image brought could be changed any more: a directory is copied up through the scratch directory.
#[test]
fn looks_beside_a_start_leave_the_container_its_writable_side() {
    const ROUNDS: usize = 25;
    let Some(world) = World::start() else { return };
    for round in 0..ROUNDS {
        let (name, volume) = (format!("box{round}"), format!("vol{round}:/etc"));
        // With a fresh volume to be filled, which mounts the root already at the create, and without.
        let mut create = vec!["create", "--name", name.as_str()];
        if round % 2 == 1 {
            create.extend(["-v", volume.as_str()]);
        }
        create.extend(["busybox", "sleep", "1000"]);
        world.docker(&create).ok();
        std::thread::scope(|scope| {
            let looks = scope.spawn(|| {
                let path = format!("/containers/{name}/archive?path=/tmp");
                for _ in 0..20 {
                    let (status, answer) = world.daemon.request("HEAD", &path, None).unwrap();
                    assert_eq!(status, 200, "{answer}");
                }
            });
            world.docker(&["start", &name]).ok();
            looks.join().unwrap();
        });
        let write = ["exec", &name, "sh", "-c", "echo x > /tmp/new; cat /tmp/new"];
        assert_eq!(world.docker(&write).ok(), "x\n", "round {round}");
        world.docker(&["rm", "-f", "-v", &name]).ok();
    }
    world.finish();
}
