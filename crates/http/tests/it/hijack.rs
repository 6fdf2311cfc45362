//! Connections taken from HTTP: the bytes on the wire are the specification.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::support::{dateless, read_until, start, talk};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\nApi-Version: 1.51\r\n\r\n";

#[tokio::test]
async fn an_upgrade_gets_101_and_the_connection() {
    let server = start();
    let request = "POST /containers/a/attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert_eq!(
        dateless(&head),
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
         Connection: Upgrade\r\nUpgrade: tcp\r\nApi-Version: 1.51\r\n\r\n"
    );
    assert_eq!(read_until(&mut stream, "body:").await, "body:");
    stream.write_all(b"abc\r\n\r\n").await.unwrap();
    assert_eq!(read_until(&mut stream, "ABC\r\n\r\n").await, "ABC\r\n\r\n");
    // Half-close: the other direction stays open until the server is done.
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "eof");
}

/// docker-py's buffer takes whatever comes with the head, and is then thrown away.
#[tokio::test]
async fn nothing_comes_with_the_head_for_a_client_that_reads_it() {
    let server = start();
    for upgrade in ["Connection: Upgrade\r\nUpgrade: tcp\r\n", ""] {
        let request = format!("POST /containers/a/attach HTTP/1.1\r\nHost: d\r\n{upgrade}\r\n");
        for _ in 0..50 {
            let mut stream = UnixStream::connect(&server.path).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            // Late, so that a server in a hurry has sent all it has.
            tokio::time::sleep(Duration::from_millis(3)).await;
            let mut buffer = [0; 8192];
            let count = stream.read(&mut buffer).await.unwrap();
            let seen = String::from_utf8_lossy(&buffer[..count]).into_owned();
            assert!(seen.ends_with("\r\n\r\n"), "{seen}");
            assert_eq!(read_until(&mut stream, "body:").await, "body:");
        }
    }
}

#[tokio::test]
async fn without_upgrade_it_is_200_and_the_connection_anyway() {
    let server = start();
    for request in [
        "POST /containers/a/attach?stream=1 HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n",
        "POST /containers/a/attach HTTP/1.1\r\nHost: d\r\n\r\n",
        "POST /containers/a/attach HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
        "POST /containers/a/attach HTTP/1.0\r\n\r\n",
    ] {
        let reply = talk(&server.path, &format!("{request}in\n"), true).await;
        assert_eq!(dateless(&reply), format!("{OK}body:IN\neof"), "{request}");
    }
}

#[tokio::test]
async fn the_body_is_read_before_the_raw_bytes() {
    let server = start();
    for request in [
        "POST /exec/a/start HTTP/1.1\r\nHost: d\r\nContent-Length: 4\r\n\r\n{ }\n",
        "POST /exec/a/start HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{ \r\n2\r\n}\n\r\n0\r\n\r\n",
    ] {
        // Cut at every place, each piece a packet of its own.
        for cut in [request.len(), request.len() - 3, 10, 60] {
            let mut stream = TcpStream::connect(server.tcp).await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(&request.as_bytes()[..cut]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.write_all(&request.as_bytes()[cut..]).await.unwrap();
            stream.write_all(b"early").await.unwrap();
            stream.shutdown().await.unwrap();
            let seen = read_until(&mut stream, "EARLYeof").await;
            assert_eq!(
                dateless(&seen),
                format!("{OK}body:{{ }}\nEARLYeof"),
                "cut {cut}"
            );
            drop(stream);
        }
    }
}

#[tokio::test]
async fn a_kept_alive_connection_can_be_taken_later() {
    let server = start();
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    for body in ["one", "POST /x/attach HTTP/1.1\r\n\r\n"] {
        let request = format!(
            "POST /echo HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(
            read_until(&mut stream, body)
                .await
                .starts_with("HTTP/1.1 200 OK")
        );
        let request = format!(
            "POST /echo HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n{:x};a=b\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut stream, body).await;
    }
    let missing = "POST /containers/missing/attach HTTP/1.1\r\nHost: d\r\n\r\n";
    stream.write_all(missing.as_bytes()).await.unwrap();
    let reply = read_until(&mut stream, "}\n").await;
    assert!(reply.starts_with("HTTP/1.1 404 Not Found\r\n"), "{reply}");
    assert!(reply.ends_with("{\"message\":\"No such container: missing\"}\n"));
    let take = "POST /containers/a/attach HTTP/1.1\r\nHost: d\r\n\r\nx";
    stream.write_all(take.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(dateless(&rest), format!("{OK}body:Xeof"));
}

#[tokio::test]
async fn expect_continue_comes_before_the_ok() {
    let server = start();
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    let request = "POST /exec/a/start HTTP/1.1\r\nHost: d\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(
        read_until(&mut stream, "\r\n\r\n").await,
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    stream.write_all(b"{}").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(dateless(&rest), format!("{OK}body:{{}}eof"));
}

#[tokio::test]
async fn a_route_that_was_not_registered_needs_the_header() {
    let server = start();
    let plain = "POST /session HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
    let reply = talk(&server.path, plain, false).await;
    assert!(reply.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{reply}");
    let upgrade =
        "POST /session HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let reply = talk(&server.path, upgrade, true).await;
    assert!(reply.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{reply}");
    assert!(reply.contains("\r\nUpgrade: h2c\r\n"), "{reply}");
    assert!(reply.ends_with("body:eof"), "{reply}");
}
