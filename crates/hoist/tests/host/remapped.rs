//! Containers whose users are others on the host (`--userns-remap`): what root of one tries against the host.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use hoist_testkit::TemporaryDirectory;

use crate::attack_process::spy_on_execs;
use crate::world::{World, wait_for};

/// The host's id of root in containers.
const ROOT: u32 = 345_000;

/// An engine that remaps to ids that nobody else has, and the files that say which.
fn remapping() -> Option<(World, TemporaryDirectory)> {
    let accounts = TemporaryDirectory::new("accounts");
    let write = |name: &str, text: &str| std::fs::write(accounts.join(name), text).unwrap();
    write("passwd", "root:x:0:0::/:\nann:x:1000:1000::/:\n");
    write("group", "root:x:0:\nann:x:1000:\n");
    for name in ["subuid", "subgid"] {
        write(name, &format!("ann:{ROOT}:65536\n"));
    }
    let path = accounts.path().to_str().unwrap();
    let flags = ["--userns-remap", "ann", "--accounts", path];
    World::start_with(&flags).map(|world| (world, accounts))
}

/// The process beside the engine that is in the user namespace of its containers.
fn keeper_of(engine: u32) -> Option<rustix::process::Pid> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_it = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = format!(" {engine} ");
        stat.contains("(hoist-userns)") && stat.contains(&parent)
    };
    rustix::process::Pid::from_raw(pids.into_iter().find(is_it)?)
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

/// The field of a process' status in /proc.
fn status(pid: &str, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap().trim_start_matches(':').trim().to_owned()
}

/// Where the engine keeps what a container changes.
fn upper(world: &World, container: &str) -> std::path::PathBuf {
    let id = world.docker(&["inspect", "-f", "{{.Id}}", container]).ok();
    let data = world.daemon.directory().join("data");
    let data = data.join(format!("{ROOT}.{ROOT}/image/snapshots"));
    data.join(id.trim()).join("upper")
}

#[test]
fn root_of_a_remapped_container_is_nobody_on_the_host() {
    let Some((world, _accounts)) = remapping() else {
        return;
    };
    let script = "cp /bin/busybox /mine; chown 5:6 /mine; chmod 4755 /mine; \
        cp /bin/busybox /data/own; chmod 4755 /data/own; echo ready; exec sleep 1000";
    let volume = ["-v", "kept:/data"];
    let run = [
        "run", "-d", "--name", "own", volume[0], volume[1], "busybox", "sh", "-c", script,
    ];
    world.docker(&run).ok();
    wait_for("the container's files", || {
        let said = world.docker(&["logs", "own"]).ok();
        said.contains("ready").then_some(())
    });
    let pid = world
        .docker(&["inspect", "-f", "{{.State.Pid}}", "own"])
        .ok();
    let four = format!("{ROOT}\t{ROOT}\t{ROOT}\t{ROOT}");
    assert_eq!(status(pid.trim(), "Uid"), four);
    assert_eq!(status(pid.trim(), "Gid"), four);
    let upper = upper(&world, "own");
    assert_eq!(owner(&upper), (ROOT, ROOT));
    assert_eq!(owner(upper.join("mine")), (ROOT + 5, ROOT + 6));
    let volume = ["volume", "inspect", "-f", "{{.Mountpoint}}", "kept"];
    let volume = world.docker(&volume).ok();
    assert_eq!(owner(volume.trim()), (ROOT, ROOT));
    let own = Path::new(volume.trim()).join("own");
    assert_eq!(owner(&own), (ROOT, ROOT));
    assert_eq!(
        std::fs::metadata(own).unwrap().permissions().mode() & 0o7777,
        0o4755
    );
    // A further process is no more than the first.
    let further = world.docker(&[
        "exec",
        "own",
        "cat",
        "/proc/self/uid_map",
        "/proc/self/loginuid",
    ]);
    let map: Vec<String> = further
        .out
        .split_whitespace()
        .take(3)
        .map(str::to_owned)
        .collect();
    assert_eq!(map, ["0".to_owned(), ROOT.to_string(), "65536".to_owned()]);
    world.docker(&["rm", "-f", "-v", "own"]).ok();
    world.docker(&["volume", "rm", "kept"]).ok();
    world.finish();
}

