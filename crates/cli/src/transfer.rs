//! Archives on their way: bodies of requests that threads write, replies that threads read, files that appear whole.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use futures_util::stream::poll_fn;
use hoist_docker::client::Reply;
use hoist_http::client::RequestBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::{Failure, output};

type Chunk = Result<Frame<Bytes>, Box<dyn std::error::Error + Send + Sync>>;

/// Pieces that may wait between a thread and the connection.
const AHEAD: usize = 4;

fn body(mut receiver: mpsc::Receiver<Chunk>) -> RequestBody {
    StreamBody::new(poll_fn(move |context| receiver.poll_recv(context))).boxed_unsync()
}

/// A request's body that is read by a thread of its own, a few pieces ahead.
pub(crate) fn streamed(mut source: Box<dyn Read + Send>) -> RequestBody {
    let (sender, receiver) = mpsc::channel::<Chunk>(AHEAD);
    let read = move || {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let chunk = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => Ok(Frame::data(Bytes::copy_from_slice(&buffer[..n]))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error.into()),
            };
            let last = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || last {
                break;
            }
        }
    };
    // Without the thread the body is empty, which the engine refuses.
    drop(
        std::thread::Builder::new()
            .name("upload".to_owned())
            .spawn(read),
    );
    body(receiver)
}

/// A reader that counts.
pub(crate) struct Counted<R>(pub(crate) R, pub(crate) Arc<AtomicU64>);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// What a thread writes, on its way into a request's body.
pub(crate) struct Upload {
    sender: mpsc::Sender<Chunk>,
    count: Arc<AtomicU64>,
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = Ok(Frame::data(Bytes::copy_from_slice(bytes)));
        let sent = self.sender.blocking_send(chunk);
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A request's body that `write` makes in a thread of its own; what it answered is learned from the thread. A failure of
/// it breaks the body off, so that the engine does not take what there is of it for the whole.
pub(crate) fn written<E: std::fmt::Display + Send + 'static>(
    count: Arc<AtomicU64>,
    write: impl FnOnce(io::BufWriter<Upload>) -> Result<(), E> + Send + 'static,
) -> io::Result<(RequestBody, JoinHandle<Result<(), E>>)> {
    let (sender, receiver) = mpsc::channel::<Chunk>(AHEAD);
    let run = move || {
        let upload = Upload {
            sender: sender.clone(),
            count,
        };
        let done = write(io::BufWriter::with_capacity(256 << 10, upload));
        if let Err(error) = &done {
            // Nobody may be left to be told.
            drop(sender.blocking_send(Err(error.to_string().into())));
        }
        done
    };
    let thread = std::thread::Builder::new()
        .name("upload".to_owned())
        .spawn(run)?;
    Ok((body(receiver), thread))
}

/// The body of a reply as a thread reads it.
pub(crate) struct Download {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
    whole: bool,
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                // An empty piece says that it ended well.
                Some(piece) if piece.is_empty() => self.whole = true,
                Some(piece) => self.piece = piece,
                None if self.whole => return Ok(0),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = buffer.len().min(self.piece.len());
        buffer[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}

/// Hands a reply's body to `read` in a thread of its own; answers what it answered, or why the body broke off.
pub(crate) async fn download<E: Into<Failure> + Send + 'static>(
    mut reply: Reply,
    count: Arc<AtomicU64>,
    read: impl FnOnce(Download) -> Result<(), E> + Send + 'static,
) -> Result<(), Failure> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let source = Download {
        receiver,
        piece: Bytes::new(),
        whole: false,
    };
    let reader = tokio::task::spawn_blocking(move || read(source));
    let pump = async {
        while let Some(chunk) = reply.chunk().await? {
            count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            if !chunk.is_empty() && sender.send(chunk).await.is_err() {
                return Ok(());
            }
        }
        // The reader may have seen the end of its archive already.
        drop(sender.send(Bytes::new()).await);
        Ok::<(), Failure>(())
    };
    let pumped = pump.await;
    drop(sender);
    let read = reader
        .await
        .map_err(|error| Failure::new(error.to_string()))?;
    pumped?;
    read.map_err(Into::into)
}

/// Writes a reply's body to standard output, or to a file that appears when it is whole.
pub(crate) async fn save(mut reply: Reply, path: Option<&str>) -> Result<(), Failure> {
    let Some(path) = path else {
        while let Some(chunk) = reply.chunk().await? {
            output::text(&chunk)?;
        }
        return Ok(());
    };
    // Beside the target and moved over it when it is whole: a broken download leaves no broken archive. A device or
    // a pipe is written as it is.
    let special = std::fs::metadata(path).is_ok_and(|found| !found.is_file());
    let part = if special {
        path.to_owned()
    } else {
        format!("{path}.{}.part", std::process::id())
    };
    let failed = |error: io::Error| Failure::new(format!("cannot write {path}: {error}"));
    let write = async {
        let mut file = if special {
            File::options().write(true).open(&part).map_err(failed)?
        } else {
            File::create(&part).map_err(failed)?
        };
        while let Some(chunk) = reply.chunk().await? {
            file.write_all(&chunk).map_err(failed)?;
        }
        if special {
            Ok(())
        } else {
            std::fs::rename(&part, path).map_err(failed)
        }
    };
    let outcome = tokio::select! {
        done = write => done,
        _ = tokio::signal::ctrl_c() => Err(Failure::silent(130)),
    };
    if outcome.is_err() && !special {
        drop(std::fs::remove_file(&part));
    }
    outcome
}

/// Refuses, before the engine is asked for an archive, to write it to a terminal or to a file that cannot be one.
/// `failed` begins the complaint about a file.
pub(crate) fn check_archive_output(output: Option<&str>, failed: &str) -> Result<(), Failure> {
    match output {
        None if io::stdout().is_terminal() => Err(Failure::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        )),
        None => Ok(()),
        Some(path) => check_output(path)
            .map_err(|failure| Failure::new(format!("{failed}: {}", failure.message))),
    }
}

/// Refuses a file that cannot be written, before the engine is asked for its content
/// (docker/cli:cli/command/utils.go, `ValidateOutputPath`).
pub(crate) fn check_output(path: &str) -> Result<(), Failure> {
    use std::os::unix::fs::FileTypeExt;
    let target = std::path::Path::new(path);
    let parent = target
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent
        && let Err(error) = std::fs::metadata(parent)
        && error.kind() == io::ErrorKind::NotFound
    {
        return Err(Failure::new(format!(
            "invalid output path: stat {}: no such file or directory",
            parent.display()
        )));
    }
    let kind = std::fs::metadata(target).map(|found| found.file_type());
    let what = match kind {
        Ok(kind) if kind.is_block_device() || kind.is_char_device() => "got a device",
        _ => return Ok(()),
    };
    Err(Failure::new(format!(
        "invalid output path: {path:?} must be a directory or a regular file: {what}"
    )))
}
