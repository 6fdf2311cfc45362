//! A server in a private directory, and raw conversations with it.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{get, post};
use hoist_http::{Connection, Hijack, JsonLines, Listener, ServeOptions, ServeReport, UnixSocket};
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

pub(crate) const MODE: UnixSocket = UnixSocket {
    mode: 0o660,
    group: None,
};

pub(crate) struct Server {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) tcp: std::net::SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) lines: mpsc::UnboundedReceiver<JsonLines>,
    /// Told when `/slow` has begun.
    pub(crate) slow: Arc<Notify>,
    pub(crate) report: tokio::task::JoinHandle<ServeReport>,
}

fn hijackable(method: &Method, path: &str) -> bool {
    method == Method::POST && (path.ends_with("/attach") || path.ends_with("/start"))
}

/// Answers `echo:` and what came, in upper case, then `eof` once the client stopped writing.
async fn attach(
    axum::Extension(connection): axum::Extension<Connection>,
    hijack: Hijack,
    request: Request,
) -> Response {
    if request.uri().path().contains("missing") {
        return hoist_http::error_response(
            http::StatusCode::NOT_FOUND,
            "No such container: missing",
        );
    }
    let body = axum::body::to_bytes(request.into_body(), 1 << 20)
        .await
        .unwrap();
    let (mut response, raw) = hijack.accept("application/vnd.docker.multiplexed-stream");
    response
        .headers_mut()
        .insert("api-version", "1.51".parse().unwrap());
    let gone = connection.clone();
    let carry = async move {
        let mut raw = raw.await.unwrap();
        raw.write_all(b"body:").await.unwrap();
        raw.write_all(&body).await.unwrap();
        let mut buffer = [0; 1024];
        loop {
            let count = raw.read(&mut buffer).await.unwrap();
            if count == 0 {
                break;
            }
            raw.write_all(&buffer[..count].to_ascii_uppercase())
                .await
                .unwrap();
        }
        // A client that only stopped writing still waits for what comes.
        tokio::time::sleep(Duration::from_millis(50)).await;
        raw.write_all(b"eof").await.unwrap();
        raw.shutdown().await.unwrap();
    };
    connection.spawn(async move {
        tokio::select! {
            () = carry => {}
            () = gone.closed() => {}
        }
    });
    response
}

pub(crate) fn start() -> Server {
    start_with(Duration::from_secs(5))
}

pub(crate) fn start_with(grace: Duration) -> Server {
    start_patient(grace, hoist_http::HEAD_DEADLINE)
}

pub(crate) fn start_patient(grace: Duration, head_deadline: Duration) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let unix = Listener::unix(&path, MODE).unwrap();
    let tcp = Listener::tcp("127.0.0.1:0".parse().unwrap(), None).unwrap();
    let tcp_address = tcp.address().trim_start_matches("tcp://").parse().unwrap();
    let (sender, lines) = mpsc::unbounded_channel();
    let slow = Arc::new(Notify::new());
    let begun = Arc::clone(&slow);
    let router = Router::new()
        .route("/_ping", get(|| async { "OK" }).head(|| async { "" }))
        .route("/echo", post(|body: String| async move { body }))
        .route("/containers/{id}/attach", post(attach))
        .route("/exec/{id}/start", post(attach))
        .route("/session", post(attach))
        .route(
            "/panic",
            get(|| async {
                let nothing: Option<u8> = std::hint::black_box(None);
                nothing.expect("nobody filled it").to_string()
            }),
        )
        .route(
            "/peer",
            get(
                |axum::Extension(connection): axum::Extension<Connection>| async move {
                    format!("{:?}", connection.peer())
                },
            ),
        )
        .route(
            "/slow",
            get(move || {
                let begun = Arc::clone(&begun);
                async move {
                    begun.notify_one();
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    "slow"
                }
            }),
        )
        .route(
            "/events",
            get(move || {
                let sender = sender.clone();
                async move {
                    let (lines, body): (JsonLines, Body) = hoist_http::json_lines(4);
                    sender.send(lines).unwrap();
                    Response::new(body)
                }
            }),
        );
    let shutdown = CancellationToken::new();
    let report = tokio::spawn(hoist_http::serve(
        vec![unix, tcp],
        router,
        ServeOptions {
            hijackable,
            grace,
            head_deadline,
        },
        shutdown.clone(),
    ));
    Server {
        directory,
        path,
        tcp: tcp_address,
        shutdown,
        lines,
        slow,
        report,
    }
}

/// Sends `text`, closes the writing side when told so, and reads to the end.
pub(crate) async fn talk(path: &std::path::Path, text: &str, half_close: bool) -> String {
    let (path, text) = (path.to_owned(), text.to_owned());
    tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        if half_close {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        let mut out = String::new();
        stream.read_to_string(&mut out).unwrap();
        out
    })
    .await
    .unwrap()
}

/// Reads until what was read ends with `end`.
pub(crate) async fn read_until<R: tokio::io::AsyncRead + Unpin>(
    stream: &mut R,
    end: &str,
) -> String {
    let mut out = Vec::new();
    let read = async {
        let mut byte = [0];
        while !out.ends_with(end.as_bytes()) {
            if stream.read(&mut byte).await.unwrap() == 0 {
                break;
            }
            out.push(byte[0]);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read)
        .await
        .unwrap_or_else(|_| panic!("no {end:?} came"));
    String::from_utf8(out).unwrap()
}

/// The reply without its date, which no test can foretell.
pub(crate) fn dateless(reply: &str) -> String {
    reply
        .split_inclusive("\r\n")
        .filter(|line| !line.to_ascii_lowercase().starts_with("date:"))
        .collect()
}
