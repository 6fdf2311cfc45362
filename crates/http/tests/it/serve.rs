//! Ordinary serving: streams, hang-ups, panics, shutdown, sockets.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::time::Duration;

use hoist_http::{ListenError, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::support::{MODE, dateless, read_until, start, start_patient, start_with, talk};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn requests_of_both_versions_are_answered() {
    let server = start();
    let reply = talk(&server.path, "GET /_ping HTTP/1.0\n\n", true).await;
    assert_eq!(
        dateless(&reply),
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\nOK"
    );
    let two = "GET /_ping HTTP/1.1\r\nHost: d\r\n\r\nGET /slow HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
    let reply = talk(&server.path, two, true).await;
    assert_eq!(reply.matches("HTTP/1.1 200 OK").count(), 2, "{reply}");
    assert!(reply.ends_with("slow"));
    let nonsense = talk(&server.path, "what is this\r\n\r\n", true).await;
    assert!(
        nonsense.starts_with("HTTP/1.1 400 Bad Request"),
        "{nonsense}"
    );
}

#[tokio::test]
async fn the_peer_is_known() {
    let server = start();
    let get = "GET /peer HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
    let reply = talk(&server.path, get, false).await;
    let pid = std::process::id();
    assert!(reply.contains(&format!("Unix {{ pid: {pid}, ")), "{reply}");
    let mut stream = TcpStream::connect(server.tcp).await.unwrap();
    let own = stream.local_addr().unwrap();
    stream.write_all(get.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.ends_with(&format!("Tcp({own})")), "{reply}");
}

#[tokio::test]
async fn a_panic_is_one_requests_matter() {
    let server = start();
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    for _ in 0..2 {
        stream
            .write_all(b"GET /panic HTTP/1.1\r\nHost: d\r\n\r\n")
            .await
            .unwrap();
        let reply = read_until(&mut stream, "}\n").await;
        assert!(reply.starts_with("HTTP/1.1 500 "), "{reply}");
        assert!(reply.contains("nobody filled it"), "{reply}");
    }
}

#[tokio::test]
async fn each_object_is_flushed_and_the_stream_ends_with_its_client() {
    let mut server = start();
    for tcp in [false, true] {
        let get = b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n";
        let mut unix = UnixStream::connect(&server.path).await.unwrap();
        let mut inet = TcpStream::connect(server.tcp).await.unwrap();
        if tcp {
            inet.write_all(get).await.unwrap();
        } else {
            unix.write_all(get).await.unwrap();
        }
        let lines = server.lines.recv().await.unwrap();
        lines.send(&serde_json::json!({"a": 1})).await.unwrap();
        let end = "{\"a\":1}\r\n\r\n";
        let seen = if tcp {
            read_until(&mut inet, end).await
        } else {
            read_until(&mut unix, end).await
        };
        assert!(seen.contains("Transfer-Encoding: chunked\r\n"), "{seen}");
        assert!(seen.ends_with("9\r\n{\"a\":1}\r\n\r\n"), "{seen}");
        if !tcp {
            // A client that stopped writing still reads.
            unix.shutdown().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            lines.send(&2).await.unwrap();
            read_until(&mut unix, "3\r\n2\r\n\r\n").await;
        }
        drop((unix, inet));
        tokio::time::timeout(SOON, lines.disconnected())
            .await
            .expect("the stream outlived its client");
        assert!(lines.send(&3).await.is_err());
    }
}

#[tokio::test]
async fn a_pipelined_request_survives_the_watch_for_hang_up() {
    let mut server = start();
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    let both = b"GET /events HTTP/1.1\r\nHost: d\r\n\r\nGET /_ping HTTP/1.1\r\nHost: d\r\n\r\n";
    stream.write_all(both).await.unwrap();
    let lines = server.lines.recv().await.unwrap();
    lines.send(&1).await.unwrap();
    read_until(&mut stream, "3\r\n1\r\n\r\n").await;
    stream
        .write_all(b"GET /peer HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(lines);
    let rest = read_until(&mut stream, " }").await;
    assert!(rest.contains("\r\n\r\nOK"), "{rest}");
    assert!(rest.contains("Unix {"), "{rest}");
}

#[tokio::test]
async fn shutdown_finishes_what_runs_and_cuts_what_stays() {
    // Long enough for what is slow, on a busy machine too.
    let server = start_with(Duration::from_secs(4));
    let slow = tokio::spawn({
        let path = server.path.clone();
        async move { talk(&path, "GET /slow HTTP/1.1\r\nHost: d\r\n\r\n", false).await }
    });
    let mut idle = UnixStream::connect(&server.path).await.unwrap();
    idle.write_all(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut idle, "\r\n\r\nOK").await;
    let mut attached = UnixStream::connect(&server.path).await.unwrap();
    attached
        .write_all(b"POST /containers/a/attach HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut attached, "body:").await;
    server.slow.notified().await;
    server.shutdown.cancel();
    assert!(slow.await.unwrap().ends_with("slow"));
    assert_eq!(idle.read(&mut [0; 8]).await.unwrap(), 0);
    let report = tokio::time::timeout(SOON, server.report).await.unwrap();
    assert_eq!(report.unwrap().cut, 1);
    assert_eq!(attached.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(!server.path.exists());
    drop(server.directory);
}

#[tokio::test]
async fn sockets_are_private_and_stale_ones_are_replaced() {
    let server = start();
    let meta = std::fs::metadata(&server.path).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
    assert!(matches!(
        Listener::unix(&server.path, MODE),
        Err(ListenError::Taken { .. })
    ));
    let stale = server.directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    drop(Listener::unix(&stale, MODE).unwrap());
    assert!(!stale.exists());
    let file = server.directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(
        Listener::unix(&file, MODE),
        Err(ListenError::NotASocket { .. })
    ));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    // A file that took our name meanwhile is not ours to remove.
    let mine = Listener::unix(&stale, MODE).unwrap();
    std::fs::remove_file(&stale).unwrap();
    std::fs::write(&stale, "other").unwrap();
    drop(mine);
    assert!(stale.exists());
}

#[tokio::test]
async fn a_socket_file_may_belong_to_a_group() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grouped.sock");
    if !rustix::process::geteuid().is_root() {
        hoist_testkit::skip("only root gives files away");
        return;
    }
    let options = hoist_http::UnixSocket {
        mode: 0o660,
        group: Some(4242),
    };
    let listener = Listener::unix(&path, options).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().gid(), 4242);
    assert_eq!(listener.address(), format!("unix://{}", path.display()));
}

#[tokio::test]
async fn long_socket_paths_work() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let path = deep.join("api.sock");
    let listener = Listener::unix(&path, MODE).unwrap();
    assert!(path.exists());
    assert!(matches!(
        Listener::unix(&path, MODE),
        Err(ListenError::Taken { .. })
    ));
    drop(listener);
    assert!(!path.exists());
}

