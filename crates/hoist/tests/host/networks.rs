//! The default bridge as daemon.json has it, from one engine to the next.

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{World, able, binary, image, own_loopback, wait_for};

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

    // A reload does what a restart does: no other addresses while a container is on it, which it says; who reaches whom, and
    // on which address ports are published, changes.
    write(r#"{"bip": "198.18.8.1/24", "ipv6": true, "fixed-cidr-v6": "2001:db8:8::/64"}"#);
    world.reload();
    let second = shown(&world);
    assert!(second.contains(r#""Subnet":"198.18.7.0/24""#), "{second}");
    assert!(second.contains("} false ["), "{second}");
    assert!(second.contains(r#"enable_icc":"true""#), "{second}");
    assert!(
        second.contains(r#"host_binding_ipv4":"0.0.0.0""#),
        "{second}"
    );
    assert!(!second.contains("IPRange") && !second.contains("198.18.7.9"));
    let log = world.daemon.log();
    let waits = r#"settings="bip, ipv6, fixed-cidr-v6""#;
    assert!(log.contains(waits), "{log}");
    assert!(world.daemon.stop().success());
    world.daemon.launch();
    assert_eq!(shown(&world), second);
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

/// Asks the port that a container publishes on an address, which takes as long as its server needs to come up.
fn asks(address: &str) -> String {
    let url = format!("http://{address}/hello");
    wait_for("the published port answers", || {
        let mut curl = std::process::Command::new("curl");
        let seen = crate::world::seen(curl.args(["--silent", "--max-time", "5", &url]));
        (seen.status == Some(0)).then_some(seen.out)
    })
}

#[test]
fn a_reload_makes_the_default_bridge_another() {
    if !able() {
        return;
    }
    let files = hoist_testkit::TemporaryDirectory::new("reloaded-bridge");
    let file = files.join("daemon.json");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("{}");
    let Some(world) = World::start_with(&["--config-file", file.to_str().unwrap()]) else {
        return;
    };
    let told = |world: &World| {
        let tell = "ip -o -4 addr show eth0 | grep -o 'inet [^ ]*'; ip route | head -n 1; cat /sys/class/net/eth0/mtu; \
            ip -o -6 addr show eth0 scope global | grep -o '2001[^ ]*'; true";
        let words = ["run", "--rm", "busybox", "sh", "-c", tell];
        world.docker(&words).ok()
    };
    let link = format!(
        "/sys/class/net/hst-{}/mtu",
        crate::world::tag(&world.daemon)
    );
    let bridge_mtu = || std::fs::read_to_string(&link).unwrap();
    assert!(!told(&world).contains("198.18."));

    // Nobody is on it: it is another at once, with what was ready for the next container.
    write(
        r#"{"bip": "198.18.17.1/24", "fixed-cidr": "198.18.17.64/26", "default-gateway": "198.18.17.9", "mtu": 1400,
            "ipv6": true, "fixed-cidr-v6": "2001:db8:17::/64"}"#,
    );
    world.reload();
    assert_eq!(
        told(&world),
        "inet 198.18.17.64/24\ndefault via 198.18.17.9 dev eth0 \n1400\n2001:db8:17::40/64\n"
    );
    assert_eq!(bridge_mtu(), "1400\n");

    // What cannot be leaves all of it as it is, what else the file says among it.
    for (text, word) in [
        (
            r#""bip": "198.18.18.1/24", "default-gateway": "198.18.17.9""#,
            "default-gateway",
        ),
        (
            r#""bip": "198.18.18.1/24", "fixed-cidr": "198.18.17.0/26""#,
            "fixed-cidr",
        ),
        (r#""bridge": "nosuchbridge""#, "nosuchbridge"),
    ] {
        write(&format!(r#"{{"labels": ["new=1"], {text}}}"#));
        world.reload();
        world.refused(&[word]);
        assert!(told(&world).starts_with("inet 198.18.17."), "{word}");
        assert_eq!(bridge_mtu(), "1400\n");
        let labels = world.docker(&["info", "--format", "{{.Labels}}"]).ok();
        assert_eq!(labels, "[]\n", "{word}");
    }

    // Nor can it be where a network of a user's is.
    let subnet = ["network", "create", "--subnet", "198.18.19.0/24", "lan"];
    world.docker(&subnet).ok();
    write(r#"{"bip": "198.18.19.1/24"}"#);
    world.reload();
    world.refused(&["network lan", "setting=\"bip"]);
    world.docker(&["network", "rm", "lan"]).ok();

    // While somebody is on it, rules change and not addresses; what the next container is given does.
    let address = own_loopback();
    let publish = format!("{address}::8080");
    let server = "echo hello >/hello; exec httpd -f -p 8080 -h /";
    let run = [
        "run", "-d", "--name", "server", "-p", &publish, "busybox", "sh", "-c", server,
    ];
    world.docker(&run).ok();
    let port = world.docker(&["port", "server", "8080"]).ok();
    let port = port.trim();
    assert_eq!(asks(port), "hello\n");
    let own = world.docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "server"]);
    let own = own.ok().trim().to_owned();
    let neighbour = || {
        let words = [
            "run", "--rm", "busybox", "ping", "-q", "-c", "1", "-W", "2", &own,
        ];
        world.docker(&words).status
    };
    assert_eq!(neighbour(), Some(0));
    write(r#"{"bip": "198.18.20.1/24", "mtu": 1300, "icc": false}"#);
    world.reload();
    assert_eq!(neighbour(), Some(1));
    assert_eq!(asks(port), "hello\n");
    let now = told(&world);
    assert!(
        now.contains("inet 198.18.17.") && now.contains("\n1300\n"),
        "{now}"
    );
    let tables = |world: &World| {
        let nft = std::process::Command::new("nft")
            .args(["list", "tables"])
            .output();
        let tables = String::from_utf8(nft.unwrap().stdout).unwrap();
        tables.contains(&format!("hoist_{}", crate::world::tag(&world.daemon)))
    };
    for iptables in [false, true] {
        write(&format!(
            r#"{{"bip": "198.18.20.1/24", "iptables": {iptables}, "ip6tables": {iptables}}}"#
        ));
        world.reload();
        assert_eq!(asks(port), "hello\n", "iptables {iptables}");
        assert_eq!(neighbour(), Some(0), "iptables {iptables}");
        assert_eq!(tables(&world), iptables);
    }

    // With the last one gone, what had to wait is done at the next reload, though nothing is new in the file.
    world.docker(&["rm", "-f", "server"]).ok();
    world.reload();
    assert!(
        told(&world).starts_with("inet 198.18.20.2/24\n"),
        "{}",
        told(&world)
    );

    write(r#"{"bridge": "none"}"#);
    world.reload();
    let names = world
        .docker(&["network", "ls", "--format", "{{.Name}}"])
        .ok();
    assert!(!names.lines().any(|name| name == "bridge"), "{names}");
    let alone = world.docker(&["run", "--rm", "busybox", "ls", "/sys/class/net"]);
    assert!(!alone.ok().contains("eth0"));
    write(r#"{"bip": "198.18.21.1/24"}"#);
    world.reload();
    assert!(told(&world).starts_with("inet 198.18.21.2/24\n"));
    let user = ["network", "create", "lan"];
    world.docker(&user).ok();
    let both = [
        "run",
        "--rm",
        "--network",
        "bridge",
        "--network",
        "lan",
        "busybox",
        "ls",
        "/sys/class/net",
    ];
    let both = world.docker(&both).ok();
    assert!(both.contains("eth0") && both.contains("eth1"), "{both}");
    world.docker(&["network", "rm", "lan"]).ok();
    let log = world.daemon.log();
    assert!(!log.contains("making it again"), "{log}");
    world.finish();
}

#[test]
fn containers_start_and_end_while_the_default_bridge_changes() {
    if !able() {
        return;
    }
    let files = hoist_testkit::TemporaryDirectory::new("restless-bridge");
    let file = files.join("daemon.json");
    let write = |number: u32| {
        let text = format!(r#"{{"bip": "198.18.3{number}.1/24", "mtu": 14{number}0}}"#);
        std::fs::write(&file, text).unwrap();
    };
    write(0);
    let Some(world) = World::start_with(&["--config-file", file.to_str().unwrap()]) else {
        return;
    };
    let ends = std::sync::atomic::AtomicBool::new(false);
    let runs = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut runs = 0;
                    while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                        // Its router answers, so it is on the bridge that there is.
                        let tell = "ping -c 1 -W 5 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p') >/dev/null";
                        world.docker(&["run", "--rm", "busybox", "sh", "-c", tell]).ok();
                        runs += 1;
                    }
                    runs
                })
            })
            .collect();
        for round in 0..12 {
            write(round % 2);
            world.reload();
        }
        ends.store(true, std::sync::atomic::Ordering::Relaxed);
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum::<u32>()
    });
    assert!(runs >= 3, "{runs}");
    let log = world.daemon.log();
    assert!(!log.contains("ERROR"), "{log}");
    write(2);
    world.reload();
    let told = world.docker(&[
        "run", "--rm", "busybox", "ip", "-o", "-4", "addr", "show", "eth0",
    ]);
    assert!(told.ok().contains("198.18.32.2/24"));
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
