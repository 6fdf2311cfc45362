//! A request body as a blocking reader, for work that reads archives on a thread of its own.

use std::future::Future;
use std::io::{self, Read};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

/// Pieces that may wait for the reader.
const BACKLOG: usize = 8;

/// Bytes of a body that are taken from a client after the work ended without them: clients that are still writing when the
/// connection closes do not read the reply.
const UNREAD: usize = 16 << 20;
/// The longest that this may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads what the pump sends. The end of the body is an empty piece; a pump that is dropped before it sent one left
/// the body unfinished, which must not look like its end.
struct BodyReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    ended: bool,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) if piece.is_empty() => self.ended = true,
                Some(Ok(piece)) => self.current = piece,
                Some(Err(error)) => return Err(error),
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the request ended before its body did",
                    ));
                }
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// The reader, and the future that feeds it. Drive both: see [`feed`].
pub(super) fn bridge(
    mut body: Body,
) -> (
    Box<dyn Read + Send>,
    impl Future<Output = ()> + Send + 'static,
) {
    let (sender, pieces) = mpsc::channel(BACKLOG);
    let pump = async move {
        let mut unread = 0;
        while unread < UNREAD {
            let piece = match body.frame().await {
                None => Ok(Bytes::new()),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => Ok(data),
                    _ => continue,
                },
                Some(Err(error)) => Err(io::Error::other(error)),
            };
            let length = piece.as_ref().map_or(0, Bytes::len);
            if sender.send(piece).await.is_err() {
                unread += length;
            }
            if length == 0 {
                return;
            }
        }
    };
    let reader = BodyReader {
        pieces,
        current: Bytes::new(),
        ended: false,
    };
    (Box::new(reader), pump)
}

/// Drives work and its pump; the pump may end first, and the work may end before it has read everything: the rest is then
/// read and thrown away, as far as it is not too much.
pub(super) async fn feed<T>(work: impl Future<Output = T>, pump: impl Future<Output = ()>) -> T {
    tokio::pin!(work, pump);
    tokio::select! {
        result = &mut work => {
            let _ = tokio::time::timeout(PATIENCE, pump).await;
            result
        }
        () = &mut pump => work.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(mut reader: Box<dyn Read + Send>) -> io::Result<String> {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_end() {
        let pieces = ["one ", "", "two"].map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        let (reader, pump) = bridge(body);
        let work = tokio::task::spawn_blocking(move || read_all(reader));
        assert_eq!(feed(work, pump).await.unwrap().unwrap(), "one two");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_end() {
        let pieces = [Ok(Bytes::from("one")), Err(io::Error::other("cut"))];
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        let (reader, pump) = bridge(body);
        let work = tokio::task::spawn_blocking(move || read_all(reader));
        assert!(feed(work, pump).await.unwrap().is_err());

        let (reader, pump) = bridge(Body::from("never read"));
        drop(pump);
        let result = tokio::task::spawn_blocking(move || read_all(reader))
            .await
            .unwrap();
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
