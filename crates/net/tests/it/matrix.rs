//! Who reaches whom: from the outside, the host, the same network, another and the container itself.

use std::os::fd::OwnedFd;

use hoist_model::network::Segment;
use hoist_net::Attachment;

use crate::world::*;

#[test]
fn who_reaches_whom() {
    with_world(|world| {
        let networks = start(|_| {});
        let both = |name: &str| Segment {
            ipv6: true,
            ..segment(name)
        };
        let one = networks.make(both("one")).unwrap();
        let two = networks.make(both("two")).unwrap();
        let internal = networks
            .make(Segment {
                internal: true,
                ..both("internal")
            })
            .unwrap();
        let apart = networks
            .make(Segment {
                inter_container: false,
                ..both("apart")
            })
            .unwrap();
        // The outside knows the way to every network.
        inside(&world.outside, || {
            run(&format!("ip route add 172.16.0.0/12 via {HOST_V4}"));
            run(&format!("ip -6 route add fd68::/16 via {HOST_V6}"));
        });
        let serve = |netns: &OwnedFd| {
            for port in [80, 81] {
                serve_tcp(netns, &format!("[::]:{port}"));
            }
        };
        let on = |network: &Segment, ports: &[&str]| {
            let container = join(&networks, &[network], ports);
            serve(&container.netns);
            container
        };
        let published = on(&one, &["8080:80"]);
        let same = on(&one, &[]);
        let other = on(&two, &[]);
        let inner = on(&internal, &["8082:80"]);
        let inner_too = on(&internal, &[]);
        let lonely = on(&apart, &["8083:80"]);
        let lonely_too = on(&apart, &[]);
        serve_tcp(&world.host, "[::]:9000");
        serve_tcp(&world.outside, "[::]:9001");
        assert!(inner.record.ports.is_empty());

        let direct = |container: &Attachment, port: u16| {
            let place = &container.record.places[0];
            let v4 = place.ipv4.unwrap().address;
            let v6 = place.ipv6.unwrap().address;
            [format!("{v4}:{port}"), format!("[{v6}]:{port}")]
        };
        let host = |port: u16| [format!("{HOST_V4}:{port}"), format!("[{HOST_V6}]:{port}")];
        let outside = [format!("{OUTSIDE_V4}:9001"), format!("[{OUTSIDE_V6}]:9001")];
        let gateway = |network: &Segment| {
            let of = |v6| network.subnet(v6).unwrap().gateway.unwrap();
            [
                format!("{}:9000", of(false)),
                format!("[{}]:9000", of(true)),
            ]
        };
        let loopback = |port: u16| [format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
        let (yes, no) = ([true, true], [false, false]);
        // From where; to what, at which addresses of IPv4 and IPv6, and whether.
        let matrix = [
            (
                "outside",
                &world.outside,
                vec![
                    ("published", host(8080), yes),
                    ("unpublished", direct(&published, 81), no),
                    ("published, directly", direct(&published, 80), no),
                    ("internal", direct(&inner, 80), no),
                    ("apart, published", host(8083), yes),
                ],
            ),
            (
                "host",
                &world.host,
                vec![
                    ("published", host(8080), yes),
                    ("published, loopback", loopback(8080), yes),
                    ("unpublished", direct(&published, 81), yes),
                    ("internal", direct(&inner, 80), yes),
                ],
            ),
            (
                "same network",
                &same.netns,
                vec![
                    ("published", host(8080), yes),
                    ("unpublished", direct(&published, 81), yes),
                    ("outside", outside.clone(), yes),
                    ("host", gateway(&one), yes),
                ],
            ),
            (
                "other network",
                &other.netns,
                vec![
                    ("published", host(8080), yes),
                    ("published, directly", direct(&published, 80), no),
                    ("unpublished", direct(&published, 81), no),
                    ("internal", direct(&inner, 80), no),
                ],
            ),
            (
                "itself",
                &published.netns,
                vec![
                    ("published", host(8080), yes),
                    ("loopback", loopback(80), yes),
                ],
            ),
            (
                "internal",
                &inner_too.netns,
                vec![
                    ("internal", direct(&inner, 80), yes),
                    ("published", host(8080), no),
                    ("outside", outside.clone(), no),
                    ("host", gateway(&internal), no),
                    ("other network", direct(&other, 80), no),
                ],
            ),
            (
                "apart",
                &lonely_too.netns,
                vec![
                    ("neighbour", direct(&lonely, 80), no),
                    ("neighbour, published", host(8083), yes),
                    ("outside", outside, yes),
                ],
            ),
        ];
        let wrong: Vec<String> = std::thread::scope(|scope| {
            let asked: Vec<_> = matrix
                .iter()
                .flat_map(|(from, netns, cells)| {
                    let cells = cells.iter().flat_map(|(to, addresses, wanted)| {
                        addresses
                            .iter()
                            .zip(wanted)
                            .map(move |(address, wanted)| (to, address, *wanted))
                    });
                    cells.map(move |(to, address, wanted)| {
                        scope.spawn(move || {
                            let reached = try_tcp(netns, address, wanted).is_ok();
                            (reached != wanted)
                                .then(|| format!("{from} to {to}, {address}: {reached}"))
                        })
                    })
                })
                .collect();
            asked
                .into_iter()
                .filter_map(|one| one.join().unwrap())
                .collect()
        });
        assert_eq!(wrong, [] as [String; 0]);
        networks.stop(false).unwrap();
    });
}
