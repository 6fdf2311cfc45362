//! Names inside containers: 127.0.0.11 asked by datagram and on connections, over what tables, servers and engines do.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hoist_model::network::PlaceRequest;
use hoist_model::{ContainerId, NetworkId};
use hoist_net::{Attachment, Instance, Networks, ResolverView, Settings};
use hoist_testkit::TemporaryDirectory;

use crate::world::*;

const OURS: &str = "127.0.0.11:53";
/// Less than it waits.
const PACE: Duration = Duration::from_secs(4);

/// How a question is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Udp,
    Tcp,
}

const BOTH: [By; 2] = [By::Udp, By::Tcp];

fn network() -> NetworkId {
    NetworkId::from_bytes(&[1; 32])
}

/// Gives a container's address names on the network that all are on, and has its questions answered.
fn name(networks: &Networks, attachment: &Attachment, words: &[&str], view: ResolverView) {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let record = &attachment.record;
    networks.names().change(|names| {
        let table = Arc::make_mut(names.networks.entry(network()).or_default());
        table.network = "lan".to_owned();
        table.remove(&[record.ipv4().unwrap().into()]);
        table.add(&words, &[record.ipv4().unwrap().into()]);
        let view = ResolverView {
            networks: vec![network()],
            ..view
        };
        let id: &ContainerId = &record.container;
        names.containers.insert(id.clone(), Arc::new(view));
    });
}

/// A container that is served; what a monitor would keep is kept in its attachment.
fn served(networks: &Networks, words: &[&str], view: ResolverView) -> Attachment {
    let mut attachment = attach(networks, &[]);
    name(networks, &attachment, words, view);
    let kept = networks.serve_names(&attachment.record.container).unwrap();
    attachment.reserving.extend(kept);
    attachment
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask_with(netns: impl AsFd, by: By, to: &str, message: &Message) -> Message {
    let to: SocketAddr = to.parse().unwrap();
    let bytes = message.to_vec().unwrap();
    let answer = inside(netns, || match by {
        By::Udp => {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            // Connected: the answer must come from where the question went.
            socket.connect(to).unwrap();
            socket.send(&bytes).unwrap();
            let mut buffer = vec![0; 65_535];
            let length = socket.recv(&mut buffer).unwrap();
            buffer.truncate(length);
            buffer
        }
        By::Tcp => {
            let mut stream = TcpStream::connect(to).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            send_framed(&mut stream, &bytes);
            receive_framed(&mut stream).unwrap()
        }
    });
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.metadata.id, 4711);
    answer
}

fn send_framed(stream: &mut TcpStream, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, bytes].concat()).unwrap();
}

fn receive_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn ask(netns: impl AsFd, by: By, name: &str) -> Message {
    ask_with(netns, by, OURS, &question(name, RecordType::A))
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    let address = |record: &Record| match &record.data {
        RData::A(address) => Some(IpAddr::from(address.0)),
        RData::AAAA(address) => Some(IpAddr::from(address.0)),
        _ => None,
    };
    let mut addresses: Vec<IpAddr> = message.answers.iter().filter_map(address).collect();
    addresses.sort();
    addresses
}

/// A name server in a namespace: `many.` has 200 addresses, `silent.` none that it would tell, `failing.` is too much
/// for it, every other name has the address of who asks. Counts the questions.
fn serve(netns: impl AsFd, address: &str) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let (socket, listener) = inside(netns, || {
        (
            UdpSocket::bind(address).unwrap(),
            TcpListener::bind(address).unwrap(),
        )
    });
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            counted.fetch_add(1, Ordering::Relaxed);
            if let Some(answer) = reply(&buffer[..length], from, By::Udp) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || {
                let from = stream.peer_addr().unwrap();
                while let Ok(asked) = receive_framed(&mut stream) {
                    counted.fetch_add(1, Ordering::Relaxed);
                    if let Some(answer) = reply(&asked, from, By::Tcp) {
                        send_framed(&mut stream, &answer);
                    }
                }
            });
        }
    });
    count
}

fn reply(bytes: &[u8], from: SocketAddr, by: By) -> Option<Vec<u8>> {
    let asked = Message::from_vec(bytes).unwrap();
    let mut reply = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
    let name = asked.queries[0].name().clone();
    reply.add_query(asked.queries[0].clone());
    let mut add = |address: [u8; 4]| {
        let data = RData::A(A(address.into()));
        reply.add_answer(Record::from_rdata(name.clone(), 60, data));
    };
    match name.to_string().to_lowercase().as_str() {
        "silent." => return None,
        "failing." => reply.metadata.response_code = ResponseCode::ServFail,
        "many." if by == By::Udp => reply.metadata.truncation = true,
        "many." => (0..200).for_each(|last| add([192, 0, 2, last])),
        _ => match from.ip() {
            IpAddr::V4(address) => add(address.octets()),
            IpAddr::V6(_) => return None,
        },
    }
    Some(reply.to_vec().unwrap())
}

