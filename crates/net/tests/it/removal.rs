//! Networks that go, and what may be made in their place.

use hoist_model::network::Segment;

use crate::world::*;

#[test]
fn a_network_goes_at_once_and_its_bridge_soon() {
    with_world(|_| {
        let networks = start(|settings| settings.pool_size = 0);
        let named = || Segment {
            interface: "lan0".to_owned(),
            ..with_subnets("one", &["10.6.0.0/24", "fd00:6::/64"])
        };
        for _ in 0..3 {
            let one = networks.make(named()).unwrap();
            assert!(!one.adopted);
            let a = join(&networks, &[&one], &[]);
            assert_eq!(a.record.ipv4().unwrap().to_string(), "10.6.0.2");
            closing(|| networks.detach(&a.record.container)).unwrap();
            networks.unmake(&one.id).unwrap();
            eventually("it leads nowhere", || {
                let routes = run("ip route show table all") + &run("ip -6 route show table all");
                !routes.contains("10.6.0") && !routes.contains("fd00:6:")
            });
        }
        // The subnet alone, by another bridge, beside the first that may still be there.
        let other = networks
            .make(Segment {
                interface: String::new(),
                ..named()
            })
            .unwrap();
        let (a, b) = (
            join(&networks, &[&other], &[]),
            join(&networks, &[&other], &[]),
        );
        serve_tcp(&a.netns, "0.0.0.0:80");
        assert!(ask_tcp(&b.netns, "10.6.0.2:80").is_ok());
        eventually("the first is gone", || !run("ip -o link").contains("lan0"));
        networks.stop(false).unwrap();
        assert!(!run("ip -o link").contains("hoist0"));
    });
}

#[test]
fn a_bridge_with_a_name_of_ones_own_stays_the_engines_over_a_restart() {
    with_world(|_| {
        let networks = start(|_| {});
        let one = networks
            .make(Segment {
                interface: "lan0".to_owned(),
                ..segment("one")
            })
            .unwrap();
        closing(|| networks.stop(true)).unwrap();
        drop(networks);
        let networks = start(|_| {});
        assert!(!networks.make(one.clone()).unwrap().adopted);
        networks.unmake(&one.id).unwrap();
        eventually("it is gone", || !run("ip -o link").contains("lan0"));
        networks.stop(false).unwrap();
    });
}
