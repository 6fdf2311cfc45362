//! What is refused: graphs and frontends of clients, and what a session may not send.

use std::collections::HashMap;

use bollard_buildkit_proto::fsutil::types::{Packet, Stat, packet::PacketType};
use bollard_buildkit_proto::moby::buildkit::v1::{Exporter, SolveRequest};
use bollard_buildkit_proto::pb;

use super::{DIRECTORY, SYMLINK, session, solve};
use crate::session::{Directory, Session, control, file};
use crate::support::start;

#[tokio::test]
async fn graphs_and_frontends_of_clients_are_refused_by_name() {
    let Some(server) = start().await else { return };
    let session = session(&server, "FROM busybox\n", Vec::new()).await;
    let operation = prost::Message::encode_to_vec(&pb::Op {
        op: Some(pb::op::Op::Source(pb::SourceOp {
            identifier: "git://example.com/x".to_owned(),
            ..pb::SourceOp::default()
        })),
        ..pb::Op::default()
    });
    let graph = |def| SolveRequest {
        frontend: String::new(),
        definition: Some(pb::Definition {
            def,
            ..pb::Definition::default()
        }),
        ..solve("x", &session)
    };
    let with = |frontend: &str, attribute: (&str, &str)| SolveRequest {
        frontend: frontend.to_owned(),
        frontend_attrs: HashMap::from([(attribute.0.to_owned(), attribute.1.to_owned())]),
        ..solve("x", &session)
    };
    let cases = [
        (
            graph(vec![operation]),
            "(git://example.com/x) is not implemented",
        ),
        (graph(vec![vec![0xff; 8]]), "failed to parse llb proto op"),
        (graph(vec![Vec::new(); 20_000]), "LLB of 20000 operations"),
        (
            with("other.v0", ("a", "b")),
            "the frontend \"other.v0\" is not",
        ),
        (
            with("gateway.v0", ("source", "evil/frontend")),
            "the frontend of the image \"evil/frontend\" is not",
        ),
        (
            with("dockerfile.v0", ("platform", "linux/amd64,linux/arm64")),
            "several platforms at once is not",
        ),
        (
            with("dockerfile.v0", ("shm-size", "x")),
            "\"x\" is no number",
        ),
        (
            with("dockerfile.v0", ("ulimit", "nofile")),
            "invalid ulimit",
        ),
        (
            with("dockerfile.v0", ("add-hosts", "x")),
            "invalid additional host",
        ),
        (
            with("dockerfile.v0", ("force-network-mode", "x")),
            "invalid network mode",
        ),
    ];
    for (request, said) in cases {
        let status = control(&server).await.solve(request).await.unwrap_err();
        assert!(status.message().contains(said), "{said}: {status}");
    }
    let exporter = SolveRequest {
        exporters: vec![Exporter {
            r#type: "vapour".to_owned(),
            attrs: HashMap::new(),
        }],
        ..solve("y", &session)
    };
    let status = control(&server).await.solve(exporter).await.unwrap_err();
    assert!(
        status.message().contains("the exporter \"vapour\""),
        "{status}"
    );
}

/// Every way in which a session can lie about its files ends its build, with a reason, and nothing else.
#[tokio::test]
async fn what_a_session_may_not_send() {
    let Some(server) = start().await else { return };
    let stat = |path: &str, mode: u32| Stat {
        path: path.to_owned(),
        mode,
        ..Stat::default()
    };
    let told = |stats: Vec<Stat>| {
        let stats = stats.into_iter().map(Some).chain([None]);
        stats
            .map(|stat| Packet {
                r#type: PacketType::PacketStat.into(),
                stat,
                ..Packet::default()
            })
            .collect::<Vec<_>>()
    };
    let packet = |kind: PacketType, id: u32, data: &[u8]| Packet {
        r#type: kind.into(),
        id,
        data: data.to_vec(),
        ..Packet::default()
    };
    let one = |data: Vec<Packet>| [told(vec![stat("a", 0o644)]), data].concat();
    let linked = |mut stat: Stat, target: &str| {
        stat.linkname = target.to_owned();
        stat
    };
    let normal = "its path is not relative and normal";
    let cases: Vec<(Vec<Packet>, &str)> = vec![
        (told(vec![stat("../a", 0o644)]), normal),
        (told(vec![stat("/etc/passwd", 0o644)]), normal),
        (told(vec![stat("a/../../b", 0o644)]), normal),
        (told(vec![stat("", 0o644)]), normal),
        (told(vec![stat("a//b", 0o644)]), normal),
        (told(vec![stat("a\0b", 0o644)]), "zero byte"),
        (
            told(vec![stat(&"n".repeat(256), 0o644)]),
            "its name is too long",
        ),
        (
            told(vec![stat(&"n/".repeat(3000), 0o644)]),
            "its path is too long",
        ),
        (
            told(vec![stat("b", 0o644), stat("a", 0o644)]),
            "out of order",
        ),
        (
            told(vec![stat("a", 0o644), stat("a", 0o644)]),
            "out of order",
        ),
        (told(vec![stat("a/b", 0o644)]), "did not come before it"),
        (
            told(vec![stat("a", 0o644), stat("a/b", 0o644)]),
            "did not come before it",
        ),
        (
            told(vec![
                linked(stat("a", SYMLINK | 0o777), "/etc"),
                stat("a/b", 0o644),
            ]),
            "did not come before it",
        ),
        (
            told(vec![linked(stat("a", 0o644), "/etc/shadow")]),
            "another name of a file that did not come before it",
        ),
        (
            told(vec![
                stat("a", DIRECTORY | 0o755),
                linked(stat("b", 0o644), "a"),
            ]),
            "another name of a file that did not come before it",
        ),
        (told(vec![stat("a", SYMLINK)]), "a link to nowhere"),
        (told(vec![stat("a", DIRECTORY | SYMLINK)]), "of no kind"),
        (
            told(vec![Stat {
                size: -1,
                ..stat("a", 0o644)
            }]),
            "a number is negative",
        ),
        (
            told(vec![Stat {
                size: i64::MAX,
                ..stat("a", 0o644)
            }]),
            "more than a context may have",
        ),
        (
            one(vec![packet(PacketType::PacketData, 7, b"x")]),
            "contents came that nobody asked for",
        ),
        (
            one(vec![packet(PacketType::PacketFin, 0, b"")]),
            "something else than contents came",
        ),
        (
            one(vec![packet(PacketType::PacketData, 0, &[0; 3 << 20])]),
            "far larger than it was told to be",
        ),
        (one(Vec::new()), "it ended before its contents did"),
        (Vec::new(), "it ended before its files did"),
        (
            vec![packet(PacketType::PacketData, 0, b"x")],
            "something else than a file was told of",
        ),
        (
            vec![packet(PacketType::PacketErr, 0, b"no disk")],
            "the client could not read its files: no disk",
        ),
    ];
    for (number, (packets, said)) in cases.into_iter().enumerate() {
        let dockerfile = Directory::of(vec![file("Dockerfile", "FROM scratch\nCOPY . /\n")]);
        let session = Session::start(&server, dockerfile, Directory::saying(packets)).await;
        let status = control(&server)
            .await
            .solve(solve(&number.to_string(), &session))
            .await;
        let status = status.expect_err(said);
        assert!(status.message().contains(said), "{said}: {status}");
        let path = format!("/images/built:{number}/json");
        assert_eq!(server.get(&path).await.0, 404, "{said}");
    }
}
