use std::collections::HashSet;
use std::sync::Arc;

use expect_test::{Expect, expect};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hoist_model::NetworkId;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn asker() -> ContainerId {
    ContainerId::from_bytes(&[7; 32])
}

/// Two networks: `web` and `db` are on both, `two.words` on the first.
fn names(change: impl FnOnce(&mut ResolverView)) -> Names {
    let mut names = Names::default();
    let mut view = ResolverView::default();
    for (number, network, last) in [(1, "front", 1), (2, "back.end", 2)] {
        let id = NetworkId::from_bytes(&[number; 32]);
        let mut table = NetworkNames::default();
        table.network = network.to_owned();
        let mut add = |names: &str, addresses: &[&str]| {
            let names: Vec<String> = names.split(' ').map(str::to_owned).collect();
            let addresses: Vec<IpAddr> = addresses.iter().map(|text| ip(text)).collect();
            table.add(&names, &addresses);
        };
        add("web-1 0123456789ab web", &[&format!("10.0.{last}.1")]);
        add("web-2 web", &[&format!("10.0.{last}.2"), "fd00::2"]);
        if last == 1 {
            add("two.words", &["10.0.1.3"]);
        } else {
            add("db_server", &["10.0.2.3"]);
        }
        names.networks.insert(id.clone(), Arc::new(table));
        view.networks.push(id);
    }
    view.links
        .insert("alias".to_owned(), "DB_server".to_owned());
    change(&mut view);
    names.containers.insert(asker(), Arc::new(view));
    names
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask(names: &Names, message: &Message, transport: Transport) -> Answer {
    let bytes = message.to_vec().unwrap();
    answer(&bytes, transport, names, &asker(), &mut Chance::new(1))
}

/// The response code and the answers, sorted, or who is asked.
fn told(names: &Names, name: &str, kind: RecordType) -> String {
    match ask(names, &query(name, kind), Transport::Udp) {
        Answer::Silence => "silence".to_owned(),
        Answer::Forward(asked, servers) => format!("{} → {servers:?}", asked.query.name()),
        Answer::Reply(bytes) => {
            let reply = Message::from_vec(&bytes).unwrap();
            assert_eq!(reply.metadata.id, 4711);
            assert!(reply.metadata.recursion_available && reply.metadata.recursion_desired);
            assert_eq!(reply.queries[0].name().to_string(), name);
            let mut answers: Vec<String> = reply
                .answers
                .iter()
                .map(|record| {
                    assert_eq!((record.ttl, record.name.to_string()), (0, name.to_owned()));
                    record.data.to_string()
                })
                .collect();
            answers.sort();
            format!("{} {answers:?}", reply.metadata.response_code)
        }
    }
}

fn check(lines: &[(&str, RecordType)], change: impl FnOnce(&mut ResolverView), expected: Expect) {
    let names = names(change);
    let told: String = lines
        .iter()
        .map(|(name, kind)| format!("{name} {kind}: {}\n", told(&names, name, *kind)))
        .collect();
    expected.assert_eq(&told);
}

#[test]
fn names_of_ours_are_answered_from_the_tables() {
    check(
        &[
            ("web.", RecordType::A),
            ("WEB.", RecordType::A),
            ("web-1.", RecordType::AAAA),
            ("web.", RecordType::AAAA),
            ("0123456789ab.", RecordType::A),
            ("db_server.", RecordType::A),
            ("two.words.", RecordType::A),
            ("two.words.front.", RecordType::A),
            ("web.back.end.", RecordType::A),
            ("web-1.Front.", RecordType::A),
            ("alias.", RecordType::A),
            ("web.", RecordType::MX),
        ],
        |_| {},
        expect![[r#"
            web. A: No Error ["10.0.1.1", "10.0.1.2"]
            WEB. A: No Error ["10.0.1.1", "10.0.1.2"]
            web-1. AAAA: No Error []
            web. AAAA: No Error ["fd00::2"]
            0123456789ab. A: No Error ["10.0.1.1"]
            db_server. A: No Error ["10.0.2.3"]
            two.words. A: No Error ["10.0.1.3"]
            two.words.front. A: No Error ["10.0.1.3"]
            web.back.end. A: No Error ["10.0.2.1", "10.0.2.2"]
            web-1.Front. A: No Error ["10.0.1.1"]
            alias. A: No Error ["10.0.2.3"]
            web. MX: No Error []
        "#]],
    );
}

#[test]
fn addresses_of_ours_have_names_and_others_are_asked_about() {
    check(
        &[
            ("2.1.0.10.in-addr.arpa.", RecordType::PTR),
            ("3.2.0.10.IN-ADDR.arpa.", RecordType::PTR),
            (
                "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.",
                RecordType::PTR,
            ),
            ("9.9.9.9.in-addr.arpa.", RecordType::PTR),
            ("1.0.10.in-addr.arpa.", RecordType::PTR),
            ("web.", RecordType::PTR),
        ],
        |_| {},
        expect![[r#"
            2.1.0.10.in-addr.arpa. PTR: No Error ["web-2.front."]
            3.2.0.10.IN-ADDR.arpa. PTR: No Error ["db_server.back.end."]
            2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. PTR: No Error ["web-2.front."]
            9.9.9.9.in-addr.arpa. PTR: 9.9.9.9.in-addr.arpa. → Host
            1.0.10.in-addr.arpa. PTR: 1.0.10.in-addr.arpa. → Host
            web. PTR: web. → Host
        "#]],
    );
}

#[test]
fn other_names_go_elsewhere_but_not_out_of_internal_networks() {
    let lines = [
        ("example.com.", RecordType::A),
        ("web.elsewhere.", RecordType::A),
        ("unknown.", RecordType::AAAA),
        ("web.", RecordType::SRV),
        ("web.", RecordType::TXT),
        (".", RecordType::NS),
    ];
    check(
        &lines,
        |_| {},
        expect![[r#"
            example.com. A: example.com. → Host
            web.elsewhere. A: web.elsewhere. → Host
            unknown. AAAA: unknown. → Host
            web. SRV: web. → Host
            web. TXT: web. → Host
            . NS: . → Host
        "#]],
    );
    check(
        &lines[..3],
        |view| view.internal = true,
        expect![[r#"
            example.com. A: Non-Existent Domain []
            web.elsewhere. A: Non-Existent Domain []
            unknown. AAAA: Non-Existent Domain []
        "#]],
    );
    // A server of the container's own is asked from inside, where nothing leads out.
    check(
        &lines[..1],
        |view| {
            view.internal = true;
            view.servers = vec![ip("10.0.1.9")];
        },
        expect![[r#"
            example.com. A: example.com. → Own([10.0.1.9])
        "#]],
    );
}

#[test]
fn the_order_of_addresses_is_by_chance() {
    let names = names(|_| {});
    let mut chance = Chance::new(3);
    let bytes = query("web.", RecordType::A).to_vec().unwrap();
    let firsts: HashSet<String> = (0..32)
        .map(|_| {
            let Answer::Reply(reply) =
                answer(&bytes, Transport::Udp, &names, &asker(), &mut chance)
            else {
                panic!("not answered");
            };
            Message::from_vec(&reply).unwrap().answers[0]
                .data
                .to_string()
        })
        .collect();
    assert_eq!(firsts.len(), 2);
}

#[test]
fn long_answers_are_cut_to_what_the_asker_takes() {
    let mut names = names(|_| {});
    for table in names.networks.values_mut() {
        let addresses: Vec<IpAddr> = (0..250)
            .map(|last| IpAddr::from([10, 9, 9, last]))
            .collect();
        Arc::make_mut(table).add(&["many".to_owned()], &addresses);
    }
    let size = |edns: Option<u16>, transport| {
        let mut message = query("many.", RecordType::A);
        if let Some(payload) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        let Answer::Reply(bytes) = ask(&names, &message, transport) else {
            panic!("not answered");
        };
        let reply = Message::from_vec(&bytes).unwrap();
        assert_eq!(reply.edns.is_some(), edns.is_some());
        (bytes.len(), reply.answers.len(), reply.metadata.truncation)
    };
    assert_eq!(size(None, Transport::Udp), (486, 29, true));
    let (bytes, answers, truncated) = size(Some(1232), Transport::Udp);
    assert!(
        bytes <= 1232 && answers > 70 && truncated,
        "{bytes} {answers}"
    );
    let (_, answers, truncated) = size(Some(4096 + 1024), Transport::Udp);
    assert_eq!((answers, truncated), (250, false));
    let (_, answers, truncated) = size(None, Transport::Tcp);
    assert_eq!((answers, truncated), (250, false));
}

#[test]
fn what_is_no_question_is_refused_or_ignored() {
    let names = names(|_| {});
    let code =
        |bytes: &[u8]| match answer(bytes, Transport::Udp, &names, &asker(), &mut Chance::new(1)) {
            Answer::Silence => None,
            Answer::Reply(reply) => Some(Message::from_vec(&reply).unwrap().metadata.response_code),
            Answer::Forward(..) => panic!("forwarded"),
        };
    let good = query("web.", RecordType::A).to_vec().unwrap();
    assert_eq!(code(&good), Some(ResponseCode::NoError));
    assert_eq!(code(&good[..11]), None);
    assert_eq!(code(&good[..14]), Some(ResponseCode::FormErr));
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    // A response, a notification, two questions, a label that leads to itself.
    assert_eq!(code(&changed(2, 0x81)), None);
    assert_eq!(code(&changed(2, 0x21)), Some(ResponseCode::NotImp));
    assert_eq!(code(&changed(5, 2)), Some(ResponseCode::FormErr));
    let mut looped = changed(12, 0xc0);
    looped[13] = 12;
    assert_eq!(code(&looped), Some(ResponseCode::FormErr));
    // Somebody whom the board does not know.
    let nobody = ContainerId::from_bytes(&[8; 32]);
    let stranger = answer(&good, Transport::Udp, &names, &nobody, &mut Chance::new(1));
    let Answer::Reply(reply) = stranger else {
        panic!("not answered");
    };
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn where_ndots_is_set_names_of_one_label_are_asked_of_nobody() {
    check(
        &[
            ("web.", RecordType::A),
            ("nosuch.", RecordType::A),
            ("nosuch.", RecordType::AAAA),
            ("nosuch.", RecordType::MX),
            ("nosuch.example.", RecordType::A),
        ],
        |view| view.ndots_set = true,
        expect![[r#"
            web. A: No Error ["10.0.1.1", "10.0.1.2"]
            nosuch. A: No Error []
            nosuch. AAAA: No Error []
            nosuch. MX: nosuch. → Host
            nosuch.example. A: nosuch.example. → Host
        "#]],
    );
}
