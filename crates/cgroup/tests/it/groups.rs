//! Control groups of the host, under parents of this test alone.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hoist_cgroup::{
    CgroupDriver, CgroupError, CgroupHandle, CgroupRequest, CgroupSettings, Cgroups, Group,
};
use hoist_model::ContainerId;
use hoist_model::container::Resources;

/// An engine's groups, taken away at the end whatever the test does.
struct Host {
    cgroups: Cgroups,
    id: ContainerId,
    group: Group,
}

impl Host {
    fn start(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            hoist_testkit::skip("control groups need root");
            return None;
        }
        let settings = CgroupSettings {
            parent: format!("/hoist-test-{}-{test}", std::process::id()),
            driver: CgroupDriver::Cgroupfs,
            prefix: "hoist".to_owned(),
            seed: None,
        };
        let cgroups = match Cgroups::start(&settings) {
            Ok(cgroups) => cgroups,
            Err(error) => {
                hoist_testkit::skip(&format!("no usable control groups: {error}"));
                return None;
            }
        };
        let id = ContainerId::from_bytes(&[7; 32]);
        let group = cgroups.group(&id, "");
        Some(Self { cgroups, id, group })
    }

    fn create(&self, resources: &Resources) -> CgroupHandle {
        self.try_create(resources).unwrap()
    }

    fn try_create(&self, resources: &Resources) -> Result<CgroupHandle, CgroupError> {
        let request = CgroupRequest {
            parent: "",
            resources,
            devices: &[],
            privileged: false,
            seed: None,
        };
        self.cgroups.create(&self.id, &request)
    }

    /// Runs `script` in the container's groups: it starts once it is inside.
    fn run(&self, handle: &CgroupHandle, script: &str) -> Child {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id().to_string();
        for procs in &handle.attach {
            rustix::io::write(procs, pid.as_bytes()).unwrap();
        }
        if let Some(unified) = &handle.unified {
            let path = format!("/proc/self/fd/{}/cgroup.procs", unified.as_fd().as_raw_fd());
            std::fs::write(path, &pid).unwrap();
        }
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        child
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.group.kill();
        self.cgroups.remove(self.group.clone());
        if let Err(error) = self.cgroups.remove_parent() {
            assert!(std::thread::panicking(), "groups stay behind: {error}");
        }
    }
}

