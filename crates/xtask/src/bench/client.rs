//! The smallest HTTP client that measures an engine and not itself: one kept connection, no runtime.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// The API version both engines are asked in: Debian's Docker knows no newer one.
const VERSION: &str = "/v1.41";

/// Bytes of a large body that are taken at once.
const PIECE: usize = 256 << 10;

/// A connection to an engine's socket, kept between requests.
pub(super) struct Client {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(super) fn connect(socket: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            socket: socket.to_owned(),
            stream: open(socket)?,
        })
    }

    /// Sends a JSON body (or none) and parses the JSON reply; the status must be 2xx or 304.
    pub(super) fn call(&mut self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let reply = self.send(method, path, "application/json", text.as_bytes())?;
        Ok(serde_json::from_slice(&reply).unwrap_or_default())
    }

    /// Sends bytes and returns the reply's bytes.
    pub(super) fn send(
        &mut self,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> anyhow::Result<Vec<u8>> {
        write_request(self.stream.get_mut(), method, path, kind, "", body)?;
        let (status, head) = read_head(&mut self.stream)?;
        let reply = read_body(&mut self.stream, status, &head)?;
        let text = String::from_utf8_lossy(&reply);
        ensure!(status < 400, "{method} {path}: {status} {}", text.trim());
        Ok(reply)
    }

    /// Asks for a reply that is not kept, and takes it through one buffer into `out`: its bytes. Memory that grows with the
    /// reply would be measured, too, and on a virtual machine that has it from its host it is slower than any engine.
    pub(super) fn fetch(&mut self, path: &str, out: &mut impl Write) -> anyhow::Result<u64> {
        write_request(self.stream.get_mut(), "GET", path, "", "", b"")?;
        let (status, head) = read_head(&mut self.stream)?;
        ensure!(status == 200, "GET {path}: {status}");
        let mut buffer = vec![0; PIECE];
        let mut total = 0;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if let Some(length) = length {
            pass(&mut self.stream, length.trim().parse()?, &mut buffer, out)?;
            return Ok(length.trim().parse()?);
        }
        let mut line = String::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let length = u64::from_str_radix(line.trim(), 16).context("chunk length")?;
            pass(&mut self.stream, length, &mut buffer, out)?;
            line.clear();
            self.stream.read_line(&mut line)?;
            total += length;
            if length == 0 {
                return Ok(total);
            }
        }
    }

    /// Posts a file, which the kernel sends, and gives the reply.
    pub(super) fn post_file(&mut self, path: &str, file: &File) -> anyhow::Result<Vec<u8>> {
        let length = file.metadata()?.len();
        let stream = self.stream.get_mut();
        write!(
            stream,
            "POST {VERSION}{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-tar\r\nContent-Length: {length}\r\n\r\n"
        )?;
        let mut offset = 0;
        while offset < length {
            let most = usize::try_from(length - offset)?;
            rustix::fs::sendfile(&*stream, file, Some(&mut offset), most)?;
        }
        let (status, head) = read_head(&mut self.stream)?;
        let reply = read_body(&mut self.stream, status, &head)?;
        let text = String::from_utf8_lossy(&reply);
        ensure!(status < 400, "POST {path}: {status} {}", text.trim());
        Ok(reply)
    }

    /// Asks for an upgrade on a connection of its own and reads the stream to its end: its length in bytes.
    pub(super) fn hijack(&self, path: &str, body: &Value) -> anyhow::Result<usize> {
        let mut stream = open(&self.socket)?;
        let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
        let body = body.to_string();
        let kind = "application/json";
        write_request(
            stream.get_mut(),
            "POST",
            path,
            kind,
            upgrade,
            body.as_bytes(),
        )?;
        let (status, _) = read_head(&mut stream)?;
        ensure!(status == 101 || status == 200, "POST {path}: {status}");
        let mut output = Vec::new();
        stream.read_to_end(&mut output)?;
        Ok(output.len())
    }
}

fn open(socket: &Path) -> anyhow::Result<BufReader<UnixStream>> {
    let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    Ok(BufReader::new(stream))
}

/// Moves so many bytes of a body.
fn pass(
    stream: &mut BufReader<UnixStream>,
    length: u64,
    buffer: &mut [u8],
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut left = length;
    while left > 0 {
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = stream.read(&mut buffer[..most])?;
        ensure!(read > 0, "the body ends {left} bytes early");
        out.write_all(&buffer[..read])?;
        left -= read as u64;
    }
    Ok(())
}

fn write_request(
    stream: &mut UnixStream,
    method: &str,
    path: &str,
    kind: &str,
    more: &str,
    body: &[u8],
) -> anyhow::Result<()> {
    let length = body.len();
    let mut request = format!(
        "{method} {VERSION}{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{more}Content-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    request.extend_from_slice(body);
    Ok(stream.write_all(&request)?)
}

/// The status, and the head in lower case.
fn read_head(stream: &mut BufReader<UnixStream>) -> anyhow::Result<(u16, String)> {
    let mut head = String::new();
    loop {
        let before = head.len();
        stream.read_line(&mut head)?;
        if head.len() == before {
            bail!("the engine closed the connection");
        }
        if &head[before..] == "\r\n" {
            let status = head
                .split(' ')
                .nth(1)
                .context("no status line")?
                .trim()
                .parse()?;
            return Ok((status, head.to_ascii_lowercase()));
        }
    }
}

fn read_body(
    stream: &mut BufReader<UnixStream>,
    status: u16,
    head: &str,
) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    if status == 204 || status == 304 {
        return Ok(body);
    }
    if let Some(length) = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
    {
        body.resize(length.trim().parse()?, 0);
        stream.read_exact(&mut body)?;
        return Ok(body);
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16).context("chunk length")?;
        let start = body.len();
        body.resize(start + length, 0);
        stream.read_exact(&mut body[start..])?;
        line.clear();
        stream.read_line(&mut line)?;
        if length == 0 {
            return Ok(body);
        }
    }
}
