//! Attach over a WebSocket, with a client that is not ours.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::start;

#[tokio::test]
async fn input_and_output_travel_in_messages_until_the_process_ends() {
    let Some(server) = start().await else { return };
    let body = json!({ "Cmd": ["cat"], "OpenStdin": true, "StdinOnce": true });
    server.create("one", body).await;
    let stream = UnixStream::connect(&server.socket).await.unwrap();
    let uri = "ws://d/v1.47/containers/one/attach/ws?stream=1&stdin=1&stdout=1";
    let (mut socket, response) = client_async(uri, stream).await.unwrap();
    assert_eq!(response.status(), 101);
    server.post("/containers/one/start", Value::Null).await;
    socket
        .send(Message::binary(b"there and back".to_vec()))
        .await
        .unwrap();
    let said = socket.next().await.unwrap().unwrap();
    assert_eq!(said, Message::binary(b"there and back".to_vec()));
    // The client's goodbye is the end of input, and so of this process.
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    let (status, ended) = server.post("/containers/one/wait", Value::Null).await;
    assert_eq!((status, &ended["StatusCode"]), (200, &json!(0)));
}

#[tokio::test]
async fn what_is_no_handshake_and_who_is_not_there_are_refused() {
    let Some(server) = start().await else { return };
    server.create("one", json!({ "Cmd": ["cat"] })).await;
    let (status, refusal) = server.get("/containers/one/attach/ws").await;
    assert_eq!(status, 400);
    let message = refusal["message"].as_str().unwrap();
    assert!(
        message.starts_with("not a WebSocket handshake"),
        "{message}"
    );
    let stream = UnixStream::connect(&server.socket).await.unwrap();
    let refused = client_async("ws://d/containers/nosuch/attach/ws", stream).await;
    let Err(Error::Http(response)) = refused else {
        panic!("refused with a reply");
    };
    assert_eq!(response.status(), 404);
}
