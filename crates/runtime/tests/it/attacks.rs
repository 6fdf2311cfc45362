//! What a hostile image or a process inside may try.

use std::os::unix::fs::symlink;

use crate::machine::Machine;
use crate::support::{Rootfs, process, spec};

#[test]
fn procfs_goes_to_a_real_directory_only() {
    // CVE-2019-19921: /proc as a link, so that writes to it go elsewhere.
    let Some(machine) = Machine::start() else {
        return;
    };
    for name in ["proc", "sys"] {
        let rootfs = Rootfs::new();
        std::fs::remove_dir(rootfs.path(name)).unwrap();
        symlink("/tmp", rootfs.path(name)).unwrap();
        let error = machine.launch(spec(&rootfs, &["true"])).unwrap_err();
        assert!(error.message.contains(&format!("/{name}")), "{error}");
    }
}

#[test]
fn a_link_for_dev_stays_inside_the_root() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let outside = tempfile::tempdir().unwrap();
    let rootfs = Rootfs::new();
    std::fs::remove_dir(rootfs.path("dev")).unwrap();
    symlink(
        format!("../../../../../../..{}", outside.path().display()),
        rootfs.path("dev"),
    )
    .unwrap();
    // Either refused, or the directory is made below the root; never is anything made outside.
    if machine.launch(spec(&rootfs, &["true"])).is_ok() {
        machine.notice();
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_working_directory_never_leads_out() {
    // CVE-2024-21626: a working directory that is a descriptor of the host.
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    for number in 3..40 {
        let mut leaky = spec(
            &rootfs,
            &["sh", "-c", "cat /../../../../etc/hostname; ls ../../../.."],
        );
        leaky.process.working_directory = format!("/proc/self/fd/{number}");
        if machine.launch(leaky).is_ok() {
            panic!("descriptor {number} was a way in");
        }
    }
    let mut linked = spec(&rootfs, &["pwd"]);
    symlink("/proc/self/fd/5", rootfs.path("/tmp/link")).unwrap();
    linked.process.working_directory = "/tmp/link".to_owned();
    assert!(machine.launch(linked).is_err());
    symlink("/../../../../root", rootfs.path("/tmp/up")).unwrap();
    let mut up = spec(&rootfs, &["pwd"]);
    up.process.working_directory = "/tmp/up".to_owned();
    assert_eq!(machine.output(up).stdout, "/root\n");
}

#[test]
fn only_the_standard_streams_are_open() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    // One that somebody opened without close-on-exec.
    let careless = std::fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).unwrap();
    let rootfs = Rootfs::new();
    // The directory being listed is the fourth.
    let output = machine.output(spec(&rootfs, &["ls", "/proc/self/fd"]));
    assert_eq!(output.stdout, "0\n1\n2\n3\n");
}

#[test]
fn the_program_that_starts_containers_cannot_be_written_to() {
    // CVE-2019-5736: #!/proc/self/exe makes the container's first process run the engine's own binary.
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let mut privileged = spec(&rootfs, &["sh", "-c", "sleep 600"]);
    privileged.masked_paths.clear();
    let launched = machine.launch(privileged).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", launched.pid)).unwrap();
    let monitor: i32 = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    // Even the host's root cannot, through any of its processes.
    let exe = format!("/proc/{monitor}/exe");
    let written = std::fs::OpenOptions::new().write(true).open(exe);
    let error = written.unwrap_err();
    assert!(
        matches!(error.raw_os_error(), Some(libc::EROFS | libc::EPERM)),
        "{error}"
    );
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(launched.pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    machine.notice();
}

#[test]
fn masked_paths_stay_hidden_and_read_only_ones_unwritable() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    // CVE-2025-31133: a container's own /dev/null is not what hides.
    let script = "cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; \
        echo x > /proc/sysrq-trigger; echo 1 > /proc/sys/kernel/panic; echo x > /proc/kcore; \
        touch /sys/firmware/x; chmod 777 /proc/kcore; true";
    let output = machine.output(spec(&rootfs, &["sh", "-c", script]));
    assert_eq!(output.stdout, "0\n0\n");
    for path in [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/panic",
        "/sys/firmware/x",
    ] {
        assert!(output.stderr.contains(path), "{path}: {}", output.stderr);
    }
    assert!(
        output.stderr.contains("chmod: /proc/kcore"),
        "{}",
        output.stderr
    );
}

