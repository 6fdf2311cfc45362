//! What a process inside tries against the engine, the kernel and its neighbours.

use std::time::{Duration, Instant};

use crate::world::World;

/// While an exec is made, a process that shares its process namespace sees the engine's program: it must not be
/// able to open it, nor what it holds (CVE-2016-9962, CVE-2019-5736).
#[test]
fn a_process_in_the_making_shows_nothing_of_the_engine() {
    let Some(world) = World::start() else { return };
    spy_on_execs(&world, &[]);
    world.finish();
}

/// Looks at processes in the making from a container with these flags, which is to see nothing but programs of the image.
pub(crate) fn spy_on_execs(world: &World, flags: &[&str]) {
    let watch = "while :; do for p in /proc/[0-9]*; do \
        for l in $p/exe $p/root $p/cwd $p/fd/3 $p/fd/4 $p/fd/5 $p/fd/6; do \
        t=$(readlink $l) && echo $l $t; done; done; done";
    let run = ["run", "-d", "--name", "spy"];
    let spy = [&run, flags, &["busybox", "sh", "-c", watch]].concat();
    world.docker(&spy).ok();
    let end = Instant::now() + Duration::from_secs(2);
    let mut execs = 0;
    while Instant::now() < end || execs < 20 {
        world.docker(&["exec", "spy", "true"]).ok();
        execs += 1;
    }
    world.docker(&["kill", "spy"]).ok();
    let seen = world.docker(&["logs", "spy"]).ok();
    assert!(
        seen.contains("/exe /bin/"),
        "it saw nothing at all:\n{seen}"
    );
    for line in seen.lines() {
        let (link, target) = line.split_once(' ').unwrap_or((line, ""));
        let harmless = match link.rsplit('/').next() {
            Some("exe") => target.starts_with("/bin/"),
            Some("root" | "cwd") => target == "/",
            // The shell's own pipe for readlink's output, and the script's descriptors.
            _ => target.starts_with("pipe:[") || target.starts_with("/proc/"),
        };
        assert!(harmless, "{line}");
    }
    world.docker(&["rm", "-f", "spy"]).ok();
}

/// The release agent of a version 1 group runs on the host (CVE-2022-0492).
#[test]
fn cgroups_cannot_be_written_or_mounted() {
    let Some(world) = World::start() else { return };
    let script = "for f in $(find /sys/fs/cgroup -name release_agent -o -name notify_on_release -o -name \
        cgroup.procs -o -name devices.allow); do (echo x > $f) 2>/dev/null && echo wrote $f; done; \
        mkdir /sys/fs/cgroup/x 2>/dev/null && echo made; mkdir /tmp/c; \
        for k in cgroup cgroup2 proc sysfs tmpfs; do \
        mount -t $k none /tmp/c 2>/dev/null && echo mounted $k; done; \
        mount -o remount,rw /sys/fs/cgroup 2>/dev/null && echo remounted; \
        unshare -C true 2>/dev/null && echo unshared; true";
    let said = world
        .docker(&["run", "--rm", "busybox", "sh", "-c", script])
        .ok();
    assert_eq!(said, "");
    world.finish();
}

/// The kernel's doors that the default profile closes, one system call each (CVE-2022-0185, CVE-2023-0386,
/// CVE-2024-1086): refused as such, before the kernel looks at the arguments.
#[test]
fn the_kernels_dangerous_calls_are_refused() {
    let Some(world) = World::start() else { return };
    if !std::path::Path::new("/usr/bin/perl").exists() || cfg!(not(target_arch = "x86_64")) {
        hoist_testkit::skip("needs perl on x86-64, to make system calls by number");
        return;
    }
    // Number, name, first argument; EPERM, but ENOSYS for clone3, so that libraries fall back to clone.
    let calls = "272,unshare,268435456 272,unshare,131072 56,clone,268435456 250,keyctl,0 248,add_key,0 \
        321,bpf,0 298,perf_event_open,0 323,userfaultfd,0 425,io_uring_setup,1 165,mount,0 166,umount2,0 \
        155,pivot_root,0 428,open_tree,0 429,move_mount,0 430,fsopen,0 442,mount_setattr,0 304,open_by_handle_at,0 \
        175,init_module,0 246,kexec_load,0 169,reboot,0 167,swapon,0 308,setns,0 310,process_vm_readv,1 \
        163,acct,0 227,clock_settime,0 435,clone3,0";
    let script = format!(
        "for (split ' ', '{calls}') {{ my ($n, $name, $a) = split ','; $! = 0; \
         my $r = syscall($n+0, $a+0, 0, 0, 0, 0); my $want = $name eq 'clone3' ? 38 : 1; \
         print \"$name $r \", $!+0, \"\\n\" unless $r == -1 && $!+0 == $want; }} print \"asked\\n\";"
    );
    let mut arguments = vec!["run", "--rm"];
    let mounts: Vec<String> = ["/usr", "/lib", "/lib64"]
        .iter()
        .filter(|path| std::path::Path::new(path).exists())
        .map(|path| format!("{path}:{path}:ro"))
        .collect();
    for mount in &mounts {
        arguments.extend(["-v", mount]);
    }
    arguments.extend(["busybox", "/usr/bin/perl", "-e", &script]);
    // process_vm_readv is allowed since Linux 4.8 and fails by itself; it is here to show that the others are not.
    let said = world.docker(&arguments).ok();
    let odd: Vec<&str> = said
        .lines()
        .filter(|line| !line.starts_with("process_vm_readv"))
        .collect();
    assert_eq!(odd, ["asked"]);
    world.finish();
}

