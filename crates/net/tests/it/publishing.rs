//! Every form of a published port, from wherever it can be asked: which reach the container, and which do not.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};

use hoist_model::container::PortRequest;
use hoist_model::network::Segment;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrV4, SocketType, ipproto, sockopt,
};

use crate::world::*;

/// One form: what is published, and whether it is reached at 127.0.0.1, the host's IPv4, its IPv6 and `::1`; the first
/// from the host alone, the second and third from everywhere, the last from the host alone.
const FORMS: [(&str, [bool; 4]); 5] = [
    ("", [true, true, true, true]),
    ("127.0.0.1:", [true, false, false, false]),
    ("198.51.100.1:", [false, true, false, false]),
    ("[2001:db8::1]:", [false, false, true, false]),
    ("[::1]:", [false, false, false, true]),
];

const TARGETS: [&str; 4] = ["127.0.0.1", HOST_V4, HOST_V6, "::1"];

#[test]
fn every_form_is_reached_where_it_says_and_nowhere_else() {
    with_world(|world| {
        let networks = start(|_| {});
        let both = networks
            .make(Segment {
                ipv6: true,
                ..segment("both")
            })
            .unwrap();
        let ports = |first: u16| -> Vec<String> {
            let of = |(port, (prefix, _)): (u16, &(&str, _))| {
                [
                    format!("{prefix}{port}:80"),
                    format!("{prefix}{port}:80/udp"),
                ]
            };
            (first..).zip(&FORMS).flat_map(of).collect()
        };
        let lists = [ports(8000), ports(8100)];
        let lists = lists.each_ref().map(|list| {
            let texts: Vec<&str> = list.iter().map(String::as_str).collect();
            texts
        });
        // One that has IPv4 alone, on the default bridge; one that has both, on a user's network.
        let containers = [
            attach(&networks, &lists[0]),
            join(&networks, &[&both], &lists[1]),
        ];
        let neighbours = [attach(&networks, &[]), join(&networks, &[&both], &[])];
        for container in &containers {
            serve_tcp(&container.netns, "[::]:80");
            serve_udp(&container.netns, "[::]:80");
        }
        let mut asked: Vec<(String, &OwnedFd, String, bool)> = Vec::new();
        for ((first, container), neighbour) in
            [8000, 8100].into_iter().zip(&containers).zip(&neighbours)
        {
            for (port, (prefix, reached)) in (first..).zip(&FORMS) {
                for (target, reached) in TARGETS.iter().zip(reached) {
                    let ip: IpAddr = target.parse().unwrap();
                    let from: &[(&str, &OwnedFd)] = if ip.is_loopback() {
                        &[("host", &world.host)]
                    } else {
                        &[
                            ("host", &world.host),
                            ("outside", &world.outside),
                            ("neighbour", &neighbour.netns),
                            ("itself", &container.netns),
                        ]
                    };
                    for (name, netns) in from {
                        // A container without IPv6 has no way to the host's IPv6 address.
                        let has_way = first == 8100
                            || ip.is_ipv4()
                            || !matches!(*name, "neighbour" | "itself");
                        let what = format!("{prefix}{port} from {name}");
                        let to = std::net::SocketAddr::new(ip, port).to_string();
                        asked.push((what, netns, to, *reached && has_way));
                    }
                }
            }
        }
        // In groups, so that no waiting queue is full.
        let mut wrong = Vec::new();
        for group in asked.chunks(32) {
            std::thread::scope(|scope| {
                let threads: Vec<_> = group
                    .iter()
                    .map(|(what, netns, to, wanted)| {
                        scope.spawn(move || {
                            let answers = [
                                ("tcp", try_tcp(netns, to, *wanted)),
                                ("udp", try_udp(netns, to, *wanted)),
                            ];
                            let unlike = answers
                                .into_iter()
                                .filter(|(_, got)| got.is_ok() != *wanted);
                            unlike
                                .map(|(by, got)| format!("{what} to {to} by {by}: {got:?}"))
                                .collect::<Vec<_>>()
                        })
                    })
                    .collect();
                for thread in threads {
                    wrong.extend(thread.join().unwrap());
                }
            });
        }
        assert_eq!(wrong, [] as [String; 0]);
        networks.stop(false).unwrap();
    });
}

