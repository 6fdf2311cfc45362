//! The default bridge as daemon.json has it, from one engine to the next.

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{World, able, binary, image, wait_for};

/// Options of the network `bridge`, its subnet and what its address management was told.
const SHOWN: &str = "{{json .Options}} {{json .EnableIPv6}} {{json .IPAM.Config}}";

#[test]
fn the_default_bridge_is_as_the_next_engine_is_told() {
    if !able() {
        return;
    }
    let files = hoist_testkit::TemporaryDirectory::new("networks");
    let file = files.join("daemon.json");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    // Addresses that are nobody's (RFC 2544), because the bridge is one of this machine's.
    write(
        r#"{"bip": "198.18.7.1/24", "fixed-cidr": "198.18.7.128/26", "default-gateway": "198.18.7.9", "icc": false,
            "ip": "127.0.0.1", "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1400"}}}"#,
    );
    let Some(mut world) = World::start_with(&["--config-file", file.to_str().unwrap()]) else {
        return;
    };
    let shown = |world: &World| {
        let shown = world.docker(&["network", "inspect", "-f", SHOWN, "bridge"]);
        shown.ok()
    };
    let first = shown(&world);
    for expected in [
        r#""com.docker.network.bridge.enable_icc":"false""#,
        r#""com.docker.network.bridge.host_binding_ipv4":"127.0.0.1""#,
        r#""Subnet":"198.18.7.0/24""#,
        r#""IPRange":"198.18.7.128/26""#,
        r#""Gateway":"198.18.7.1""#,
        r#""DefaultGatewayIPv4":"198.18.7.9""#,
        "} false [",
    ] {
        assert!(first.contains(expected), "{expected}: {first}");
    }
    let tell = "ip -o -4 addr show eth0; ip route";
    let told = world.docker(&["run", "--rm", "busybox", "sh", "-c", tell]);
    let told = told.ok();
    assert!(told.contains("198.18.7.128/24"), "{told}");
    assert!(told.contains("default via 198.18.7.9"), "{told}");
    let run = [
        "run", "-d", "--name", "stays", "-p", "80", "busybox", "sleep", "1000",
    ];
    world.docker(&run).ok();
    let port = world.docker(&["port", "stays", "80"]).ok();
    assert!(port.starts_with("127.0.0.1:"), "{port}");
    // A user's network has the options that it does not say.
    world.docker(&["network", "create", "lan"]).ok();
    let link = "cat /sys/class/net/eth0/mtu";
    let mtu = world.docker(&[
        "run",
        "--rm",
        "--network",
        "lan",
        "busybox",
        "sh",
        "-c",
        link,
    ]);
    assert_eq!(mtu.ok(), "1400\n");
    world.docker(&["network", "rm", "lan"]).ok();

    // A reload changes none of that but the address that ports are published on, and says so.
    write(r#"{"bip": "198.18.8.1/24", "ipv6": true, "fixed-cidr-v6": "2001:db8:8::/64"}"#);
    let pid = i32::try_from(world.daemon.pid()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
    wait_for("the reload is done", || {
        world.daemon.log().contains("reload: done").then_some(())
    });
    let waits = |name: &str| {
        let log = world.daemon.log();
        let mut lines = log.lines();
        lines.any(|line| {
            line.contains("stays until the engine is started again")
                && line.contains(&format!("setting=\"{name}\""))
        })
    };
    for name in ["bip", "icc", "fixed-cidr", "default-gateway"] {
        assert!(waits(name), "{name}: {}", world.daemon.log());
    }
    assert_eq!(shown(&world), first.replace("127.0.0.1", "0.0.0.0"));

    // Nor does a restart change the addresses while a container is on it; who reaches whom it does.
    assert!(world.daemon.stop().success());
    world.daemon.launch();
    let second = shown(&world);
    assert!(second.contains(r#""Subnet":"198.18.7.0/24""#), "{second}");
    assert!(second.contains("} false ["), "{second}");
    assert!(second.contains(r#"enable_icc":"true""#), "{second}");
    let log = world.daemon.log();
    assert!(
        log.contains("there are running containers on the default bridge"),
        "{log}"
    );
    assert_eq!(world.docker(&["port", "stays", "80"]).ok(), port);
    world.docker(&["rm", "-f", "stays"]).ok();
    assert!(world.daemon.stop().success());
    world.daemon.launch();
    let third = shown(&world);
    assert!(third.contains(r#""Subnet":"198.18.8.0/24""#), "{third}");
    assert!(third.contains(r#""Subnet":"2001:db8:8::/64""#) && third.contains("} true ["));
    let run = [
        "run", "--rm", "busybox", "ip", "-o", "-6", "addr", "show", "eth0",
    ];
    let told = world.docker(&run).ok();
    assert!(told.contains("2001:db8:8::2/64"), "{told}");

    // And without one, containers that say nothing have only themselves.
    write(r#"{"bridge": "none"}"#);
    assert!(world.daemon.stop().success());
    world.daemon.launch();
    let names = world.docker(&["network", "ls", "--format", "{{.Name}}"]);
    let mut names: Vec<_> = names.ok().lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["host", "none"]);
    let alone = world.docker(&["run", "--rm", "busybox", "ls", "/sys/class/net"]);
    assert!(!alone.ok().contains("eth0"));
    world.finish();
}

/// The number after a word of a process' status.
fn parent(pid: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mut lines = status.lines();
    let parent = lines.find_map(|line| line.strip_prefix("PPid:"))?;
    Some(parent.trim().to_owned())
}

/// How many sockets a process has open.
fn sockets(pid: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return 0;
    };
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

#[test]
fn a_container_publishes_more_ports_than_a_program_may_open_files() {
    const PORTS: usize = 700;
    if !able() {
        return;
    }
    let files = hoist_testkit::TemporaryDirectory::new("ports");
    // As systemd starts a service that says nothing of it.
    let script = files.join("engine");
    let text = format!(
        "#!/bin/sh\nulimit -Sn 1024\nexec {} \"$@\"\n",
        binary().display()
    );
    std::fs::write(&script, text).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, executable).unwrap();
    let mut world = World {
        daemon: hoist_testkit::TemporaryDaemon::start_with(&script, &[]),
        files,
    };
    world.load(&image());
    let range = format!("1-{PORTS}");
    let run = [
        "run", "-d", "--name", "many", "-p", &range, "busybox", "sleep", "1000",
    ];
    world.docker(&run).ok();
    let limit = |world: &World| {
        let told = world.docker(&["exec", "many", "sh", "-c", "ulimit -n"]);
        told.ok()
    };
    assert_eq!(limit(&world), "1024\n");
    let run = ["run", "--rm", "busybox", "sh", "-c", "ulimit -n"];
    assert_eq!(world.docker(&run).ok(), "1024\n");
    let published = world.docker(&["port", "many"]).ok();
    let families = published.lines().count() / PORTS;
    assert!(families == 1 || families == 2, "{published}");

    // One socket for each port and family, and one more with whoever keeps it for the next engine.
    let each = PORTS * families;
    let few = 300;
    let engine = sockets(&world.daemon.pid().to_string());
    assert!((each..each + few).contains(&engine), "{engine}");
    let pid = world.docker(&["inspect", "-f", "{{.State.Pid}}", "many"]);
    let pid = pid.ok().trim().to_owned();
    let monitor = parent(&pid).unwrap();
    let zygote = parent(&monitor).unwrap();
    assert!((each..each + few).contains(&sockets(&monitor)));

    // Whoever dies, they go on.
    let ends = |pid: &str| {
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    };
    ends(&monitor);
    wait_for("a successor that has them", || {
        let all = world.daemon.processes().into_iter();
        let mut all = all.map(|pid| pid.to_string());
        all.find(|one| {
            *one != monitor && parent(one).as_ref() == Some(&zygote) && sockets(one) >= each
        })
    });
    world.daemon.kill();
    world.daemon.launch();
    assert_eq!(world.docker(&["port", "many"]).ok(), published);
    let log = world.daemon.log();
    assert!(!log.contains("is not reserved"), "{log}");
    let engine = sockets(&world.daemon.pid().to_string());
    assert!((each..each + few).contains(&engine), "{engine}");
    assert_eq!(limit(&world), "1024\n");
    world.docker(&["rm", "-f", "many"]).ok();
    world.finish();
}