/// A byte at a time is as slow as nothing at all: the deadline is the whole head's, and begins with the connection.
#[tokio::test]
async fn a_head_that_trickles_in_is_not_waited_for_beyond_its_deadline() {
    let deadline = Duration::from_millis(500);
    let server = start_patient(SOON, deadline);
    let began = std::time::Instant::now();
    let mut silent = UnixStream::connect(&server.path).await.unwrap();
    let mut slow = TcpStream::connect(server.tcp).await.unwrap();
    let trickle = async {
        let mut sent = 0;
        // The other end closes: writing fails, if not at once, then after the answer to it has come.
        while slow.write_all(b"G").await.is_ok() {
            sent += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sent
    };
    let sent = tokio::time::timeout(SOON, trickle).await;
    assert!(sent.expect("a slow head was waited for") > 1);
    assert!(
        began.elapsed() >= deadline,
        "it was given less than its time"
    );
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(SOON, silent.read_to_end(&mut rest)).await;
    closed.expect("a connection without a head stays").unwrap();
    // Others are served meanwhile and afterwards, and a head in pieces that comes in time is whole.
    let mut brisk = UnixStream::connect(&server.path).await.unwrap();
    for piece in [
        "GET /_ping HT",
        "TP/1.1\r\nHost: d\r\nConnec",
        "tion: close\r\n\r\n",
    ] {
        brisk.write_all(piece.as_bytes()).await.unwrap();
        brisk.flush().await.unwrap();
    }
    let mut reply = String::new();
    brisk.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK"), "{reply}");
}
