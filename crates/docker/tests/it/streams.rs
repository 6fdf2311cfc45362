//! Attach, logs and exec: what is carried, and how it ends.

use bytes::Bytes;
use hoist_http::mux::{Demux, Stream};
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::start;

fn frames(bytes: &[u8]) -> Vec<(Stream, Bytes)> {
    let mut demux = Demux::default();
    demux.push(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = demux.next_frame().unwrap() {
        frames.push(frame);
    }
    assert_eq!(demux.held(), 0);
    frames
}

fn text(bytes: &[u8]) -> String {
    let parts: Vec<u8> = frames(bytes)
        .into_iter()
        .flat_map(|(_, part)| part)
        .collect();
    String::from_utf8(parts).unwrap()
}

#[tokio::test]
async fn output_from_the_first_byte_reaches_who_attached_before_the_start() {
    let Some(server) = start().await else { return };
    server
        .create(
            "one",
            json!({ "Cmd": ["echo", "hello"], "AttachStdout": true }),
        )
        .await;
    let (response, stream) = server
        .upgrade("/containers/one/attach?stream=1&stdout=1&stderr=1", None)
        .await;
    assert_eq!(response.status(), 101);
    assert_eq!(
        response.headers()["content-type"],
        "application/vnd.docker.multiplexed-stream"
    );
    let mut stream = stream.unwrap();
    assert_eq!(
        server.post("/containers/one/start", Value::Null).await.0,
        204
    );
    let mut output = Vec::new();
    stream.read_to_end(&mut output).await.unwrap();
    assert_eq!(frames(&output), [(Stream::Stdout, Bytes::from("hello\n"))]);
}

#[tokio::test]
async fn input_ends_when_the_client_says_so_and_output_goes_on() {
    let Some(server) = start().await else { return };
    server
        .create(
            "one",
            json!({ "Cmd": ["cat"], "OpenStdin": true, "StdinOnce": true }),
        )
        .await;
    let (_, stream) = server
        .upgrade("/containers/one/attach?stream=1&stdin=1&stdout=1", None)
        .await;
    let mut stream = stream.unwrap();
    server.post("/containers/one/start", Value::Null).await;
    stream.write_all(b"to the end").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut output = Vec::new();
    stream.read_to_end(&mut output).await.unwrap();
    assert_eq!(text(&output), "to the end");
}

#[tokio::test]
async fn detach_keys_end_the_connection_and_not_the_process() {
    let Some(server) = start().await else { return };
    server
        .create(
            "one",
            json!({ "Cmd": ["cat"], "Tty": true, "OpenStdin": true }),
        )
        .await;
    let (response, stream) = server
        .upgrade(
            "/containers/one/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-x,a",
            None,
        )
        .await;
    assert_eq!(
        response.headers()["content-type"],
        "application/vnd.docker.raw-stream"
    );
    let mut stream = stream.unwrap();
    server.post("/containers/one/start", Value::Null).await;
    stream.write_all(b"ab").await.unwrap();
    let mut echo = [0; 2];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ab");
    stream.write_all(b"\x18").await.unwrap();
    stream.write_all(b"a").await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
    let until = crate::fake::now().as_seconds() + 1;
    let (_, events) = server
        .ask(Method::GET, &format!("/events?since=1&until={until}"), None)
        .await;
    assert!(events.contains("\"Action\":\"detach\""), "{events}");
    let (status, error) = server
        .post("/containers/one/attach?detachKeys=what", Value::Null)
        .await;
    assert_eq!(
        (status, &error["message"]),
        (400, &json!("Invalid detach keys (what) provided"))
    );
}

#[tokio::test]
async fn logs_are_told_again_with_and_without_frames() {
    let Some(server) = start().await else { return };
    server
        .create("one", json!({ "Cmd": ["echo", "one line"] }))
        .await;
    server.post("/containers/one/start", Value::Null).await;
    server.post("/containers/one/wait", Value::Null).await;
    let (status, logs) = server
        .ask(Method::GET, "/containers/one/logs?stdout=1&follow=1", None)
        .await;
    assert_eq!(
        (status, text(logs.as_bytes()).as_str()),
        (200, "one line\n")
    );
    let (_, logs) = server
        .ask(
            Method::GET,
            "/containers/one/logs?stdout=1&timestamps=1",
            None,
        )
        .await;
    let logs = text(logs.as_bytes());
    let (time, line) = logs.split_once(' ').unwrap();
    assert_eq!((time.len(), line), (30, "one line\n"));
    let (_, logs) = server
        .ask(Method::GET, "/containers/one/logs?stderr=1", None)
        .await;
    assert_eq!(logs, "");
    let (status, error) = server.get("/containers/one/logs").await;
    assert_eq!(
        (status, &error["message"]),
        (
            400,
            &json!("Bad parameters: you must choose at least one stream")
        )
    );

    let (_, stream) = server
        .upgrade("/containers/one/attach?logs=1&stdout=1", None)
        .await;
    let mut replayed = Vec::new();
    stream.unwrap().read_to_end(&mut replayed).await.unwrap();
    assert_eq!(text(&replayed), "one line\n");
}

/// docker-py leaves `Tty` out of the start of an exec that has a terminal, and takes frames apart.
#[tokio::test]
async fn how_an_execs_output_travels_is_said_at_its_start() {
    let Some(server) = start().await else { return };
    server.create("one", json!({ "Cmd": ["sleep"] })).await;
    server.post("/containers/one/start", Value::Null).await;
    for terminal in [false, true] {
        for raw in [false, true] {
            let body = json!({ "cmd": ["echo", "hello"], "tty": terminal, "AttachStdout": true });
            let (_, created) = server.post("/containers/one/exec", body).await;
            let id = created["Id"].as_str().unwrap();
            let (response, stream) = server
                .upgrade(&format!("/exec/{id}/start"), Some(json!({ "Tty": raw })))
                .await;
            let kind = response.headers()["content-type"].to_str().unwrap();
            assert_eq!(kind.ends_with("raw-stream"), raw, "{kind}");
            let mut output = Vec::new();
            stream.unwrap().read_to_end(&mut output).await.unwrap();
            let seen = if raw {
                String::from_utf8(output).unwrap()
            } else {
                text(&output)
            };
            assert_eq!(seen.trim_end(), "hello", "terminal {terminal}, raw {raw}");
        }
    }
    server.post("/containers/one/kill", Value::Null).await;
}

#[tokio::test]
async fn an_exec_runs_attached_and_detached() {
    let Some(server) = start().await else { return };
    server.create("one", json!({ "Cmd": ["sleep"] })).await;
    let (status, _) = server
        .post("/containers/one/exec", json!({ "Cmd": ["cat"] }))
        .await;
    assert_eq!(status, 409, "the container does not run yet");
    server.post("/containers/one/start", Value::Null).await;

    let body = json!({ "Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true, "User": "1" });
    let (status, created) = server.post("/containers/one/exec", body).await;
    assert_eq!(status, 201);
    let id = created["Id"].as_str().unwrap();
    let start_body = json!({ "Detach": false, "Tty": false });
    let (response, stream) = server
        .upgrade(&format!("/exec/{id}/start"), Some(start_body))
        .await;
    assert_eq!(response.status(), 101);
    let mut stream = stream.unwrap();
    let (_, running) = server.get(&format!("/exec/{id}/json")).await;
    assert_eq!(
        (&running["Running"], &running["ExitCode"]),
        (&json!(true), &Value::Null)
    );
    stream.write_all(b"in").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut output = Vec::new();
    stream.read_to_end(&mut output).await.unwrap();
    assert_eq!(text(&output), "in");
    let (_, inspected) = server.get(&format!("/exec/{id}/json")).await;
    assert_eq!(inspected["Running"], false);
    assert_eq!(inspected["ExitCode"], 0);
    assert_eq!(inspected["ProcessConfig"]["entrypoint"], "cat");
    assert_eq!(
        server.post(&format!("/exec/{id}/start"), json!({})).await.0,
        409
    );

    let (_, created) = server
        .post("/containers/one/exec", json!({ "Cmd": ["exit", "3"] }))
        .await;
    let id = created["Id"].as_str().unwrap();
    assert_eq!(
        server
            .post(&format!("/exec/{id}/start"), json!({ "Detach": true }))
            .await
            .0,
        200
    );
    let (_, created) = server
        .post("/containers/one/exec", json!({ "Cmd": ["nosuch"] }))
        .await;
    let id = created["Id"].as_str().unwrap();
    let (response, stream) = server
        .upgrade(&format!("/exec/{id}/start"), Some(json!({})))
        .await;
    assert_eq!(response.status(), 101);
    let mut output = Vec::new();
    stream.unwrap().read_to_end(&mut output).await.unwrap();
    assert!(text(&output).contains("executable file not found"));
    let (_, inspected) = server.get(&format!("/exec/{id}/json")).await;
    assert_eq!(inspected["ExitCode"], 127);
    server.post("/containers/one/kill", Value::Null).await;
}
