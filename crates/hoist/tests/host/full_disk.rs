//! The disk fills: a clear error, the engine alive, nothing half-made left, and all well once there is room.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hoist_testkit::{
    ImageBuilder, LocalRegistry, RegistryOptions, TarBuilder, TemporaryDaemon, TemporaryDirectory,
};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::world::{World, able, binary, image, wait_for};

pub(crate) const FULL: &str = "no space left on device";

/// A tmpfs of a few MiB, unmounted at the end.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(path: PathBuf, size: &str) -> Self {
        fs::create_dir(&path).unwrap();
        let options =
            std::ffi::CString::new(format!("size={size},nr_inodes=3000,mode=755")).unwrap();
        mount("tmpfs", &path, "tmpfs", MountFlags::empty(), &*options).unwrap();
        Self(path)
    }

    /// Takes what room there is, but for `left` bytes.
    pub(crate) fn fill(&self, left: usize) {
        use std::io::Write;
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        let mut length = 0;
        while file.write_all(&[1; 4096]).is_ok() {
            length += 4096;
        }
        file.set_len(length - left as u64).unwrap();
    }

    pub(crate) fn clear(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }

    /// Takes all inodes.
    fn fill_names(&self) {
        let directory = self.0.join("names");
        fs::create_dir(&directory).unwrap();
        (0..)
            .take_while(|number| fs::create_dir(directory.join(format!("{number}"))).is_ok())
            .for_each(drop);
    }

    fn clear_names(&self) {
        fs::remove_dir_all(self.0.join("names")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// A daemon whose data root is a small disk.
pub(crate) struct Cramped {
    pub(crate) world: World,
    pub(crate) disk: SmallDisk,
    exec: SmallDisk,
    _place: TemporaryDirectory,
}

impl Cramped {
    pub(crate) fn start() -> Option<Self> {
        if !able() {
            return None;
        }
        let place = TemporaryDirectory::new("full");
        let disk = SmallDisk::new(place.join("data"), "24m");
        let exec = SmallDisk::new(place.join("exec"), "1m");
        let daemon = TemporaryDaemon::start_on(binary(), &disk.0.join("d"), &exec.0.join("e"), &[]);
        let files = TemporaryDirectory::new("host");
        let world = World { daemon, files };
        world.load(&image());
        Some(Self {
            world,
            disk,
            exec,
            _place: place,
        })
    }

    /// Everything under the data root but the database, whose files grow and shrink by themselves.
    pub(crate) fn tree(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        walk(&self.disk.0.join("d"), &mut found);
        found.retain(|path| !path.to_string_lossy().contains("/store/"));
        found
    }

    /// Runs what has to fail for want of room, and to leave nothing.
    #[track_caller]
    fn refused(&self, what: &str, run: impl FnOnce(&World) -> crate::world::Seen) {
        let before = self.tree();
        let seen = run(&self.world);
        assert_ne!(seen.status, Some(0), "{what}: {seen:?}");
        assert!(seen.err.to_lowercase().contains(FULL), "{what}: {seen:?}");
        let after = self.tree();
        let new: Vec<_> = after.difference(&before).collect();
        assert!(new.is_empty(), "{what} left {new:#?}");
    }
}

fn walk(path: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let path = entry.path();
        found.insert(path.clone());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, found);
        }
    }
}

#[test]
fn a_container_that_fills_the_disk_is_told_and_ends_in_order() {
    let Some(cramped) = Cramped::start() else {
        return;
    };
    let world = &cramped.world;
    let script = "dd if=/dev/zero of=/big bs=64k; echo dd ended with $?; exit 3";
    let seen = world.docker(&["run", "--name", "eater", "busybox", "sh", "-c", script]);
    assert_eq!(seen.status, Some(3), "{seen:?}");
    assert!(seen.err.contains("No space left on device"), "{seen:?}");
    assert_eq!(seen.out, "dd ended with 1\n");
    // Full as it is, the engine answers and removes.
    let state = [
        "inspect",
        "-f",
        "{{.State.Status}} {{.State.ExitCode}}",
        "eater",
    ];
    assert_eq!(world.docker(&state).ok(), "exited 3\n");
    assert_eq!(world.docker(&["rm", "eater"]).ok(), "eater\n");
    cramped.world.finish();
}