/// An engine whose host has these name servers.
fn start_with(directory: &TemporaryDirectory, servers: &[&str]) -> Networks {
    let file = directory.join("resolv.conf");
    let lines: String = servers
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    std::fs::write(&file, lines).unwrap();
    start(|settings| settings.resolv_conf = file)
}

/// What the next engine of such a host is started with.
fn next_settings(directory: &TemporaryDirectory) -> Settings {
    let mut settings = Settings::new(Instance::default_engine());
    settings.resolv_conf = directory.join("resolv.conf");
    settings
}

#[test]
fn containers_find_each_other_by_name_and_changes_count_at_once() {
    with_world(|_| {
        let networks = start(|_| {});
        let web = served(&networks, &["web", "www"], ResolverView::default());
        let db = served(&networks, &["db"], ResolverView::default());
        let of = |one: &Attachment| vec![IpAddr::from(one.record.ipv4().unwrap())];
        for by in BOTH {
            assert_eq!(addresses(&ask(&web.netns, by, "db.")), of(&db), "{by:?}");
            assert_eq!(
                addresses(&ask(&db.netns, by, "WWW.lan.")),
                of(&web),
                "{by:?}"
            );
            let [a, b, c, d] = web.record.ipv4().unwrap().octets();
            let reverse = format!("{d}.{c}.{b}.{a}.in-addr.arpa.");
            let told = ask_with(&db.netns, by, OURS, &question(&reverse, RecordType::PTR));
            assert_eq!(told.answers[0].data.to_string(), "web.lan.", "{by:?}");
        }
        // Renamed: the very next question is answered so.
        for name_now in ["one", "two", "three"] {
            name(&networks, &db, &[name_now], ResolverView::default());
            let told = ask(&web.netns, By::Udp, &format!("{name_now}."));
            assert_eq!(addresses(&told), of(&db));
        }
        // A server of the container's own has port 53 for itself.
        let own = serve(&web.netns, "0.0.0.0:53");
        let address = format!("{}:53", web.record.ipv4().unwrap());
        for by in BOTH {
            let told = ask_with(&db.netns, by, &address, &question("x.", RecordType::A));
            assert_eq!(addresses(&told), of(&db), "{by:?}");
            assert_eq!(addresses(&ask(&web.netns, by, "www.")), of(&web), "{by:?}");
        }
        assert_eq!(own.load(Ordering::Relaxed), 2);
        // Nothing tracks connections for it.
        let rules = inside(&web.netns, || run("nft list ruleset"));
        assert!(
            rules.contains("table ip hoist_dns") && !rules.contains("nat"),
            "{rules}"
        );
        // Gone with its container.
        networks.detach(&db.record.container).unwrap();
        let asked = inside(&db.netns, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(200)))
                .unwrap();
            socket.connect(OURS).unwrap();
            let bytes = question("web.", RecordType::A).to_vec().unwrap();
            socket.send(&bytes).and_then(|_| socket.recv(&mut [0; 512]))
        });
        assert!(asked.is_err(), "{asked:?}");
        networks.stop(false).unwrap();
    });
}

#[test]
fn other_names_are_asked_of_the_hosts_servers_or_the_containers_own() {
    with_world(|world| {
        let directory = TemporaryDirectory::new("names");
        let host = serve(&world.outside, &format!("{OUTSIDE_V4}:53"));
        let networks = start_with(&directory, &[OUTSIDE_V4]);
        let server = attach(&networks, &[]);
        let own = serve(&server.netns, "0.0.0.0:53");
        let plain = served(&networks, &["plain"], ResolverView::default());
        let with_own = |internal| ResolverView {
            servers: vec![server.record.ipv4().unwrap().into()],
            internal,
            ..ResolverView::default()
        };
        let special = served(&networks, &["special"], with_own(false));
        let locked = served(&networks, &["locked"], with_own(true));
        let view = ResolverView {
            internal: true,
            ..ResolverView::default()
        };
        let internal = served(&networks, &["internal"], view);
        for by in BOTH {
            let told = |one: &Attachment| ask(&one.netns, by, "example.com.");
            // The host's are asked from the host, which is whom they see.
            assert_eq!(
                addresses(&told(&plain)),
                [HOST_V4.parse::<IpAddr>().unwrap()]
            );
            for one in [&special, &locked] {
                assert_eq!(
                    addresses(&told(one)),
                    [IpAddr::from(one.record.ipv4().unwrap())]
                );
            }
            let nothing = told(&internal);
            assert_eq!(nothing.metadata.response_code, ResponseCode::NXDomain);
            assert_eq!(addresses(&ask(&internal.netns, by, "plain.")).len(), 1);
        }
        // One that is slow is asked again.
        assert!(host.load(Ordering::Relaxed) >= 2);
        assert!(own.load(Ordering::Relaxed) >= 4);
        // A long answer: cut by datagram, whole on a connection.
        let cut = ask(&plain.netns, By::Udp, "many.");
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        let whole = ask(&plain.netns, By::Tcp, "many.");
        assert_eq!(
            (whole.metadata.truncation, whole.answers.len()),
            (false, 200)
        );
        networks.stop(false).unwrap();
    });
}

