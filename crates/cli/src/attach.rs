//! Being attached: terminal or pipes on this side, the engine's stream on the other, signals and sizes beside.

use std::io::{Read, Write};

use bytes::Bytes;
use hoist_docker::client::{Client, Stream};
use hoist_http::mux::{Demux, Stream as Channel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::failure::Failure;
use super::terminal::{self, DetachWatch};

/// How a stream is used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attachment {
    /// Whether standard input is sent.
    pub(crate) stdin: bool,
    /// Whether the other side is a terminal, so that output is not multiplexed.
    pub(crate) tty: bool,
    /// The keys that detach.
    pub(crate) detach_keys: Vec<u8>,
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The other side closed it.
    Closed,
    /// The person typed the detach keys.
    Detached,
}

/// Standard input, read by a thread of its own: it may be a terminal, a pipe or a file, and only a blocking
/// read serves them all without changing flags that other processes share. The thread ends with the process.
pub(crate) fn standard_input() -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(8);
    let read = move || {
        let mut input = std::io::stdin().lock();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    if sender
                        .blocking_send(Bytes::copy_from_slice(&buffer[..n]))
                        .is_err()
                    {
                        break;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    };
    // Without the thread, input ends at once; that is all a client this short of memory can do.
    drop(
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(read),
    );
    receiver
}

/// Carries bytes both ways until the other side closes.
pub(crate) async fn carry(stream: Stream, how: &Attachment) -> Result<Ended, Failure> {
    let multiplexed = stream.multiplexed.unwrap_or(!how.tty);
    let (mut reader, mut writer) = tokio::io::split(stream.connection);
    let mut watch = DetachWatch::new(if how.tty {
        how.detach_keys.clone()
    } else {
        Vec::new()
    });
    let mut typed = how.stdin.then(standard_input);
    let mut demux = Demux::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let input = async {
            match &mut typed {
                Some(typed) => typed.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Output first: what the container said before it ended is shown before anything else.
            biased;
            read = reader.read(&mut buffer) => match read {
                Ok(0) => break,
                Ok(n) => show(&buffer[..n], multiplexed.then_some(&mut demux))?,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(Failure::new(format!("the attached stream broke: {error}"))),
            },
            chunk = input => match chunk {
                Some(chunk) => {
                    watch.typed(&chunk);
                    // The other side stopped reading; what it says last is still on its way.
                    if writer.write_all(&chunk).await.is_err() {
                        typed = None;
                    }
                }
                None => {
                    typed = None;
                    // Half a close: the container sees the end of its input and may go on talking.
                    drop(writer.shutdown().await);
                }
            },
        }
    }
    Ok(if watch.seen() {
        Ended::Detached
    } else {
        Ended::Closed
    })
}

/// Writes output where it belongs.
pub(crate) fn show(bytes: &[u8], demux: Option<&mut Demux>) -> Result<(), Failure> {
    let Some(demux) = demux else {
        return super::output::text(bytes);
    };
    demux.push(bytes);
    while let Some((channel, payload)) = demux
        .next_frame()
        .map_err(|e| Failure::new(format!("the attached stream cannot be read: {e}")))?
    {
        match channel {
            Channel::Stdout | Channel::Stdin => super::output::text(&payload)?,
            // Nobody may read standard error; the container goes on all the same.
            Channel::Stderr => drop(std::io::stderr().write_all(&payload)),
            Channel::System => {
                return Err(Failure::new(String::from_utf8_lossy(&payload).into_owned()));
            }
        }
    }
    Ok(())
}

/// What is resized and signalled.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// A container.
    Container(String),
    /// An exec.
    Exec(String),
}

/// Tells the engine the terminal's size.
pub(crate) async fn resize(client: &Client, subject: &Subject) {
    let Some((rows, columns)) = terminal::size() else {
        return;
    };
    let path = match subject {
        Subject::Container(id) => format!("/containers/{id}/resize"),
        Subject::Exec(id) => format!("/exec/{id}/resize"),
    };
    let call = client
        .post(path)
        .query("h", rows.to_string())
        .query("w", columns.to_string());
    // It may have ended meanwhile; a size is not worth a word.
    if let Ok(reply) = call.send().await {
        drop(reply.done().await);
    }
}

/// Resizes whenever the terminal does; never ends.
pub(crate) async fn follow_size(client: &Client, subject: &Subject) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return std::future::pending().await;
    };
    while changes.recv().await.is_some() {
        resize(client, subject).await;
    }
    std::future::pending().await
}

/// Signals that are handed on. Not SIGPIPE, SIGCHLD and those the terminal needs.
const PROXIED: [(i32, &str); 7] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
];

/// Catches signals from now on.
pub(crate) fn caught() -> mpsc::UnboundedReceiver<&'static str> {
    let (sender, receiver) = mpsc::unbounded_channel();
    for (number, name) in PROXIED {
        let Ok(mut stream) = signal(SignalKind::from_raw(number)) else {
            continue;
        };
        let sender = sender.clone();
        // Ends with the runtime, which ends with the verb.
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if sender.send(name).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

/// Hands caught signals on to a container; never ends.
pub(crate) async fn proxy(
    client: &Client,
    id: &str,
    signals: Option<&mut mpsc::UnboundedReceiver<&'static str>>,
) {
    let Some(signals) = signals else {
        return std::future::pending().await;
    };
    while let Some(name) = signals.recv().await {
        let call = client
            .post(format!("/containers/{id}/kill"))
            .query("signal", name);
        // A container that has just ended needs no signal.
        if let Ok(reply) = call.send().await {
            drop(reply.done().await);
        }
    }
    std::future::pending().await
}
