//! From start to stop: what is made, found again, repaired, and left behind (nothing).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use hoist_model::network::PlaceRequest;
use hoist_net::{AttachRequest, Networks, Settings};
use hoist_sys::netns;

use crate::world::*;

fn links() -> BTreeSet<String> {
    run("ip -o link")
        .lines()
        .filter_map(|line| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned()))
        .collect()
}

#[test]
fn stopping_leaves_nothing() {
    with_world(|_| {
        let before = links();
        let networks = start(|_| {});
        let kept = attach(&networks, &["8080:80", "0:53/udp"]);
        let gone = attach(&networks, &[]);
        networks.detach(&gone.record.container).unwrap();
        let _lonely = networks.isolated().unwrap();
        assert!(links().contains("hoist0"));
        closing(|| {
            drop(kept);
            networks.stop(false).unwrap();
        });
        assert_eq!(links(), before);
        assert_eq!(run("nft list ruleset"), "");
        assert_eq!(run("ss -Hltun"), "");
    });
}

#[test]
fn a_thousand_cycles_leave_no_link_address_or_element_behind() {
    with_world(|_| {
        let networks = start(|settings| {
            settings.bridge_address = Some("10.9.0.1/24".parse().unwrap());
        });
        let before = links();
        // Four times as many as the subnet has addresses.
        for _ in 0..1_000 {
            // An address is free again only once its veth is gone, which takes the kernel a moment.
            let one = RefCell::new(None);
            eventually("a container can be attached", || {
                *one.borrow_mut() = networks.attach(&request(&["8080:80"])).ok();
                one.borrow().is_some()
            });
            let one = one.into_inner().expect("eventually waited for it");
            closing(|| {
                networks.detach(&one.record.container).unwrap();
                drop(one);
            });
        }
        eventually("the veths are gone", || links().len() <= before.len() + 64);
        assert!(!run("nft list map inet hoist published4_any").contains("elements"));
        let all: Vec<_> = (0..100).map(|_| attach(&networks, &[])).collect();
        let distinct: BTreeSet<_> = all.iter().map(|one| one.record.ipv4().unwrap()).collect();
        assert_eq!(distinct.len(), all.len());
        networks.stop(false).unwrap();
    });
}

#[test]
fn a_flushed_table_comes_back_by_itself() {
    with_world(|world| {
        let networks = start(|_| {});
        let server = attach(&networks, &["8080:80"]);
        serve_tcp(&server.netns, "0.0.0.0:80");
        let published = format!("{HOST_V4}:8080");
        for damage in [
            "nft flush ruleset",
            "nft flush table inet hoist",
            "nft flush map inet hoist published4_any",
            "nft delete table inet hoist",
        ] {
            run(damage);
            eventually(damage, || {
                run("nft list ruleset").contains("8080")
                    && run("nft list ruleset").contains("masquerade")
            });
            assert!(ask_tcp(&world.outside, &published).is_ok(), "{damage}");
        }
        assert!(!networks.verify_and_reapply().unwrap());
        // Published and unpublished while it is away.
        run("nft flush ruleset");
        closing(|| networks.detach(&server.record.container)).unwrap();
        run("nft flush ruleset");
        let again = attach(&networks, &["8080:80"]);
        serve_tcp(&again.netns, "0.0.0.0:80");
        assert!(ask_tcp(&world.outside, &published).is_ok());
        networks.stop(false).unwrap();
    });
}

#[test]
fn containers_outlive_the_engine_and_are_found_again() {
    with_world(|world| {
        let networks = start(|_| {});
        let server = attach(&networks, &["8080:80"]);
        let lost = attach(&networks, &["8081:80"]);
        serve_tcp(&server.netns, "0.0.0.0:80");
        let published = format!("{HOST_V4}:8080");
        let mut talk = inside(&world.outside, || TcpStream::connect(&published).unwrap());
        talk.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = BufReader::new(talk.try_clone().unwrap());
        let mut line = String::new();
        heard.read_line(&mut line).unwrap();
        let mut still_talks = || {
            writeln!(talk, "still there").unwrap();
            line.clear();
            heard.read_line(&mut line).unwrap();
            assert_eq!(line, "still there\n");
        };

        // The engine dies without a word; a namespace that nothing lives in dies with it.
        let record = serde_json::to_string(&server.record).unwrap();
        closing(|| {
            networks.stop(true).unwrap();
            drop(networks);
            drop(lost);
        });
        still_talks();
        assert!(ask_tcp(&world.outside, &published).is_ok());

        let networks =
            Networks::start(Settings::new(hoist_net::Instance::default_engine())).unwrap();
        still_talks();
        let record: hoist_net::AttachmentRecord = serde_json::from_str(&record).unwrap();
        networks
            .restore(
                record.clone(),
                &request(&[]),
                server.netns.try_clone().unwrap(),
                Vec::new(),
            )
            .unwrap();
        networks.sweep().unwrap();
        still_talks();
        assert!(ask_tcp(&world.outside, &published).is_ok());
        assert!(ask_tcp(&world.host, "[::1]:8080").is_ok());
        assert_eq!(networks.attachment(&record.container), Some(record.clone()));
        // What nobody restored is gone; what was restored is not given to others.
        assert!(!run("nft list ruleset").contains("8081"));
        assert_eq!(
            networks
                .attach(&request(&["8080:80"]))
                .unwrap_err()
                .to_string(),
            "Bind for 0.0.0.0:8080 failed: port is already allocated"
        );
        let others: Vec<_> = (0..20).map(|_| attach(&networks, &[])).collect();
        assert!(others.iter().all(|one| one.record.ipv4() != record.ipv4()));
        networks.stop(false).unwrap();
    });
}