#[test]
fn capabilities_and_identity_are_exactly_as_asked() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let script = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status";
    let mut plain = spec(&rootfs, &["sh", "-c", script]);
    plain.process.no_new_privileges = true;
    let output = machine.output(plain).stdout;
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(output.contains(line), "{line} in {output}");
    }
    // A user other than root keeps the bounding set and nothing else.
    let mut user = spec(&rootfs, &["sh", "-c", script]);
    let bounding = process(&[]).capabilities.bounding;
    user.process.capabilities = hoist_runtime::capabilities::for_process(bounding, 1000);
    (user.process.uid, user.process.gid, user.process.groups) = (1000, 1000, vec![1000, 2000]);
    let output = machine.output(user).stdout;
    assert!(output.contains("CapEff:\t0000000000000000"), "{output}");
    assert!(output.contains("CapBnd:\t00000000a80425fb"), "{output}");
    assert!(output.contains("Groups:\t1000 2000"), "{output}");
}

#[test]
fn a_container_has_a_session_keyring_of_its_own() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let mut curious = spec(&rootfs, &["cat", "/proc/keys"]);
    curious.masked_paths.clear();
    let output = machine.output(curious).stdout;
    assert!(output.contains(" _ses: "), "{output}");
}

#[test]
fn a_mount_may_not_cover_the_root_and_targets_stay_inside() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let outside = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("word"), "mounted\n").unwrap();
    symlink(outside.path(), rootfs.path("/tmp/out")).unwrap();
    let mut wanted = spec(&rootfs, &["cat", "/tmp/out/deep/er/word", "/a/b/word"]);
    for target in ["/tmp/out/deep/er", "/a/../a/b"] {
        wanted.mounts.push(hoist_runtime::spec::MountEntry {
            target: target.to_owned(),
            source: hoist_runtime::spec::MountFrom::Detached {
                mount: crate::support::mount_of(source.path()),
                directory: true,
            },
            attributes: 1,
            recursive: true,
            propagation: 1 << 18,
        });
    }
    match machine.launch(wanted) {
        Ok(_) => assert_eq!(machine.notice().record.unwrap().exit_code, 0),
        // A link to what is not in the root is refused.
        Err(error) => assert!(error.message.contains("/tmp/out"), "{error}"),
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn an_init_tells_nothing_of_the_engine_or_of_other_containers() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let mut other = spec(&rootfs, &["true"]);
    // Behind what a shorter order overwrites.
    let padding = format!("PADDING={}", "x".repeat(8 << 10));
    other.process.environment.push(padding);
    other.process.environment.push("SECRET=of-the-other".into());
    assert_eq!(machine.run(other), 0);

    let mut curious = spec(
        &rootfs,
        &[
            "sh",
            "-c",
            "readlink /proc/1/exe; cat /proc/1/maps; ls /proc/1/fd",
        ],
    );
    curious.init = true;
    // Its descriptors have numbers, and are the streams alone.
    assert_eq!(machine.output(curious).stdout, "0\n1\n2\n");

    // Who may trace reads the memory: its own start is in it, and no other's.
    let script = "while read -r range rest; do
            start=$((0x${range%-*} / 4096)); end=$((0x${range#*-} / 4096))
            case $rest in r*) dd if=/proc/1/mem bs=4096 skip=$start count=$((end - start)) 2>/dev/null;; esac
        done < /proc/1/maps > /tmp/memory
        grep -c 'of-the-o[t]her' /tmp/memory; grep -c 'of-my-o[w]n' /tmp/memory >/dev/null && echo own";
    let mut tracing = spec(&rootfs, &["sh", "-c", script]);
    tracing.init = true;
    tracing.process.environment.push("SECRET=of-my-own".into());
    let added = ["SYS_PTRACE".to_owned()];
    let available = hoist_runtime::capabilities::available();
    let set = hoist_runtime::capabilities::resolve(&added, &[], false, available).unwrap();
    tracing.process.capabilities = hoist_runtime::capabilities::for_process(set, 0);
    assert_eq!(machine.output(tracing).stdout, "0\nown\n");
}