/// Waits for an exit, at most a minute.
fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the process does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn eventually(what: &str, mut predicate: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !predicate() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_container_lives_in_its_groups_and_leaves_none_behind() {
    let Some(host) = Host::start("life") else {
        return;
    };
    let handle = host.create(&Resources::default());
    assert_eq!(
        host.cgroups.existing().unwrap(),
        std::slice::from_ref(&host.id)
    );
    let mut child = host.run(&handle, "exec sleep 100");
    let pid = i32::try_from(child.id()).unwrap();
    assert_eq!(host.group.procs().unwrap(), [pid]);
    let path = host.group.path().unwrap();
    let memberships = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(
        memberships
            .lines()
            .filter(|line| line.ends_with(&path))
            .count()
            > 0,
        "{memberships}"
    );

    let joined = host.group.join().unwrap();
    assert_eq!(joined.attach.len(), handle.attach.len());
    assert_eq!(joined.unified.is_some(), handle.unified.is_some());

    host.group.kill().unwrap();
    assert!(!wait(&mut child).success());
    host.cgroups.remove(host.group.clone());
    host.cgroups.settle();
    assert!(host.cgroups.existing().unwrap().is_empty());
    assert!(matches!(host.group.join(), Err(CgroupError::NotFound(_))));
    assert!(host.group.stats().is_err());
}

#[test]
fn limits_hold_and_change() {
    let Some(host) = Host::start("limits") else {
        return;
    };
    let support = host.cgroups.support();
    let limits = Resources {
        memory: if support.memory { 64 << 20 } else { 0 },
        nano_cpus: if support.cpu_quota { 500_000_000 } else { 0 },
        cpu_shares: if support.cpu_shares { 512 } else { 0 },
        cpuset_cpus: if support.cpuset {
            "0".to_owned()
        } else {
            String::new()
        },
        pids_limit: support.pids.then_some(10),
        ..Resources::default()
    };
    let handle = host.create(&limits);
    let mut child = host.run(
        &handle,
        "grep Cpus_allowed_list /proc/self/status; i=0; \
         while [ $i -lt 30 ]; do sleep 500 & i=$((i+1)); done; wait",
    );
    if support.pids {
        eventually("the limit on processes is met", || {
            host.group.stats().unwrap().pids.current == 10
        });
        assert_eq!(host.group.stats().unwrap().pids.limit, Some(10));
    }
    let stats = host.group.stats().unwrap();
    if support.memory {
        assert_eq!(stats.memory.limit, Some(64 << 20));
        assert!(
            stats.memory.usage > 0 && stats.memory.usage < 64 << 20,
            "{:?}",
            stats.memory
        );
        assert!(!stats.memory.details.is_empty());
    }
    assert!(stats.cpu.total > 0, "{:?}", stats.cpu);

    // Up and down again: memory and memory+swap must be written in opposite orders.
    for memory in [256 << 20, 48 << 20] {
        if support.memory {
            host.group
                .update(&Resources {
                    memory,
                    ..Resources::default()
                })
                .unwrap();
            assert_eq!(
                host.group.stats().unwrap().memory.limit,
                Some(memory.cast_unsigned())
            );
        }
    }
    host.group.kill().unwrap();
    wait(&mut child);
    let mut output = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut output).unwrap();
    if support.cpuset {
        assert!(output.starts_with("Cpus_allowed_list:\t0\n"), "{output:?}");
    }
}

#[test]
fn a_cpuset_asked_for_later_moves_the_processes() {
    let Some(host) = Host::start("cpuset") else {
        return;
    };
    if !host.cgroups.support().cpuset {
        hoist_testkit::skip("no cpuset controller");
        return;
    }
    let handle = host.create(&Resources::default());
    let mut child = host.run(&handle, "exec sleep 100");
    let cpus = Resources {
        cpuset_cpus: "0".to_owned(),
        ..Resources::default()
    };
    host.group.update(&cpus).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    host.group.kill().unwrap();
    wait(&mut child);
}

#[test]
fn a_frozen_container_stands_still_and_can_be_killed() {
    let Some(host) = Host::start("freeze") else {
        return;
    };
    let handle = host.create(&Resources::default());
    let mut child = host.run(&handle, "while :; do :; done");
    host.group.freeze().unwrap();
    let before = host.group.stats().unwrap().cpu.total;
    std::thread::sleep(Duration::from_millis(50));
    let frozen = host.group.stats().unwrap().cpu.total - before;
    host.group.thaw().unwrap();
    assert!(frozen < 5_000_000, "{frozen} ns of CPU time while frozen");
    eventually("it runs again", || {
        host.group.stats().unwrap().cpu.total > before + 20_000_000
    });
    host.group.freeze().unwrap();
    host.group.kill().unwrap();
    // v1 has to be thawed for the signal to be taken; `kill` leaves it thawed, and a v2 kill does not care.
    wait(&mut child);
}

#[test]
fn a_container_out_of_memory_is_killed_and_counted() {
    let Some(host) = Host::start("oom") else {
        return;
    };
    let support = host.cgroups.support();
    if !support.memory {
        hoist_testkit::skip("no memory controller");
        return;
    }
    let memory = 8 << 20;
    let handle = host.create(&Resources {
        memory,
        memory_swap: memory,
        ..Resources::default()
    });
    let watch = host.group.oom_watch().unwrap().unwrap();
    assert_eq!(host.group.oom_kills().unwrap(), 0);
    // The tail of one endless line is held in memory.
    let mut child = host.run(&handle, "head -c 100000000 /dev/zero | tail; exit 3");
    eventually("the killer comes", || host.group.oom_kills().unwrap() > 0);
    let mut poll = [rustix::event::PollFd::new(
        &watch,
        rustix::event::PollFlags::IN,
    )];
    let second = rustix::event::Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut poll, Some(&second)).unwrap(), 1);
    watch.drain();
    wait(&mut child);
}

