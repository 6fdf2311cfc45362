//! Carrying bytes between a client's connection and a process: attach and exec.
//!
//! ```text
//!  client ──stdin──▶ [detach keys] ──▶ monitor's socket ──▶ process
//!         ◀─frames or raw bytes────────────────────────
//! ```
//!
//! The client closing its writing side closes the process's input; the end of the process's output ends the
//! connection; a client that is gone ends both. One task per attached client, owned by the server.

use std::time::Duration;

use bytes::BytesMut;
use hoist_engine::containers::{Attached, LogEntry};
use hoist_engine::error::ContainerError;
use hoist_engine::ports::BoxFuture;
use hoist_http::mux::{self, Stream};
use hoist_http::{Connection, Hijack};
use hoist_model::ErrorClass;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::call::Call;
use crate::error::{ApiError, Reply};
use crate::wire::detach_keys::Scanner;

/// What is read at once; the monitor's frames are at most this long.
const CHUNK: usize = 32 << 10;

/// The longest that the end of a process may take to be known after its output ended; a grandchild may hold the one
/// open or close it without the other.
const SETTLING: Duration = Duration::from_secs(2);

/// One side of a bridge, and what is to happen on the way.
pub(super) struct Streams {
    pub(super) attached: Attached,
    /// Whether the client takes bytes as a terminal writes them, and no frames. An exec's start says so anew, whatever its
    /// create said (moby `postContainerExecStart`).
    pub(super) raw: bool,
    /// Whether the client's bytes reach the process.
    pub(super) stdin: bool,
    /// Whether live output is wanted.
    pub(super) output: bool,
    /// What is done when the detach keys were typed.
    pub(super) on_detach: Option<BoxFuture<'static, ()>>,
    /// Keys that detach; only with a terminal.
    pub(super) keys: Option<Vec<u8>>,
    /// What the end of the output is followed by before the connection ends, and what is said then on standard output: clients
    /// of an exec ask for its exit code as soon as they see that.
    pub(super) afterwards: Option<BoxFuture<'static, Option<String>>>,
    /// What is sent first.
    pub(super) replay: Option<mpsc::Receiver<Result<Vec<LogEntry>, ContainerError>>>,
}

/// Takes the right to the connection out of a call; to be done before the body is read.
pub(super) fn take(call: &mut Call) -> Result<Hijack, ApiError> {
    Hijack::take(&mut call.parts).map_err(|error| ApiError::new(error.class(), error.to_string()))
}

/// Answers 101 (or 200) and carries bytes until either side ends.
pub(super) fn answer(call: &Call, hijack: Hijack, streams: Streams) -> Reply {
    let Some(connection) = call.parts.extensions.get::<Connection>().cloned() else {
        return Err(ApiError::new(
            ErrorClass::Internal,
            "the connection of this request is not known",
        ));
    };
    let multiplexed = !streams.raw && call.version.at_least(42);
    let (response, hijacking) = hijack.accept(if multiplexed {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    });
    let gone = connection.clone();
    connection.spawn(async move {
        match hijacking.await {
            Ok(client) => {
                let taken = client.taken();
                tokio::select! {
                    () = carry(client, streams, taken) => {}
                    () = gone.closed() => {}
                }
            }
            Err(error) => tracing::debug!(%error, "client left before its streams were connected"),
        }
    });
    Ok(response)
}

