//! Users' networks: made, joined, left, kept apart, found again, removed.

use std::net::IpAddr;
use std::process::Command;

use hoist_model::network::{GatewayMode, PlaceRequest, Segment, Subnet};
use hoist_net::{Instance, Networks, Settings};

use crate::world::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn with_subnet(name: &str, subnet: &str) -> Segment {
    Segment {
        subnets: vec![Subnet {
            subnet: subnet.parse().unwrap(),
            gateway: None,
            range: None,
            auxiliary: [].into(),
            configured: true,
        }],
        ..segment(name)
    }
}

/// Names of the host's interfaces.
fn links() -> Vec<String> {
    let name = |line: &str| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned());
    run("ip -o link").lines().filter_map(name).collect()
}

#[test]
fn a_network_is_made_joined_left_and_removed_without_a_trace() {
    with_world(|world| {
        let networks = start(|settings| settings.pool_size = 0);
        let before = links();
        let one = networks.make(segment("one")).unwrap();
        assert_eq!(one.subnets[0].subnet.to_string(), "172.19.0.0/16");
        assert_eq!(one.subnets[0].gateway, Some(ip("172.19.0.1")));
        assert!(run(&format!("ip addr show {}", one.interface)).contains("172.19.0.1/16"));
        assert_eq!(networks.make(one.clone()).unwrap(), one);

        let a = join(&networks, &[&one], &["8080:80"]);
        let b = join(&networks, &[&one], &[]);
        assert_eq!(a.record.ipv4(), Some([172, 19, 0, 2].into()));
        serve_tcp(&a.netns, "0.0.0.0:80");
        assert_eq!(ask_tcp(&b.netns, "172.19.0.2:80"), Ok(ip("172.19.0.3")));
        let published = format!("{HOST_V4}:8080");
        assert_eq!(ask_tcp(&world.outside, &published), Ok(ip(OUTSIDE_V4)));
        assert_eq!(ask_tcp(&world.host, "127.0.0.1:8080"), Ok(ip("172.19.0.1")));
        assert_eq!(ask_tcp(&a.netns, &published), Ok(ip("172.19.0.1")));
        assert_eq!(
            networks.unmake(&one.id).unwrap_err().class(),
            hoist_model::ErrorClass::Forbidden
        );
        for gone in [a, b] {
            networks.detach(&gone.record.container).unwrap();
        }
        networks.unmake(&one.id).unwrap();
        networks.unmake(&one.id).unwrap();
        eventually("nothing is left", || links() == before);
        let table = run("nft list table inet hoist");
        assert!(
            !table.contains("hoist0-") && !table.contains("172.19."),
            "{table}"
        );
        networks.stop(false).unwrap();
    });
}

#[test]
fn an_address_of_ones_own_is_free_again_at_once() {
    with_world(|_| {
        let networks = start(|_| {});
        let one = networks.make(with_subnet("one", "10.7.0.0/24")).unwrap();
        for _ in 0..20 {
            let wish = PlaceRequest {
                ipv4: Some([10, 7, 0, 77].into()),
                ..place(&one)
            };
            let mut asked = request(&[]);
            asked.places = vec![wish];
            let held = networks.attach(&asked).unwrap();
            let mut again = request(&[]);
            again.places.clone_from(&asked.places);
            let refused = networks.attach(&again).unwrap_err();
            assert_eq!(refused.to_string(), "Address already in use");
            networks.detach(&held.record.container).unwrap();
        }
        networks.stop(false).unwrap();
    });
}

#[test]
fn conflicts_are_found_before_anything_is_made() {
    with_world(|_| {
        let networks = start(|settings| settings.pool_size = 0);
        let refused = |segment: Segment| networks.make(segment).unwrap_err().to_string();
        let one = networks.make(with_subnet("one", "10.7.0.0/16")).unwrap();
        let before = links();
        for subnet in ["10.7.0.0/16", "10.7.3.0/24", "10.0.0.0/8", "172.18.0.0/16"] {
            assert_eq!(
                refused(with_subnet("two", subnet)),
                "invalid pool request: Pool overlaps with other one on this address space"
            );
        }
        assert_eq!(
            refused(with_subnet("two", "198.51.0.0/16")),
            "invalid pool request: subnet 198.51.0.0/16 overlaps with 198.51.100.0/24 on the host's interface up0"
        );
        let named = |name: &str| Segment {
            interface: name.to_owned(),
            ..segment("two")
        };
        let text = refused(named(&one.interface));
        assert!(text.ends_with("networks have same bridge name"), "{text}");
        assert_eq!(
            refused(named("up0")),
            "interface up0 is there already and is no bridge"
        );
        assert!(refused(named("a-name-that-is-too-long")).starts_with("invalid bridge name"));
        assert_eq!(links(), before);
        networks.stop(false).unwrap();
    });
}