/// A bind shows the host's own owners, and root of the container is none of them (the old way from the group docker to
/// root: a program with the set-user-id bit, left in a directory of the host's).
#[test]
fn a_bind_gives_root_of_a_remapped_container_nothing_of_roots() {
    let Some((world, _accounts)) = remapping() else {
        return;
    };
    let shared = world.files.join("shared");
    std::fs::create_dir(&shared).unwrap();
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    allow(&shared, 0o777);
    std::fs::write(shared.join("secret"), "secret").unwrap();
    allow(&shared.join("secret"), 0o600);
    std::fs::write(shared.join("program"), "program").unwrap();
    allow(&shared.join("program"), 0o755);
    std::fs::write(shared.join("anns"), "ann's").unwrap();
    chown(shared.join("anns"), Some(1000), Some(1000)).unwrap();
    let bind = format!("{}:/b", shared.display());
    let script = "ls -ln /b/secret | awk '{print $3, $4}'; cat /b/secret; echo x >/b/program; chmod 4755 /b/program; \
        chown 0:0 /b/program /b/anns; rm -f /b/anns/x; ln /b/program /b/hard; chown 0:0 /b/hard; \
        cp /bin/busybox /b/root; chmod 4755 /b/root; setfattr -n trusted.a -v b /b/root; true";
    let everything = [
        "run",
        "--rm",
        "--cap-add",
        "ALL",
        "--security-opt",
        "seccomp=unconfined",
    ];
    let run = [
        &everything[..],
        &["-v", &bind, "busybox", "sh", "-c", script],
    ]
    .concat();
    let seen = world.docker(&run);
    assert_eq!(seen.out, "65534 65534\n", "{seen:?}");
    let read = |name: &str| std::fs::read_to_string(shared.join(name)).unwrap();
    assert_eq!(read("program"), "program");
    let program = std::fs::metadata(shared.join("program")).unwrap();
    assert_eq!(program.permissions().mode() & 0o7777, 0o755);
    assert_eq!(owner(shared.join("program")), (0, 0));
    assert_eq!(owner(shared.join("anns")), (1000, 1000));
    // What it leaves is its own, and the bit makes nobody root of the host.
    assert_eq!(owner(shared.join("root")), (ROOT, ROOT));
    world.finish();
}

