//! A reply's body as a blocking writer, for work that writes archives on a thread of its own.

use std::future::Future;
use std::io::{self, Write};

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use tokio::sync::mpsc;

use crate::call::with_type;
use crate::error::{ApiError, Reply};

/// Bytes collected before they are sent.
const PIECE: usize = 64 << 10;
/// Pieces that may wait for the client.
const BACKLOG: usize = 2;

/// Sends what is written in pieces; a client that left is a broken pipe.
pub(super) struct BodyWriter {
    pieces: mpsc::Sender<Bytes>,
    collected: Vec<u8>,
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
        self.pieces
            .blocking_send(piece.into())
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Answers with what `work` writes. A failure before the first piece is an ordinary error reply; one after it breaks the
/// body off, which no client takes for its end. `work` goes on on its own, and ends when the client left.
pub(super) async fn answer<W, E>(work: impl FnOnce(BodyWriter) -> W) -> Reply
where
    W: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<ApiError> + Send + 'static,
{
    let (sender, mut pieces) = mpsc::channel(BACKLOG);
    let writer = BodyWriter {
        pieces: sender,
        collected: Vec::with_capacity(PIECE),
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
        let reply = answer(move |mut out| async move {
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