#[test]
fn pools_run_out_in_dockers_words() {
    with_world(|_| {
        let networks = start(|settings| {
            settings.pools = vec![hoist_net::AddressPool {
                base: "10.8.0.0/16".parse().unwrap(),
                size: 18,
            }];
        });
        let made: Vec<_> = (0..3)
            .map(|number| networks.make(segment(&number.to_string())).unwrap())
            .collect();
        assert_eq!(made[2].subnets[0].subnet.to_string(), "10.8.192.0/18");
        assert_eq!(
            networks.make(segment("more")).unwrap_err().to_string(),
            "all predefined address pools have been fully subnetted"
        );
        networks.unmake(&made[1].id).unwrap();
        let again = networks.make(segment("more")).unwrap();
        assert_eq!(again.subnets[0].subnet, made[1].subnets[0].subnet);
        networks.stop(false).unwrap();
    });
}

#[test]
fn a_container_joins_and_leaves_while_it_runs_and_its_ports_follow() {
    with_world(|world| {
        let networks = start(|_| {});
        let one = networks.make(segment("one")).unwrap();
        let two = networks.make(segment("two")).unwrap();
        let server = join(&networks, &[&one], &["8080:80"]);
        let id = &server.record.container;
        let other = join(&networks, &[&two], &[]);
        serve_tcp(&server.netns, "0.0.0.0:80");
        let published = format!("{HOST_V4}:8080");
        let routes = || inside(&server.netns, || run("ip route show default"));

        let preferred = PlaceRequest {
            gateway_priority: 5,
            ..place(&two)
        };
        let joined = networks.connect(id, &preferred, &[]).unwrap();
        assert_eq!(joined.places[1].interface, "eth1");
        let there = joined.places[1].addresses()[0];
        assert!(ask_tcp(&other.netns, &format!("{there}:80")).is_ok());
        assert!(routes().contains("via 172.20.0.1 dev eth1"), "{}", routes());
        assert_eq!(ask_tcp(&world.outside, &published), Ok(ip(OUTSIDE_V4)));
        assert!(ask_tcp(&world.host, "[::1]:8080").is_ok());
        assert_eq!(
            networks.connect(id, &place(&two), &[]).unwrap_err().class(),
            hoist_model::ErrorClass::Forbidden
        );

        networks.disconnect(id, Some(&two.id)).unwrap();
        assert!(routes().contains("via 172.19.0.1 dev eth0"), "{}", routes());
        assert_eq!(ask_tcp(&world.outside, &published), Ok(ip(OUTSIDE_V4)));
        let none = networks.disconnect(id, Some(&one.id)).unwrap();
        assert!(none.places.is_empty());
        // The port stays its own, and leads nowhere.
        assert!(run("ss -Hltn").contains("8080"));
        assert!(in_vain(&world.outside, &published));
        let on_bridge = networks
            .connect(id, &PlaceRequest::default(), &[port("8080:80")])
            .unwrap();
        assert_eq!(on_bridge.places[0].interface, "eth0");
        assert_eq!(ask_tcp(&world.outside, &published), Ok(ip(OUTSIDE_V4)));
        networks.detach(id).unwrap();
        for network in [one, two] {
            let _ = networks.detach(&other.record.container);
            networks.unmake(&network.id).unwrap();
        }
        networks.stop(false).unwrap();
    });
}

