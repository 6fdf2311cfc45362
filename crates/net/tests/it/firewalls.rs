//! Beside firewalls of others: a plain policy of drop, a last rule that refuses, ufw, a Docker that runs.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hoist_model::network::Segment;
use hoist_net::{Attachment, Networks};
use hoist_sys::netns;
use hoist_testkit::TemporaryDirectory;

use crate::world::*;

/// Containers on the default bridge and on two users' networks, one of them with a bridge that a person named.
struct Traffic<'a> {
    world: &'a World,
    containers: Vec<Attachment>,
    /// What stands for a container of Docker's, at 172.17.0.9.
    theirs: Option<OwnedFd>,
}

impl<'a> Traffic<'a> {
    fn new(world: &'a World, networks: &Networks) -> Self {
        let both = |name: &str, interface: &str| {
            let wanted = Segment {
                ipv6: true,
                interface: interface.to_owned(),
                ..segment(name)
            };
            networks.make(wanted).unwrap()
        };
        let (one, two) = (both("one", ""), both("two", "mine"));
        let containers = vec![
            attach(networks, &["8080:80"]),
            join(networks, &[&one], &["8081:80"]),
            join(networks, &[&two], &["8082:80"]),
        ];
        for container in &containers {
            for port in [80, 90] {
                serve_tcp(&container.netns, &format!("[::]:{port}"));
            }
            serve_udp(&container.netns, "[::]:90");
        }
        serve_tcp(&world.outside, "[::]:9001");
        Self {
            world,
            containers,
            theirs: None,
        }
    }

    fn address(&self, at: usize) -> String {
        let place = &self.containers[at].record.places[0];
        place.ipv4.unwrap().address.to_string()
    }

    /// What does not pass and should, and the other way around.
    fn wrong(&self) -> Vec<String> {
        let mut wanted = Vec::new();
        for (at, container) in self.containers.iter().enumerate() {
            for host in [HOST_V4.to_owned(), format!("[{HOST_V6}]")] {
                let published = format!("{host}:{}", 8080 + at);
                wanted.push(("outside", &self.world.outside, published.clone(), true));
                let other = &self.containers[(at + 1) % 3].netns;
                wanted.push(("another network", other, published, true));
            }
            let netns = &container.netns;
            wanted.push(("container", netns, format!("{OUTSIDE_V4}:9001"), true));
            wanted.push(("container", netns, format!("[{OUTSIDE_V6}]:9001"), true));
            let next = format!("{}:90", self.address((at + 1) % 3));
            wanted.push(("another network, directly", netns, next, false));
        }
        if let Some(theirs) = &self.theirs {
            let published = format!("{HOST_V4}:8080");
            wanted.push(("Docker's", theirs, published, true));
            wanted.push(("Docker's", theirs, format!("{OUTSIDE_V4}:9001"), true));
            wanted.push((
                "Docker's, directly",
                theirs,
                format!("{}:90", self.address(0)),
                false,
            ));
            // What Docker keeps from strangers it keeps from our containers.
            let direct = "172.17.0.9:80".to_owned();
            for container in &self.containers {
                wanted.push(("container", &container.netns, direct.clone(), false));
            }
            wanted.push(("host", &self.world.host, direct, true));
        }
        std::thread::scope(|scope| {
            let asked: Vec<_> = wanted
                .iter()
                .map(|(from, netns, to, wanted)| {
                    scope.spawn(move || {
                        let reached = try_tcp(netns, to, *wanted);
                        (reached.is_ok() != *wanted)
                            .then(|| format!("from {from} to {to}: {reached:?}"))
                    })
                })
                .collect();
            let answers = asked.into_iter();
            answers.filter_map(|one| one.join().unwrap()).collect()
        })
    }
}

fn nft(script: &str) {
    let directory = TemporaryDirectory::new("hoist-firewalls");
    let file = directory.join("rules");
    std::fs::write(&file, script).unwrap();
    run(&format!("nft -f {}", file.display()));
}

#[test]
fn policies_that_drop_and_last_rules_that_refuse_stop_nothing_of_ours() {
    with_world(|world| {
        let mut chains = String::new();
        for family in ["ip", "ip6"] {
            chains += &format!(
                "table {family} filter {{
                    chain FORWARD {{
                        type filter hook forward priority 0; policy drop;
                    }}
                }}\n"
            );
        }
        // As firewalls do that keep the policy at accept, and say no at the end.
        chains += "table inet strict {
            chain forward {
                type filter hook forward priority 10; policy accept;
                ct state established accept
                counter reject with icmpx admin-prohibited
            }
        }\n";
        nft(&chains);
        let networks = start(|settings| settings.ipv6 = true);
        let traffic = Traffic::new(world, &networks);
        assert_eq!(traffic.wrong(), [] as [String; 0]);
        let said = networks
            .explain(&traffic.containers[0].record.container)
            .unwrap()
            .join("\n");
        for table in ["ip filter", "ip6 filter", "inet strict"] {
            assert!(
                said.contains(&format!(
                    "of table {table} is somebody else's and drops forwarded packets; our accepts are at its head"
                )),
                "{said}"
            );
        }
        // All of it goes; then the others' comes back.
        run("nft flush ruleset");
        eventually("our table", || {
            run("nft list ruleset").contains("masquerade")
        });
        assert_eq!(traffic.wrong(), [] as [String; 0]);
        nft(&chains);
        eventually("our accepts", || {
            let rules = run("nft list ruleset");
            ["hoist0*", "mine"]
                .iter()
                .all(|name| rules.matches(&format!("oifname \"{name}\" accept")).count() == 3)
        });
        assert_eq!(traffic.wrong(), [] as [String; 0]);
        // Who drops no more needs no accept of ours.
        run("nft chain ip6 filter FORWARD { policy accept ; }");
        eventually("one chain less", || {
            !run("nft list table ip6 filter").contains("hoist0")
        });
        networks.stop(false).unwrap();
        let left = run("nft list ruleset");
        assert!(!left.contains("hoist") && !left.contains("mine"), "{left}");
    });
}