/// With every capability and no filter: all of it counts in the user namespace only.
#[test]
fn every_capability_of_a_remapped_container_is_none_on_the_host() {
    let Some((world, _accounts)) = remapping() else {
        return;
    };
    // What would be done to the host if it could leaves it as it was.
    let script = "mknod /tmp/disk b 254 0 && echo made a device; mknod /tmp/memory c 1 1 && echo made memory; \
        mount -t debugfs d /tmp && echo mounted; mount -o remount,rw /proc/sys; cat /proc/sys/kernel/core_pattern >/pattern; \
        cat /pattern >/proc/sys/kernel/core_pattern && echo wrote a pattern; echo h >/proc/sysrq-trigger && echo triggered; \
        hostname $(hostname) && echo named; date -s \"$(date '+%Y-%m-%d %H:%M:%S')\" 2>&1 | grep -q 'not permitted' || echo set the clock; \
        echo 1 >/proc/sys/vm/compact_memory && echo compacted; echo done";
    let everything = [
        "run",
        "--rm",
        "--cap-add",
        "ALL",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "systempaths=unconfined",
        "--uts",
        "host",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    let seen = world.docker(&everything);
    assert_eq!(seen.out, "done\n", "{seen:?}");
    // What would share the host's namespaces is refused before anything is made.
    for (flag, told) in [
        (
            &["--privileged"][..],
            "privileged mode is incompatible with user namespaces",
        ),
        (&["--pid", "host"], "cannot share the host PID namespace"),
        (
            &["--network", "host"],
            "cannot share the host's network namespace",
        ),
    ] {
        let run = [&["create"], flag, &["busybox"]].concat();
        let refused = world.docker(&run).refused(1);
        assert!(refused.contains(told), "{refused}");
    }
    // A container of the host's users is no way in for one of others.
    let host = [
        "run",
        "-d",
        "--name",
        "hosts",
        "--userns",
        "host",
        "--ipc",
        "shareable",
        "busybox",
        "sleep",
        "1000",
    ];
    world.docker(&host).ok();
    for join in [["--pid", "container:hosts"], ["--ipc", "container:hosts"]] {
        let run = ["run", "--rm", join[0], join[1], "busybox", "true"];
        let refused = world.docker(&run).refused(125);
        assert!(refused.contains("--userns=host"), "{refused}");
    }
    // Its network is of the pool that all have, and gives nothing away.
    let join = ["run", "--rm", "--network", "container:hosts"];
    let join = [&join[..], &["busybox", "id", "-u"]].concat();
    assert_eq!(world.docker(&join).ok(), "0\n");
    world.docker(&["rm", "-f", "hosts"]).ok();
    world.finish();
}

/// Root of the container may trace whom it sees; not who comes in from the host, until they are no more than itself
/// (CVE-2016-9962).
#[test]
fn who_enters_a_remapped_container_shows_nothing_of_the_engine() {
    let Some((world, _accounts)) = remapping() else {
        return;
    };
    spy_on_execs(&world, &["--cap-add", "SYS_PTRACE"]);
    world.finish();
}

/// It administers what is its own: its network, its host name, its mounts.
#[test]
fn a_remapped_container_has_its_namespaces_to_itself() {
    let Some((world, _accounts)) = remapping() else {
        return;
    };
    let script = "set -e; ip link set lo down; ip link set lo up; hostname mine; hostname; mount -t tmpfs t /tmp; \
        echo text >/tmp/f; cat /tmp/f; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax; ping -c1 127.0.0.1 >/dev/null";
    let run = [
        "run",
        "--rm",
        "--cap-add",
        "NET_ADMIN",
        "--cap-add",
        "SYS_ADMIN",
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--sysctl",
        "kernel.shmmax=12345",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    assert_eq!(world.docker(&run).ok(), "mine\ntext\n1\n12345\n");
    world.finish();
}

/// The engine is killed, and so is what makes network namespaces: containers go on, and new ones join them.
#[test]
fn remapped_containers_outlive_the_engine() {
    let Some((mut world, _accounts)) = remapping() else {
        return;
    };
    let script = "trap 'echo ended; exit 3' TERM; while :; do sleep 0.05; done";
    world
        .docker(&["run", "-d", "--name", "own", "busybox", "sh", "-c", script])
        .ok();
    world.wait_for_term_handler("own");
    world.daemon.kill();
    world.daemon.launch();
    // What makes network namespaces is replaced when it dies.
    let keeper = keeper_of(world.daemon.pid()).unwrap();
    rustix::process::kill_process(keeper, rustix::process::Signal::KILL).unwrap();
    assert_eq!(world.docker(&["exec", "own", "id", "-u"]).ok(), "0\n");
    let join = [
        "run",
        "--rm",
        "--network",
        "container:own",
        "--pid",
        "container:own",
        "busybox",
        "sh",
        "-c",
        "test -d /sys/class/net/eth0 && kill -0 1",
    ];
    world.docker(&join).ok();
    // With a network of its own, made by this engine, in the namespaces of one that the last engine made.
    let join = ["run", "--rm", "--pid", "container:own", "busybox"];
    world
        .docker(&[&join[..], &["kill", "-0", "1"]].concat())
        .ok();
    world.docker(&["stop", "own"]).ok();
    assert_eq!(
        world
            .docker(&["inspect", "-f", "{{.State.ExitCode}}", "own"])
            .ok(),
        "3\n"
    );
    assert!(world.docker(&["logs", "own"]).ok().contains("ended"));
    world.docker(&["rm", "own"]).ok();
    world.finish();
}