#[test]
fn networks_outlive_the_engine_and_are_found_again() {
    with_world(|world| {
        let networks = start(|_| {});
        let one = networks.make(segment("one")).unwrap();
        let lost = networks.make(segment("lost")).unwrap();
        let server = join(&networks, &[&one], &["8080:80"]);
        serve_tcp(&server.netns, "0.0.0.0:80");
        let record = serde_json::to_string(&server.record).unwrap();
        closing(|| {
            networks.stop(true).unwrap();
            drop(networks);
        });
        let published = format!("{HOST_V4}:8080");
        assert!(ask_tcp(&world.outside, &published).is_ok());

        let networks = Networks::start(Settings::new(Instance::default_engine())).unwrap();
        assert_eq!(networks.make(one.clone()).unwrap(), one);
        networks.sweep_bridges().unwrap();
        assert!(!links().contains(&lost.interface));
        let mut asked = request(&[]);
        asked.places = vec![PlaceRequest {
            names: vec!["web".to_owned()],
            ..place(&one)
        }];
        let record = serde_json::from_str(&record).unwrap();
        let netns = server.netns.try_clone().unwrap();
        networks.restore(record, &asked, netns, Vec::new()).unwrap();
        networks.sweep().unwrap();
        assert!(ask_tcp(&world.outside, &published).is_ok());
        let names = networks.names().snapshot();
        assert_eq!(names.networks[&one.id].addresses("web"), [ip("172.19.0.2")]);
        // Its address is not given to another.
        let other = join(&networks, &[&one], &[]);
        assert_eq!(other.record.ipv4(), Some([172, 19, 0, 3].into()));
        assert!(ask_tcp(&other.netns, "172.19.0.2:80").is_ok());
        networks.stop(false).unwrap();
        assert!(!links().iter().any(|name| name.starts_with("hoist0")));
    });
}

#[test]
fn a_bridge_that_is_there_is_used_and_left() {
    with_world(|_| {
        let networks = start(|_| {});
        run("ip link add mine type bridge");
        run("ip addr add 10.3.0.1/24 dev mine");
        let one = networks
            .make(Segment {
                interface: "mine".to_owned(),
                ..with_subnet("one", "10.3.0.0/24")
            })
            .unwrap();
        assert!(one.adopted);
        let a = join(&networks, &[&one], &[]);
        assert!(inside(&a.netns, || run("ip route")).contains("default via 10.3.0.1"));
        networks.detach(&a.record.container).unwrap();
        networks.unmake(&one.id).unwrap();
        assert!(run("ip addr show mine").contains("10.3.0.1"));
        assert!(!run("ip neigh show dev mine").contains("extern_learn"));
        eventually("nothing of ours is on it", || {
            run("ip -o link show master mine").is_empty()
        });
        networks.stop(false).unwrap();
    });
}

#[test]
fn names_follow_their_containers() {
    with_world(|_| {
        let networks = start(|_| {});
        let one = networks.make(segment("one")).unwrap();
        let named = |name: &str| {
            let mut asked = request(&[]);
            asked.places = vec![PlaceRequest {
                names: vec![name.to_owned(), "Service".to_owned()],
                links: vec![("DB".to_owned(), "other".to_owned())],
                ..place(&one)
            }];
            asked
        };
        let asked = named("a");
        let a = networks.attach(&asked).unwrap();
        let b = networks.attach(&named("b")).unwrap();
        let names = networks.names().snapshot();
        let table = &names.networks[&one.id];
        assert_eq!(table.network, "one");
        assert_eq!(table.addresses("service").len(), 2);
        let view = &names.containers[&a.record.container];
        assert_eq!(view.networks, std::slice::from_ref(&one.id));
        assert_eq!(view.links["db"], "other");
        let mut renamed = named("c");
        renamed.container = a.record.container.clone();
        networks.rename(&renamed);
        networks.detach(&b.record.container).unwrap();
        let names = networks.names().snapshot();
        let table = &names.networks[&one.id];
        assert_eq!(table.addresses("c"), [ip("172.19.0.2")]);
        assert!(table.addresses("a").is_empty() && table.addresses("b").is_empty());
        assert_eq!(table.owner(ip("172.19.0.2")), Some("c"));
        networks.detach(&a.record.container).unwrap();
        assert!(networks.names().snapshot().containers.is_empty());
        networks.stop(false).unwrap();
    });
}