#[test]
fn a_server_that_fails_or_is_silent_is_followed_by_the_next() {
    with_world(|world| {
        let directory = TemporaryDirectory::new("names");
        inside(&world.outside, || {
            for last in ["3", "4"] {
                run(&format!("ip addr add 198.51.100.{last}/24 dev up1"));
            }
        });
        // The first is not there, the second is and never answers, the third does.
        let _silent = inside(&world.outside, || {
            UdpSocket::bind("198.51.100.3:53").unwrap()
        });
        let good = serve(&world.outside, "198.51.100.4:53");
        let servers = [OUTSIDE_V4, "198.51.100.3", "198.51.100.4"];
        let networks = start_with(&directory, &servers);
        let one = served(&networks, &["one"], ResolverView::default());
        for by in BOTH {
            let told = ask(&one.netns, by, "example.com.");
            assert_eq!(addresses(&told).len(), 1, "{by:?} {told:?}");
            let told = ask(&one.netns, by, "failing.");
            assert_eq!(
                told.metadata.response_code,
                ResponseCode::ServFail,
                "{by:?}"
            );
        }
        assert!(good.load(Ordering::Relaxed) >= 4);
        // Nobody answers: it is said while the asker still waits.
        let told = ask(&one.netns, By::Udp, "silent.");
        assert_eq!(told.metadata.response_code, ResponseCode::ServFail);
        // No server at all: at once.
        std::fs::write(directory.join("resolv.conf"), "").unwrap();
        eventually("the host's file is read again", || {
            let told = ask(&one.netns, By::Udp, "silent.");
            told.metadata.response_code == ResponseCode::ServFail
        });
        networks.stop(false).unwrap();
    });
}

#[test]
fn who_asks_much_gets_no_more_than_its_share_and_harms_nobody() {
    with_world(|world| {
        let directory = TemporaryDirectory::new("names");
        let silent = inside(&world.outside, || {
            UdpSocket::bind(format!("{OUTSIDE_V4}:53")).unwrap()
        });
        let networks = start_with(&directory, &[OUTSIDE_V4]);
        let greedy = served(&networks, &["greedy"], ResolverView::default());
        let other = served(&networks, &["other"], ResolverView::default());
        // More than one's share, each asked twice: what is on its way is not forwarded again. Judged where the machine
        // was quick enough for all to be on their way at once.
        let failed = loop {
            let began = Instant::now();
            let failed = ask_much(&greedy, &other);
            if began.elapsed() < PACE {
                break failed;
            }
        };
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
        silent.set_nonblocking(true).unwrap();
        let mut buffer = [0; 512];
        let mut forwarded = std::collections::HashSet::new();
        while let Ok(length) = silent.recv(&mut buffer) {
            let asked = Message::from_vec(&buffer[..length]).unwrap();
            forwarded.insert(asked.queries[0].name().to_string());
        }
        assert!(!forwarded.is_empty() && !forwarded.contains("n300."));
        // Connections: those opened last are served, however many are left open.
        let mut streams = inside(&greedy.netns, || {
            let connect = |_| TcpStream::connect(OURS).unwrap();
            (0..200).map(connect).collect::<Vec<_>>()
        });
        let last = streams.last_mut().unwrap();
        last.set_read_timeout(Some(PATIENCE)).unwrap();
        let asked = question("other.", RecordType::A).to_vec().unwrap();
        // Two at once, and a first half: answered in order, and the rest waited for.
        send_framed(last, &asked);
        let mut two = Vec::new();
        for _ in 0..2 {
            two.extend(u16::try_from(asked.len()).unwrap().to_be_bytes());
            two.extend(&asked);
        }
        last.write_all(&two[..two.len() - 5]).unwrap();
        for _ in 0..2 {
            let told = Message::from_vec(&receive_framed(last).unwrap()).unwrap();
            assert_eq!(
                addresses(&told),
                [IpAddr::from(other.record.ipv4().unwrap())]
            );
        }
        last.write_all(&two[two.len() - 5..]).unwrap();
        last.shutdown(std::net::Shutdown::Write).unwrap();
        let told = Message::from_vec(&receive_framed(last).unwrap()).unwrap();
        assert_eq!(
            addresses(&told),
            [IpAddr::from(other.record.ipv4().unwrap())]
        );
        // And the end is answered by the end.
        assert!(receive_framed(last).is_err());
        networks.stop(false).unwrap();
    });
}