/// Carries until either side ends; `taken` is done when the client has read what it got.
pub(super) async fn carry<C: AsyncRead + AsyncWrite>(
    client: C,
    streams: Streams,
    taken: impl Future<Output = ()>,
) {
    let (terminal, raw) = (streams.attached.terminal, streams.raw);
    let (client_read, mut client_write) = tokio::io::split(client);
    let (process_read, process_write) = streams.attached.stream.into_split();
    let undelivered = streams.attached.undelivered;
    let scanner = streams.keys.map(Scanner::new);
    let stdin = streams.stdin;
    let input = async {
        let detached = input(client_read, process_write, scanner, stdin).await;
        if !detached {
            // The process goes on without input; only its end or the client's ends the bridge.
            std::future::pending::<()>().await;
        }
    };
    let output = async {
        if let Some(entries) = streams.replay
            && replay(entries, &mut client_write, terminal).await.is_err()
        {
            return;
        }
        if streams.output {
            output(process_read, &mut client_write, terminal, raw).await;
        }
        if let Some(afterwards) = streams.afterwards {
            let last = tokio::time::timeout(SETTLING, afterwards).await;
            if let Ok(Some(text)) = last {
                let _ = say(&text, &mut client_write, raw).await;
            }
        }
    };
    tokio::select! {
        () = input => {
            if let Some(on_detach) = streams.on_detach {
                on_detach.await;
            }
        }
        () = output => {}
    }
    let _ = client_write.shutdown().await;
    if undelivered.is_some() {
        taken.await;
    }
}

/// True when the detach keys were typed.
async fn input(
    mut from: impl AsyncRead + Unpin,
    mut to: OwnedWriteHalf,
    mut scanner: Option<Scanner>,
    wanted: bool,
) -> bool {
    let mut chunk = vec![0; CHUNK];
    let mut passed = Vec::new();
    loop {
        let length = match from.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        let mut detached = false;
        let bytes = match &mut scanner {
            Some(scanner) => {
                passed.clear();
                detached = scanner.scan(&chunk[..length], &mut passed);
                passed.as_slice()
            }
            None => &chunk[..length],
        };
        // A process that no longer reads is not the client's fault: what it says on is thrown away.
        if wanted && !bytes.is_empty() {
            let _ = to.write_all(bytes).await;
        }
        if detached {
            return true;
        }
    }
    // Dropping this half shuts the writing side down, which is how the monitor learns of the end of input; a client
    // that gives no input never had any to end.
    if wanted {
        drop(to);
    } else {
        to.forget();
    }
    false
}

async fn replay(
    mut batches: mpsc::Receiver<Result<Vec<LogEntry>, ContainerError>>,
    to: &mut (impl AsyncWrite + Unpin),
    terminal: bool,
) -> std::io::Result<()> {
    while let Some(entries) = batches.recv().await {
        let Ok(entries) = entries else { break };
        let mut bytes = BytesMut::new();
        for entry in entries {
            if terminal {
                bytes.extend_from_slice(&entry.bytes);
            } else {
                mux::put_frame(&mut bytes, stream_of(&entry), &entry.bytes);
            }
        }
        to.write_all(&bytes).await?;
    }
    to.flush().await
}

pub(super) fn stream_of(entry: &LogEntry) -> Stream {
    match entry.stream {
        2 => Stream::Stderr,
        _ => Stream::Stdout,
    }
}

/// Passes output on; makes frames of a terminal's bytes, or takes standard output out of frames, where the client expects the
/// other form.
async fn output(
    mut from: OwnedReadHalf,
    to: &mut (impl AsyncWrite + Unpin),
    terminal: bool,
    raw: bool,
) {
    let mut chunk = vec![0; CHUNK];
    let mut frames = mux::Demux::default();
    loop {
        let length = match from.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        let written = match (terminal, raw) {
            (true, false) => {
                let frame = mux::frame(Stream::Stdout, &chunk[..length]);
                to.write_all(&frame).await
            }
            (false, true) => {
                frames.push(&chunk[..length]);
                unframe(&mut frames, to).await
            }
            _ => to.write_all(&chunk[..length]).await,
        };
        if written.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

/// Says a sentence of our own.
async fn say(text: &str, to: &mut (impl AsyncWrite + Unpin), raw: bool) -> std::io::Result<()> {
    if raw {
        to.write_all(text.as_bytes()).await?;
    } else {
        to.write_all(&mux::frame(Stream::Stdout, text.as_bytes()))
            .await?;
    }
    to.flush().await
}

async fn unframe(
    frames: &mut mux::Demux,
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    while let Some((stream, bytes)) = frames.next_frame().map_err(std::io::Error::other)? {
        if stream == Stream::Stdout {
            to.write_all(&bytes).await?;
        }
    }
    Ok(())
}