#[test]
fn only_the_default_devices_open() {
    let Some(host) = Host::start("devices") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("mem");
    // 1:11 is /dev/kmsg: there on every kernel, and nothing a container may have.
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let device = rustix::fs::makedev(1, 11);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, &node, kind, mode, device).unwrap();
    let script = format!(
        "(: </dev/null) && echo null; (: <{0}) && echo kmsg; mknod {0}2 c 1 11 && echo made",
        node.display()
    );
    for (privileged, expected) in [(false, "null\nmade\n"), (true, "null\nkmsg\nmade\n")] {
        let resources = Resources::default();
        let request = CgroupRequest {
            parent: "",
            resources: &resources,
            devices: &[],
            privileged,
            seed: None,
        };
        let handle = host.cgroups.create(&host.id, &request).unwrap();
        let mut child = host.run(&handle, &script);
        wait(&mut child);
        let mut output = String::new();
        std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut output).unwrap();
        assert_eq!(output, expected, "privileged: {privileged}");
        std::fs::remove_file(dir.path().join("mem2")).unwrap();
    }
}

#[test]
fn a_refused_value_is_named_and_leaves_nothing() {
    let Some(host) = Host::start("refused") else {
        return;
    };
    if !host.cgroups.support().cpuset {
        hoist_testkit::skip("no cpuset controller");
        return;
    }
    let cpus = Resources {
        cpuset_cpus: "4000".to_owned(),
        ..Resources::default()
    };
    let error = host.try_create(&cpus).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("\"4000\"") && text.contains("cpuset.cpus"),
        "{text}"
    );
    assert!(host.cgroups.existing().unwrap().is_empty());

    let request = CgroupRequest {
        parent: "/../escape",
        resources: &Resources::default(),
        devices: &[],
        privileged: false,
        seed: None,
    };
    let error = host.cgroups.create(&host.id, &request).unwrap_err();
    assert_eq!(error.class(), hoist_model::ErrorClass::InvalidArgument);
}

#[test]
fn a_restart_finds_fresh_groups_although_the_old_ones_are_being_removed() {
    let Some(host) = Host::start("restart") else {
        return;
    };
    for _ in 0..20 {
        let handle = host.create(&Resources::default());
        let mut child = host.run(&handle, "exec sleep 100");
        host.group.kill().unwrap();
        wait(&mut child);
        host.cgroups.remove(host.group.clone());
    }
    let handle = host.create(&Resources::default());
    std::thread::sleep(Duration::from_millis(20));
    let mut child = host.run(&handle, "exit 4");
    assert_eq!(wait(&mut child).code(), Some(4));
}

#[test]
fn another_parent_and_groups_made_inside_are_removed_too() {
    let Some(host) = Host::start("nested") else {
        return;
    };
    let parent = format!("/hoist-test-{}-nested/deep/er", std::process::id());
    let resources = Resources::default();
    let request = CgroupRequest {
        parent: &parent,
        resources: &resources,
        devices: &[],
        privileged: true,
        seed: None,
    };
    let handle = host.cgroups.create(&host.id, &request).unwrap();
    let group = host.cgroups.group(&host.id, &parent);
    let mut child = host.run(&handle, "exec sleep 100");
    assert_eq!(group.procs().unwrap().len(), 1);
    group.kill().unwrap();
    wait(&mut child);
    host.cgroups.remove(group.clone());
    host.cgroups.settle();
    assert!(group.join().is_err());
}