/// Asks for 256 names twice, and for one more, which is answered; another container is served meanwhile.
fn ask_much(greedy: &Attachment, other: &Attachment) -> Message {
    inside(&greedy.netns, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(OURS).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let send = |id: u16| {
            let mut message = question(&format!("n{id}."), RecordType::A);
            message.metadata.id = id;
            socket.send(&message.to_vec().unwrap()).unwrap();
        };
        for id in (0..256).chain(0..256) {
            send(id);
            // Not more than the socket holds: who is answered knows that all before is taken.
            if id % 32 == 31 {
                assert_eq!(addresses(&ask(&other.netns, By::Udp, "greedy.")).len(), 1);
                assert_eq!(addresses(&ask(&greedy.netns, By::Udp, "other.")).len(), 1);
            }
        }
        send(300);
        let mut buffer = [0; 512];
        loop {
            let length = socket.recv(&mut buffer).unwrap();
            let told = Message::from_vec(&buffer[..length]).unwrap();
            if told.metadata.id == 300 {
                return told;
            }
        }
    })
}

#[test]
fn what_is_asked_while_no_engine_runs_is_answered_by_the_next() {
    with_world(|_| {
        let networks = start(|_| {});
        let web = served(&networks, &["web"], ResolverView::default());
        let db = served(&networks, &["db"], ResolverView::default());
        networks.stop(true).unwrap();
        drop(networks);

        let socket = inside(&web.netns, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(OURS).unwrap();
            let bytes = question("db.", RecordType::A).to_vec().unwrap();
            socket.send(&bytes).unwrap();
            socket
        });
        let mut stream = inside(&db.netns, || {
            let mut stream = TcpStream::connect(OURS).unwrap();
            let bytes = question("web.", RecordType::A).to_vec().unwrap();
            send_framed(&mut stream, &bytes);
            stream
        });
        let networks = Networks::start(Settings::new(Instance::default_engine())).unwrap();
        let (web_ip, db_ip) = (web.record.ipv4().unwrap(), db.record.ipv4().unwrap());
        for (one, word) in [(web, "web"), (db, "db")] {
            name(&networks, &one, &[word], ResolverView::default());
            networks
                .restore(one.record, &request(&[]), one.netns, one.reserving)
                .unwrap();
        }
        networks.sweep().unwrap();
        let mut buffer = [0; 512];
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        let told = Message::from_vec(&buffer[..length]).unwrap();
        assert_eq!(addresses(&told), [IpAddr::from(db_ip)]);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let told = Message::from_vec(&receive_framed(&mut stream).unwrap()).unwrap();
        assert_eq!(addresses(&told), [IpAddr::from(web_ip)]);
        networks.stop(false).unwrap();
    });
}

#[test]
fn who_joins_while_it_runs_is_served_by_each_engine_and_still_after_it_left() {
    with_world(|world| {
        let directory = TemporaryDirectory::new("names");
        let _host = serve(&world.outside, &format!("{OUTSIDE_V4}:53"));
        let networks = start_with(&directory, &[OUTSIDE_V4]);
        let lan = networks.make(segment("lan")).unwrap();
        let wish = PlaceRequest {
            names: vec!["web".to_owned()],
            ..place(&lan)
        };
        let mut asked = request(&[]);
        asked.places = vec![wish];
        let web = networks.attach(&asked).unwrap();
        let here = [IpAddr::from(web.record.ipv4().unwrap())];
        let late = attach(&networks, &[]);
        let id = late.record.container.clone();
        let record = networks.connect(&id, &place(&lan), &[]).unwrap();
        for by in BOTH {
            assert_eq!(addresses(&ask(&late.netns, by, "web.")), here, "{by:?}");
        }
        networks.stop(true).unwrap();
        drop(networks);

        let networks = Networks::start(next_settings(&directory)).unwrap();
        networks.make(lan.clone()).unwrap();
        let netns = web.netns.try_clone().unwrap();
        networks
            .restore(web.record, &asked, netns, web.reserving)
            .unwrap();
        let mut both = request(&[]);
        both.places = vec![PlaceRequest::default(), place(&lan)];
        let netns = late.netns.try_clone().unwrap();
        // Nobody kept sockets of a server that came later.
        networks.restore(record, &both, netns, Vec::new()).unwrap();
        networks.sweep().unwrap();
        for by in BOTH {
            assert_eq!(addresses(&ask(&late.netns, by, "web.")), here, "{by:?}");
        }
        networks.disconnect(&id, Some(&lan.id)).unwrap();
        for by in BOTH {
            let told = ask(&late.netns, by, "web.");
            assert_eq!(addresses(&told), [HOST_V4.parse::<IpAddr>().unwrap()]);
        }
        networks.stop(false).unwrap();
    });
}
