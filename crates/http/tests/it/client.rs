//! The client against the server.

use std::sync::Arc;
use std::time::Duration;

use hoist_http::StaticNames;
use hoist_http::client::{Client, ClientError, Deadlines, Endpoint, empty, full};
use http::{Method, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::start;

fn client(endpoint: Endpoint) -> Client {
    client_with(endpoint, Duration::from_secs(30))
}

fn client_with(endpoint: Endpoint, idle: Duration) -> Client {
    let deadlines = Deadlines {
        connect: Duration::from_secs(30),
        head: Some(Duration::from_secs(30)),
        idle: Some(idle),
    };
    Client::new(endpoint, Arc::new(StaticNames::default()), deadlines)
}

fn request(
    method: Method,
    path: &str,
    body: &'static str,
) -> Request<hoist_http::client::RequestBody> {
    Request::builder()
        .method(method)
        .uri(path)
        .body(if body.is_empty() { empty() } else { full(body) })
        .unwrap()
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = start();
    let unix = client(Endpoint::Unix(server.path.clone()));
    let tcp = client(Endpoint::Tcp {
        host: "localhost".into(),
        port: server.tcp.port(),
        tls: None,
        proxy: None,
    });
    let mut ports = Vec::new();
    for _ in 0..3 {
        for client in [&unix, &tcp] {
            let mut echo = client
                .send(request(Method::POST, "/echo", "hello"))
                .await
                .unwrap();
            assert_eq!(
                &echo.body_mut().collect_within(5).await.unwrap().unwrap()[..],
                b"hello"
            );
        }
        let mut peer = tcp.send(request(Method::GET, "/peer", "")).await.unwrap();
        ports.push(peer.body_mut().collect_within(99).await.unwrap().unwrap());
    }
    assert_eq!(ports[0], ports[2]);
    let mut long = unix
        .send(request(Method::POST, "/echo", "hello"))
        .await
        .unwrap();
    assert!(long.body_mut().collect_within(4).await.unwrap().is_none());
}

#[tokio::test]
async fn a_kept_connection_that_died_is_replaced() {
    let server = start();
    let path = server.path.clone();
    let client = client(Endpoint::Unix(path.clone()));
    let mut ping = client
        .send(request(Method::GET, "/_ping", ""))
        .await
        .unwrap();
    ping.body_mut().collect_within(9).await.unwrap();
    server.shutdown.cancel();
    server.report.await.unwrap();
    let refused = client
        .send(request(Method::GET, "/_ping", ""))
        .await
        .unwrap_err();
    assert!(refused.is_connect(), "{refused:?}");
    assert!(matches!(refused, ClientError::Dial { .. }));
}

#[tokio::test]
async fn upgrades_hand_over_the_connection() {
    let server = start();
    let client = client(Endpoint::Unix(server.path.clone()));
    let (mut response, raw) = client
        .upgrade(
            request(Method::POST, "/containers/missing/attach", ""),
            "tcp",
        )
        .await
        .unwrap();
    assert!(raw.is_none());
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    response.body_mut().collect_within(999).await.unwrap();
    let (response, raw) = client
        .upgrade(request(Method::POST, "/exec/a/start", "{}"), "tcp")
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut raw = raw.unwrap();
    raw.write_all(b"abc").await.unwrap();
    raw.shutdown().await.unwrap();
    let mut all = String::new();
    raw.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "body:{}ABCeof");
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let mut server = start();
    // What was sent before it is asked for comes in this time, also on a busy machine.
    let client = client_with(Endpoint::Unix(server.path.clone()), Duration::from_secs(2));
    let mut events = client
        .send(request(Method::GET, "/events", ""))
        .await
        .unwrap();
    let lines = server.lines.recv().await.unwrap();
    lines.send(&1).await.unwrap();
    assert_eq!(
        &events.body_mut().chunk().await.unwrap().unwrap()[..],
        b"1\r\n"
    );
    let silent = events.body_mut().chunk().await.unwrap_err();
    assert!(
        matches!(silent, ClientError::Timeout { what: "data", .. }),
        "{silent:?}"
    );
}

#[tokio::test]
async fn unknown_hosts_are_named() {
    let client = client(Endpoint::Tcp {
        host: "nowhere.invalid".into(),
        port: 1,
        tls: None,
        proxy: None,
    });
    let error = client
        .send(request(Method::GET, "/", ""))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "lookup nowhere.invalid");
}