#[test]
fn ranges_and_ports_of_the_engines_choice_lead_to_their_containers() {
    with_world(|world| {
        let networks = start(|_| {});
        let ranged = |first: u16, last: u16| {
            let mut asked = request(&[]);
            asked.ports = vec![PortRequest {
                host_ports: (first, last),
                ..port("0:80")
            }];
            let mut attachment = networks.attach(&asked)?;
            // No monitor keeps them.
            closing(|| attachment.reserving.clear());
            Ok::<_, hoist_net::NetError>(attachment)
        };
        let containers: Vec<_> = (0..3).map(|_| ranged(9100, 9102).unwrap()).collect();
        let full = ranged(9100, 9102).unwrap_err().to_string();
        assert!(full.starts_with("all ports are allocated"), "{full}");
        let chosen = ranged(0, 0).unwrap();
        for container in containers.iter().chain([&chosen]) {
            serve_tcp(&container.netns, "0.0.0.0:80");
            // Who has the port answers, and nobody else.
            serve_tcp(
                &container.netns,
                &format!("0.0.0.0:{}", container.record.ports[0].host_port),
            );
        }
        let ports: Vec<u16> = containers
            .iter()
            .map(|one| one.record.ports[0].host_port)
            .collect();
        assert_eq!(ports, [9100, 9101, 9102]);
        assert!(chosen.record.ports[0].host_port >= 49_153);
        for container in containers.iter().chain([&chosen]) {
            let own = container.record.ports[0].host_port;
            assert!(ask_tcp(&world.outside, &format!("{HOST_V4}:{own}")).is_ok());
        }
        // Free again at once, and given to the next.
        closing(|| networks.detach(&containers[1].record.container)).unwrap();
        assert!(in_vain(&world.outside, &format!("{HOST_V4}:9101")));
        let next = ranged(9100, 9102).unwrap();
        assert_eq!(next.record.ports[0].host_port, 9101);
        serve_tcp(&next.netns, "0.0.0.0:80");
        assert!(ask_tcp(&world.outside, &format!("{HOST_V4}:9101")).is_ok());
        networks.stop(false).unwrap();
    });
}

/// CRC-32C, without which connection tracking drops an SCTP packet (RFC 9260, appendix A).
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            let low = sum & 1;
            sum >>= 1;
            if low == 1 {
                sum ^= 0x82f6_3b78;
            }
        }
    }
    !sum
}

/// The first packet of an association: INIT, from port 4000.
fn init(port: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(4000u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend([0; 8]);
    // Type, flags, length; tag, window, streams out and in, first number.
    packet.extend([
        1, 0, 0, 20, 0, 0, 0, 7, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1,
    ]);
    let sum = checksum(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&sum);
    packet
}

#[test]
fn sctp_is_published_by_the_kernel() {
    with_world(|world| {
        let networks = start(|_| {});
        let server = attach(&networks, &["8080:80/sctp"]);
        let raw = |netns: &OwnedFd| {
            inside(netns.as_fd(), || {
                let socket =
                    rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::SCTP))
                        .unwrap();
                let patience = Some(std::time::Duration::from_secs(5));
                sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, patience).unwrap();
                socket
            })
        };
        let (hears, says) = (raw(&server.netns), raw(&world.outside));
        let host: Ipv4Addr = HOST_V4.parse().unwrap();
        let packet = init(8080);
        rustix::net::sendto(
            &says,
            &packet,
            SendFlags::empty(),
            &SocketAddrV4::new(host, 0),
        )
        .unwrap();
        let mut heard = [0; 256];
        let (length, _) = rustix::net::recv(&hears, &mut heard, RecvFlags::empty()).unwrap();
        let header = usize::from(heard[0] & 15) * 4;
        let (source, sctp) = (&heard[12..16], &heard[header..length]);
        let outside: Ipv4Addr = OUTSIDE_V4.parse().unwrap();
        assert_eq!(source, outside.octets());
        assert_eq!(sctp[2..4], 80u16.to_be_bytes());
        assert_eq!(sctp[12..], packet[12..]);
        networks.stop(false).unwrap();
    });
}
