//! Namespaces that are ready before a network is chosen, what containers know of their neighbours, and bridges that are full.

use std::fmt::Write;

use hoist_model::network::{InterfaceSysctl, PlaceRequest, Segment};
use hoist_net::{AttachRequest, Instance, Networks, Settings};

use crate::world::*;

#[test]
fn whoever_joins_a_users_network_takes_what_is_ready() {
    with_world(|_| {
        let networks = start(|settings| settings.pool_size = 2);
        assert_eq!(networks.spares(), 0, "nobody has a network");
        let plain = networks.make(segment("plain")).unwrap();
        let six = networks
            .make(with_subnets("six", &["10.6.0.0/24", "fd00:6::/64"]))
            .unwrap();
        let odd = networks
            .make(Segment {
                mtu: Some(1400),
                interface_prefix: "lan".to_owned(),
                internal: true,
                ..segment("odd")
            })
            .unwrap();
        let seen = |network: &Segment| {
            eventually("namespaces are ready", || networks.spares() == 2);
            let one = join(&networks, &[network], &[]);
            let inside = inside(&one.netns, || {
                run("ip addr") + &run("ip route") + &run("ip -6 route") + &run("ip neigh")
            });
            (one, inside)
        };
        let (a, text) = seen(&plain);
        for part in [
            "eth0@",
            "172.19.0.2/16 brd 172.19.255.255",
            "link/ether 02:42:ac:13:00:02",
            "mtu 1500",
            "default via 172.19.0.1 dev eth0",
            "172.19.0.1 dev eth0 lladdr 02:42:ac:13:00:01 extern_learn",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("fe80"), "{text}");
        let (_b, text) = seen(&six);
        for part in [
            "fd00:6::2/64",
            "default via fd00:6::1 dev eth0",
            "fd00:6::1 dev eth0 lladdr",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let (c, text) = seen(&odd);
        assert!(
            text.contains("lan0@") && text.contains("mtu 1400"),
            "{text}"
        );
        assert!(!text.contains("default via"), "{text}");
        assert_eq!(c.record.places[0].interface, "lan0");
        let host = run(&format!(
            "ip link show {}",
            c.record.places[0].host_interface
        ));
        assert!(host.contains("mtu 1400"), "{host}");

        // They reach each other as soon as they are there, by their names' addresses of both families.
        serve_tcp(&a.netns, "0.0.0.0:80");
        let d = join(&networks, &[&plain], &[]);
        assert!(ask_tcp(&d.netns, "172.19.0.2:80").is_ok());
        let (e, f) = (seen(&six).0, seen(&six).0);
        serve_tcp(&e.netns, "[::]:80");
        let there = format!("[{}]:80", e.record.ipv6().unwrap());
        assert!(ask_tcp(&f.netns, &there).is_ok());
        networks.stop(false).unwrap();
    });
}

#[test]
fn a_pool_that_is_empty_is_no_hindrance() {
    with_world(|_| {
        let networks = start(|settings| settings.pool_size = 0);
        let one = networks.make(segment("one")).unwrap();
        let all: Vec<_> = (0..20).map(|_| join(&networks, &[&one], &[])).collect();
        serve_tcp(&all[0].netns, "0.0.0.0:80");
        assert!(ask_tcp(&all[19].netns, "172.19.0.2:80").is_ok());
        assert_eq!(networks.spares(), 0);
        networks.stop(false).unwrap();
    });
}

/// Neighbours of the host that were not learned by asking.
fn neighbours() -> Vec<String> {
    let all = run("ip neigh");
    let ours = all.lines().filter(|line| line.contains("extern_learn"));
    let address = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let mut addresses: Vec<_> = ours.map(address).collect();
    addresses.sort();
    addresses
}

#[test]
fn the_host_knows_its_containers_and_forgets_them() {
    with_world(|_| {
        let networks = start(|settings| settings.pool_size = 0);
        let one = networks
            .make(with_subnets("one", &["10.6.0.0/24", "fd00:6::/64"]))
            .unwrap();
        let a = join(&networks, &[&one], &[]);
        let b = attach(&networks, &[]);
        let two = networks.make(segment("two")).unwrap();
        networks
            .connect(&b.record.container, &place(&two), &[])
            .unwrap();
        let known = ["10.6.0.2", "172.18.0.2", "172.19.0.2", "fd00:6::2"];
        assert_eq!(neighbours(), known);
        let port = &a.record.places[0];
        let table = run(&format!("bridge fdb show dev {}", port.host_interface));
        assert!(
            table.contains(&format!("{} master {} static", port.mac, one.interface)),
            "{table}"
        );
        // A container may take another hardware address: its neighbours follow.
        serve_tcp(&a.netns, "0.0.0.0:80");
        inside(&a.netns, || {
            run("ip link set eth0 address 02:00:00:00:00:07")
        });
        let c = join(&networks, &[&one], &[]);
        eventually("it is found again", || {
            try_tcp(&c.netns, "10.6.0.2:80", false).is_ok()
        });

        networks
            .disconnect(&b.record.container, Some(&two.id))
            .unwrap();
        eventually("one is forgotten", || {
            !neighbours().contains(&"172.19.0.2".to_owned())
        });
        for gone in [a, b, c] {
            closing(|| networks.detach(&gone.record.container)).unwrap();
        }
        eventually("all are forgotten", || neighbours().is_empty());
        networks.stop(false).unwrap();
    });
}

#[test]
fn neighbours_of_a_killed_engines_containers_are_forgotten() {
    with_world(|_| {
        let networks = start(|settings| settings.pool_size = 1);
        let one = networks.make(segment("one")).unwrap();
        let (lost, kept) = (join(&networks, &[&one], &[]), join(&networks, &[&one], &[]));
        let gone = attach(&networks, &[]);
        closing(|| networks.stop(true)).unwrap();
        drop(networks);
        drop((lost, gone));
        let networks = Networks::start(Settings {
            pool_size: 0,
            ..Settings::new(Instance::default_engine())
        })
        .unwrap();
        networks.make(one).unwrap();
        let netns = kept.netns.try_clone().unwrap();
        let asked = request(&[]);
        networks
            .restore(kept.record.clone(), &asked, netns, Vec::new())
            .unwrap();
        networks.sweep().unwrap();
        assert_eq!(neighbours(), ["172.19.0.3"]);
        networks.stop(false).unwrap();
    });
}

/// Fills all but `free` ports of a bridge.
fn fill(bridge: &str, free: usize) {
    let ports = 1023 - free;
    let mut orders = String::new();
    for number in 0..ports.div_ceil(2) {
        let _ = writeln!(orders, "link add a{number} type veth peer name b{number}");
        let _ = writeln!(orders, "link set a{number} master {bridge}");
        if 2 * number + 1 < ports {
            let _ = writeln!(orders, "link set b{number} master {bridge}");
        }
    }
    let directory = hoist_testkit::TemporaryDirectory::new("fill");
    let file = directory.join("orders");
    std::fs::write(&file, orders).unwrap();
    run(&format!("ip -batch {}", file.display()));
}

#[test]
fn a_full_bridge_is_told_of_and_a_port_that_was_left_is_used_at_once() {
    with_world(|_| {
        let networks = start(|settings| settings.pool_size = 0);
        let one = networks.make(segment("one")).unwrap();
        fill(&one.interface, 2);
        let a = join(&networks, &[&one], &[]);
        let b = join(&networks, &[&one], &[]);
        let asked = AttachRequest {
            places: vec![place(&one)],
            ..request(&[])
        };
        let full = "network one is full: its bridge takes 1,023 interfaces";
        assert_eq!(networks.attach(&asked).unwrap_err().to_string(), full);
        let elsewhere = attach(&networks, &[]);
        let id = &elsewhere.record.container;
        let refused = networks.connect(id, &place(&one), &[]).unwrap_err();
        assert_eq!(refused.to_string(), full);
        networks.detach(&a.record.container).unwrap();
        let again = networks.attach(&asked).unwrap();
        serve_tcp(&b.netns, "0.0.0.0:80");
        let address = b.record.ipv4().unwrap();
        assert!(ask_tcp(&again.netns, &format!("{address}:80")).is_ok());
        networks.detach(&b.record.container).unwrap();
        networks.connect(id, &place(&one), &[]).unwrap();
        networks.stop(false).unwrap();
    });
}

#[test]
fn what_is_ready_on_the_default_bridge_makes_room() {
    with_world(|_| {
        let networks = start(|settings| settings.pool_size = 2);
        eventually("the pool is full", || networks.ready() == 2);
        fill("hoist0", 2);
        let with_address = |last: u8| AttachRequest {
            places: vec![PlaceRequest {
                ipv4: Some([172, 18, 9, last].into()),
                ..PlaceRequest::default()
            }],
            ..request(&[])
        };
        let a = networks.attach(&with_address(1)).unwrap();
        let b = networks.attach(&request(&[])).unwrap();
        serve_tcp(&a.netns, "0.0.0.0:80");
        assert!(ask_tcp(&b.netns, "172.18.9.1:80").is_ok());
        assert_eq!(
            networks.attach(&with_address(2)).unwrap_err().to_string(),
            "network bridge is full: its bridge takes 1,023 interfaces"
        );
        let asked = request(&[]);
        assert!(networks.attach(&asked).is_err());
        networks.detach(&b.record.container).unwrap();
        networks.attach(&asked).unwrap();
        networks.stop(false).unwrap();
    });
}

#[test]
fn many_networks_come_and_go_and_the_table_is_never_written_anew() {
    with_world(|_| {
        let networks = start(|settings| {
            settings.pool_size = 0;
            settings.pools = vec![hoist_net::AddressPool {
                base: "10.0.0.0/8".parse().unwrap(),
                size: 24,
            }];
        });
        // Whatever the kernel tells of bridges of users' networks and of veths.
        let traces = || -> Vec<String> {
            let told = [
                "ip -o link",
                "ip -o addr",
                "ip route show table all",
                "ip neigh",
                "nft list table inet hoist",
            ];
            let lines = told.map(run).join("\n");
            let ours = lines.lines().filter(|line| line.contains("hoist0-"));
            ours.map(str::to_owned).collect()
        };
        let one = networks.make(segment("one")).unwrap();
        assert!(!traces().is_empty());
        networks.unmake(&one.id).unwrap();
        // Written anew it would have another number.
        let table = || {
            let told = run("nft -a list table inet hoist");
            told.lines().next().unwrap_or_default().to_owned()
        };
        let number = table();
        assert!(number.contains("handle"), "{number}");
        // The bench makes a thousand; what each costs is the kernel's to a great part.
        let all: Vec<_> = (0..300)
            .map(|number| networks.make(segment(&number.to_string())).unwrap())
            .collect();
        let last = all.last().unwrap();
        assert_eq!(last.subnets[0].subnet.to_string(), "10.1.44.0/24");
        let (a, b) = (
            join(&networks, &[last], &["8080:80"]),
            join(&networks, &[last], &[]),
        );
        serve_tcp(&a.netns, "0.0.0.0:80");
        assert!(ask_tcp(&b.netns, "10.1.44.2:80").is_ok());
        assert_eq!(table(), number);
        for gone in [a, b] {
            closing(|| networks.detach(&gone.record.container)).unwrap();
        }
        for network in all {
            networks.unmake(&network.id).unwrap();
        }
        assert_eq!(table(), number);
        eventually("nothing is left", || traces().is_empty());
        networks.stop(false).unwrap();
    });
}

#[test]
fn what_is_ready_on_a_users_bridge_makes_room_and_does_not_come_back_before_somebody_left() {
    with_world(|_| {
        let networks = start(|settings| settings.pool_size = 2);
        let one = networks.make(segment("one")).unwrap();
        let a = join(&networks, &[&one], &[]);
        let elsewhere = attach(&networks, &[]);
        let ours = || {
            let ports = run(&format!("ip -o link show master {}", one.interface));
            ports
                .lines()
                .filter(|line| line.contains("vhoist0-"))
                .count()
        };
        eventually("one is ready on the bridge", || ours() == 2);
        fill(&one.interface, 2);
        // Takes the place of what is ready, and then fails: a port is free.
        let wrong = PlaceRequest {
            sysctls: vec![InterfaceSysctl {
                family: "ipv4".to_owned(),
                group: "conf".to_owned(),
                name: "no_such_setting".to_owned(),
                value: "1".to_owned(),
            }],
            ..place(&one)
        };
        let id = &elsewhere.record.container;
        let refused = networks.connect(id, &wrong, &[]).unwrap_err().to_string();
        assert!(refused.contains("is not a sysctl file"), "{refused}");
        eventually("others are ready", || {
            networks.spares() == 2 && networks.ready() == 2
        });
        // Between two of its jobs the worker sees to what is ready, a step at a time.
        for last in 1..10 {
            let wish = PlaceRequest {
                ipv4: Some([172, 18, 9, last].into()),
                ..PlaceRequest::default()
            };
            let made = AttachRequest {
                places: vec![wish],
                ..request(&[])
            };
            networks.attach(&made).unwrap();
        }
        assert_eq!(ours(), 1, "the free port is for who asks");
        networks.connect(id, &place(&one), &[]).unwrap();
        assert_eq!(ours(), 2);
        networks.detach(&a.record.container).unwrap();
        eventually("one is ready where a container has left", || {
            let left = run("ip -o link");
            !left.contains(&a.record.places[0].host_interface) && ours() == 2
        });
        networks.stop(false).unwrap();
    });
}