#[test]
fn a_table_that_cannot_be_changed_is_told_of() {
    with_world(|_| {
        // A table with an owner is nobody else's, for as long as its owner lives.
        let mut interactive = Command::new("sh");
        interactive
            .args(["-c", "echo; exec nft -i"])
            .stdin(Stdio::piped());
        interactive.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut owner = spawn(&mut interactive, |child| {
            child.stdout.as_mut()?.read_exact(&mut [0]).ok()
        })
        .unwrap();
        let mut said = owner.stdin.take().unwrap();
        said.write_all(
            b"add table inet owned { flags owner; }\nadd chain inet owned forward { type filter hook forward priority 0; policy drop; }\n",
        )
        .unwrap();
        eventually("the owned table", || {
            run("nft list ruleset").contains("hook forward")
        });
        let networks = start(|_| {});
        let container = attach(&networks, &[]);
        let warnings = networks.warnings().join("\n");
        assert!(
            warnings.contains(
                "chain forward of table inet owned drops forwarded packets and cannot be changed"
            ),
            "{warnings}"
        );
        let said_of_it = networks.explain(&container.record.container).unwrap();
        assert!(
            said_of_it
                .iter()
                .any(|line| line.contains("our accepts are not in it")),
            "{said_of_it:?}"
        );
        drop(said);
        owner.wait().unwrap();
        eventually("no warning", || networks.warnings().is_empty());
        networks.stop(false).unwrap();
    });
}

#[test]
fn beside_ufw() {
    with_world(|world| {
        let unpacked = match hoist_testkit::unpacked("ufw-debian", &["ufw"]) {
            Ok(unpacked) => unpacked,
            Err(error) => return hoist_testkit::skip(&error),
        };
        if output(Command::new("iptables-restore").arg("-V")).is_err() {
            return hoist_testkit::skip("ufw calls iptables-restore");
        }
        let root = TemporaryDirectory::new("hoist-firewalls");
        let root = root.join("ufw");
        // What the package does when it is installed.
        run(&format!("cp -r {} {}", unpacked.display(), root.display()));
        for file in ["user", "user6", "before", "before6", "after", "after6"] {
            let from = root.join(format!("usr/share/ufw/iptables/{file}.rules"));
            std::fs::copy(from, root.join(format!("etc/ufw/{file}.rules"))).unwrap();
        }
        std::fs::write(root.join("etc/ufw/ufw.conf"), "ENABLED=yes\nLOGLEVEL=off\n").unwrap();
        let root = root.display();
        let ufw = |verb: &str| {
            run(&format!(
                "{root}/lib/ufw/ufw-init --rootdir {root} --datadir {root} {verb}"
            ))
        };
        ufw("start");
        assert!(run("iptables -S").contains("-P FORWARD DROP"));
        let networks = start(|settings| settings.ipv6 = true);
        let traffic = Traffic::new(world, &networks);
        serve_tcp(&world.host, "[::]:9000");
        assert_eq!(traffic.wrong(), [] as [String; 0]);
        // The host itself is as closed as ufw keeps it.
        assert!(in_vain(&world.outside, &format!("{HOST_V4}:9000")));
        ufw("force-reload");
        for program in ["iptables", "ip6tables"] {
            eventually("our accepts, in words that iptables knows", || {
                let rules = run(&format!("{program} -S FORWARD"));
                rules.contains("-i hoist0+") && rules.contains("-o mine")
            });
        }
        assert_eq!(traffic.wrong(), [] as [String; 0]);
        networks.stop(false).unwrap();
        for program in ["iptables", "ip6tables"] {
            let left = run(&format!("{program} -S"));
            assert!(left.contains("ufw") && !left.contains("hoist"), "{left}");
        }
    });
}

/// A dockerd in the calling thread's network namespace.
struct Dockerd {
    child: Child,
    directory: PathBuf,
}