#[test]
fn the_table_is_one_that_nft_can_save_and_load() {
    with_world(|_| {
        let networks = start(|settings| settings.ipv6 = true);
        let _one = attach(
            &networks,
            &["8080:80", "127.0.0.1:53:53/udp", "[2001:db8::1]:81:81"],
        );
        let saved = std::env::temp_dir().join(format!("hoist-nft-{}", std::process::id()));
        std::fs::write(&saved, run("nft list ruleset")).unwrap();
        run(&format!("nft -c -f {}", saved.display()));
        std::fs::remove_file(saved).unwrap();
        networks.stop(false).unwrap();
    });
}

#[test]
fn a_namespace_is_as_docker_makes_it() {
    with_world(|_| {
        let networks = start(|_| {});
        let one = attach(&networks, &[]);
        let facts = inside(&one.netns, || {
            let sysctl =
                |name: &str| std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap();
            (
                run("ip -o addr"),
                run("ip route"),
                sysctl("ipv4/ip_unprivileged_port_start"),
                sysctl("ipv4/ping_group_range"),
            )
        });
        assert!(facts.0.contains("127.0.0.1/8") && facts.0.contains("::1/128"));
        assert!(
            facts.0.contains("172.18.0.2/16 brd 172.18.255.255"),
            "{}",
            facts.0
        );
        assert!(!facts.0.contains("fe80"), "{}", facts.0);
        assert!(facts.1.contains("default via 172.18.0.1 dev eth0"));
        assert_eq!(
            (facts.2.as_str(), facts.3.as_str()),
            ("0\n", "0\t2147483647\n")
        );
        assert_eq!(one.record.places[0].mac.to_string(), "02:42:ac:12:00:02");
        let lonely = networks.isolated().unwrap();
        let seen = inside(&lonely, || run("ip -o addr"));
        assert!(
            seen.contains("127.0.0.1/8") && !seen.contains("eth0"),
            "{seen}"
        );
        networks.stop(false).unwrap();
    });
}

#[test]
fn an_address_and_a_mac_of_ones_own_are_honoured_or_refused() {
    with_world(|_| {
        let networks = start(|settings| {
            settings.bridge_address = Some("10.9.0.1/24".parse().unwrap());
        });
        let wish = AttachRequest {
            places: vec![PlaceRequest {
                ipv4: Some([10, 9, 0, 77].into()),
                mac: Some([2, 0, 0, 0, 0, 9]),
                ..PlaceRequest::default()
            }],
            ..request(&[])
        };
        let one = networks.attach(&wish).unwrap();
        let seen = inside(&one.netns, || run("ip addr show eth0"));
        assert!(
            seen.contains("10.9.0.77/24") && seen.contains("02:00:00:00:00:09"),
            "{seen}"
        );
        let refused = |ip: [u8; 4]| {
            let wish = AttachRequest {
                places: vec![PlaceRequest {
                    ipv4: Some(ip.into()),
                    ..PlaceRequest::default()
                }],
                ..request(&[])
            };
            networks.attach(&wish).unwrap_err().to_string()
        };
        assert_eq!(refused([10, 9, 0, 77]), "Address already in use");
        assert_eq!(
            refused([10, 8, 0, 1]),
            "no configured subnet contains IP address 10.8.0.1"
        );
        networks.stop(false).unwrap();
    });
}

#[test]
fn a_killed_engines_leftovers_are_swept() {
    with_world(|_| {
        // A veth of this instance that a killed engine's container left, its other end still in a namespace.
        let before = links();
        let networks = start(|_| {});
        let left = attach(&networks, &["8080:80"]);
        networks.stop(true).unwrap();
        assert!(links().contains(&left.record.places[0].host_interface));
        let networks = start(|settings| settings.pool_size = 0);
        assert!(!links().contains(&left.record.places[0].host_interface));
        assert!(!run("nft list ruleset").contains("8080"));
        // Its bridge was taken over, not made anew.
        assert_eq!(
            networks.bridge().unwrap().subnet,
            "172.18.0.0/16".parse().unwrap()
        );
        networks.stop(false).unwrap();
        assert_eq!(links(), before);
    });
}

#[test]
fn a_namespace_that_something_else_keeps_loses_its_veth() {
    with_world(|_| {
        let networks = start(|settings| settings.pool_size = 0);
        let one = attach(&networks, &[]);
        let kept = networks.netns(&one.record.container).unwrap();
        networks.detach(&one.record.container).unwrap();
        eventually("the veth is taken away", || {
            !links().contains(&one.record.places[0].host_interface)
        });
        netns::enter(&kept).unwrap();
        assert!(!run("ip -o link").contains("eth0"));
    });
}
