//! What containers get that do not say: by flags, by daemon.json, and from the next start on after a reload.

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{World, able, wait_for};

/// Told of a container from the inside.
const TELL: &str = "ulimit -Sn; ulimit -Hn; df -k /dev/shm | tail -n 1; cat /proc/1/comm; \
    grep NoNewPrivs /proc/self/status; cat /etc/resolv.conf; grep gw /etc/hosts; cat /proc/self/cgroup";

#[test]
fn flags_give_what_a_container_leaves_open_and_its_own_words_win() {
    if !able() {
        return;
    }
    // Of this process alone: they are removed at the end.
    let [defaults, own_parent] =
        ["defaults", "own"].map(|name| format!("/hoist-test-{}-{name}", std::process::id()));
    let flags = [
        "--default-ulimit",
        "nofile=123:456",
        "--default-shm-size",
        "8m",
        "--default-ipc-mode",
        "shareable",
        "--cgroup-parent",
        &defaults,
        "--init",
        "--no-new-privileges",
        "--dns",
        "10.1.2.3",
        "--dns-opt",
        "ndots:3",
        "--dns-search",
        "corp.example",
        "--host-gateway-ip",
        "10.9.8.7",
        "--experimental",
    ];
    let Some(world) = World::start_with(&flags) else {
        return;
    };
    let open = world.docker(&[
        "run",
        "--name",
        "open",
        "--add-host",
        "gw:host-gateway",
        "busybox",
        "sh",
        "-c",
        TELL,
    ]);
    let open = open.ok();
    for expected in [
        "123\n456\n",
        " 8192 ",
        "NoNewPrivs:\t1",
        "nameserver 10.1.2.3",
        "search corp.example",
        "options ndots:3",
        "10.9.8.7\tgw",
        &defaults,
    ] {
        assert!(open.contains(expected), "{expected}: {open}");
    }
    let first = open.lines().nth(3).unwrap();
    assert_ne!(first, "sh", "an init is the first process: {open}");
    let shown = world.docker(&[
        "inspect",
        "--format",
        "{{.HostConfig.IpcMode}} {{.HostConfig.ShmSize}} {{json .HostConfig.Ulimits}} {{json .HostConfig.SecurityOpt}} {{json .HostConfig.Init}}",
        "open",
    ]);
    // What is given at each start is not the container's.
    assert_eq!(shown.ok(), "shareable 8388608 [] null null\n");

    let own = world.docker(&[
        "run",
        "--rm",
        "--ulimit",
        "nofile=99:100",
        "--shm-size",
        "4m",
        "--dns",
        "10.4.4.4",
        "--security-opt",
        "no-new-privileges=false",
        "--cgroup-parent",
        &own_parent,
        "busybox",
        "sh",
        "-c",
        TELL,
    ]);
    let own = own.ok();
    for expected in [
        "99\n100\n",
        " 4096 ",
        "NoNewPrivs:\t0",
        "nameserver 10.4.4.4",
        "search corp.example",
        &own_parent,
    ] {
        assert!(own.contains(expected), "{expected}: {own}");
    }
    let info = world.docker(&[
        "info",
        "--format",
        "{{.ExperimentalBuild}} {{.SecurityOptions}}",
    ]);
    let info = info.ok();
    assert!(
        info.starts_with("true ") && info.contains("name=no-new-privileges"),
        "{info}"
    );
    world.docker(&["rm", "open"]).ok();
    world.finish();
    for parent in [&defaults, &own_parent] {
        remove_groups(parent.trim_start_matches('/'));
    }
}

/// Parents that a caller names are the caller's to remove, in every hierarchy.
fn remove_groups(name: &str) {
    let root = std::path::Path::new("/sys/fs/cgroup");
    let _ = std::fs::remove_dir(root.join(name));
    for hierarchy in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join(name));
    }
}

