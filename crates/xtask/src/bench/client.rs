//! The smallest HTTP client that measures an engine and not itself: one kept connection, no runtime.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// The API version both engines are asked in: Debian's Docker knows no newer one.
const VERSION: &str = "/v1.41";

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
