//! A reply's body as a blocking writer, for work that writes archives on a thread of its own.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use hoist_http::Connection;
use hoist_image::ArchiveOut;
use http::request::Parts;
use http::{StatusCode, Version};
use tokio::sync::mpsc;

use crate::call::with_type;
use crate::error::{ApiError, Reply};

/// Bytes collected before they are sent.
const PIECE: usize = 64 << 10;
/// Pieces that may wait for the client.
const BACKLOG: usize = 2;
/// The largest piece of a file: readers of chunked bodies may take a chunk's length for a 32-bit number.
const FILE_PIECE: u64 = 1 << 30;

/// Sends what is written in pieces; a client that left is a broken pipe.
pub(super) struct BodyWriter {
    pieces: mpsc::Sender<Bytes>,
    collected: Vec<u8>,
    /// Where the kernel can send files.
    connection: Option<Connection>,
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(PIECE - self.collected.len());
        self.collected.extend_from_slice(&bytes[..length]);
        if self.collected.len() == PIECE {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.collected.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.collected, Vec::with_capacity(PIECE));
        self.send(piece.into())
    }
}

impl ArchiveOut for BodyWriter {
    fn file(&mut self, file: File, size: u64) -> io::Result<()> {
        let file = Arc::new(file);
        let mut at = 0;
        while let Some(connection) = self.connection.clone()
            && at < size
        {
            let next = size.min(at + FILE_PIECE);
            let Some(bytes) = connection.file_bytes(&file, at..next) else {
                break;
            };
            self.flush()?;
            self.send(bytes)?;
            at = next;
        }
        let mut rest = (&*file).take(size - at);
        if at > 0 && at < size {
            io::Seek::seek(&mut &*file, io::SeekFrom::Start(at))?;
        }
        match io::copy(&mut rest, self)? {
            copied if copied == size - at => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl BodyWriter {
    fn send(&self, piece: Bytes) -> io::Result<()> {
        self.pieces
            .blocking_send(piece)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Answers with what `work` writes. A failure before the first piece is an ordinary error reply; one after it breaks the
/// body off, which no client takes for its end. `work` goes on on its own, and ends when the client left.
pub(super) async fn answer<W, E>(request: &Parts, work: impl FnOnce(BodyWriter) -> W) -> Reply
where
    W: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<ApiError> + Send + 'static,
{
    let (sender, mut pieces) = mpsc::channel(BACKLOG);
    let writer = BodyWriter {
        pieces: sender,
        collected: Vec::with_capacity(PIECE),
        connection: match request.version {
            Version::HTTP_11 => request.extensions.get().cloned(),
            _ => None,
        },
    };
    let work = tokio::spawn(work(writer));
    let end = async move {
        match work.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(ApiError::new(
                hoist_model::ErrorClass::Internal,
                error.to_string(),
            )),
        }
    };
    let Some(first) = pieces.recv().await else {
        end.await?;
        return Ok(with_type(
            "application/x-tar",
            StatusCode::OK,
            Body::empty(),
        ));
    };
    let stream =
        futures_util::stream::unfold(Some((Some(first), pieces, Box::pin(end))), |state| async {
            let (first, mut pieces, end) = state?;
            let next = match first {
                Some(first) => Some(first),
                None => pieces.recv().await,
            };
            if let Some(piece) = next {
                return Some((Ok(piece), Some((None, pieces, end))));
            }
            let error = end.await.err()?;
            tracing::warn!(message = %error.message, "an archive broke off");
            Some((Err(io::Error::other(error.message)), None))
        });
    let body = Body::from_stream(stream);
    Ok(with_type("application/x-tar", StatusCode::OK, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn run(bytes: usize, fails: bool) -> Result<Result<usize, ()>, ApiError> {
        let (request, ()) = http::Request::new(()).into_parts();
        let reply = answer(&request, move |mut out| async move {
            let work = move || {
                out.write_all(&vec![0; bytes]).unwrap();
                out.flush().unwrap();
                if fails {
                    return Err(ApiError::invalid("late"));
                }
                Ok(())
            };
            tokio::task::spawn_blocking(work).await.unwrap()
        })
        .await?;
        let body = reply.into_body().collect().await;
        Ok(body.map(|body| body.to_bytes().len()).map_err(drop))
    }

    #[tokio::test]
    async fn failures_are_told_before_the_body_or_break_it_off() {
        assert_eq!(run(1_000_000, false).await.unwrap(), Ok(1_000_000));
        assert_eq!(run(0, false).await.unwrap(), Ok(0));
        assert_eq!(run(0, true).await.unwrap_err().message, "late");
        assert_eq!(run(1_000_000, true).await.unwrap(), Err(()));
    }
}