#[test]
fn a_reload_changes_what_the_next_start_gets() {
    if !able() {
        return;
    }
    let files = hoist_testkit::TemporaryDirectory::new("defaults");
    let (file, profile) = (files.join("daemon.json"), files.join("profile.json"));
    let no_mkdir = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;
    std::fs::write(&profile, no_mkdir).unwrap();
    let named = |more: &str| {
        let text = format!(
            "{{\"seccomp-profile\": {:?}{more}}}",
            profile.display().to_string()
        );
        std::fs::write(&file, text).unwrap();
    };
    named("");
    let Some(mut world) = World::start_with(&["--config-file", file.to_str().unwrap()]) else {
        return;
    };
    world
        .docker(&["run", "-d", "--name", "kept", "busybox", "sleep", "1000"])
        .ok();
    // What an exec in a container of before gets: whether it may make a directory, and its limit.
    let within = |world: &World| {
        let tell = "mkdir /made 2>/dev/null && rmdir /made && echo may; ulimit -Sn";
        let told = world.docker(&["exec", "kept", "sh", "-c", tell]);
        told.ok()
    };
    let at_first = within(&world);
    assert!(!at_first.contains("may"), "{at_first}");
    let mkdir = |options: &[&str]| {
        let mut words = vec!["run", "--rm"];
        words.extend(options);
        words.extend(["busybox", "mkdir", "/made"]);
        world.docker(&words)
    };
    let reloads = || {
        let log = world.daemon.log();
        log.matches("reload: done").count()
    };
    let reload = || {
        let before = reloads();
        let pid = i32::try_from(world.daemon.pid()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
        wait_for("the reload is done", || (reloads() > before).then_some(()));
    };
    assert!(mkdir(&[]).refused(1).contains("Operation not permitted"));
    mkdir(&["--security-opt", "seccomp=builtin"]).ok();
    mkdir(&["--security-opt", "seccomp=unconfined"]).ok();
    let profiles = || {
        world
            .docker(&["info", "--format", "{{.SecurityOptions}}"])
            .ok()
    };
    let shown = format!("profile={}", profile.display());
    assert!(profiles().contains(&shown), "{}", profiles());

    // The same file with other contents.
    std::fs::write(&profile, r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    reload();
    mkdir(&[]).ok();
    assert_eq!(within(&world), at_first);

    // One that is wrong changes nothing.
    std::fs::write(&profile, "nonsense").unwrap();
    named(
        ", \"default-ulimits\": {\"nofile\": {\"Name\": \"nofile\", \"Soft\": 77, \"Hard\": 78}}",
    );
    let limits = || {
        world
            .docker(&["run", "--rm", "busybox", "sh", "-c", "ulimit -Sn"])
            .ok()
    };
    let before = limits();
    reload();
    assert_eq!(limits(), before);
    mkdir(&[]).ok();
    std::fs::write(&profile, no_mkdir).unwrap();
    reload();
    assert_eq!(limits(), "77\n");
    assert!(mkdir(&[]).refused(1).contains("Operation not permitted"));

    // The event tells every setting.
    let events = world.docker(&[
        "events",
        "--since",
        "10m",
        "--until",
        "0s",
        "--filter",
        "event=reload",
        "--format",
        "{{json .Actor.Attributes}}",
    ]);
    let events = events.ok();
    let last = events.lines().last().unwrap();
    for expected in [
        r#""default-ulimits":"[\"nofile=77:78\"]""#,
        r#""default-shm-size":"67108864""#,
        r#""live-restore":"true""#,
        r#""shutdown-timeout":"15""#,
        r#""max-concurrent-downloads":"3""#,
        r#""labels":"[]""#,
    ] {
        assert!(last.contains(expected), "{expected}: {last}");
    }

    // Those of its start, though the engine is another by now; at its next start, the engine's present ones.
    std::fs::write(&profile, r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    assert!(world.daemon.stop().success());
    world.daemon.launch();
    assert_eq!(within(&world), at_first);
    world.docker(&["restart", "-t", "0", "kept"]).ok();
    assert_eq!(within(&world), "may\n77\n");
    world.docker(&["rm", "-f", "kept"]).ok();
    world.finish();
}

#[test]
fn a_reload_changes_what_the_next_network_is_made_of() {
    if !able() {
        return;
    }
    let files = hoist_testkit::TemporaryDirectory::new("defaults");
    let file = files.join("daemon.json");
    // Empty but for a mark of the byte order, as some editors leave it.
    std::fs::write(&file, "\u{feff}\n").unwrap();
    let Some(world) = World::start_with(&["--config-file", file.to_str().unwrap()]) else {
        return;
    };
    let published = || {
        let words = ["run", "-d", "--name", "server", "-p", "80", "busybox"];
        world
            .docker(&[&words[..], &["sleep", "1000"]].concat())
            .ok();
        let told = world.docker(&["port", "server"]).ok();
        world.docker(&["rm", "-f", "server"]).ok();
        told
    };
    assert!(published().contains("0.0.0.0:"));
    let text = r#"{"default-address-pools": [{"base": "10.221.0.0/16", "size": 26}], "ip": "127.0.0.1",
        "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1311"}}}"#;
    std::fs::write(&file, text).unwrap();
    let pid = i32::try_from(world.daemon.pid()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
    wait_for("the reload is done", || {
        world.daemon.log().contains("reload: done").then_some(())
    });
    let log = world.daemon.log();
    assert!(!log.contains("stays until the engine"), "{log}");
    let told = published();
    assert!(told.starts_with("80/tcp -> 127.0.0.1:"), "{told}");
    let option = r#"{{index .Options "com.docker.network.bridge.host_binding_ipv4"}}"#;
    let bridge = ["network", "inspect", "bridge", "--format", option];
    assert_eq!(world.docker(&bridge).ok(), "127.0.0.1\n");
    world.docker(&["network", "create", "later"]).ok();
    let made = r#"{{range .IPAM.Config}}{{.Subnet}}{{end}} {{index .Options "com.docker.network.driver.mtu"}}"#;
    let made = world
        .docker(&["network", "inspect", "later", "--format", made])
        .ok();
    assert!(
        made.starts_with("10.221.") && made.ends_with("/26 1311\n"),
        "{made}"
    );
    world.docker(&["network", "rm", "later"]).ok();
    world.finish();
}

#[test]
fn without_live_restore_containers_end_with_the_engine_and_come_back_with_the_next() {
    if !able() {
        return;
    }
    let Some(mut world) = World::start_with(&["--live-restore=false"]) else {
        return;
    };
    // Without a handler it would not hear its stop signal.
    let script = "trap 'exit 7' TERM; while true; do sleep 1; done";
    for (name, policy) in [("wanted", "unless-stopped"), ("once", "no")] {
        let run = [
            "run",
            "-d",
            "--name",
            name,
            "--restart",
            policy,
            "busybox",
            "sh",
            "-c",
            script,
        ];
        world.docker(&run).ok();
        world.wait_for_term_handler(name);
    }
    let state = |world: &World, name: &str| {
        let format = "{{.State.Running}} {{.State.ExitCode}} {{.State.Pid}}";
        world.docker(&["inspect", "--format", format, name]).ok()
    };
    let pid = |state: &str| state.split_whitespace().last().unwrap().to_owned();
    let (wanted, once) = (state(&world, "wanted"), state(&world, "once"));
    assert!(world.daemon.stop().success());
    for pid in [pid(&wanted), pid(&once)] {
        let path = format!("/proc/{pid}/cmdline");
        let alive = std::fs::read_to_string(path).is_ok_and(|words| words.contains("trap"));
        assert!(!alive, "process {pid} outlived the engine");
    }
    world.daemon.launch();
    assert_eq!(state(&world, "once"), "false 7 0\n");
    wait_for("the wanted one runs again", || {
        let now = state(&world, "wanted");
        (now.starts_with("true") && pid(&now) != pid(&wanted)).then_some(())
    });
    world.docker(&["rm", "-f", "wanted", "once"]).ok();
    world.finish();
}
