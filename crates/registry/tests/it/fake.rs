//! A registry of raw sockets: what it says is exactly what the test wrote.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use hoist_testkit::{ImageBlobs, sha256};

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HashMap<String, String>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn is_blob(&self, digest: &str) -> bool {
        self.target.ends_with(&format!("/blobs/{digest}"))
    }
}

/// Bytes for the socket, and whether it closes afterwards.
pub(crate) struct Said(pub(crate) Vec<u8>, pub(crate) bool);

type Answer = dyn Fn(&Asked) -> Said + Send + Sync;

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        let answer: Arc<Answer> = Arc::new(answer);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let _ = serve(stream.unwrap(), &seen, &*answer);
                });
            }
        });
        Self {
            address,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<Asked>>, answer: &Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 || line[0] == 0x16 {
            // Gone, or a TLS hello: a plain server says so in plain.
            stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n")?;
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.split(' ');
        let method = words.next().unwrap_or("").to_owned();
        let target = words.next().unwrap_or("").to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':') {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
        }
        read_body(&mut reader, &headers)?;
        let asked = Asked {
            method,
            target,
            headers,
        };
        seen.lock().unwrap().push(asked.clone());
        let Said(bytes, close) = answer(&asked);
        stream.write_all(&bytes)?;
        if close {
            return stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Passes over a request's body, with its length or in chunks.
fn read_body(reader: &mut impl BufRead, headers: &HashMap<String, String>) -> std::io::Result<()> {
    let mut pass = |length: u64| std::io::copy(&mut reader.take(length), &mut std::io::sink());
    if let Some(length) = headers.get("content-length") {
        pass(length.parse().unwrap())?;
    }
    if headers.get("transfer-encoding").is_none() {
        return Ok(());
    }
    loop {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let size = u64::from_str_radix(size.trim(), 16)
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))?;
        std::io::copy(&mut reader.take(size + 2), &mut std::io::sink())?;
        if size == 0 {
            return Ok(());
        }
    }
}

pub(crate) fn reply(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Said {
    let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    bytes.push_str("\r\n");
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(body);
    Said(bytes, false)
}

pub(crate) fn blob(bytes: &[u8]) -> Said {
    let kind = [("Content-Type", "application/octet-stream")];
    reply("200 OK", &kind, bytes)
}

pub(crate) fn manifest(bytes: &[u8]) -> Said {
    let kind = [(
        "Content-Type",
        "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
    )];
    reply("200 OK", &kind, bytes)
}

/// What an honest registry that holds one image answers.
pub(crate) fn honest(blobs: &ImageBlobs, asked: &Asked) -> Said {
    if asked.target == "/v2/" {
        return reply("200 OK", &[], b"{}");
    }
    let digest = sha256(&blobs.manifest);
    if asked.target.ends_with("/manifests/latest") || asked.target.ends_with(&digest) {
        return manifest(&blobs.manifest);
    }
    if asked.is_blob(&sha256(&blobs.config)) {
        return blob(&blobs.config);
    }
    for layer in &blobs.layers {
        if asked.is_blob(&layer.digest) {
            return blob(&layer.bytes);
        }
    }
    let unknown =
        br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#;
    reply("404 Not Found", &[], unknown)
}
