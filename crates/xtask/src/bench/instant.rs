//! An engine that is none: it gives the answers of `docker run --rm`, canned and at once, so that what the stock client takes for
//! itself can be measured.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use hoist_testkit::TemporaryDirectory;

/// Listens until the process ends; its threads wait for connections and do nothing else.
pub(super) struct Instant {
    directory: TemporaryDirectory,
}

/// How many starts were asked for; attach and wait end with the next one.
#[derive(Default)]
struct Started {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Started {
    fn count(&self) -> u64 {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_after(&self, before: u64) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_while(count, |count| *count <= before);
        drop(waited);
    }

    fn add(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }
}

impl Instant {
    pub(super) fn start() -> std::io::Result<Self> {
        let directory = TemporaryDirectory::new("instant");
        let listener = UnixListener::bind(directory.join("s"))?;
        let started = Arc::new(Started::default());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let started = Arc::clone(&started);
                std::thread::spawn(move || serve(stream, &started));
            }
        });
        Ok(Self { directory })
    }

    /// Where a client finds it.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("s")
    }
}

/// Serves one connection until its client leaves.
fn serve(stream: UnixStream, started: &Started) -> Option<()> {
    let mut input = BufReader::new(stream.try_clone().ok()?);
    let mut output = stream;
    loop {
        let (mut line, mut length) = (String::new(), 0);
        input.read_line(&mut line).ok().filter(|read| *read > 0)?;
        loop {
            let mut header = String::new();
            input.read_line(&mut header).ok()?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        std::io::copy(&mut input.by_ref().take(length), &mut std::io::sink()).ok()?;
        let before = started.count();
        let path = line.split_whitespace().nth(1)?;
        let path = path.split('?').next()?;
        if path.ends_with("/_ping") {
            reply(
                &mut output,
                "200 OK",
                "Api-Version: 1.50\r\nOstype: linux\r\n",
                "",
            )?;
        } else if path.ends_with("/containers/create") {
            let id = "5".repeat(64);
            let body = format!("{{\"Id\":\"{id}\",\"Warnings\":[]}}");
            reply(
                &mut output,
                "201 Created",
                "Content-Type: application/json\r\n",
                &body,
            )?;
        } else if path.ends_with("/attach") {
            let head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
                        Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
            output.write_all(head.as_bytes()).ok()?;
            started.wait_after(before);
            return output.shutdown(std::net::Shutdown::Both).ok();
        } else if path.ends_with("/wait") {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
            output.write_all(head.as_bytes()).ok()?;
            started.wait_after(before);
            output
                .write_all(b"11\r\n{\"StatusCode\":0}\n\r\n0\r\n\r\n")
                .ok()?;
        } else if path.ends_with("/start") {
            reply(&mut output, "204 No Content", "", "")?;
            started.add();
        } else {
            reply(&mut output, "404 Not Found", "", "")?;
        }
    }
}

fn reply(output: &mut UnixStream, status: &str, headers: &str, body: &str) -> Option<()> {
    let length = if status.starts_with("204") {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let text = format!("HTTP/1.1 {status}\r\n{headers}{length}\r\n{body}");
    output.write_all(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_the_start_that_follows_it() {
        let engine = Instant::start().unwrap();
        let mut waiting = UnixStream::connect(engine.socket()).unwrap();
        waiting
            .write_all(b"POST /v1.50/containers/5/wait?condition=removed HTTP/1.1\r\n\r\n")
            .unwrap();
        let mut lines = BufReader::new(waiting);
        let mut head = String::new();
        lines.read_line(&mut head).unwrap();
        assert_eq!(head, "HTTP/1.1 200 OK\r\n");
        let mut starting = UnixStream::connect(engine.socket()).unwrap();
        starting
            .write_all(b"POST /v1.50/containers/5/start HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
            .unwrap();
        let body = lines
            .lines()
            .map_while(Result::ok)
            .find(|line| line.starts_with('{'));
        assert_eq!(body.as_deref(), Some("{\"StatusCode\":0}"));
    }
}
