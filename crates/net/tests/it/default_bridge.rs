//! What an operator decides about the default bridge: which it is, whose addresses it has, who reaches whom by it.

use std::net::IpAddr;

use hoist_model::network::PlaceRequest;
use hoist_net::{
    AttachRequest, BridgeChoice, Instance, NetError, Networks, OccupiedBridge, Settings,
};

use crate::world::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Why networks with these settings cannot be started.
fn refusal(change: impl FnOnce(&mut Settings)) -> String {
    let mut settings = Settings::new(Instance::default_engine());
    settings.pool_size = 0;
    change(&mut settings);
    Networks::start(settings).err().unwrap().to_string()
}

fn has_link(name: &str) -> bool {
    std::fs::exists(format!("/proc/sys/net/ipv4/conf/{name}")).unwrap()
}

#[test]
fn a_named_bridge_is_used_as_it_is_and_left_there() {
    with_world(|world| {
        let named = |settings: &mut Settings| {
            settings.bridge = BridgeChoice::Named("br9".to_owned());
        };
        assert_eq!(
            refusal(named),
            "bridge device with non default name br9 must be created manually"
        );
        run("ip link add br9 type veth peer name br9-peer");
        assert_eq!(refusal(named), "existing interface br9 is not a bridge");
        run("ip link del br9");
        // Our own of an earlier engine goes.
        start(|_| {}).stop(true).unwrap();
        assert!(has_link("hoist0"));
        run("ip link add br9 type bridge");
        run("ip addr add 10.7.0.9/24 dev br9");
        run("ip addr add 10.8.0.9/24 dev br9");
        let networks = start(|settings| {
            named(settings);
            settings.range = Some("10.8.0.64/26".parse().unwrap());
        });
        assert!(!has_link("hoist0"));
        let server = attach(&networks, &["8080:80"]);
        assert_eq!(server.record.ipv4(), Some([10, 8, 0, 64].into()));
        serve_tcp(&server.netns, "0.0.0.0:80");
        let published = format!("{HOST_V4}:8080");
        assert_eq!(ask_tcp(&world.outside, &published), Ok(ip(OUTSIDE_V4)));
        assert_eq!(ask_tcp(&world.host, "127.0.0.1:8080"), Ok(ip("10.8.0.9")));
        // A user's network gets no subnet that this bridge has, nor its name.
        let mut other = segment("other");
        other.interface = "br9".to_owned();
        let error = networks.make(other).unwrap_err().to_string();
        assert!(error.contains("networks have same bridge name"), "{error}");
        networks.stop(false).unwrap();
        assert!(has_link("br9"));
        assert!(run("ip addr show br9").contains("10.7.0.9/24"));
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn without_a_default_bridge_there_are_users_networks_alone() {
    with_world(|world| {
        start(|_| {}).stop(true).unwrap();
        let networks = start(|settings| settings.bridge = BridgeChoice::Absent);
        assert!(!has_link("hoist0"));
        assert_eq!(networks.bridge(), None);
        let refused = networks.attach(&request(&[])).unwrap_err();
        assert!(matches!(refused, NetError::NoBridge), "{refused}");
        let lan = networks.make(segment("lan")).unwrap();
        let server = join(&networks, &[&lan], &["8080:80"]);
        serve_tcp(&server.netns, "0.0.0.0:80");
        let published = format!("{HOST_V4}:8080");
        assert_eq!(ask_tcp(&world.outside, &published), Ok(ip(OUTSIDE_V4)));
        assert_eq!(networks.ready(), 0);
        networks.stop(false).unwrap();
    });
}

#[test]
fn ranges_and_gateways_are_what_was_said() {
    with_world(|_| {
        let networks = start(|settings| {
            settings.bridge_address = Some("10.9.0.1/16".parse().unwrap());
            settings.range = Some("10.9.3.0/29".parse().unwrap());
            settings.gateway = Some("10.9.3.2".parse().unwrap());
            settings.ipv6 = true;
            settings.bridge_address_v6 = Some("2001:db8:9::301/64".parse().unwrap());
            settings.range_v6 = Some("2001:db8:9::/80".parse().unwrap());
            settings.gateway_v6 = Some("2001:db8:9::303".parse().unwrap());
        });
        let all: Vec<_> = (0..5).map(|_| attach(&networks, &[])).collect();
        let found: Vec<String> = all
            .iter()
            .map(|one| one.record.ipv4().unwrap().to_string())
            .collect();
        // .1 and .3 would have the IPv6 address of the bridge and of the gateway, .2 is the gateway.
        assert_eq!(
            found,
            ["10.9.3.0", "10.9.3.4", "10.9.3.5", "10.9.3.6", "10.9.3.7"]
        );
        let exhausted = networks.attach(&request(&[])).unwrap_err();
        assert!(
            matches!(exhausted, NetError::AddressesExhausted(_)),
            "{exhausted}"
        );
        let (v4, v6, addresses) = inside(&all[1].netns, || {
            (
                run("ip route"),
                run("ip -6 route"),
                run("ip -o addr show eth0"),
            )
        });
        assert!(v4.contains("default via 10.9.3.2 dev eth0"), "{v4}");
        assert!(v6.contains("default via 2001:db8:9::303 dev eth0"), "{v6}");
        assert!(addresses.contains("10.9.3.4/16"), "{addresses}");
        assert!(addresses.contains("2001:db8:9::304/64"), "{addresses}");
        let place = &all[1].record.places[0];
        assert_eq!(place.ipv4.unwrap().gateway, Some([10, 9, 3, 2].into()));
        networks.stop(false).unwrap();

        // Where nothing else says a subnet, the range is it; a bridge of before that does not hold it is made anew.
        let networks = start(|settings| settings.range = Some("10.5.0.0/24".parse().unwrap()));
        let facts = networks.bridge().unwrap();
        assert_eq!(facts.gateway, std::net::Ipv4Addr::from([10, 5, 0, 1]));
        networks.stop(true).unwrap();
        let networks = start(|settings| settings.range = Some("10.5.0.128/25".parse().unwrap()));
        let facts = networks.bridge().unwrap();
        assert_eq!(facts.subnet.to_string(), "10.5.0.0/24");
        let one = attach(&networks, &[]);
        assert_eq!(one.record.ipv4(), Some([10, 5, 0, 128].into()));
        networks.stop(false).unwrap();
    });
}

#[test]
fn addresses_that_do_not_fit_are_refused() {
    with_world(|_| {
        let bip = |settings: &mut Settings| {
            settings.bridge_address = Some("10.9.0.1/24".parse().unwrap());
            settings.ipv6 = true;
        };
        for (change, expected) in [
            (
                (|s| s.range = Some("10.8.0.0/25".parse().unwrap())) as fn(&mut Settings),
                "fixed-cidr=10.8.0.0/25 is outside the subnet 10.9.0.0/24 of the default bridge",
            ),
            (
                |s| s.gateway = Some("10.8.0.1".parse().unwrap()),
                "invalid default-gateway 10.8.0.1: default gateway ip must be part of the network 10.9.0.0/24",
            ),
            (
                |s| s.gateway_v6 = Some("fd00::1".parse().unwrap()),
                "invalid default-gateway-v6 fd00::1: default gateway ip must be part of the network fd68:0:0:1::/64",
            ),
            (
                |s| s.range_v6 = Some("fd00::/121".parse().unwrap()),
                "fixed-cidr-v6=fd00::/121 has fewer addresses than the IPv4 subnet 10.9.0.0/24 of the default bridge",
            ),
        ] {
            let refused = refusal(|settings| {
                bip(settings);
                change(settings);
            });
            assert_eq!(refused, expected);
        }
    });
}

#[test]
fn a_bridge_that_containers_are_on_stays_as_it_is() {
    with_world(|_| {
        let networks = start(|_| {});
        let one = attach(&networks, &[]);
        let occupied = OccupiedBridge {
            name: "hoist0".to_owned(),
            address: "172.18.0.1/16".parse().unwrap(),
            address_v6: None,
        };
        networks.stop(true).unwrap();
        drop(networks);
        for choice in [
            BridgeChoice::Own,
            BridgeChoice::Named("br9".to_owned()),
            BridgeChoice::Absent,
        ] {
            let mut settings = Settings::new(Instance::default_engine());
            settings.bridge = choice;
            settings.bridge_address = Some("10.9.0.1/24".parse().unwrap());
            settings.range = Some("10.9.0.0/25".parse().unwrap());
            settings.gateway = Some("10.9.0.7".parse().unwrap());
            settings.ipv6 = true;
            settings.inter_container = false;
            settings.occupied = Some(occupied.clone());
            let networks = Networks::start(settings).unwrap();
            let facts = networks.bridge().unwrap();
            assert_eq!(facts.name, "hoist0");
            assert_eq!(facts.subnet.to_string(), "172.18.0.0/16");
            let kept = one.netns.try_clone().unwrap();
            networks
                .restore(one.record.clone(), &request(&[]), kept, Vec::new())
                .unwrap();
            networks.sweep().unwrap();
            networks.stop(true).unwrap();
        }
        // Nobody is on it any more.
        drop(one);
        let networks = start(|settings| {
            settings.bridge_address = Some("10.9.0.1/24".parse().unwrap());
        });
        let facts = networks.bridge().unwrap();
        assert_eq!(facts.subnet.to_string(), "10.9.0.0/24");
        networks.stop(false).unwrap();
    });
}

#[test]
fn who_reaches_whom_on_it_follows_the_settings_of_the_next_engine() {
    with_world(|world| {
        let networks = start(|settings| settings.pool_size = 0);
        let (server, other) = (attach(&networks, &[]), attach(&networks, &[]));
        serve_tcp(&server.netns, "0.0.0.0:80");
        let direct = format!("{}:80", server.record.ipv4().unwrap());
        assert!(ask_tcp(&other.netns, &direct).is_ok());
        networks.stop(true).unwrap();
        drop(networks);
        for inter_container in [false, true] {
            let mut settings = Settings::new(Instance::default_engine());
            settings.inter_container = inter_container;
            let networks = Networks::start(settings).unwrap();
            for one in [&server, &other] {
                let kept = one.netns.try_clone().unwrap();
                networks
                    .restore(one.record.clone(), &request(&[]), kept, Vec::new())
                    .unwrap();
            }
            networks.sweep().unwrap();
            assert_eq!(ask_tcp(&other.netns, &direct).is_ok(), inter_container);
            assert!(ask_tcp(&world.host, &direct).is_ok());
            networks.stop(!inter_container).unwrap();
        }
    });
}

#[test]
fn one_that_somebody_removes_comes_back_as_it_was() {
    with_world(|world| {
        let networks = start(|settings| {
            settings.bridge_address = Some("10.9.0.1/24".parse().unwrap());
            settings.range = Some("10.9.0.64/26".parse().unwrap());
            settings.inter_container = false;
        });
        let both = [attach(&networks, &[]), attach(&networks, &[])];
        let [first, second] = both.each_ref().map(|one| {
            serve_tcp(&one.netns, "0.0.0.0:80");
            format!("{}:80", one.record.ipv4().unwrap())
        });
        run("ip link del hoist0");
        eventually("the host reaches both again", || {
            let reaches = |to: &String| try_tcp(&world.host, to, false).is_ok();
            reaches(&first) && reaches(&second)
        });
        assert!(in_vain(&both[1].netns, &first));
        assert!(run("ip addr show hoist0").contains("10.9.0.1/24"));
        networks.stop(false).unwrap();
    });
}

#[test]
fn without_firewall_rules_the_relay_publishes() {
    with_world(|world| {
        run("nft add table inet theirs");
        run(
            "nft add chain inet theirs forward { type filter hook forward priority 0 ; policy drop ; }",
        );
        let before = run("nft list ruleset");
        // A table of an engine that had rules.
        start(|_| {}).stop(true).unwrap();
        let networks = start(|settings| {
            settings.firewall_v4 = false;
            settings.firewall_v6 = false;
        });
        let server = attach(&networks, &["8080:80", "5353:53/udp"]);
        serve_tcp(&server.netns, "0.0.0.0:80");
        serve_udp(&server.netns, "0.0.0.0:53");
        let lan = networks.make(segment("lan")).unwrap();
        let member = join(&networks, &[&lan], &["8081:80"]);
        serve_tcp(&member.netns, "0.0.0.0:80");
        let rules = run("nft list ruleset");
        assert!(!rules.contains("table inet hoist"), "{rules}");
        let gateway = networks.bridge().unwrap().gateway;
        // Whoever asks is the relay for the container, as with dockerd's proxy.
        let published = format!("{HOST_V4}:8080");
        assert_eq!(ask_tcp(&world.outside, &published), Ok(gateway.into()));
        let published = format!("{HOST_V4}:5353");
        assert_eq!(ask_udp(&world.outside, &published), Ok(gateway.into()));
        assert!(ask_tcp(&world.host, "127.0.0.1:8081").is_ok());
        closing(|| networks.detach(&server.record.container)).unwrap();
        assert!(ask_tcp(&world.outside, &format!("{HOST_V4}:8080")).is_err());
        networks.detach(&member.record.container).unwrap();
        networks.stop(false).unwrap();
        // What the engine with rules had put into the chain that drops is gone as well.
        assert_eq!(run("nft list ruleset"), before);
    });
}

#[test]
fn one_family_can_go_without_rules() {
    with_world(|world| {
        let networks = start(|settings| {
            settings.ipv6 = true;
            settings.firewall_v6 = false;
        });
        let server = attach(&networks, &["8080:80"]);
        serve_tcp(&server.netns, "[::]:80");
        assert_eq!(
            ask_tcp(&world.outside, &format!("{HOST_V4}:8080")),
            Ok(ip(OUTSIDE_V4))
        );
        // By the relay: the bridge asks, and not who did.
        assert_eq!(
            ask_tcp(&world.outside, &format!("[{HOST_V6}]:8080")),
            Ok(networks.bridge().unwrap().gateway.into())
        );
        assert!(!networks.verify_and_reapply().unwrap());
        networks.stop(false).unwrap();
    });
}

#[test]
fn ports_of_the_default_bridge_alone_are_published_on_its_address() {
    with_world(|_| {
        let networks = start(|settings| settings.default_host_ip = Some(ip("127.0.0.1")));
        let one = attach(&networks, &["8080:80"]);
        let addresses = |ports: &[hoist_model::container::PortMapping]| {
            let all = ports.iter().map(|port| port.host_ip.to_string());
            all.collect::<Vec<_>>()
        };
        assert_eq!(addresses(&one.record.ports), ["127.0.0.1"]);
        let lan = networks.make(segment("lan")).unwrap();
        let other = join(&networks, &[&lan], &["8081:80"]);
        assert_eq!(addresses(&other.record.ports), ["0.0.0.0", "::"]);
        networks.stop(false).unwrap();
    });
}

#[test]
fn forwarding_is_turned_on_as_far_as_it_may_be() {
    with_world(|_| {
        let forwarding = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
        assert_eq!(forwarding(), "0\n");
        let networks = start(|settings| settings.ip_forward = false);
        let _one = attach(&networks, &[]);
        assert_eq!(forwarding(), "0\n");
        assert_eq!(
            networks.warnings(),
            ["WARNING: IPv4 forwarding is disabled"]
        );
        networks.stop(false).unwrap();
        let networks = start(|settings| settings.guard = false);
        let _one = attach(&networks, &[]);
        assert_eq!(forwarding(), "1\n");
        assert!(!run("nft list table inet hoist").contains("guard"));
        networks.stop(false).unwrap();
    });
}

#[test]
fn link_local_addresses_are_on_the_interface() {
    with_world(|_| {
        let networks = start(|_| {});
        let lan = networks.make(segment("lan")).unwrap();
        let all = vec![ip("169.254.7.7"), ip("fe80::7:7")];
        for network in [None, Some(lan.id.clone())] {
            let wish = PlaceRequest {
                network,
                link_local: all.clone(),
                ..PlaceRequest::default()
            };
            let one = networks
                .attach(&AttachRequest {
                    places: vec![wish],
                    ..request(&[])
                })
                .unwrap();
            let seen = inside(&one.netns, || run("ip -o addr show eth0"));
            assert!(seen.contains("169.254.7.7/16"), "{seen}");
            assert!(seen.contains("fe80::7:7/64"), "{seen}");
            let routes = inside(&one.netns, || run("ip route"));
            assert!(routes.starts_with("default via 172."), "{routes}");
        }
        networks.stop(false).unwrap();
    });
}
