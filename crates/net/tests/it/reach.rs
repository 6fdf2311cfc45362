//! Who reaches whom, and from which address.

use std::net::IpAddr;

use crate::world::*;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_published_port_is_reached_from_everywhere_over_ipv4() {
    with_world(|world| {
        let networks = start(|_| {});
        let server = attach(&networks, &["8080:80", "5353:53/udp"]);
        let other = attach(&networks, &[]);
        serve_tcp(&server.netns, "0.0.0.0:80");
        serve_udp(&server.netns, "0.0.0.0:53");
        let gateway: IpAddr = networks.bridge().unwrap().gateway.into();
        let neighbour: IpAddr = other.record.ipv4().unwrap().into();
        let direct = server.record.ipv4().unwrap();

        // From whom, to which host address, seen by the server as.
        let direct_tcp = format!("{direct}:80");
        assert_eq!(ask_tcp(&other.netns, &direct_tcp), Ok(neighbour));
        assert_eq!(ask_tcp(&world.host, &direct_tcp), Ok(gateway));
        for (from, address, seen) in [
            (&world.outside, HOST_V4.to_owned(), ip(OUTSIDE_V4)),
            (&world.host, HOST_V4.to_owned(), ip(HOST_V4)),
            (&world.host, "127.0.0.1".to_owned(), gateway),
            (&world.host, gateway.to_string(), gateway),
            (&other.netns, HOST_V4.to_owned(), gateway),
            (&other.netns, gateway.to_string(), gateway),
            (&server.netns, HOST_V4.to_owned(), gateway),
            (&server.netns, gateway.to_string(), gateway),
        ] {
            assert_eq!(
                ask_tcp(from, &format!("{address}:8080")),
                Ok(seen),
                "{address}"
            );
            assert_eq!(
                ask_udp(from, &format!("{address}:5353")),
                Ok(seen),
                "{address}"
            );
        }
        networks.stop(false).unwrap();
    });
}

#[test]
fn containers_with_ipv6_are_reached_over_it_by_the_kernel() {
    with_world(|world| {
        let networks = start(|settings| settings.ipv6 = true);
        let server = attach(&networks, &["8080:80"]);
        let other = attach(&networks, &[]);
        serve_tcp(&server.netns, "[::]:80");
        let six = server.record.places[0].ipv6.unwrap();
        let neighbour: IpAddr = other.record.ipv6().unwrap().into();
        let gateway: IpAddr = six.gateway.unwrap().into();

        let direct = format!("[{}]:80", six.address);
        let published = format!("[{HOST_V6}]:8080");
        assert_eq!(ask_tcp(&other.netns, &direct), Ok(neighbour));
        assert_eq!(ask_tcp(&world.outside, &published), Ok(ip(OUTSIDE_V6)));
        assert_eq!(ask_tcp(&world.host, &published), Ok(ip(HOST_V6)));
        assert_eq!(ask_tcp(&other.netns, &published), Ok(gateway));
        assert_eq!(ask_tcp(&server.netns, &published), Ok(gateway));
        // Loopback cannot be translated: relayed, over IPv4.
        assert_eq!(
            ask_tcp(&world.host, "[::1]:8080"),
            Ok(networks.bridge().unwrap().gateway.into())
        );
        // Out.
        serve_tcp(&world.outside, "[::]:81");
        assert_eq!(
            ask_tcp(&other.netns, &format!("[{OUTSIDE_V6}]:81")),
            Ok(ip(HOST_V6))
        );
        networks.stop(false).unwrap();
        assert_eq!(
            std::fs::read_to_string("/proc/thread-self/net/if_inet6")
                .unwrap()
                .lines()
                .filter(|line| line.contains("hoist"))
                .count(),
            0
        );
    });
}

#[test]
fn a_container_reaches_the_outside_with_the_hosts_address() {
    with_world(|world| {
        let networks = start(|_| {});
        let client = attach(&networks, &[]);
        serve_tcp(&world.outside, "0.0.0.0:81");
        serve_udp(&world.outside, "0.0.0.0:81");
        let to = format!("{OUTSIDE_V4}:81");
        assert_eq!(ask_tcp(&client.netns, &to), Ok(ip(HOST_V4)));
        assert_eq!(ask_udp(&client.netns, &to), Ok(ip(HOST_V4)));
        networks.stop(false).unwrap();
    });
}

#[test]
fn a_port_published_on_one_address_is_not_reached_by_another() {
    with_world(|world| {
        let networks = start(|_| {});
        let server = attach(&networks, &["127.0.0.1:8080:80", "198.51.100.1:8081:80"]);
        serve_tcp(&server.netns, "0.0.0.0:80");
        assert!(ask_tcp(&world.host, "127.0.0.1:8080").is_ok());
        assert!(in_vain(&world.outside, &format!("{HOST_V4}:8080")));
        assert!(ask_tcp(&world.outside, &format!("{HOST_V4}:8081")).is_ok());
        assert!(in_vain(&world.host, "127.0.0.1:8081"));
        networks.stop(false).unwrap();
    });
}

#[test]
fn what_is_not_published_is_not_reached_from_outside() {
    with_world(|world| {
        let networks = start(|_| {});
        let server = attach(&networks, &["8080:80"]);
        serve_tcp(&server.netns, "0.0.0.0:80");
        serve_tcp(&server.netns, "0.0.0.0:90");
        let subnet = networks.bridge().unwrap().subnet;
        inside(&world.outside, || {
            run(&format!("ip route add {subnet} via {HOST_V4}"));
        });
        // Routed straight to the container: neither the open port nor the published one's own.
        for port in [80, 90] {
            let direct = format!("{}:{port}", server.record.ipv4().unwrap());
            assert!(in_vain(&world.outside, &direct));
            assert!(ask_tcp(&world.host, &direct).is_ok());
        }
        networks.stop(false).unwrap();
    });
}

#[test]
fn containers_kept_apart_meet_only_by_published_ports() {
    with_world(|world| {
        let networks = start(|settings| settings.inter_container = false);
        let server = attach(&networks, &["8080:80"]);
        let other = attach(&networks, &[]);
        serve_tcp(&server.netns, "0.0.0.0:80");
        let direct = format!("{}:80", server.record.ipv4().unwrap());
        assert!(in_vain(&other.netns, &direct));
        assert!(ask_tcp(&world.host, &direct).is_ok());
        assert!(ask_tcp(&other.netns, &format!("{HOST_V4}:8080")).is_ok());
        networks.stop(false).unwrap();
    });
}