#[test]
fn groups_made_in_advance_do_not_outlive_their_engine() {
    let Some(host) = Host::start("ready") else {
        return;
    };
    let parent = format!("hoist-test-{}-ready", std::process::id());
    let mounts = host.cgroups.mounts();
    let ready = || {
        let names = |mount: &hoist_cgroup::CgroupMount| {
            std::fs::read_dir(format!("{}/{parent}", mount.mount_point))
                .map(|entries| entries.filter_map(|e| e.ok()?.file_name().into_string().ok()))
                .into_iter()
                .flatten()
                .filter(|name| name.starts_with("ready-"))
                .count()
        };
        mounts.iter().map(names).sum::<usize>()
    };
    let has_v1 = mounts.iter().any(|mount| !mount.unified);
    if has_v1 {
        eventually("some are made", || ready() > 0);
    }
    // More starts than are ready, at once: the rest is made on the spot.
    std::thread::scope(|scope| {
        for n in 0..20 {
            let cgroups = &host.cgroups;
            scope.spawn(move || {
                let id = ContainerId::from_bytes(&[100 + n; 32]);
                let resources = Resources {
                    pids_limit: Some(7),
                    ..Resources::default()
                };
                let request = CgroupRequest {
                    parent: "",
                    resources: &resources,
                    devices: &[],
                    privileged: n % 2 == 0,
                    seed: None,
                };
                let handle = cgroups.create(&id, &request).unwrap();
                assert!(!handle.attach.is_empty() || handle.unified.is_some());
                cgroups.remove(cgroups.group(&id, ""));
            });
        }
    });
    host.cgroups.settle();
    assert!(host.cgroups.existing().unwrap().is_empty());
    host.cgroups.remove_parent().unwrap();
    assert_eq!(ready(), 0);
}

/// Newer kernels (6.18 seen) count the IO of a disk on v1 only from the first throttle that anybody set on it, so this depends
/// on what the machine did before; the root's own counts tell.
fn kernel_counts_writes(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = std::fs::metadata(directory).unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let root = "/sys/fs/cgroup/blkio/blkio.throttle.io_service_bytes_recursive";
    let wanted = format!("{major}:{minor} Write");
    std::fs::read_to_string(root)
        .is_ok_and(|text| text.lines().any(|line| line.starts_with(&wanted)))
}

#[test]
fn statistics_tell_what_the_processes_did() {
    let Some(host) = Host::start("stats") else {
        return;
    };
    let handle = host.create(&Resources::default());
    let dir = tempfile::tempdir_in(".")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    // Direct, so that the group that writes is the one charged at once; some file systems cannot.
    let script = format!(
        "dd if=/dev/zero of={}/file bs=4096 count=16 oflag=direct && echo direct; \
         i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done",
        dir.path().display()
    );
    let mut child = host.run(&handle, &script);
    wait(&mut child);
    let stats = host.group.stats().unwrap();
    let cpu = &stats.cpu;
    assert!(cpu.total > 2_000_000, "{cpu:?}");
    // User and system time are sampled or scaled apart from the total.
    assert!(
        (cpu.user + cpu.system).abs_diff(cpu.total) < cpu.total / 4,
        "{cpu:?}"
    );
    assert!(cpu.user > cpu.system, "{cpu:?}");
    let mut output = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut output).unwrap();
    let written = |entries: &[hoist_model::container::BlkioEntry]| {
        entries
            .iter()
            .filter(|e| e.operation == "write")
            .map(|e| e.value)
            .sum::<u64>()
    };
    if output == "direct\n" && kernel_counts_writes(dir.path()) {
        assert_eq!(
            written(&stats.blkio_bytes),
            65_536,
            "{:?}",
            stats.blkio_bytes
        );
        assert!(written(&stats.blkio_operations) >= 1);
    }
    let inactive = if stats.memory.details.contains_key("total_inactive_file") {
        "total_inactive_file"
    } else {
        "inactive_file"
    };
    if host.cgroups.support().memory {
        // What the stock client takes away from the usage.
        assert!(
            stats.memory.details.contains_key(inactive),
            "{:?}",
            stats.memory.details
        );
    }
}