#[test]
fn a_log_without_room_goes_on_once_there_is_some() {
    let Some(cramped) = Cramped::start() else {
        return;
    };
    let world = &cramped.world;
    let script = "i=1; while true; do echo $i; i=$((i+1)); sleep 0.005; done";
    world
        .docker(&[
            "run", "-d", "--name", "talker", "busybox", "sh", "-c", script,
        ])
        .ok();
    let unwritten = || {
        let shown = world.docker(&["inspect", "talker"]).ok();
        shown.contains("\"Unwritten\": ")
    };
    assert!(!unwritten());
    let show = |format: &str| {
        let shown = world.docker(&["inspect", "-f", format, "talker"]).ok();
        shown.trim().to_owned()
    };
    let log = show("{{.LogPath}}");
    let length = || fs::metadata(&log).unwrap().len();
    let counts = format!("/proc/{}/io", show("{{.State.Pid}}"));
    let said = || {
        let counts = fs::read_to_string(&counts).unwrap();
        let line = counts.lines().find_map(|line| line.strip_prefix("wchar: "));
        line.unwrap().parse::<u64>().unwrap()
    };
    cramped.disk.fill(0);
    // Many lines later the log is as long as before.
    let mut before = (length(), said());
    wait_for("the log to have no room", || {
        if length() != before.0 {
            before = (length(), said());
        }
        (said() > before.1 + 120).then_some(())
    });
    cramped.disk.clear();
    let lines = wait_for("the log to go on", || {
        let seen = world.docker(&["logs", "talker"]);
        seen.err.contains("lines were lost").then_some(())?;
        let lines: Vec<u64> = seen.out.lines().map(|line| line.parse().unwrap()).collect();
        let (at, gap) = lines
            .windows(2)
            .map(|pair| pair[1] - pair[0] - 1)
            .enumerate()
            .find(|(_, gap)| *gap > 0)?;
        let told = seen.err.strip_prefix("hoist: ")?;
        let lost: u64 = told.split(' ').next()?.parse().ok()?;
        assert_eq!(gap, lost, "{}", seen.err);
        Some(lines.len() - at)
    });
    assert!(lines > 0);
    assert!(unwritten());
    world.docker(&["rm", "-f", "talker"]).ok();
    cramped.world.finish();
}