/// No text of a request becomes a path of the host's /proc or a cgroup elsewhere (CVE-2022-0811, CVE-2024-3154).
#[test]
fn sysctls_and_cgroup_parents_are_what_they_say() {
    let Some(world) = World::start() else { return };
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    for sysctl in [
        "kernel.core_pattern=|/tmp/evil",
        "kernel.shm_rmid_forced+kernel.core_pattern=|/tmp/evil",
        "net.ipv4/../../kernel/core_pattern=|/tmp/evil",
        "net/../kernel/core_pattern=|/tmp/evil",
        "net.ipv4....kernel.core_pattern=|/tmp/evil",
        "fs.mqueue.../../../kernel/core_pattern=|/tmp/evil",
        "/proc/sys/kernel/core_pattern=|/tmp/evil",
        "vm.overcommit_memory=1",
    ] {
        let said = world
            .docker(&["run", "--rm", "--sysctl", sysctl, "busybox", "true"])
            .refused(125);
        let key = sysctl.split('=').next().unwrap_or_default();
        assert!(said.contains(key), "{sysctl}: {said}");
    }
    assert_eq!(
        std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(),
        pattern
    );
    for parent in [
        "../../..",
        "/../..",
        "a/../../..",
        "/hoist-it/../..",
        "bad\nname",
    ] {
        let seen = world.docker(&["run", "--rm", "--cgroup-parent", parent, "busybox", "true"]);
        assert_eq!(seen.status, Some(125), "{parent}: {seen:?}");
    }
    world.finish();
}

/// One parser for users, whoever asks (CVE-2026-30892: `exec -u` became root where `run -u` did not).
#[test]
fn exec_takes_users_as_run_does() {
    let Some(world) = World::start() else { return };
    world
        .docker(&["run", "-d", "--name", "host", "busybox", "sleep", "1000"])
        .ok();
    for user in [
        "33",
        "33:50",
        "www-data",
        "www-data:staff",
        "1234",
        "1234:0",
        ":33",
        "33:",
        "nosuch",
        "33:nosuch",
        "4294967296",
        "2147483648",
        "-1",
        "033",
        "0x21",
        " 33",
        "www-data ",
        "33 :50",
        "+33",
        "33:50:1",
        "",
    ] {
        let id = ["sh", "-c", "id -u; id -g; id -G"];
        let run = [&["run", "--rm", "-u", user, "busybox"], &id[..]].concat();
        let exec = [&["exec", "-u", user, "host"], &id[..]].concat();
        let (run, exec) = (world.docker(&run), world.docker(&exec));
        // Docker's exec tells of its failure on the stream.
        let exec_out = if exec.status == Some(0) {
            exec.out.as_str()
        } else {
            ""
        };
        assert_eq!(run.out, exec_out, "{user:?}: {run:?} {exec:?}");
        assert_eq!(
            run.status == Some(0),
            exec.status == Some(0),
            "{user:?}: {run:?} {exec:?}"
        );
    }
    world.docker(&["rm", "-f", "host"]).ok();
    world.finish();
}

/// A neighbour swaps a directory of a shared volume for a link while a mount is made below it (CVE-2021-30465).
#[test]
fn a_mount_point_that_becomes_a_link_leads_nowhere() {
    let Some(world) = World::start() else { return };
    let outside = world.directory("outside");
    std::fs::write(outside.join("secret"), "of the host\n").unwrap();
    let source = world.directory("source");
    let climbing = format!("../../../../../../../../../..{}", outside.display());
    let swap = format!(
        "cd /v; mkdir -p a/deep; ln -s {climbing} l; \
         while :; do mv a b 2>/dev/null; mv l a 2>/dev/null; mv a l; mv b a; done"
    );
    world
        .docker(&[
            "run",
            "-d",
            "--name",
            "racer",
            "-v",
            "shared:/v",
            "busybox",
            "sh",
            "-c",
            &swap,
        ])
        .ok();
    let mount = format!("{}:/v/a/deep", source.display());
    let before = mounts(&world);
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        let seen = world.docker(&[
            "run",
            "--rm",
            "-v",
            "shared:/v",
            "-v",
            &mount,
            "busybox",
            "cat",
            "/v/a/secret",
            "/v/a/deep/../secret",
        ]);
        assert!(!seen.out.contains("of the host"), "{seen:?}");
    }
    let names: Vec<_> = std::fs::read_dir(&outside).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "something was made outside: {names:?}");
    assert_eq!(mounts(&world), before, "a mount reached the host");
    world.docker(&["rm", "-f", "racer"]).ok();
    world.finish();
}

/// Mounts of this test's directory, or in it: others run beside it.
fn mounts(world: &World) -> usize {
    let own = world.files.path().display().to_string();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains(&own)).count()
}
