//! The server and the client over TLS, each with the other's idea of who may.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use hoist_http::client::{Client, ClientError, Deadlines, Endpoint, Proxy, ProxyProtocol, empty};
use hoist_http::tls::{ClientTrust, TlsError, client_config, server_config};
use hoist_http::{Listener, ServeOptions, StaticNames};
use http::{HeaderValue, Request};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let files = Self { directory };
        std::fs::write(files.path("ca"), authority.pem()).unwrap();
        for name in ["localhost", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(files.path(name), certificate.pem()).unwrap();
            let key_file = files.path(&format!("{name}-key"));
            std::fs::write(key_file, key.serialize_pem()).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.pem"))
    }

    fn serve(&self, client_authority: bool) -> (u16, CancellationToken) {
        let authority = self.path("ca");
        let tls = server_config(
            &self.path("localhost"),
            &self.path("localhost-key"),
            client_authority.then_some(authority.as_path()),
        )
        .unwrap();
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap(), Some(tls)).unwrap();
        let port = listener
            .address()
            .rsplit(':')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(hoist_http::serve(
            vec![listener],
            Router::new().route("/", get(|| async { "hello" })),
            ServeOptions {
                hijackable: |_, _| false,
                grace: Duration::from_secs(1),
                head_deadline: hoist_http::HEAD_DEADLINE,
            },
            stop.clone(),
        ));
        (port, stop)
    }
}

async fn ask(port: u16, host: &str, trust: &ClientTrust) -> Result<String, ClientError> {
    ask_by(port, host, Some(trust), None).await
}

async fn ask_by(
    port: u16,
    host: &str,
    trust: Option<&ClientTrust>,
    proxy: Option<Proxy>,
) -> Result<String, ClientError> {
    let deadlines = Deadlines {
        connect: Duration::from_secs(30),
        head: Some(Duration::from_secs(30)),
        idle: Some(Duration::from_secs(30)),
    };
    let endpoint = Endpoint::Tcp {
        host: host.to_owned(),
        port,
        tls: trust.map(|trust| client_config(trust).unwrap()),
        proxy,
    };
    let client = Client::new(endpoint, Arc::new(StaticNames::default()), deadlines);
    let mut response = client
        .send(Request::get("/").body(empty()).unwrap())
        .await?;
    let bytes = response.body_mut().collect_within(99).await?.unwrap();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn a_known_authority_vouches_for_a_name() {
    let files = Files::new();
    let (port, stop) = files.serve(false);
    let trust = ClientTrust {
        authorities: vec![files.path("ca")],
        ..ClientTrust::default()
    };
    assert_eq!(ask(port, "localhost", &trust).await.unwrap(), "hello");
    let wrong_name = ask(port, "127.0.0.1", &trust).await.unwrap_err();
    assert!(
        matches!(wrong_name, ClientError::Handshake { .. }),
        "{wrong_name:?}"
    );
    for nobody in [
        ClientTrust::default(),
        ClientTrust {
            system_roots: true,
            ..ClientTrust::default()
        },
    ] {
        let unknown = ask(port, "localhost", &nobody).await.unwrap_err();
        assert!(
            matches!(unknown, ClientError::Handshake { .. }),
            "{unknown:?}"
        );
    }
    let any = ClientTrust {
        insecure_skip_verify: true,
        ..ClientTrust::default()
    };
    assert_eq!(ask(port, "127.0.0.1", &any).await.unwrap(), "hello");
    stop.cancel();
}

#[tokio::test]
async fn a_server_may_ask_who_its_client_is() {
    let files = Files::new();
    let (port, stop) = files.serve(true);
    let mut trust = ClientTrust {
        authorities: vec![files.path("ca")],
        ..ClientTrust::default()
    };
    assert!(ask(port, "localhost", &trust).await.is_err());
    trust.identity = Some((files.path("client"), files.path("client-key")));
    assert_eq!(ask(port, "localhost", &trust).await.unwrap(), "hello");
    stop.cancel();
}

/// Speaks TLS, reads one `CONNECT` and passes on to a port of this machine; answers its own port.
async fn tunnelling(files: &Files, to: u16) -> u16 {
    let tls = server_config(&files.path("localhost"), &files.path("localhost-key"), None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(tls).accept(stream).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(
            head.starts_with("CONNECT registry.example:443 HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(
            head.contains("\r\nProxy-Authorization: Basic YTpi\r\n"),
            "{head}"
        );
        stream
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await
            .unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
    });
    port
}

#[tokio::test]
async fn a_proxy_may_be_spoken_to_with_tls() {
    let files = Files::new();
    let trust = ClientTrust {
        authorities: vec![files.path("ca")],
        ..ClientTrust::default()
    };
    let proxy = |port, trust: &ClientTrust| Proxy {
        host: "localhost".to_owned(),
        port,
        protocol: ProxyProtocol::Http {
            tls: Some(client_config(trust).unwrap()),
            authorization: Some(HeaderValue::from_static("Basic YTpi")),
        },
    };
    let (server, stop) = files.serve(false);
    // The server is no proxy, and answers requests that name another server all the same.
    let plain = ask_by(80, "plain.example", None, Some(proxy(server, &trust))).await;
    assert_eq!(plain.unwrap(), "hello");
    let any = ClientTrust {
        insecure_skip_verify: true,
        ..ClientTrust::default()
    };
    let port = tunnelling(&files, server).await;
    let through = ask_by(
        443,
        "registry.example",
        Some(&any),
        Some(proxy(port, &trust)),
    )
    .await;
    assert_eq!(through.unwrap(), "hello");
    let nobody = ClientTrust::default();
    let unknown = ask_by(80, "plain.example", None, Some(proxy(server, &nobody))).await;
    assert!(
        matches!(&unknown, Err(ClientError::Handshake { host, .. }) if host == "localhost"),
        "{unknown:?}"
    );
    stop.cancel();
}

#[test]
fn unusable_files_are_named() {
    let files = Files::new();
    let missing = server_config(&files.path("none"), &files.path("none"), None);
    assert!(matches!(missing, Err(TlsError::Read { .. })));
    let swapped = server_config(&files.path("localhost-key"), &files.path("localhost"), None);
    let text = swapped.unwrap_err().to_string();
    assert!(
        text.ends_with("localhost-key.pem holds no usable certificate"),
        "{text}"
    );
}