impl Dockerd {
    fn start(unpacked: &Path, directory: &Path) -> Self {
        let path = |name: &str| directory.join(name).display().to_string();
        std::fs::write(
            directory.join("daemon.json"),
            format!("{{\"deprecated-key-path\": \"{}\"}}", path("key.json")),
        )
        .unwrap();
        let log = File::create(directory.join("log")).unwrap();
        let inherited = std::env::var("PATH").unwrap();
        let programs = format!("{0}/usr/sbin:{0}/usr/bin:{inherited}", unpacked.display());
        let mut unshare = Command::new("unshare");
        unshare
            // What it mounts goes with it.
            .args(["--mount", "--propagation", "private", "dockerd"])
            .args(["--config-file", &path("daemon.json")])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--pidfile", &path("pid"), "--storage-driver", "vfs"])
            .args(["--host", &format!("unix://{}", path("sock"))])
            .env("PATH", programs)
            .stdout(log.try_clone().unwrap())
            .stderr(log.try_clone().unwrap());
        let told = |_: &mut Child| log.metadata().ok().filter(|file| file.len() > 0);
        let child = spawn(&mut unshare, told).unwrap();
        let dockerd = Self {
            child,
            directory: directory.to_owned(),
        };
        eventually("dockerd", || dockerd.ask("GET", "/_ping", "").is_some());
        dockerd
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let socket = self.directory.join("sock");
        let body = (!body.is_empty()).then_some(body);
        hoist_testkit::exchange(&socket, method, path, body).ok()
    }

    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What stands for a container of Docker's: a namespace on a bridge of its.
fn on_bridge(bridge: &str, address: &str, gateway: &str) -> OwnedFd {
    let netns = netns::create().unwrap();
    let (pid, fd) = (std::process::id(), netns.as_raw_fd());
    run(&format!(
        "ip link add dk{fd} type veth peer name eth0 netns /proc/{pid}/fd/{fd}"
    ));
    run(&format!("ip link set dk{fd} master {bridge} up"));
    inside(&netns, || {
        run("ip link set lo up");
        run(&format!("ip addr add {address}/16 dev eth0"));
        run("ip link set eth0 up");
        run(&format!("ip route add default via {gateway}"));
    });
    netns
}

#[test]
fn beside_a_running_dockerd() {
    with_world(|world| {
        let unpacked = match hoist_testkit::unpacked("docker-debian", &hoist_testkit::DOCKER) {
            Ok(unpacked) => unpacked,
            Err(error) => return hoist_testkit::skip(&error),
        };
        let directory = TemporaryDirectory::new("hoist-firewalls");
        let directory = directory.join("dockerd");
        std::fs::create_dir(&directory).unwrap();
        let mut dockerd = Dockerd::start(&unpacked, &directory);
        // It turned forwarding on, and so drops what it does not know.
        assert!(run("iptables -S").contains("-P FORWARD DROP"));
        let networks = start(|settings| settings.ipv6 = true);
        let mut traffic = Traffic::new(world, &networks);
        let theirs = on_bridge("docker0", "172.17.0.9", "172.17.0.1");
        serve_tcp(&theirs, "0.0.0.0:80");
        traffic.theirs = Some(theirs);
        assert_eq!(traffic.wrong(), [] as [String; 0]);
        let body = r#"{"Name": "more", "Options": {"com.docker.network.bridge.name": "theirs"}}"#;
        let (status, said) = dockerd.ask("POST", "/networks/create", body).unwrap();
        assert_eq!(status, 201, "{said}");
        eventually("a bridge more that is Docker's", || {
            run("iptables -S DOCKER-USER").contains("-i hoist0+ -o theirs")
        });
        dockerd.stop();
        assert_eq!(traffic.wrong(), [] as [String; 0]);
        let _again = Dockerd::start(&unpacked, &directory);
        assert_eq!(traffic.wrong(), [] as [String; 0]);
        networks.stop(false).unwrap();
        let left = run("iptables -S");
        assert!(
            left.contains("DOCKER-USER") && !left.contains("hoist"),
            "{left}"
        );
    });
}

#[test]
fn a_dockerd_that_comes_later_leaves_ours_alone() {
    with_world(|world| {
        let unpacked = match hoist_testkit::unpacked("docker-debian", &hoist_testkit::DOCKER) {
            Ok(unpacked) => unpacked,
            Err(error) => return hoist_testkit::skip(&error),
        };
        let networks = start(|settings| settings.ipv6 = true);
        let traffic = Traffic::new(world, &networks);
        // Whoever is careful closes it before the next engine comes.
        run("iptables -P FORWARD DROP");
        let directory = TemporaryDirectory::new("hoist-firewalls");
        let directory = directory.join("dockerd");
        std::fs::create_dir(&directory).unwrap();
        let _dockerd = Dockerd::start(&unpacked, &directory);
        eventually("our accepts in Docker's chain alone", || {
            run("iptables -S DOCKER-USER").contains("-o hoist0+")
                && !run("iptables -S FORWARD").contains("hoist")
        });
        assert_eq!(traffic.wrong(), [] as [String; 0]);
        let theirs = on_bridge("docker0", "172.17.0.9", "172.17.0.1");
        assert!(ask_tcp(&theirs, &format!("{OUTSIDE_V4}:9001")).is_ok());
        networks.stop(false).unwrap();
    });
}
