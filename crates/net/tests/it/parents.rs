//! Networks on an interface of the host: macvlans, ipvlans, VLANs.

use std::net::IpAddr;
use std::process::Command;

use hoist_model::network::{
    IpvlanFlag, IpvlanMode, MacvlanMode, PlaceRequest, Segment, SegmentKind, Subnet,
};

use crate::world::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Whether the host has an interface of this name.
fn has(name: &str) -> bool {
    run("ip -o link").contains(&format!(": {name}@"))
        || run("ip -o link").contains(&format!(": {name}:"))
}

/// Whether the kernel makes interfaces of a kind, on one of the host's.
fn kernel_has(kind: &str) -> bool {
    let mut words: Vec<&str> = "link add link up0 name probe type".split(' ').collect();
    words.push(kind);
    if kind == "vlan" {
        words.extend(["id", "9"]);
    }
    let has = output(Command::new("ip").args(words)).is_ok_and(|done| done.status.success());
    if has {
        run("ip link del probe");
    }
    has
}

#[test]
fn macvlans_reach_each_other_and_what_is_behind_their_parent() {
    with_world(|world| {
        let networks = start(|_| {});
        let lan = networks
            .make(Segment {
                kind: SegmentKind::Macvlan {
                    parent: "up0".to_owned(),
                    mode: MacvlanMode::Bridge,
                },
                subnets: vec![Subnet {
                    subnet: "198.51.100.0/24".parse().unwrap(),
                    gateway: Some(ip(OUTSIDE_V4)),
                    range: Some("198.51.100.128/25".parse().unwrap()),
                    auxiliary: [].into(),
                    configured: true,
                }],
                ..segment("lan")
            })
            .unwrap();
        let a = join(&networks, &[&lan], &[]);
        let b = join(&networks, &[&lan], &[]);
        serve_tcp(&a.netns, "0.0.0.0:80");
        serve_tcp(&world.outside, "0.0.0.0:81");
        let address = a.record.ipv4().unwrap();
        assert_eq!(address, std::net::Ipv4Addr::new(198, 51, 100, 128));
        let direct = format!("{address}:80");
        assert_eq!(ask_tcp(&b.netns, &direct), Ok(ip("198.51.100.129")));
        assert!(ask_tcp(&world.outside, &direct).is_ok());
        assert!(ask_tcp(&b.netns, &format!("{OUTSIDE_V4}:81")).is_ok());
        for gone in [a, b] {
            networks.detach(&gone.record.container).unwrap();
        }
        networks.unmake(&lan.id).unwrap();
        assert!(has("up0"));
        networks.stop(false).unwrap();
    });
}

/// An ipvlan on the way to the outside.
fn ipvlan(name: &str, mode: IpvlanMode) -> Segment {
    Segment {
        kind: SegmentKind::Ipvlan {
            parent: "up0".to_owned(),
            mode,
            flag: IpvlanFlag::Bridge,
        },
        ..with_subnets(name, &["198.51.100.128/25", "2001:db8::8:0/112"])
    }
}

