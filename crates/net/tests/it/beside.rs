//! Beside others: their ports, a second engine.

use hoist_net::{Instance, NetError};

use crate::world::*;

#[test]
fn a_taken_port_is_refused_in_dockers_words_and_free_again_after_detach() {
    with_world(|world| {
        let networks = start(|_| {});
        let first = attach(&networks, &["8080:80"]);
        let refused =
            |ports: &[&str]| closing(|| networks.attach(&request(ports)).unwrap_err().to_string());
        assert_eq!(
            refused(&["8080:81"]),
            "Bind for 0.0.0.0:8080 failed: port is already allocated"
        );
        assert_eq!(
            refused(&["7070:1", "127.0.0.1:8080:81"]),
            "Bind for 127.0.0.1:8080 failed: port is already allocated"
        );
        serve_tcp(&world.host, "0.0.0.0:9000");
        assert_eq!(
            refused(&["9000:80"]),
            "failed to bind host port 0.0.0.0:9000/tcp: address already in use"
        );
        assert_eq!(
            refused(&["192.0.2.77:80:80"]),
            "failed to bind host port 192.0.2.77:80/tcp: cannot assign requested address"
        );
        // A refused request leaves nothing: 7070 is free, and so is 8080 the moment its holder is off.
        closing(|| networks.detach(&first.record.container)).unwrap();
        let second = attach(&networks, &["7070:1", "8080:81"]);
        assert!(run("ss -Hltn sport = 8080").contains("0.0.0.0:8080"));
        assert!(matches!(
            networks.attach(&hoist_net::AttachRequest {
                container: second.record.container.clone(),
                ..request(&[])
            }),
            Err(NetError::AlreadyAttached(_))
        ));
        networks.stop(false).unwrap();
    });
}

#[test]
fn two_engines_share_a_host() {
    with_world(|world| {
        let one = start(|_| {});
        let two = start(|settings| settings.instance = Instance::of([0xab, 0xcd, 0xef]));
        assert_ne!(one.bridge().unwrap().subnet, two.bridge().unwrap().subnet);
        let a = attach(&one, &["8080:80"]);
        let b = attach(&two, &["8081:80"]);
        serve_tcp(&a.netns, "0.0.0.0:80");
        serve_tcp(&b.netns, "0.0.0.0:80");
        for port in [8080, 8081] {
            assert!(ask_tcp(&world.outside, &format!("{HOST_V4}:{port}")).is_ok());
        }
        // Each by the other's published port, none directly.
        assert!(ask_tcp(&a.netns, &format!("{HOST_V4}:8081")).is_ok());
        assert!(in_vain(
            &a.netns,
            &format!("{}:80", b.record.ipv4().unwrap())
        ));
        let refused = two.attach(&request(&["8080:80"])).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "failed to bind host port 0.0.0.0:8080/tcp: address already in use"
        );
        one.stop(false).unwrap();
        assert!(ask_tcp(&world.outside, &format!("{HOST_V4}:8081")).is_ok());
        two.stop(false).unwrap();
    });
}
