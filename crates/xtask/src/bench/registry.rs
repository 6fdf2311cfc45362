//! `hoist registry` beside Debian's docker-registry: one large layer, an image of many small ones, and the memory of many pulls
//! at once. Both serve from fresh directories on the same disk, in alternating rounds, to the same thin client.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hoist_testkit::{TemporaryDirectory, sha256};
use rustix::net::RecvFlags;

use super::report::Row;
use super::statistics::Samples;
use super::{Arenas, row};

/// Bytes of the large layer.
const LARGE: u64 = 1 << 30;
const SMALL_LAYERS: usize = 500;
const SMALL: usize = 16 << 10;
/// Connections over which the small layers go, as docker's clients open.
const CONNECTIONS: usize = 5;
const ROUNDS: usize = 4;
const PULLS_AT_ONCE: usize = 64;
/// Bytes of the large layer that each of those pulls takes before it ends.
const TAKEN: u64 = 256 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a directory of its own; both go with it.
struct Server {
    process: Child,
    address: SocketAddr,
    _directory: TemporaryDirectory,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Ours with a binary, Debian's without.
    fn start(binary: Option<&Path>) -> anyhow::Result<Self> {
        let directory = TemporaryDirectory::new("registry");
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let root = directory.path().join("images");
        let mut command = match binary {
            Some(binary) => {
                let mut command = Command::new(binary);
                let listen = format!("--listen={address}");
                command
                    .args(["registry", "serve", &listen, "--log-level=warn", "--root"])
                    .arg(&root);
                command
            }
            None => {
                let configuration = directory.path().join("config.yml");
                let text = format!(
                    "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
                     storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
                    root.display()
                );
                fs::write(&configuration, text)?;
                let mut command = Command::new("docker-registry");
                command.arg("serve").arg(configuration);
                command
            }
        };
        let log = File::create(directory.path().join("log"))?;
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = process
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let server = Self {
            process,
            address,
            _directory: directory,
        };
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            ensure!(Instant::now() < end, "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// Memory in megabytes (PSS).
    fn memory(&self) -> anyhow::Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.id()))?;
        let line = text
            .lines()
            .find(|line| line.starts_with("Pss:"))
            .context("no Pss")?;
        let kilobytes: f64 = line.split_whitespace().nth(1).context("no Pss")?.parse()?;
        Ok(kilobytes * 1024.0 / 1e6)
    }
}

