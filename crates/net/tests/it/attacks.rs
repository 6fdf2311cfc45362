//! What must fail closed: loopback from outside (CVE-2020-8558), and forwarding for strangers.

use hoist_sys::netns;

use crate::world::*;

/// Makes a namespace send what is for 127.0.0.1 out by a device.
fn aim_loopback_at(device: &str, via: &str) {
    std::fs::write(
        format!("/proc/sys/net/ipv4/conf/{device}/route_localnet"),
        "1",
    )
    .unwrap();
    std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").unwrap();
    run("ip route del table local local 127.0.0.1 dev lo");
    run("ip route del table local local 127.0.0.0/8 dev lo");
    run(&format!("ip route add 127.0.0.1/32 via {via} dev {device}"));
}

#[test]
fn loopback_ports_of_the_host_are_not_reached_from_container_or_outside() {
    with_world(|world| {
        let networks = start(|_| {});
        let server = attach(&networks, &["127.0.0.1:8080:80"]);
        let attacker = attach(&networks, &[]);
        serve_tcp(&server.netns, "0.0.0.0:80");
        serve_tcp(&world.host, "127.0.0.1:9000");
        assert!(ask_tcp(&world.host, "127.0.0.1:8080").is_ok());
        assert!(ask_tcp(&world.host, "127.0.0.1:9000").is_ok());
        let gateway = networks.bridge().unwrap().gateway.to_string();
        for (from, device, via) in [
            (&attacker.netns, "eth0", gateway.as_str()),
            (&world.outside, "up1", HOST_V4),
        ] {
            inside(from, || aim_loopback_at(device, via));
            for port in [8080, 9000] {
                let port = format!("127.0.0.1:{port}");
                assert!(in_vain(from, &port), "{device} {port}");
            }
        }
        networks.stop(false).unwrap();
    });
}

#[test]
fn turning_forwarding_on_does_not_make_the_host_a_router_for_strangers() {
    with_world(|world| {
        let stranger = netns::create().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&stranger);
        run("ip link add side0 type veth peer name side1");
        run(&format!(
            "ip link set side1 netns /proc/{}/fd/{fd}",
            std::process::id()
        ));
        run("ip addr add 203.0.113.1/24 dev side0");
        run("ip link set side0 up");
        inside(&stranger, || {
            run("ip addr add 203.0.113.2/24 dev side1");
            run("ip link set side1 up");
            run("ip route add default via 203.0.113.1");
        });
        inside(&world.outside, || {
            run(&format!("ip route add 203.0.113.0/24 via {HOST_V4}"));
        });
        serve_tcp(&stranger, "0.0.0.0:80");
        let networks = start(|_| {});
        let forwarding = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
        assert_eq!(forwarding(), "0\n", "before it is needed");
        let client = attach(&networks, &[]);
        assert_eq!(forwarding(), "1\n");
        assert!(ask_tcp(&client.netns, "203.0.113.2:80").is_ok());
        assert!(in_vain(&world.outside, "203.0.113.2:80"));
        // A later life knows that it was us.
        networks.detach(&client.record.container).unwrap();
        networks.stop(true).unwrap();
        let networks = start(|_| {});
        assert!(in_vain(&world.outside, "203.0.113.2:80"));
        networks.stop(false).unwrap();
        assert_eq!(forwarding(), "0\n", "put back");
    });
}