#[test]
fn gateway_modes_say_what_gets_in() {
    with_world(|world| {
        let networks = start(|_| {});
        let of = |name: &str, mode| {
            let wanted = Segment {
                gateway_mode_v4: mode,
                ..segment(name)
            };
            let made = networks.make(wanted).unwrap();
            let server = join(&networks, &[&made], &["0:80"]);
            serve_tcp(&server.netns, "0.0.0.0:80");
            serve_tcp(&server.netns, "0.0.0.0:81");
            (made, server)
        };
        let (_, nat) = of("nat", GatewayMode::Nat);
        let (_, open) = of("open", GatewayMode::NatUnprotected);
        let (_, routed) = of("routed", GatewayMode::Routed);
        // The outside knows the way to the containers.
        inside(&world.outside, || {
            run(&format!("ip route add 172.16.0.0/12 via {HOST_V4}"));
        });
        let at = |server: &hoist_net::Attachment, port: u16| {
            format!("{}:{port}", server.record.ipv4().unwrap())
        };
        for (server, port) in [(&open, 80), (&open, 81), (&routed, 80)] {
            let asked = ask_tcp(&world.outside, &at(server, port));
            assert!(asked.is_ok(), "{asked:?}");
        }
        for (server, port) in [(&nat, 80), (&nat, 81), (&routed, 81)] {
            let address = at(server, port);
            assert!(in_vain(&world.outside, &address), "{address}");
        }
        assert!(routed.record.ports.is_empty());
        let ping = |server: &hoist_net::Attachment, patience: &str| {
            let address = server.record.ipv4().unwrap();
            inside(&world.outside, || {
                let mut ping = Command::new("ping");
                ping.args(["-c1", "-W", patience, &address.to_string()]);
                output(&mut ping).is_ok_and(|output| output.status.success())
            })
        };
        if output(&mut Command::new("ping")).is_ok() {
            assert!(ping(&routed, "30") && !ping(&nat, "1"));
        }
        // What leaves a routed network keeps its address.
        serve_tcp(&world.outside, "0.0.0.0:82");
        let seen = ask_tcp(&routed.netns, &format!("{OUTSIDE_V4}:82"));
        assert_eq!(seen, Ok(routed.record.ipv4().unwrap().into()));
        assert_eq!(
            ask_tcp(&nat.netns, &format!("{OUTSIDE_V4}:82")),
            Ok(ip(HOST_V4))
        );
        networks.stop(false).unwrap();
    });
}

#[test]
fn firewalls_that_drop_let_users_networks_pass() {
    with_world(|world| {
        run("nft add table ip filter");
        run(
            "nft add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }",
        );
        let networks = start(|_| {});
        let foreign = || run("nft list table ip filter");
        for (name, interface, port) in [("one", "", 8080), ("two", "mine", 8081)] {
            let made = networks
                .make(Segment {
                    interface: interface.to_owned(),
                    ..segment(name)
                })
                .unwrap();
            let server = join(&networks, &[&made], &[&format!("{port}:80")]);
            serve_tcp(&server.netns, "0.0.0.0:80");
            let published = format!("{HOST_V4}:{port}");
            assert_eq!(ask_tcp(&world.outside, &published), Ok(ip(OUTSIDE_V4)));
            networks.detach(&server.record.container).unwrap();
            assert_eq!(
                foreign().matches("accept").count(),
                if interface.is_empty() { 2 } else { 4 }
            );
            networks.unmake(&made.id).unwrap();
        }
        assert_eq!(foreign().matches("accept").count(), 2);
        networks.stop(false).unwrap();
        assert!(!foreign().contains("accept"), "{}", foreign());
    });
}

#[test]
fn a_bridge_that_somebody_removes_comes_back_with_its_containers() {
    with_world(|_| {
        let networks = start(|_| {});
        let one = networks.make(segment("one")).unwrap();
        let a = join(&networks, &[&one], &[]);
        let b = join(&networks, &[&one], &[]);
        serve_tcp(&a.netns, "0.0.0.0:80");
        run(&format!("ip link del {}", one.interface));
        eventually("they reach each other again", || {
            !in_vain(&b.netns, "172.19.0.2:80")
        });
        assert!(run(&format!("ip addr show {}", one.interface)).contains("172.19.0.1/16"));
        // Removed while no engine runs, it comes back with the next.
        let records = [a.record.clone(), b.record.clone()];
        closing(|| {
            networks.stop(true).unwrap();
            drop(networks);
        });
        run(&format!("ip link del {}", one.interface));
        let networks = Networks::start(Settings::new(Instance::default_engine())).unwrap();
        networks.make(one).unwrap();
        for (record, netns) in records.into_iter().zip([&a.netns, &b.netns]) {
            let netns = netns.try_clone().unwrap();
            networks
                .restore(record, &request(&[]), netns, Vec::new())
                .unwrap();
        }
        networks.sweep().unwrap();
        assert!(ask_tcp(&b.netns, "172.19.0.2:80").is_ok());
        networks.stop(false).unwrap();
    });
}