/// A connection that is kept.
struct Wire {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

/// What of a reply matters: its status, the bytes of its body, and where it points.
struct Reply {
    status: u16,
    length: u64,
    location: String,
}

impl Wire {
    fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::with_capacity(8 << 10, stream),
            address,
        })
    }

    /// Sends a request's head and body, and reads the reply's head.
    fn ask(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> anyhow::Result<Reply> {
        let mut request = self
            .head(method, path, kind, body.len() as u64)
            .into_bytes();
        request.extend(body);
        self.stream.get_mut().write_all(&request)?;
        self.reply()
    }

    fn head(&self, method: &str, path: &str, kind: &str, length: u64) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n",
            self.address
        )
    }

    fn reply(&mut self) -> anyhow::Result<Reply> {
        let (mut line, mut reply) = (
            String::new(),
            Reply {
                status: 0,
                length: 0,
                location: String::new(),
            },
        );
        self.stream.read_line(&mut line)?;
        reply.status = line.split(' ').nth(1).context("no reply")?.parse()?;
        loop {
            line.clear();
            ensure!(
                self.stream.read_line(&mut line)? > 0,
                "the reply's head does not end"
            );
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => reply.length = value.parse()?,
                "location" => {
                    reply.location = value
                        .trim_start_matches(&format!("http://{}", self.address))
                        .to_owned()
                }
                _ => {}
            }
        }
        Ok(reply)
    }

    /// Takes bytes of a body and drops them: in the kernel (tcp(7), MSG_TRUNC), so that it is the server that is measured and
    /// not a client's copying.
    fn drop_body(&mut self, length: u64, piece: &mut [u8]) -> anyhow::Result<()> {
        let held = self.stream.buffer().len();
        let mut left = length - u64::try_from(held)?.min(length);
        self.stream.consume(usize::try_from(length - left)?);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            let stream = self.stream.get_ref();
            let (_, count) = rustix::net::recv(stream, &mut piece[..most], RecvFlags::TRUNC)?;
            ensure!(count > 0, "the body ends {left} bytes early");
            left -= count as u64;
        }
        Ok(())
    }

    /// Where a new upload of a digest goes.
    fn begin(&mut self, digest: &str) -> anyhow::Result<String> {
        let begun = self.ask(
            "POST",
            "/v2/bench/blobs/uploads/",
            "application/octet-stream",
            b"",
        )?;
        ensure!(begun.status == 202, "POST: {}", begun.status);
        let mark = if begun.location.contains('?') {
            '&'
        } else {
            '?'
        };
        Ok(format!("{}{mark}digest={digest}", begun.location))
    }

    fn push(&mut self, digest: &str, content: &[u8]) -> anyhow::Result<()> {
        let asked = self.ask("HEAD", &format!("/v2/bench/blobs/{digest}"), "", b"")?;
        ensure!(asked.status == 404, "HEAD: {}", asked.status);
        let path = self.begin(digest)?;
        let done = self.ask("PUT", &path, "application/octet-stream", content)?;
        ensure!(done.status == 201, "PUT: {}", done.status);
        Ok(())
    }

    /// Pushes a file, which the kernel sends.
    fn push_file(&mut self, digest: &str, file: &File) -> anyhow::Result<()> {
        let path = self.begin(digest)?;
        let head = self.head("PUT", &path, "application/octet-stream", LARGE);
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        let mut offset = 0;
        while offset < LARGE {
            let most = usize::try_from(LARGE - offset)?;
            rustix::fs::sendfile(&*stream, file, Some(&mut offset), most)?;
        }
        let done = self.reply()?;
        ensure!(done.status == 201, "PUT: {}", done.status);
        Ok(())
    }

    fn pull(&mut self, digest: &str, piece: &mut [u8]) -> anyhow::Result<u64> {
        let reply = self.ask("GET", &format!("/v2/bench/blobs/{digest}"), "", b"")?;
        ensure!(reply.status == 200, "GET: {}", reply.status);
        self.drop_body(reply.length, piece)?;
        Ok(reply.length)
    }
}

/// What one round of one server took.
#[derive(Default)]
struct Taken {
    push: Samples,
    pull: Samples,
    push_small: Samples,
    pull_small: Samples,
    memory: Samples,
}

/// The layers that are pushed and pulled.
struct Layers {
    large: File,
    large_digest: String,
    small: Vec<(String, Vec<u8>)>,
}

