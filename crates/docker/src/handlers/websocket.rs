//! `GET /containers/{id}/attach/ws`: attach, with a WebSocket (RFC 6455) in place of a taken-over connection.
//!
//! ```text
//!  client ◀─ messages ─▶ pump ◀─ a pair of streams in memory ─▶ bridge ◀─▶ monitor's socket
//! ```
//!
//! Output goes out without frames of Docker's own, both streams in the order they come, in binary messages (text before
//! API 1.28), as in moby `container_routes.go`, `wsContainersAttach`.

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hoist_http::Connection;
use hoist_http::mux::Demux;
use hoist_model::ErrorClass;
use http::header::{CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::attach::Wanted;
use super::bridge;
use crate::call::Call;
use crate::error::{ApiError, Reply};

/// Bytes on their way in each direction.
const BUFFER: usize = 64 << 10;
/// The largest message a client may send: standard input comes in pieces.
const LARGEST_MESSAGE: usize = 4 << 20;

/// Attaches over a WebSocket.
pub(crate) async fn attach(mut call: Call) -> Reply {
    let accept = accept_key(&call.parts.headers)?;
    let hijack = bridge::take(&mut call)?;
    // Before 1.42 the parameters that name streams are not looked at.
    let all = !call.version.at_least(42);
    let wanted = Wanted::of(&call, |name| all || call.query.boolean(name))?;
    let Some(connection) = call.parts.extensions.get::<Connection>().cloned() else {
        return Err(ApiError::new(
            ErrorClass::Internal,
            "the connection of this request is not known",
        ));
    };
    let containers = call.engine().containers.clone();
    let streams = wanted.connect(containers).await?;
    let framed = !streams.attached.terminal;
    let binary = call.version.at_least(28);
    let (mut response, hijacking) = hijack.accept("");
    response.headers_mut().remove(CONTENT_TYPE);
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    let gone = connection.clone();
    connection.spawn(async move {
        let client = match hijacking.await {
            Ok(client) => client,
            Err(error) => {
                tracing::debug!(%error, "client left before its streams were connected");
                return;
            }
        };
        let config = WebSocketConfig::default().max_message_size(Some(LARGEST_MESSAGE));
        let socket = WebSocketStream::from_raw_socket(client, Role::Server, Some(config)).await;
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let work = async {
            tokio::join!(
                bridge::carry(theirs, streams, std::future::ready(())),
                pump(socket, ours, framed, binary)
            )
        };
        tokio::select! {
            _ = work => {}
            () = gone.closed() => {}
        }
    });
    Ok(response)
}

/// The answer to the client's key, or why there is none.
fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let version = headers.get(SEC_WEBSOCKET_VERSION);
    match (key, version) {
        (Some(key), Some(version)) if version == "13" => {
            HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
                .map_err(|_| ApiError::invalid("the WebSocket key is no key"))
        }
        _ => Err(ApiError::invalid(
            "not a WebSocket handshake: Sec-WebSocket-Key and Sec-WebSocket-Version: 13 are needed",
        )),
    }
}

/// Between messages and bytes, both ways, until the process's output or the client ends.
async fn pump<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    local: DuplexStream,
    framed: bool,
    binary: bool,
) {
    let (sink, source) = socket.split();
    let (from, to) = tokio::io::split(local);
    tokio::select! {
        () = outward(from, sink, framed, binary) => {}
        () = inward(source, to) => {}
    }
}

async fn outward<S: AsyncRead + AsyncWrite + Unpin>(
    mut from: impl AsyncRead + Unpin,
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    framed: bool,
    binary: bool,
) {
    let message = |bytes: Bytes| {
        if binary {
            Message::Binary(bytes)
        } else {
            Message::text(String::from_utf8_lossy(&bytes).into_owned())
        }
    };
    let mut demux = Demux::default();
    let mut chunk = vec![0; BUFFER];
    loop {
        let length = match from.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        if !framed {
            let bytes = Bytes::copy_from_slice(&chunk[..length]);
            if sink.send(message(bytes)).await.is_err() {
                return;
            }
            continue;
        }
        demux.push(&chunk[..length]);
        while let Ok(Some((_, payload))) = demux.next_frame() {
            if sink.send(message(payload)).await.is_err() {
                return;
            }
        }
    }
    // Says goodbye; a client that does not listen any more is no concern.
    let _ = sink.close().await;
}

/// Ends with the client. Pings are answered by the library as it reads.
async fn inward<S: AsyncRead + AsyncWrite + Unpin>(
    mut source: SplitStream<WebSocketStream<S>>,
    mut to: impl AsyncWrite + Unpin,
) {
    while let Some(Ok(message)) = source.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => break,
            _ => continue,
        };
        if to.write_all(&bytes).await.is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_of_the_rfc() {
        let mut headers = HeaderMap::new();
        assert!(accept_key(&headers).is_err());
        headers.insert(
            SEC_WEBSOCKET_KEY,
            HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="),
        );
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        assert_eq!(
            accept_key(&headers).unwrap(),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
        assert!(accept_key(&headers).is_err());
    }

    #[tokio::test]
    async fn frames_become_messages_and_messages_bytes() {
        let (near, far) = tokio::io::duplex(1 << 10);
        let server = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        let (ours, mut theirs) = tokio::io::duplex(1 << 10);
        let pumping = tokio::spawn(pump(server, ours, true, true));
        let frame = hoist_http::mux::frame(hoist_http::mux::Stream::Stderr, b"out");
        theirs.write_all(&frame).await.unwrap();
        let message = client.next().await.unwrap().unwrap();
        assert_eq!(message, Message::Binary(Bytes::from_static(b"out")));
        client.send(Message::text("in")).await.unwrap();
        let mut read = [0; 2];
        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"in");
        drop(theirs);
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
        pumping.await.unwrap();
    }
}
