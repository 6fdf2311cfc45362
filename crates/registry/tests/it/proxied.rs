//! Registries that are asked by a proxy.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use hoist_registry::{Client, Proxies, Settings};

use crate::fake::{Fake, honest, reply};
use crate::support::{House, image, settings};

/// A proxy for one registry, by whatever name it is asked for; answers the heads that it was sent.
fn proxy(registry: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || forward(stream, registry, &seen));
        }
    });
    (address, heads)
}

/// Reads one head at a time; after `CONNECT` passes on what comes, else asks the registry for the path alone.
fn forward(mut asker: TcpStream, registry: SocketAddr, seen: &Mutex<Vec<String>>) {
    let mut server = TcpStream::connect(registry).unwrap();
    let mut back = server.try_clone().unwrap();
    let mut to = asker.try_clone().unwrap();
    let answers = std::thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    while let Some(head) = head_of(&mut asker) {
        seen.lock().unwrap().push(head.clone());
        if head.starts_with("CONNECT ") {
            asker
                .write_all(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n")
                .unwrap();
            let _ = std::io::copy(&mut asker, &mut server);
            break;
        }
        let path = head.replacen("http://registry.example:5000", "", 1);
        if server.write_all(path.as_bytes()).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = answers.join();
}

fn head_of(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    String::from_utf8(head).ok()
}

fn client(proxies: Proxies) -> Client {
    Client::new(Settings {
        insecure: vec!["registry.example:5000".parse().unwrap()],
        proxies,
        ..settings()
    })
}

#[tokio::test]
async fn tls_goes_through_the_proxy_and_plain_requests_name_the_registry() {
    let blobs = image().blobs();
    let fake = Fake::start(move |asked| honest(&blobs, asked));
    let (address, heads) = proxy(fake.address);
    let told = format!("http://ann:secret@{address}").parse().unwrap();
    let client = client(Proxies {
        http: Some(told),
        https: Some(format!("http://{address}").parse().unwrap()),
        exceptions: "other.example".to_owned(),
    });
    // TLS is tried first, with a server that has none behind the tunnel.
    let house = House::new();
    let pulled = house.pull(&client, "registry.example:5000/a", None).await;
    pulled.unwrap();
    let heads = heads.lock().unwrap();
    let tunnel = &heads[0];
    assert!(
        tunnel.starts_with("CONNECT registry.example:5000 HTTP/1.1\r\n"),
        "{tunnel}"
    );
    assert!(!tunnel.to_lowercase().contains("authorization"), "{tunnel}");
    let plain: Vec<_> = heads
        .iter()
        .filter(|head| head.starts_with("GET "))
        .collect();
    assert!(plain.len() >= 4, "{heads:?}");
    for head in plain {
        assert!(
            head.starts_with("GET http://registry.example:5000/v2/"),
            "{head}"
        );
        let head = head.to_lowercase();
        assert!(head.contains("host: registry.example:5000"), "{head}");
        assert!(
            head.contains("proxy-authorization: basic yw5uonnly3jlda=="),
            "{head}"
        );
    }
    // The registry itself never hears of it but by what the proxy passes on here.
    assert!(
        fake.asked()
            .iter()
            .all(|asked| asked.target.starts_with("/v2/"))
    );
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_and_this_machine_is_asked_without_one() {
    let refusing = Fake::start(|_| reply("407 Proxy Authentication Required", &[], b""));
    let blobs = image().blobs();
    let fake = Fake::start(move |asked| honest(&blobs, asked));
    let told = |text: String| Some(text.parse().unwrap());
    let client = Client::new(Settings {
        proxies: Proxies {
            http: told(format!("http://{}", refusing.address)),
            https: told(format!("http://{}", refusing.address)),
            exceptions: String::new(),
        },
        ..settings()
    });
    let house = House::new();
    let error = house.pull(&client, "registry.example/a", None).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains(&format!(
            "proxy {} does not connect to registry.example:443: 407 Proxy Authentication Required",
            refusing.address
        )),
        "{error}"
    );
    let asked = refusing.asked().len();
    let here = format!("{}/a", fake.address);
    house.pull(&client, &here, None).await.unwrap();
    assert_eq!(refusing.asked().len(), asked);
}