#[test]
fn what_needs_room_is_refused_and_leaves_nothing() {
    let Some(cramped) = Cramped::start() else {
        return;
    };
    let world = &cramped.world;
    let big: Vec<u8> = (0..9_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let layer = TarBuilder::new().file("big", 0o644, big).finish();
    let large = ImageBuilder::new().layer(layer.clone()).named("large:1");
    fs::write(world.files.join("layer.tar"), &layer).unwrap();
    fs::write(world.files.join("large.tar"), large.docker_archive()).unwrap();
    let (layer, archive) = (world.path("layer.tar"), world.path("large.tar"));
    let registry = LocalRegistry::start(&RegistryOptions::default());

    // Room for a beginning, then none at all.
    for left in [2 << 20, 0] {
        cramped.disk.fill(left);
        cramped.refused("load", |world| world.docker(&["load", "-i", &archive]));
        cramped.refused("import", |world| {
            world.docker(&["import", &layer, "large:2"])
        });
        if let Some(registry) = &registry {
            registry.put("large", "1", &large);
            let name = format!("localhost:{}/large:1", registry.address().port());
            cramped.refused("pull", |world| world.docker(&["pull", &name]));
        } else {
            hoist_testkit::skip("docker-registry is not installed");
        }
        cramped.disk.clear();
    }
    // No room for one more name.
    cramped.disk.fill_names();
    cramped.refused("create", |world| {
        world.docker(&["create", "--name", "one", "busybox"])
    });
    cramped.refused("volume", |world| world.docker(&["volume", "create", "vol"]));
    cramped.refused("run", |world| {
        world.docker(&["run", "--rm", "-v", "vol:/v", "busybox"])
    });
    assert_eq!(world.docker(&["ps", "-aq"]).ok(), "");
    assert_eq!(world.docker(&["volume", "ls", "-q"]).ok(), "");
    let names = ["image", "ls", "--format", "{{.Repository}}"];
    assert_eq!(world.docker(&names).ok(), "busybox\n");
    cramped.disk.clear_names();

    // Room for names and for nothing else: what is made is whole, and starts, since a start takes nothing from the disk.
    cramped.disk.fill(0);
    let made = world.docker(&["create", "--name", "one", "busybox"]);
    if made.status == Some(0) {
        world.docker(&["start", "one"]).ok();
        assert_eq!(world.docker(&["wait", "one"]).ok(), "0\n");
        cramped.disk.clear();
        world.docker(&["start", "one"]).ok();
        world.docker(&["rm", "-f", "one"]).ok();
    } else {
        assert!(made.err.to_lowercase().contains(FULL), "{made:?}");
        cramped.disk.clear();
    }

    // The same with room.
    world.docker(&["load", "-i", &archive]).ok();
    world.docker(&["rmi", "large:1"]).ok();
    world.docker(&["volume", "create", "vol"]).ok();
    world
        .docker(&["run", "--rm", "-v", "vol:/v", "busybox", "true"])
        .ok();
    cramped.world.finish();
}

#[test]
fn a_container_goes_on_and_ends_in_order_while_the_disk_is_full() {
    let Some(mut cramped) = Cramped::start() else {
        return;
    };
    let world = &mut cramped.world;
    let end = world.directory("end");
    let script = "read go; seq 1 200000; exit 42";
    let talk = [
        "run", "-di", "--name", "talker", "busybox", "sh", "-c", script,
    ];
    world.docker(&talk).ok();
    world
        .docker(&["create", "--name", "later", "busybox", "sh", "-c", "exit 5"])
        .ok();
    world
        .docker(&[
            "run",
            "-d",
            "--name",
            "orphan",
            "-v",
            &format!("{}:/end", end.display()),
            "busybox",
            "sh",
            "-c",
            "while test ! -e /end/now; do sleep 0.05; done; exit 43",
        ])
        .ok();
    let orphan = ["inspect", "-f", "{{.State.Pid}}", "orphan"];
    let orphan = format!("/proc/{}", world.docker(&orphan).ok().trim());
    cramped.disk.fill(0);
    cramped.exec.fill(0);

    // Its log has no room; it goes on, and its end is told.
    let go = format!("echo go | {} attach talker >/dev/null", binary().display());
    let mut shell = world.daemon.client("sh");
    crate::world::seen(shell.args(["-c", &go]));
    assert_eq!(world.docker(&["wait", "talker"]).ok(), "42\n");
    let code = |world: &World, name: &str| {
        world
            .docker(&[
                "inspect",
                "-f",
                "{{.State.Status}} {{.State.ExitCode}}",
                name,
            ])
            .ok()
    };
    assert_eq!(code(world, "talker"), "exited 42\n");
    world.docker(&["logs", "talker"]).ok();

    // What was made before may start, or is refused with the reason; it is not lost.
    let started = world.docker(&["start", "-a", "later"]);
    assert!(
        started.status == Some(5) || started.err.to_lowercase().contains(FULL),
        "{started:?}"
    );

    // The end of a container without an engine, on a full disk, is on record.
    world.daemon.kill();
    fs::write(end.join("now"), "").unwrap();
    wait_for("the orphan's end", || {
        (!Path::new(&orphan).exists()).then_some(())
    });
    cramped.disk.clear();
    cramped.exec.clear();
    world.daemon.launch();
    wait_for("orphan's end", || {
        (code(world, "orphan") == "exited 43\n").then_some(())
    });
    // That of the other was said before the disk had room to keep it.
    wait_for("talker's end", || {
        (code(world, "talker") == "exited 42\n").then_some(())
    });
    assert_eq!(world.docker(&["start", "-a", "later"]).status, Some(5));
    for name in ["talker", "later", "orphan"] {
        world.docker(&["rm", name]).ok();
    }
    cramped.world.finish();
}
