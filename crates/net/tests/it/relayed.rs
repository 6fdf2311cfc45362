//! What the kernel cannot translate: loopback IPv6, and IPv6 to containers without it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use hoist_net::{Networks, Settings};

use crate::world::*;

#[test]
fn ipv6_askers_reach_a_container_that_has_ipv4_alone() {
    with_world(|world| {
        let networks = start(|_| {});
        let server = attach(&networks, &["8080:80", "5353:53/udp"]);
        serve_tcp(&server.netns, "0.0.0.0:80");
        serve_udp(&server.netns, "0.0.0.0:53");
        let seen = Ok(networks.bridge().unwrap().gateway.into());
        for (from, address) in [
            (&world.outside, HOST_V6),
            (&world.host, "::1"),
            (&world.host, HOST_V6),
        ] {
            assert_eq!(
                ask_tcp(from, &format!("[{address}]:8080")),
                seen,
                "{address}"
            );
            assert_eq!(
                ask_udp(from, &format!("[{address}]:5353")),
                seen,
                "{address}"
            );
        }
        networks.stop(false).unwrap();
    });
}

#[test]
fn much_data_passes_both_ways_past_a_slow_reader_and_the_end_is_kept() {
    const AMOUNT: usize = 24 << 20;
    with_world(|world| {
        let networks = start(|_| {});
        let server = attach(&networks, &["8080:80"]);
        serve_tcp(&server.netns, "0.0.0.0:80");
        let stream = inside(&world.host, || TcpStream::connect("[::1]:8080").unwrap());
        let mut writer = stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            let piece: Vec<u8> = (0..65_536u32).map(|n| n.to_le_bytes()[0]).collect();
            for _ in 0..AMOUNT / piece.len() {
                writer.write_all(&piece).unwrap();
            }
            writer.shutdown(Shutdown::Write).unwrap();
        });
        // Long enough for every buffer on the way to fill.
        std::thread::sleep(Duration::from_millis(200));
        let mut reader = stream;
        reader.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).unwrap();
        sender.join().unwrap();
        let body = answer.splitn(2, |byte| *byte == b'\n').nth(1).unwrap();
        assert_eq!(body.len(), AMOUNT);
        assert!(
            body.iter()
                .enumerate()
                .all(|(at, byte)| *byte == at.to_le_bytes()[0])
        );
        networks.stop(false).unwrap();
    });
}

#[test]
fn a_server_that_is_not_there_ends_the_connection() {
    with_world(|world| {
        let networks = start(|_| {});
        let _server = attach(&networks, &["8080:80"]);
        assert!(in_vain(&world.host, "[::1]:8080"));
        networks.stop(false).unwrap();
    });
}

#[test]
fn connections_end_with_their_container() {
    with_world(|world| {
        let networks = start(|_| {});
        let server = attach(&networks, &["8080:80"]);
        serve_tcp(&server.netns, "0.0.0.0:80");
        let mut stream = inside(&world.host, || TcpStream::connect("[::1]:8080").unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        networks.detach(&server.record.container).unwrap();
        let mut rest = Vec::new();
        // End or reset, but not silence.
        let ended = stream.read_to_end(&mut rest);
        assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock));
        networks.stop(false).unwrap();
    });
}

#[test]
fn a_connection_made_while_no_engine_runs_is_served_by_the_next() {
    with_world(|world| {
        let networks = start(|_| {});
        let server = networks
            .attach(&request(&["8080:80", "5353:53/udp"]))
            .unwrap();
        serve_tcp(&server.netns, "0.0.0.0:80");
        serve_udp(&server.netns, "0.0.0.0:53");
        let gateway = networks.bridge().unwrap().gateway;
        networks.stop(true).unwrap();
        drop(networks);

        let waiting = inside(&world.host, || TcpStream::connect("[::1]:8080").unwrap());
        let networks =
            Networks::start(Settings::new(hoist_net::Instance::default_engine())).unwrap();
        networks
            .restore(
                server.record.clone(),
                &request(&[]),
                server.netns,
                server.reserving,
            )
            .unwrap();
        networks.sweep().unwrap();
        waiting.shutdown(Shutdown::Write).unwrap();
        waiting.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        (&waiting).read_to_string(&mut answer).unwrap();
        assert_eq!(answer.trim(), gateway.to_string());
        assert!(ask_udp(&world.host, "[::1]:5353").is_ok());
        // The port is free once the container is gone: the duplicates were taken, not kept beside.
        closing(|| networks.detach(&server.record.container)).unwrap();
        assert!(!run("ss -Hltun").contains("8080"));
        networks.stop(false).unwrap();
    });
}
