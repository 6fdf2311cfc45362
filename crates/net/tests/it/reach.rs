//! Who reaches whom, and from which address.

use crate::world::*;

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_published_port_is_reached_from_everywhere_over_ipv4() {
    with_world(|world| {
        let networks = start(|_| {});
        let server = attach(&networks, &["8080:80"]);
        let other = attach(&networks, &[]);
        serve_tcp(&server.netns, "0.0.0.0:80");
        let gateway = networks.bridge().gateway;
        let direct = format!("{}:80", server.record.ipv4);
        let published = format!("{HOST_V4}:8080");
        println!("{}", run("nft list ruleset"));

        assert_eq!(ask_tcp(&other.netns, &direct), Ok(other.record.ipv4.into()));
        assert_eq!(ask_tcp(&world.outside, &published), Ok(ip(OUTSIDE_V4)));
        assert_eq!(ask_tcp(&world.host, &direct), Ok(gateway.into()));
        assert_eq!(ask_tcp(&world.host, &published), Ok(ip(HOST_V4)));
        assert_eq!(ask_tcp(&world.host, "127.0.0.1:8080"), Ok(gateway.into()));
        for from in [&other, &server] {
            assert_eq!(ask_tcp(&from.netns, &published), Ok(gateway.into()));
            assert_eq!(
                ask_tcp(&from.netns, &format!("{gateway}:8080")),
                Ok(gateway.into())
            );
        }
        networks.stop(false).unwrap();
    });
}