#[test]
fn an_ipvlan_is_served_where_the_kernel_has_it_and_refused_where_not() {
    with_world(|world| {
        let networks = start(|_| {});
        let made = networks.make(ipvlan("lan", IpvlanMode::L3));
        if !kernel_has("ipvlan") {
            let refused = made.unwrap_err();
            assert_eq!(refused.class(), hoist_model::ErrorClass::NotImplemented);
            assert_eq!(
                refused.to_string(),
                "this kernel has no ipvlan interfaces: its module ipvlan is not there"
            );
            // Nothing of it stays: its subnet is anybody's.
            let other = with_subnets("other", &["198.51.100.128/25"]);
            networks.make(other).unwrap();
            networks.stop(false).unwrap();
            return;
        }
        let lan = made.unwrap();
        assert!(lan.subnets.iter().all(|subnet| subnet.gateway.is_none()));
        let second = networks.make(ipvlan("second", IpvlanMode::L2));
        assert!(second.is_err_and(|error| {
            error
                .to_string()
                .ends_with("is already using parent interface up0")
        }));
        let a = join(&networks, &[&lan], &[]);
        let b = join(&networks, &[&lan], &[]);
        let routes = inside(&a.netns, || run("ip route") + &run("ip -6 route"));
        assert_eq!(routes.matches("default dev eth0").count(), 2, "{routes}");
        for bound in ["0.0.0.0:80", "[::]:81"] {
            serve_tcp(&a.netns, bound);
        }
        let (v4, v6) = (a.record.ipv4().unwrap(), a.record.ipv6().unwrap());
        assert!(ask_tcp(&b.netns, &format!("{v4}:80")).is_ok());
        assert!(ask_tcp(&b.netns, &format!("[{v6}]:81")).is_ok());
        // The outside has to know the way: nobody answers for addresses of an ipvlan that routes.
        inside(&world.outside, || {
            run(&format!("ip route add 198.51.100.128/25 via {HOST_V4}"));
        });
        assert!(ask_tcp(&world.outside, &format!("{v4}:80")).is_ok());
        let mut named = request(&[]);
        named.places = vec![PlaceRequest {
            mac: Some([2, 0, 0, 0, 0, 9]),
            ..place(&lan)
        }];
        assert_eq!(
            networks.attach(&named).unwrap_err().to_string(),
            "ipvlan interfaces do not support custom mac address assignment"
        );
        for gone in [a, b] {
            networks.detach(&gone.record.container).unwrap();
        }
        networks.unmake(&lan.id).unwrap();
        let lan = networks.make(ipvlan("lan", IpvlanMode::L2)).unwrap();
        let a = join(&networks, &[&lan], &[]);
        serve_tcp(&a.netns, "0.0.0.0:80");
        let there = format!("{}:80", a.record.ipv4().unwrap());
        assert!(ask_tcp(&join(&networks, &[&lan], &[]).netns, &there).is_ok());
        networks.stop(false).unwrap();
        assert!(has("up0"));
    });
}

#[test]
fn who_has_a_parent_for_itself_has_it_alone() {
    with_world(|_| {
        let networks = start(|_| {});
        let of = |name: &str, subnet: &str, mode| Segment {
            kind: SegmentKind::Macvlan {
                parent: "up0".to_owned(),
                mode,
            },
            ..with_subnets(name, &[subnet])
        };
        let one = networks.make(of("one", "10.6.0.0/24", MacvlanMode::Bridge));
        let one = one.unwrap();
        let two = of("two", "10.6.1.0/24", MacvlanMode::Passthru);
        assert_eq!(
            networks.make(two.clone()).unwrap_err().to_string(),
            format!(
                "cannot use mode passthru, macvlan network {} is already using parent interface up0",
                one.id.as_str()
            )
        );
        networks.unmake(&one.id).unwrap();
        let two = networks.make(two).unwrap();
        let again = of("one", "10.6.0.0/24", MacvlanMode::Bridge);
        assert_eq!(
            networks.make(again).unwrap_err().to_string(),
            format!(
                "macvlan network {} is already using parent interface up0 in mode passthru",
                two.id.as_str()
            )
        );
        networks.stop(false).unwrap();
    });
}

#[test]
fn a_vlan_goes_with_the_last_network_on_it_and_is_refused_where_the_kernel_has_none() {
    with_world(|_| {
        let networks = start(|_| {});
        let of = |name: &str, subnet: &str| Segment {
            kind: SegmentKind::Macvlan {
                parent: "up0.7".to_owned(),
                mode: MacvlanMode::Bridge,
            },
            ..with_subnets(name, &[subnet])
        };
        if !kernel_has("vlan") {
            let error = networks.make(of("one", "10.6.0.0/24")).unwrap_err();
            assert_eq!(
                error.to_string(),
                "this kernel has no vlan interfaces: its module 8021q is not there"
            );
            assert!(!has("up0.7"));
            networks.stop(false).unwrap();
            return;
        }
        let one = networks.make(of("one", "10.6.0.0/24")).unwrap();
        let two = networks.make(of("two", "10.6.1.0/24")).unwrap();
        let there = || has("up0.7");
        networks.unmake(&one.id).unwrap();
        // What goes in the background is gone when somebody wants its name again.
        let three = networks.make(of("three", "10.6.2.0/24")).unwrap();
        assert!(there());
        join(&networks, &[&two], &[]);
        networks.stop(true).unwrap();
        drop(networks);
        let networks = start(|_| {});
        for network in [&two, &three] {
            networks.make(network.clone()).unwrap();
        }
        for network in [two, three] {
            assert!(there());
            networks.unmake(&network.id).unwrap();
        }
        eventually("it is gone", || !there());
        networks.stop(false).unwrap();
    });
}