impl Layers {
    fn make(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("large");
        let mut file = File::create(&path)?;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut noise = |length: usize| -> Vec<u8> {
            let words = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            });
            words.take(length / 8).flatten().collect()
        };
        for _ in 0..LARGE >> 20 {
            file.write_all(&noise(1 << 20))?;
        }
        file.sync_all()?;
        let said = Command::new("sha256sum").arg(&path).output()?;
        let hex = String::from_utf8(said.stdout)?;
        let hex = hex
            .split_whitespace()
            .next()
            .context("sha256sum says nothing")?;
        let small = (0..SMALL_LAYERS).map(|_| {
            let content = noise(SMALL);
            (
                format!("sha256:{}", sha256(&content).trim_start_matches("sha256:")),
                content,
            )
        });
        Ok(Self {
            large: File::open(&path)?,
            large_digest: format!("sha256:{hex}"),
            small: small.collect(),
        })
    }

    /// Does something with each small layer, over some connections.
    fn each_small(
        &self,
        address: SocketAddr,
        work: fn(&mut Wire, &str, &[u8], &mut [u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Duration> {
        let next = AtomicUsize::new(0);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let walk = || {
                let mut wire = Wire::open(address)?;
                let mut piece = vec![0; SMALL];
                while let Some((digest, content)) =
                    self.small.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    work(&mut wire, digest, content, &mut piece)?;
                }
                anyhow::Ok(())
            };
            let workers: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(walk)).collect();
            let mut ends = workers
                .into_iter()
                .map(|worker| worker.join().expect("a client panicked"));
            ends.try_for_each(|end| end)
        })?;
        Ok(begun.elapsed())
    }

    fn round(&self, binary: Option<&Path>, taken: &mut Taken) -> anyhow::Result<()> {
        let server = Server::start(binary)?;
        let mut wire = Wire::open(server.address)?;
        let mut piece = vec![0; 1 << 20];
        // What earlier rounds left to be written is nobody's here.
        rustix::fs::sync();
        let begun = Instant::now();
        wire.push_file(&self.large_digest, &self.large)?;
        taken.push.push(begun.elapsed());
        for _ in 0..2 {
            let begun = Instant::now();
            let length = wire.pull(&self.large_digest, &mut piece)?;
            taken.pull.push(begun.elapsed());
            ensure!(length == LARGE, "pulled {length} bytes");
        }
        let pushed = self.each_small(server.address, |wire, digest, content, _| {
            wire.push(digest, content)
        })?;
        taken.push_small.push(pushed);
        let pulled = self.each_small(server.address, |wire, digest, content, piece| {
            let length = wire.pull(digest, piece)?;
            ensure!(length == content.len() as u64, "pulled {length} bytes");
            Ok(())
        })?;
        taken.pull_small.push(pulled);
        Ok(())
    }

    /// The most memory that a server has while many pull at once.
    fn crowd(&self, binary: Option<&Path>, taken: &mut Taken) -> anyhow::Result<()> {
        let server = Server::start(binary)?;
        Wire::open(server.address)?.push_file(&self.large_digest, &self.large)?;
        let pulling = AtomicUsize::new(0);
        let path = format!("/v2/bench/blobs/{}", self.large_digest);
        let most = std::thread::scope(|scope| {
            let pull = || {
                let mut wire = Wire::open(server.address)?;
                let reply = wire.ask("GET", &path, "", b"")?;
                ensure!(
                    (reply.status, reply.length) == (200, LARGE),
                    "GET: {}",
                    reply.status
                );
                pulling.fetch_add(1, Ordering::Relaxed);
                // All are under way before any of them goes on.
                while pulling.load(Ordering::Relaxed) < PULLS_AT_ONCE {
                    std::thread::sleep(Duration::from_millis(1));
                }
                wire.drop_body(TAKEN, &mut vec![0; 256 << 10])
            };
            let workers: Vec<_> = (0..PULLS_AT_ONCE).map(|_| scope.spawn(pull)).collect();
            let mut most = 0.0_f64;
            while !workers
                .iter()
                .all(std::thread::ScopedJoinHandle::is_finished)
            {
                most = most.max(server.memory()?);
                std::thread::sleep(Duration::from_millis(20));
            }
            for worker in workers {
                worker.join().expect("a client panicked")?;
            }
            anyhow::Ok(most)
        })?;
        taken.memory.push_value(most);
        Ok(())
    }
}

/// The rows of both servers.
pub(super) fn registry(arenas: &Arenas) -> anyhow::Result<Vec<Row>> {
    let directory = TemporaryDirectory::new("layers");
    let layers = Layers::make(directory.path())?;
    let (mut ours, mut theirs) = (Taken::default(), Taken::default());
    let rounds = if arenas.divide > 1 { 1 } else { ROUNDS };
    for _ in 0..rounds {
        layers.round(Some(&arenas.binary), &mut ours)?;
        layers.round(None, &mut theirs)?;
    }
    layers.crowd(Some(&arenas.binary), &mut ours)?;
    layers.crowd(None, &mut theirs)?;
    let note = "budget: 2×; Debian's docker-registry in place of Docker";
    let small = format!("{SMALL_LAYERS} layers of 16 KiB, {CONNECTIONS} connections");
    Ok(vec![
        row(
            "registry: push of a layer of 1 GiB",
            "ms",
            (ours.push, theirs.push),
            note,
        ),
        row(
            "registry: pull of a layer of 1 GiB",
            "ms",
            (ours.pull, theirs.pull),
            note,
        ),
        row(
            &format!("registry: push of {small}"),
            "ms",
            (ours.push_small, theirs.push_small),
            note,
        ),
        row(
            &format!("registry: pull of {small}"),
            "ms",
            (ours.pull_small, theirs.pull_small),
            note,
        ),
        row(
            &format!("registry: memory with {PULLS_AT_ONCE} pulls of 1 GiB under way"),
            "MB (PSS)",
            (ours.memory, theirs.memory),
            "budget: 30 MB",
        ),
    ])
}
