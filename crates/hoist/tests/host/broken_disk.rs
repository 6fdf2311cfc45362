//! Disks that cannot be written, and a store that is damaged or lost: what is wrong is said, nothing is overwritten, and
//! an engine that runs goes on with what it can.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hoist_testkit::{TemporaryDaemon, TemporaryDirectory};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::world::{Seen, World, able, binary, image, seen};

/// A tmpfs that can be made read-only, unmounted at the end.
struct Disk(PathBuf);

impl Disk {
    fn new(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        let options = c"size=64m,mode=755";
        mount("tmpfs", &path, "tmpfs", MountFlags::empty(), options).unwrap();
        Self(path)
    }

    /// Of the mount: the file system itself is busy with files that are open.
    fn set_read_only(&self, is: bool) {
        let mut flags = MountFlags::BIND;
        flags.set(MountFlags::RDONLY, is);
        mount_remount(&self.0, flags, "").unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Starts a daemon that has to refuse, and says what it says.
fn refuses(data: &Path, place: &Path) -> String {
    let mut command = Command::new("timeout");
    command.arg("60").arg(binary()).arg("daemon");
    for (flag, value) in [
        ("--data-root", data),
        ("--exec-root", &place.join("exec")),
        ("--pidfile", &place.join("pid")),
    ] {
        command.arg(flag).arg(value);
    }
    let host = format!("unix://{}", place.join("sock").display());
    let Seen { status, out, err } = seen(command.arg("-H").arg(host));
    assert_eq!(status, Some(1), "{out}{err}");
    let last = err.lines().last().unwrap_or_default();
    assert!(last.starts_with("hoist daemon: "), "{err}");
    last.to_owned()
}

/// All files below a directory with their content. Links are not followed: `/etc/mtab` of a container's root shows the
/// mounts of whoever reads it.
fn content(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(content(&path));
        } else if kind.is_file() {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_read_only_data_root_is_named_at_the_start() {
    if !able() {
        return;
    }
    let place = TemporaryDirectory::new("read-only");
    let disk = Disk::new(place.join("disk"));
    let data = disk.0.join("data");
    disk.set_read_only(true);
    let said = refuses(&data, place.path());
    let named = said.contains("Read-only file system") && said.contains(data.to_str().unwrap());
    assert!(named, "{said}");
    // The same where there is one already.
    disk.set_read_only(false);
    let daemon = TemporaryDaemon::start_on(binary(), &data, &place.join("exec"), &[]);
    assert_eq!(daemon.finish(), Vec::<String>::new());
    disk.set_read_only(true);
    let said = refuses(&data, place.path());
    let named = said.contains("Read-only file system") && said.contains("state.db");
    assert!(named, "{said}");
}

#[test]
fn a_damaged_store_is_named_and_left_as_it_is() {
    let Some(mut world) = World::start() else {
        return;
    };
    let data = world.daemon.directory().join("data");
    world
        .docker(&["create", "--name", "one", "-v", "/anonymous", "busybox"])
        .ok();
    assert!(world.daemon.stop().success());
    let store = data.join("store/state.db");
    let good = fs::read(&store).unwrap();
    let half = good.len() / 2;
    let mut scribbled = good.clone();
    scribbled[4096..half].fill(0xa5);
    for (bytes, said) in [
        (good[..half + 100].to_vec(), "is damaged"),
        (vec![7; 8192], "is damaged"),
        (scribbled, "is damaged"),
        (Vec::new(), "is missing or empty"),
    ] {
        fs::write(&store, &bytes).unwrap();
        let before = content(&data);
        let place = TemporaryDirectory::new("damaged");
        let last = refuses(&data, place.path());
        assert!(last.contains(said) && last.contains("state.db"), "{last}");
        let kept = content(&data);
        let names = |all: &[(PathBuf, Vec<u8>)]| -> Vec<PathBuf> {
            all.iter().map(|(path, _)| path.clone()).collect()
        };
        // SQLite may have made its log, and nothing more.
        let more: Vec<_> = kept.iter().filter(|file| !before.contains(file)).collect();
        let only_log = more
            .iter()
            .all(|(path, _)| path.to_string_lossy().contains("state.db-"));
        assert!(only_log, "{said}: {:?}", names(&kept));
        assert!(
            before.iter().all(|file| kept.contains(file)),
            "{said}: {:?}",
            names(&before)
        );
        for (path, _) in more {
            fs::remove_file(path).unwrap();
        }
    }
    // With the store put back all is as it was.
    fs::write(&store, &good).unwrap();
    world.daemon.launch();
    world.docker(&["start", "-a", "one"]).ok();
    world.docker(&["rm", "-v", "one"]).ok();
    world.finish();
}

/// An ext4 in a file; the kernel makes it read-only when it finds an error, which it can be told to have found.
struct Ext4 {
    file: PathBuf,
    place: PathBuf,
}

impl Ext4 {
    /// `None`, and a skip, where there is none to be had.
    fn new(directory: &Path) -> Option<Self> {
        let (file, place) = (directory.join("ext4"), directory.join("disk"));
        fs::File::create(&file).unwrap().set_len(96 << 20).unwrap();
        fs::create_dir(&place).unwrap();
        let own = Self { file, place };
        if !run("mkfs.ext4", &["-q".as_ref(), own.file.as_ref()]) || !own.mount() {
            hoist_testkit::skip("no ext4 on a loop device");
            return None;
        }
        Some(own)
    }

    fn mount(&self) -> bool {
        let options = "loop,errors=remount-ro";
        run(
            "mount",
            &[
                "-o".as_ref(),
                options.as_ref(),
                self.file.as_ref(),
                self.place.as_ref(),
            ],
        )
    }

    /// The disk has an error.
    fn fail(&self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let place = self.place.to_str().unwrap();
        let device = mounts.lines().find_map(|line| {
            let (device, rest) = line.split_once(' ')?;
            (rest.split(' ').next() == Some(place)).then(|| device.trim_start_matches("/dev/"))
        });
        let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", device.unwrap());
        fs::write(trigger, "1").unwrap();
        let refused = fs::write(self.place.join("x"), "x").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }

    /// The disk is repaired and mounted again.
    fn repair(&self) {
        assert!(
            run("umount", &[self.place.as_ref()]),
            "something holds the disk"
        );
        // Answers 1 when there was something to repair.
        run("fsck.ext4", &["-fy".as_ref(), self.file.as_ref()]);
        assert!(self.mount());
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        let _ = unmount(&self.place, UnmountFlags::DETACH);
    }
}

fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn an_engine_whose_disk_becomes_read_only_goes_on_with_what_it_can() {
    if !able() {
        return;
    }
    let place = TemporaryDirectory::new("remounted");
    let Some(disk) = Ext4::new(place.path()) else {
        return;
    };
    let data = disk.place.join("data");
    let daemon = TemporaryDaemon::start_on(binary(), &data, &place.join("exec"), &[]);
    let files = TemporaryDirectory::new("host");
    let mut world = World { daemon, files };
    world.load(&image());
    let script = "echo before; read go; exit 8";
    let one = ["run", "-di", "--name", "one", "busybox", "sh", "-c", script];
    world.docker(&one).ok();
    crate::world::wait_for("its first line", || {
        (world.docker(&["logs", "one"]).ok() == "before\n").then_some(())
    });
    // What is told of what runs is on the disk within a second, and with anything that has to be there at once.
    world.docker(&["volume", "create", "first"]).ok();
    disk.fail();
    // Reading goes on.
    for read in [
        &["ps", "-a"][..],
        &["inspect", "one"],
        &["logs", "one"],
        &["images"],
        &["info"],
        &["top", "one"],
    ] {
        world.docker(read).ok();
    }
    // What would have to be written is refused with the reason.
    for written in [&["create", "busybox"][..], &["volume", "create", "vol"]] {
        let said = world.docker(written).refused(1).to_lowercase();
        assert!(
            said.contains("read-only file system"),
            "{written:?}: {said}"
        );
    }
    // What runs ends, and that is told.
    let go = format!("echo go | {} attach one", binary().display());
    let mut shell = world.daemon.client("sh");
    seen(shell.args(["-c", &go]));
    let state = |world: &World| {
        let format = "{{.State.Status}} {{.State.ExitCode}}";
        world.docker(&["inspect", "-f", format, "one"]).ok()
    };
    assert_eq!(world.docker(&["wait", "one"]).ok(), "8\n");
    assert_eq!(state(&world), "exited 8\n");
    // And is not lost with the engine that could not write it.
    world.daemon.kill();
    disk.repair();
    world.daemon.launch();
    assert_eq!(state(&world), "exited 8\n", "{}", world.daemon.log());
    world.docker(&["start", "one"]).ok();
    world.docker(&["rm", "-f", "one"]).ok();
    world.finish();
}
